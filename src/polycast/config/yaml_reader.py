"""Reads YAML into plain maps, lists and texts.

Scalars stay text: what ``yes`` or ``0123`` means depends on the key, not on the version of YAML. Only null is
recognized.
The tree is built from parser events without recursion, so that depth and size have limits and aliases cannot multiply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from polycast.config.convert import Key
from polycast.config.reports import MAXIMUM_ERRORS, Report, raise_error
from polycast.config.yaml_problems import explain, lines_of
from polycast.errors import ConfigurationError

MAXIMUM_CHARACTERS: Final = 4 * 1024 * 1024  # some 20,000 paths; reading it takes seconds
MAXIMUM_DEPTH: Final = 16  # levels of maps and lists, with those that aliases repeat; a configuration has 4
MAXIMUM_NODES: Final = 500_000  # maps, lists and scalars; an alias counts as everything that it repeats

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_NOT_TEXT = re.compile(
    r"true|True|TRUE|false|False|FALSE|[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    re.ASCII,
)
_TAG_PREFIX: Final = "tag:yaml.org,2002:"
_STANDARD_TAGS: Final = frozenset(
    f"{prefix}{name}"
    for prefix in (_TAG_PREFIX, "!!")
    for name in ("str", "null", "bool", "int", "float", "map", "seq")
)
_MERGE: Final = "<<"
_COMMENT: Final = re.compile(r":[ \t]+#[^\s#]")  # without a blank after the #, so perhaps meant as a value


class _Open:
    """A map or list that is being filled."""

    __slots__ = ("anchor", "container", "is_merge", "key", "levels", "merged", "nodes_before")

    def __init__(self, container: dict[str, Any] | list[Any], anchor: str | None, nodes_before: int) -> None:
        self.container = container
        self.anchor = anchor
        self.nodes_before = nodes_before
        self.levels = 1
        """Levels of maps and lists, itself included."""
        self.key: Key | None = None
        self.is_merge = False
        self.merged: list[dict[str, Any]] = []


class RepeatedKey(str):
    """The warning about a key that is written more than once; ``error`` is what some dialects say instead."""

    __slots__ = ("error",)

    error: ConfigurationError

    @classmethod
    def of(cls, key: Key, first: Key) -> RepeatedKey:
        warning = cls(f"line {key.line}: '{key}' is written more than once; the last one counts")
        warning.error = ConfigurationError(f'mapping key "{key}" already defined at line {first.line}')
        warning.error.line = key.line
        return warning

    def of_file(self, name: str) -> RepeatedKey:
        """Return the warning with the name of the file."""
        warning = RepeatedKey(f"{name}: {self}")
        warning.error = self.error
        return warning


class Line(int):
    """A line of an included file."""

    file: str

    def __new__(cls, number: int, file: str) -> Line:
        line = super().__new__(cls, number)
        line.file = file
        return line


def read_yaml(text: str, report: Report = raise_error, file: str = "") -> tuple[Any, list[str]]:
    """Parse the first document of ``text``. Returns the tree and warnings.

    ``file`` is the name of an included file: the lines of keys are then a `Line`.

    ``report`` is called with errors after which the rest can still be read. Raises ConfigurationError with line and
    column for the others. Maps have ``Key`` keys in file order. An empty document is None.
    """
    if len(text) > MAXIMUM_CHARACTERS:
        raise ConfigurationError(f"the configuration is too large (limit: {MAXIMUM_CHARACTERS} characters)")
    builder = _Builder(file)
    documents = 0
    for event in _events(text):
        name = type(event).__name__
        if name == "DocumentStartEvent":
            documents += 1
        elif documents == 1:
            builder.add(name, event)
    if documents > 1:
        builder.warnings.append("the configuration file has several YAML documents; only the first one is used")
    for error in builder.key_errors:
        report(error)
    if builder.empty_credentials:
        lines = lines_of(text)
        builder.warnings += [
            f"line {key.line}: '{key}' is empty: a text that begins with # is a comment unless it is in quotes"
            for key in builder.empty_credentials
            if _COMMENT.search(lines[key.line - 1])
        ]
    return builder.root, builder.warnings


def _events(text: str) -> Iterator[Any]:
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    from polycast.config.yaml_scanner import parser

    try:
        yield from parser().parse(text)
    except MarkedYAMLError as error:
        problem = explain(text, error)
        at_column = f", column {problem.column}" if problem.column else ""
        where = f"line {problem.line}{at_column}: " if problem.line else ""
        raise ConfigurationError(f"invalid YAML: {where}{problem.text}") from error
    except ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise ConfigurationError(f"invalid YAML: line {line}, column {column}: {error.reason}") from error
    except YAMLError as error:
        raise ConfigurationError(f"invalid YAML: {error}") from error
    except (AssertionError, ValueError, OverflowError) as error:  # versions of %YAML, "\U..." beyond Unicode
        raise ConfigurationError(f"invalid YAML: {str(error)[:200]}") from error


def _invalid(problem: str, mark: Any) -> ConfigurationError:
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return ConfigurationError(f"invalid YAML: {where}{problem}")


class _Builder:
    """Builds the tree from parser events; one method per kind of event."""

    def __init__(self, file: str = "") -> None:
        self._file = file
        self.root: Any = None
        self.warnings: list[str] = []
        self.key_errors: list[ConfigurationError] = []
        self.empty_credentials: list[Key] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        """Values with the number of their nodes and of their levels."""
        self._nodes = 0

    def add(self, name: str, event: Any) -> None:
        if name == "ScalarEvent":
            self._scalar(event)
        elif name == "AliasEvent":
            self._alias(event)
        elif name in ("MappingStartEvent", "SequenceStartEvent"):
            self._start({} if name == "MappingStartEvent" else [], event)
        elif name in ("MappingEndEvent", "SequenceEndEvent"):
            self._end(event)

    def _scalar(self, event: Any) -> None:
        self._check_tag(event)
        self._count(1, event)
        plain = event.style is None and str(event.tag or "") in ("", "!")
        is_null = (plain and event.value in _NULLS) or str(event.tag or "").endswith(":null")
        value = None if is_null else event.value
        if self._expects_key():
            self._key(event, value, plain)
            return
        if event.anchor:
            self._anchors[event.anchor] = (value, 1, 0)
        self._place(value, 0, event)

    def _key(self, event: Any, value: str | None, plain: bool) -> None:
        top = self._stack[-1]
        if (value is None or (plain and _NOT_TEXT.fullmatch(value))) and len(self.key_errors) < MAXIMUM_ERRORS:
            shown = "<nil>" if value is None else value
            hint = f"; write it in quotes: '{shown}'" if value is not None else ""
            error = ConfigurationError(f"integer keys are not supported ({shown}){hint}")
            error.line = self._line(event)
            self.key_errors.append(error)
        top.key = Key(value or "")
        top.key.line = self._line(event)
        top.is_merge = plain and value == _MERGE

    def _line(self, event: Any) -> int:
        number = event.start_mark.line + 1
        return Line(number, self._file) if self._file else number

    def _alias(self, event: Any) -> None:
        if self._expects_key():
            raise _invalid("an alias can't be a key", event.start_mark)
        if event.anchor not in self._anchors:
            # Without its name: it may be a password that was not quoted.
            raise _invalid(
                "this alias names no anchor before it; a text that begins with * needs quotes", event.start_mark
            )
        value, nodes, levels = self._anchors[event.anchor]
        self._count(nodes, event)
        self._place(value, levels, event)

    def _start(self, container: dict[str, Any] | list[Any], event: Any) -> None:
        self._check_tag(event)
        if self._expects_key():
            raise _invalid("a key must be a text", event.start_mark)
        if len(self._stack) >= MAXIMUM_DEPTH:
            raise _invalid(f"more than {MAXIMUM_DEPTH} levels of maps and lists", event.start_mark)
        self._stack.append(_Open(container, event.anchor, self._nodes))
        self._count(1, event)

    def _end(self, event: Any) -> None:
        closed = self._stack.pop()
        if isinstance(closed.container, dict):
            for source in closed.merged:
                for key, value in source.items():
                    closed.container.setdefault(key, value)
        if closed.anchor:
            self._anchors[closed.anchor] = (closed.container, self._nodes - closed.nodes_before, closed.levels)
        self._place(closed.container, closed.levels, event)

    def _place(self, value: Any, levels: int, event: Any) -> None:
        if not self._stack:
            self.root = value
            return
        top = self._stack[-1]
        if top.is_merge:  # the maps themselves, and a list of them, are not in the tree
            levels -= 2 if isinstance(value, list) else 1
        top.levels = max(top.levels, 1 + levels)
        if len(self._stack) + top.levels - 1 > MAXIMUM_DEPTH:
            raise _invalid(
                f"more than {MAXIMUM_DEPTH} levels of maps and lists, counting what aliases repeat", event.start_mark
            )
        if isinstance(top.container, list):
            top.container.append(value)
            return
        key, top.key = top.key, None
        if key is None:
            return
        if top.is_merge:
            sources = value if isinstance(value, list) else [value]
            if not all(isinstance(source, dict) for source in sources):
                raise _invalid("'<<' needs a map or a list of maps", event.start_mark)
            top.merged.extend(sources)
            return
        if value is None and key.endswith(("User", "Pass")):
            self.empty_credentials.append(key)
        if key in top.container:
            first = next(other for other in top.container if isinstance(other, Key) and other == key)
            self.warnings.append(RepeatedKey.of(key, first))
            del top.container[key]
        top.container[key] = value

    def _expects_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].container, dict) and self._stack[-1].key is None

    def _count(self, nodes: int, event: Any) -> None:
        self._nodes += nodes
        if self._nodes > MAXIMUM_NODES:
            raise _invalid(f"more than {MAXIMUM_NODES} values, counting what aliases repeat", event.start_mark)

    def _check_tag(self, event: Any) -> None:
        tag = str(event.tag or "")
        if tag not in ("", "!") and tag not in _STANDARD_TAGS:
            known = f"the tag '{tag}' is not supported" if tag.startswith(_TAG_PREFIX) else "tags are not supported"
            raise _invalid(f"{known}; a text that begins with ! needs quotes", event.start_mark)
