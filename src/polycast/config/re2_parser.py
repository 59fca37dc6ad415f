"""Parses regular expressions in RE2's syntax (https://github.com/google/re2/wiki/Syntax) as Go's regexp takes it.

Unsupported syntax is refused by name.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from polycast.config import re2_classes
from polycast.config.re2_classes import CharacterClass

MAXIMUM_REPETITIONS: Final = 1000  # of one part, also when repetitions are nested; the limit of RE2
MAXIMUM_DEPTH: Final = 100  # nested groups; the tree is traversed recursively

_REPETITION = re.compile(r"\{(0|[1-9][0-9]*)(?:(,)(0|[1-9][0-9]*)?)?\}", re.ASCII)
_GROUP_NAME = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_POSIX_CLASS = re.compile(r"\[:(\^?)([^:\]]*):\]")
_CONTROLS: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

_UNSUPPORTED_GROUPS: Final = {
    "(?=": "lookahead",
    "(?!": "negative lookahead",
    "(?<=": "lookbehind",
    "(?<!": "negative lookbehind",
    "(?>": "an atomic group",
    "(?#": "a comment",
    "(?|": "a branch reset",
    "(?(": "a condition",
    "(?P=": "a backreference",
    "(?P>": "recursion",
    "(?&": "recursion",
    "(?R": "recursion",
    "(?'": "a group name in quotes",
    "(?C": "a callout",
}
_UNSUPPORTED_ESCAPES: Final = {
    "C": "a single byte",
    "E": r"\E without \Q",
    "G": "the end of the last match",
    "K": "resetting the match",
    "N": "a named character",
    "Q": r"\Q in a character class",
    "R": "a line break",
    "X": "a grapheme",
    "Z": r"the end of the text; write \z",
    "g": "a backreference",
    "k": "a backreference",
    "u": r"a character by its number; write \x{...}",
}


class ExpressionError(Exception):
    """The expression is not valid, or uses syntax that RE2 does not have. The text says which."""


class Empty(msgspec.Struct, frozen=True):
    """Nothing."""


class Step(msgspec.Struct, frozen=True):
    """One character."""

    accepted: CharacterClass


class Assertion(msgspec.Struct, frozen=True):
    """A position between characters: ``A`` and ``z`` (text), ``^`` and ``$`` (line), ``b`` and ``B`` (word)."""

    kind: str


class Sequence(msgspec.Struct, frozen=True):
    parts: tuple[Node, ...]


class Choice(msgspec.Struct, frozen=True):
    """The first alternative that leads to a match."""

    parts: tuple[Node, ...]


class Group(msgspec.Struct, frozen=True):
    """A capturing group."""

    number: int
    part: Node


class Repetition(msgspec.Struct, frozen=True):
    part: Node
    least: int
    most: int | None
    is_greedy: bool


Node = Empty | Step | Assertion | Sequence | Choice | Group | Repetition


class _Flags(msgspec.Struct, frozen=True):
    i: bool = False
    """Letters match both cases."""
    m: bool = False
    """``^`` and ``$`` match at lines."""
    s: bool = False
    """``.`` matches a line feed."""
    U: bool = False
    """Repetitions are lazy, and greedy if followed by ``?``."""


class _Open:
    """A group that is being parsed; also the whole expression."""

    __slots__ = ("alternatives", "flags", "number", "parts")

    def __init__(self, number: int | None, flags: _Flags) -> None:
        self.number = number
        """Of the group; None if it does not capture."""
        self.flags = flags
        """Those that are restored after the group."""
        self.alternatives: list[Node] = []
        self.parts: list[Node] = []

    def node(self) -> Node:
        self.end_alternative()
        node = self.alternatives[0] if len(self.alternatives) == 1 else Choice(tuple(self.alternatives))
        return node if self.number is None else Group(self.number, node)

    def end_alternative(self) -> None:
        parts, self.parts = self.parts, []
        self.alternatives.append(parts[0] if len(parts) == 1 else Sequence(tuple(parts)) if parts else Empty())


def parse(expression: str) -> tuple[Node, int]:
    """Return the expression and the number of its groups. Raises ExpressionError."""
    parser = _Parser(expression)
    return parser.parse(), parser.groups


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._flags = _Flags()
        self._stack = [_Open(None, self._flags)]
        self.groups = 0
        self._was_repetition = False
        """Whether the previous element is a repetition; another one must not follow."""

    def parse(self) -> Node:
        while self._place < len(self._text):
            was_repetition, self._was_repetition = self._was_repetition, False
            character = self._text[self._place]
            if character in "*+?" or (character == "{" and _REPETITION.match(self._text, self._place)):
                self._repeat(was_repetition)
            elif character == "(":
                self._open_group()
            elif character == ")":
                self._close_group()
            elif character == "|":
                self._place += 1
                self._stack[-1].end_alternative()
            elif character == "\\":
                self._escape()
            else:
                self._simple(character)
        if len(self._stack) > 1:
            raise ExpressionError("a ) is missing")
        return self._stack[0].node()

    def _add(self, node: Node) -> None:
        self._stack[-1].parts.append(node)

    def _add_character(self, character: str) -> None:
        one = re2_classes.span(character, character)
        self._add(Step(one.folded() if self._flags.i else one))

    def _simple(self, character: str) -> None:
        if character == "[":
            self._add(Step(self._class()))
            return
        self._place += 1
        if character == ".":
            self._add(Step(re2_classes.ANY if self._flags.s else re2_classes.NOT_NEWLINE))
        elif character == "^":
            self._add(Assertion("^" if self._flags.m else "A"))
        elif character == "$":
            self._add(Assertion("$" if self._flags.m else "z"))
        else:
            self._add_character(character)

    # Repetitions

    def _repeat(self, was_repetition: bool) -> None:
        start = self._place
        counted = _REPETITION.match(self._text, start)
        self._place = counted.end() if counted else start + 1
        least, most = _counts(counted) if counted else _SIGNS[self._text[start]]
        is_greedy = not self._flags.U
        if self._text.startswith("?", self._place):
            self._place += 1
            is_greedy = not is_greedy
        written = self._text[start : self._place]
        if was_repetition:
            kind = "a possessive repetition" if written == "+" else "a repetition of a repetition"
            raise ExpressionError(f"{kind} is not supported: {self._text[start - 1 : self._place]}")
        parts = self._stack[-1].parts
        if not parts:
            raise ExpressionError(f"there is nothing to repeat before {written}")
        node = Repetition(parts.pop(), least, most, is_greedy)
        if counted and _largest_count(node) > MAXIMUM_REPETITIONS:
            raise ExpressionError(f"more than {MAXIMUM_REPETITIONS} repetitions: {written}")
        parts.append(node)
        self._was_repetition = True

    # Groups

    def _open_group(self) -> None:
        start = self._place
        if len(self._stack) > MAXIMUM_DEPTH:
            raise ExpressionError(f"more than {MAXIMUM_DEPTH} groups in one another")
        if not self._text.startswith("(?", start):
            self._place += 1
            self._push_kept()
            return
        for beginning in ("(?P<", "(?<"):
            if self._text.startswith(beginning, start) and self._text[start + 3 : start + 4] not in ("=", "!"):
                self._open_named(start + len(beginning))
                return
        self._read_flags(start)

    def _push_kept(self) -> None:
        self.groups += 1
        self._stack.append(_Open(self.groups, self._flags))

    def _open_named(self, start: int) -> None:
        name = _GROUP_NAME.match(self._text, start)
        if name is None or self._text[name.end() : name.end() + 1] != ">":
            raise ExpressionError("a group has no valid name (letters, digits and _, then >)")
        self._place = name.end() + 1
        self._push_kept()

    def _read_flags(self, start: int) -> None:
        """Read ``(?flags)`` or ``(?flags:``."""
        flags, place, value, is_flag_needed = self._flags, start + 2, True, False
        for place in range(start + 2, len(self._text)):
            character = self._text[place]
            if character in "imsU":
                flags = msgspec.structs.replace(flags, **{character: value})
                is_flag_needed = False
            elif character == "-" and value:
                value, is_flag_needed = False, True
            else:
                break
        character = self._text[place : place + 1]
        if character not in (")", ":") or is_flag_needed:
            self._refuse_group(start)
        if character == ":":
            self._stack.append(_Open(None, self._flags))
        self._flags = flags
        self._place = place + 1

    def _refuse_group(self, start: int) -> None:
        for beginning, what in _UNSUPPORTED_GROUPS.items():
            if self._text.startswith(beginning, start):
                raise ExpressionError(f"{what} is not supported: {beginning}")
        raise ExpressionError(f"a group begins in a way that is not supported: {self._text[start : start + 4]}")

    def _close_group(self) -> None:
        if len(self._stack) == 1:
            raise ExpressionError("a ) has no (")
        self._place += 1
        closed = self._stack.pop()
        self._flags = closed.flags
        self._add(closed.node())

    # Escapes

    def _escape(self) -> None:
        character = self._text[self._place + 1 : self._place + 2]
        if character in ("A", "b", "B", "z") and character:
            self._place += 2
            self._add(Assertion(character))
        elif character == "Q":
            end = self._text.find(r"\E", self._place)
            literal = self._text[self._place + 2 : end if end >= 0 else len(self._text)]
            self._place = end + 2 if end >= 0 else len(self._text)
            for one in literal:
                self._add_character(one)
        else:
            found = self._named_class()
            if found is not None:
                self._add(Step(found))
            else:
                self._add_character(self._escaped_character())

    def _named_class(self) -> CharacterClass | None:
        """Parse ``\\d``, ``\\pL``, ``\\p{Greek}``... if one is next."""
        letter = self._text[self._place + 1 : self._place + 2]
        if letter and letter in "dswDSW":
            self._place += 2
            found = re2_classes.PERL[letter.lower()]
            return found if letter.islower() else found.negated()
        if letter not in ("p", "P") or not letter:
            return None
        start = self._place
        name = self._text[start + 2 : start + 3]
        if name == "{":
            end = self._text.find("}", start)
            if end < 0:
                raise ExpressionError(f"a }} is missing behind \\{letter}{{")
            name = self._text[start + 3 : end]
            self._place = end + 1
        else:
            self._place = start + 3
        known = re2_classes.unicode_class(name.removeprefix("^"))
        if known is None:
            raise ExpressionError(f"there is no character class {self._text[start : self._place]}")
        if self._flags.i:
            known = known.folded()
        return known.negated() if (letter == "P") != name.startswith("^") else known

    def _escaped_character(self) -> str:
        start = self._place
        character = self._text[start + 1 : start + 2]
        if not character:
            raise ExpressionError("it ends in a backslash")
        self._place += 2
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character == "x":
            return self._hexadecimal(start)
        if character in "01234567":
            # A single digit other than 0 is a backreference in other syntaxes.
            digits = re.match(r"0[0-7]{0,2}|[1-7][0-7]{1,2}", self._text[start + 1 : start + 4], re.ASCII)
            if digits is None:
                raise ExpressionError(f"a backreference is not supported: \\{character}")
            self._place = start + 1 + digits.end()
            return chr(int(digits[0], 8))
        if character < "\x80" and not character.isalnum():
            return character
        what = _UNSUPPORTED_ESCAPES.get(character, "this escape sequence")
        raise ExpressionError(f"{what} is not supported: \\{character}")

    def _hexadecimal(self, start: int) -> str:
        digits = re.compile(r"\{([0-9a-fA-F]{1,8})\}|([0-9a-fA-F]{2})").match(self._text, start + 2)
        number = int(digits[1] or digits[2], 16) if digits else -1
        if digits is None or number > 0x10FFFF:
            raise ExpressionError(f"not the number of a character: {self._text[start : start + 12]}")
        self._place = digits.end()
        return chr(number)

    # Character classes

    def _class(self) -> CharacterClass:
        start = self._place
        self._place += 1
        is_negated = self._text.startswith("^", self._place)
        self._place += is_negated
        found: list[CharacterClass] = []
        while not (self._text.startswith("]", self._place) and found):
            if self._place >= len(self._text):
                raise ExpressionError(f"a ] is missing: {self._text[start : start + 12]}")
            member = self._posix_class()
            if member is None and self._text.startswith("\\", self._place):
                member = self._named_class()
            found.append(member if member is not None else self._range())
        self._place += 1
        result = re2_classes.union(found)
        return result.negated() if is_negated else result

    def _posix_class(self) -> CharacterClass | None:
        named = _POSIX_CLASS.match(self._text, self._place)
        if named is None:
            return None
        known = re2_classes.POSIX.get(named[2])
        if known is None:
            raise ExpressionError(f"there is no character class {named[0]}")
        self._place = named.end()
        if self._flags.i:
            known = known.folded()
        return known.negated() if named[1] else known

    def _range(self) -> CharacterClass:
        start = self._place
        first = last = self._class_character()
        following = self._text[self._place : self._place + 2]
        if following.startswith("-") and len(following) == 2 and following != "-]":
            self._place += 1
            last = self._class_character()
            if last < first:
                raise ExpressionError(f"a range goes backwards: {self._text[start : self._place]}")
        members = re2_classes.span(first, last)
        return members.folded() if self._flags.i else members

    def _class_character(self) -> str:
        if self._text.startswith("\\", self._place):
            return self._escaped_character()
        character = self._text[self._place : self._place + 1]
        if not character:
            raise ExpressionError("a ] is missing")
        self._place += 1
        return character


_SIGNS: Final[dict[str, tuple[int, int | None]]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


def _counts(counted: re.Match[str]) -> tuple[int, int | None]:
    numbers = [digits for digits in (counted[1], counted[3]) if digits]
    # A very long number would take long to convert.
    if any(len(digits) > 4 or int(digits) > MAXIMUM_REPETITIONS for digits in numbers):
        raise ExpressionError(f"more than {MAXIMUM_REPETITIONS} repetitions: {counted[0][:16]}")
    least = int(counted[1])
    most = least if not counted[2] else int(counted[3]) if counted[3] else None
    if most is not None and most < least:
        raise ExpressionError(f"a repetition goes backwards: {counted[0]}")
    return least, most


def _largest_count(node: Node) -> int:
    """The product of nested counted repetitions, in the worst branch."""
    if isinstance(node, Sequence | Choice):
        return max((_largest_count(part) for part in node.parts), default=1)
    if isinstance(node, Group):
        return _largest_count(node.part)
    if isinstance(node, Repetition):
        own = node.least if node.most is None else node.most
        return max(1, own) * _largest_count(node.part)
    return 1
