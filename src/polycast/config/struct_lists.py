"""Settings that are lists of maps: ``[{url: ..., username: ...}]``, each item a struct."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct

from polycast.config.annotations import description_of, kind_of
from polycast.config.kinds import Json, Kind, parse_each
from polycast.config.similar import closest
from polycast.config.values import InvalidValueError
from polycast.errors import ConfigurationError

MAXIMUM_ITEMS: Final = 1_000
"""Items of a list; more are a mistake."""

Item = TypeVar("Item", bound=Struct)


class StructListKind(Kind, Generic[Item]):
    """A list of maps. The text of an environment variable is the list as JSON.

    The keys are the fields of ``struct``, each with a default or required; ``check`` raises ConfigurationError for an
    item whose values are not valid together. ``example`` is an item for errors, which never show the given one: it
    may contain a password.
    """

    __slots__ = ("_check", "_example", "_struct", "keys")

    def __init__(self, struct: type[Item], check: Callable[[Item], None], example: str) -> None:
        self._struct = struct
        self._check = check
        self._example = example
        self.keys: Final = {info.encode_name: info for info in msgspec.structs.fields(struct)}
        """The fields by key."""
        super().__init__("list of maps", self._parse, self._dump, self._schema())

    def from_text(self, text: str) -> tuple[Item, ...]:
        return self._parse(self._read(text))

    def _parse(self, items: Json) -> tuple[Item, ...]:
        if not isinstance(items, list | tuple):
            raise InvalidValueError(f"not a list of maps (write [{self._example}])")
        if len(items) > MAXIMUM_ITEMS:
            raise InvalidValueError(f"more than {MAXIMUM_ITEMS} items")
        return tuple(parse_each(lambda numbered: self._item(*numbered), enumerate(items, 1)))

    def _read(self, text: str) -> Json:
        """Parse the text of an environment variable."""
        try:
            return msgspec.json.decode(text) if text.strip() else []
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise InvalidValueError(f"not a list of maps (as JSON: [{self._example}])") from None

    def _item(self, number: int, values: Json) -> Item:
        if not isinstance(values, Mapping):
            raise InvalidValueError(f"item {number} is not a map (write {self._example})")
        pairs = parse_each(lambda pair: self._value(number, *pair), values.items())
        parsed = {name: value for name, value in pairs if value is not None}
        first = next(iter(values), "")
        for key, info in self.keys.items():
            if info.required and info.name not in parsed:
                raise _at(first, InvalidValueError(f"item {number}: {key} is missing (write {self._example})"))
        item = self._struct(**parsed)
        try:
            self._check(item)
        except ConfigurationError as error:
            raise _at(first, error) from error.__cause__
        return item

    def _value(self, number: int, key: str, value: Json) -> tuple[str, Any]:
        """Return the name of a field and its value; None: the default."""
        info = self.keys.get(key)
        if info is None:
            raise self._unknown(number, key)
        try:
            return info.name, None if value is None else kind_of(info).parse(value)
        except ConfigurationError as error:
            raise _at(key, InvalidValueError(f"item {number}: {key}: {error.message}")) from error.__cause__

    def _unknown(self, number: int, key: str) -> ConfigurationError:
        similar = closest(key, self.keys)
        hint = f"did you mean '{similar}'?" if similar else f"one of: {', '.join(self.keys)}"
        shown, colon, _ = key.partition(":")  # the rest may be a password
        hidden = ":***" if colon else ""
        return _at(key, InvalidValueError(f"item {number}: non-existent parameter: '{shown}{hidden}' ({hint})"))

    def _dump(self, items: tuple[Item, ...]) -> Json:
        return [
            {key: kind_of(info).dump(getattr(item, info.name)) for key, info in self.keys.items()} for item in items
        ]

    def _schema(self) -> Mapping[str, Json]:
        properties = {
            key: {"description": description_of(info), "anyOf": [dict(kind_of(info).schema), {"type": "null"}]}
            for key, info in self.keys.items()
        }
        required = [key for key, info in self.keys.items() if info.required]
        item = {"type": "object", "additionalProperties": False, "properties": properties, "required": required}
        return {"type": "array", "items": item}


def _at(key: str, error: ConfigurationError) -> ConfigurationError:
    """Give an error the line of a key."""
    error.line = error.line or getattr(key, "line", 0)
    return error
