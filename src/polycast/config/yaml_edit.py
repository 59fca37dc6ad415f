"""Changes values in the text of a YAML file and leaves every other character as it is.

The parser gives the position of each value; a change replaces only that part of the text. So comments, order, quotes,
blank lines and line ends stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from polycast.config import yaml_text

DEFAULT_STEP: Final = 2  # columns by which a new map is indented if the file has no example

Changes = Mapping[str, Any]
"""What to change in a map, by key: a plain value, `REMOVED`, or a `Patch` of the map below the key."""


class Removed:
    """The key is removed."""


REMOVED: Final = Removed()


class Patch(msgspec.Struct, frozen=True):
    """The map of the key is changed; if there is none, it is created from the values in ``changes``."""

    changes: Changes


class UneditableError(Exception):
    """The form of the text does not allow this change."""


class _Splice(msgspec.Struct, frozen=True):
    start: int
    end: int
    text: str


SameValue = Callable[[str, Any, Any], bool]
"""Whether a key's (key, old text, new value) are equal, so that the text may stay."""


def edit_yaml(text: str, changes: Changes, is_same: SameValue) -> str:
    """Return ``text`` with the changes made in its root map. The text must be valid YAML.

    Raises UneditableError. The caller parses the result and compares, which detects unforeseen forms.
    """
    from polycast.config.yaml_scanner import parser

    root = parser().compose(text) if text.strip() else None
    editor = _Editor(text, is_same)
    if root is None or _is_null(root):
        editor.append_to_empty(changes)
    else:
        editor.patch(root, changes, 0)
    return editor.result()


class _Editor:
    def __init__(self, text: str, is_same: SameValue) -> None:
        self._text = text
        self._is_same = is_same
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._splices: list[_Splice] = []
        self._step = DEFAULT_STEP

    def result(self) -> str:
        text = self._text
        # From the end, so that earlier positions stay valid. At one position: removals before insertions, and
        # insertions in the order of the changes.
        ordered = sorted(enumerate(self._splices), key=lambda item: (item[1].start, item[1].end, item[0]), reverse=True)
        for _, splice in ordered:
            text = text[: splice.start] + splice.text + text[splice.end :]
        return text

    def append_to_empty(self, changes: Changes) -> None:
        lines = self._entries(_values(changes), 0)
        if lines:
            self._insert_line(len(self._text), lines)

    def patch(self, node: Any, changes: Changes, depth: int) -> None:
        """Make the changes in a map node."""
        if type(node).__name__ != "MappingNode":
            raise UneditableError("a map was expected")
        if node.flow_style:
            self._replace(node.start_mark.index, node.end_mark.index, yaml_text.flow(_patched(_plain(node), changes)))
            return
        pairs = {key.value: (key, value) for key, value in node.value}  # of a duplicate key, the last one counts
        column = node.start_mark.column
        self._learn_step(node)
        additions: dict[str, Any] = {}
        for name, change in changes.items():
            if name not in pairs:
                if not isinstance(change, Removed):
                    additions[name] = change
                continue
            if isinstance(change, Removed):
                # All duplicates, or an earlier one would count again.
                for key, value in node.value:
                    if key.value == name:
                        self._remove_pair(key, value)
            else:
                self._change_pair(name, *pairs[name], change, column, depth)
        lines = self._entries(_values(additions), column)
        if lines:
            self._insert_line(self._content_end(node), lines)

    def _change_pair(self, name: str, key: Any, value: Any, change: Any, column: int, depth: int) -> None:
        text = self._text
        if value.start_mark.index < key.end_mark.index:
            self._expand_alias(key, change, column)
        elif isinstance(change, Patch):
            if _is_null(value):
                self._fill_empty(key, value, _values(change.changes), column)
            else:
                self.patch(value, change.changes, depth + 1)
        elif type(value).__name__ == "ScalarNode":
            if _is_empty(value):
                if change is not None:
                    colon = self._colon(key)
                    self._replace(colon + 1, colon + 1, " " + _text_of(change))
            elif not self._is_same(name, value.value, change):
                style = value.style if value.style in ("'", '"') else None
                words = (
                    {True: "true", False: "false"} if value.value in ("true", "false") else {True: "yes", False: "no"}
                )
                end = value.end_mark.index
                while value.style in ("|", ">") and end > value.start_mark.index and text[end - 1] in "\r\n":
                    end -= 1
                new = yaml_text.flow(change) if isinstance(change, list | tuple | Mapping) else None
                self._replace(value.start_mark.index, end, new or yaml_text.scalar(change, style=style, words=words))
        elif not self._is_same(name, _plain(value), change):
            self._replace_collection(key, value, change)

    def _replace_collection(self, key: Any, value: Any, change: Any) -> None:
        if value.flow_style:
            self._replace(value.start_mark.index, value.end_mark.index, yaml_text.flow(change))
        elif isinstance(change, list | tuple) and change:
            dash = " " * value.start_mark.column + "- "
            lines = (self._newline + dash).join(map(yaml_text.flow, change))
            self._replace(value.start_mark.index, self._content_end(value), "- " + lines)
        else:
            colon = self._colon(key)
            self._replace(colon + 1, colon + 1, " " + yaml_text.flow(change))
            start = self._text.rfind("\n", 0, value.start_mark.index) + 1
            self._replace(start, self._line_end(self._content_end(value)), "")

    def _expand_alias(self, key: Any, change: Any, column: int) -> None:
        """Replace an alias by its value: the anchored value stays as it is for the other aliases."""
        colon = self._colon(key)
        start = self._text.index("*", colon)
        end = start
        while end < len(self._text) and self._text[end] not in " \t\r\n,]}":
            end += 1
        alias = self._text[start:end]
        if not isinstance(change, Patch):
            self._replace(start, end, yaml_text.flow(change))
            return
        indent = column + self._step
        lines = " " * indent + f"<<: {alias}" + self._newline + self._entries(_values(change.changes), indent)
        self._replace(colon + 1, self._line_end(end), self._newline + lines)

    def _fill_empty(self, key: Any, value: Any, values: Mapping[str, Any], column: int) -> None:
        lines = self._entries(values, column + self._step)
        if not lines:
            return
        end = value.end_mark.index
        if not _is_empty(value):
            self._replace(self._colon(key) + 1, end, "")
        self._insert_line(max(self._colon(key) + 1, end if not _is_empty(value) else 0), lines)

    def _remove_pair(self, key: Any, value: Any) -> None:
        start = self._text.rfind("\n", 0, key.start_mark.index) + 1
        is_alias = value.start_mark.index < key.end_mark.index
        end = self._colon(key) + 1 if is_alias or _is_empty(value) else self._content_end(value)
        self._replace(start, self._line_end(end), "")

    def _entries(self, values: Mapping[str, Any], indent: int) -> str:
        return "".join(yaml_text.entry(key, value, indent, self._step, self._newline) for key, value in values.items())

    def _insert_line(self, after: int, lines: str) -> None:
        """Insert lines after the line of ``after``."""
        place = after if after > 0 and self._text[after - 1 : after] == "\n" else self._line_end(after)
        if place > 0 and self._text[place - 1] != "\n":
            lines = self._newline + lines
        self._replace(place, place, lines)

    def _replace(self, start: int, end: int, text: str) -> None:
        self._splices.append(_Splice(start, end, text))

    def _line_end(self, index: int) -> int:
        """Return the end of the line of ``index``, after its newline."""
        if index > 0 and self._text[index - 1] == "\n":
            return index
        end = self._text.find("\n", index)
        return len(self._text) if end < 0 else end + 1

    def _colon(self, key: Any) -> int:
        colon = self._text.find(":", key.end_mark.index)
        if colon < 0 or self._text[key.end_mark.index : colon].strip():
            raise UneditableError(f"the key '{key.value}' has an unusual form")
        return colon

    def _content_end(self, node: Any) -> int:
        """Return the end of a node's content, without the comments and blank lines after it."""
        if type(node).__name__ == "ScalarNode" or node.flow_style or not node.value:
            return int(node.end_mark.index)
        last = node.value[-1]
        if type(node).__name__ == "SequenceNode":
            return self._content_end(last)
        key, value = last
        if value.start_mark.index < key.end_mark.index or _is_empty(value):
            return self._colon(key) + 1
        return self._content_end(value)

    def _learn_step(self, node: Any) -> None:
        for _, value in node.value:
            if type(value).__name__ == "MappingNode" and not value.flow_style:
                step = value.start_mark.column - node.start_mark.column
                if 1 <= step <= 8:
                    self._step = step
                    return


def _is_null(node: Any) -> bool:
    return type(node).__name__ == "ScalarNode" and (
        _is_empty(node) or (node.style is None and node.value in ("~", "null", "Null", "NULL"))
    )


def _is_empty(node: Any) -> bool:
    return type(node).__name__ == "ScalarNode" and node.start_mark.index == node.end_mark.index


def _text_of(value: Any) -> str:
    return yaml_text.flow(value) if isinstance(value, list | tuple | Mapping) else yaml_text.scalar(value)


def _plain(node: Any) -> Any:
    """Return the value of a node; scalars as text, null as None."""
    kind = type(node).__name__
    if kind == "MappingNode":
        return {key.value: _plain(value) for key, value in node.value}
    if kind == "SequenceNode":
        return [_plain(item) for item in node.value]
    return None if _is_null(node) else node.value


def _values(changes: Changes) -> dict[str, Any]:
    """Return the values that the changes create."""
    return {
        key: _values(change.changes) if isinstance(change, Patch) else change
        for key, change in changes.items()
        if not isinstance(change, Removed)
    }


def _patched(values: Any, changes: Changes) -> dict[str, Any]:
    patched: dict[str, Any] = dict(values or {})
    for key, change in changes.items():
        if isinstance(change, Removed):
            patched.pop(key, None)
        elif isinstance(change, Patch):
            patched[key] = _patched(patched.get(key), change.changes)
        else:
            patched[key] = change
    return patched
