"""Conditions for the items of a list: ``?filter=state=read&filter=path=cam*``. MediaMTX has none."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from operator import ge, gt, le, lt
from typing import Any, Final

import msgspec

from polycast.control.errors import RequestError

MAXIMUM_FILTERS: Final = 16
"""Conditions of one request, each of which is checked for each item."""

_CONDITION: Final = re.compile(r"([A-Za-z0-9]+)((?:\.[A-Za-z0-9]+)*)(!=|>=|<=|=|>|<)(.*)", re.ASCII | re.DOTALL)
_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {">": gt, ">=": ge, "<": lt, "<=": le}


class Filter:
    """One condition: a field, possibly one inside another, an operator and a value."""

    def __init__(self, text: str, fields: Collection[str]) -> None:
        """``fields`` are those of the items. Raises RequestError."""
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise RequestError(400, f"invalid filter '{text[:64]}' (write field=value, or !=, >, >=, <, <=)")
        name, inner, self._operator, self._value = found.groups()
        if name not in fields:
            raise RequestError(400, f"invalid filter: there is no '{name[:64]}' (one of: {', '.join(sorted(fields))})")
        self._keys = (name, *inner.split(".")[1:])
        # Only * is a wildcard; names of paths may contain the other ones of fnmatch.
        self._pattern = re.sub(r"[?\[]", r"[\g<0>]", self._value)

    def holds(self, item: Mapping[str, Any]) -> bool:
        """Whether the condition is true for an item; of a list, one value has to fulfil it (with !=, each)."""
        values = _values(item, self._keys)
        if self._operator == "=":
            return any(self._is_equal(value) for value in values)
        if self._operator == "!=":
            return not any(self._is_equal(value) for value in values)
        order = _ORDERS[self._operator]
        return any(self._is_ordered(value, order) for value in values)

    def _is_equal(self, value: Any) -> bool:
        return fnmatchcase(_text(value), self._pattern)

    def _is_ordered(self, value: Any, order: Callable[[Any, Any], bool]) -> bool:
        try:
            if isinstance(value, datetime):
                return order(value, datetime.fromisoformat(self._value))
            if isinstance(value, int | float) and not isinstance(value, bool):
                return order(value, float(self._value))
        except (TypeError, ValueError):  # not comparable, such as a time without an offset
            return False
        return isinstance(value, str) and order(value, self._value)


def filters_of(texts: Iterable[str], fields: Collection[str]) -> list[Filter]:
    """Return the conditions of a request. Raises RequestError."""
    filters = [Filter(text, fields) for text in texts]
    if len(filters) > MAXIMUM_FILTERS:
        raise RequestError(400, f"more than {MAXIMUM_FILTERS} filters")
    return filters


def _values(value: Any, keys: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _values(item, keys)
    elif not keys:
        yield value
    elif isinstance(value, Mapping) and keys[0] in value:
        yield from _values(value[keys[0]], keys[1:])


def _text(value: Any) -> str:
    """Return a value as JSON shows it, a text without quotes."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode().strip('"')
