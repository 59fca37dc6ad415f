"""Regular expressions with the syntax and the meaning of RE2, the engine of rtsp-simple-server and MediaMTX.

Not Python's ``re``: its syntax differs in many places, and for some expressions its time grows exponentially with the
length of the name, which clients choose. Here it grows linearly: all threads are simulated in parallel. A lazily built
deterministic automaton decides whether there is a match; the positions of groups come from a simulation of threads in
order of priority (https://swtch.com/~rsc/regexp/regexp2.html describes both).
"""

from __future__ import annotations

from typing import Final

from polycast.config.re2_classes import CharacterClass
from polycast.config.re2_parser import (
    Assertion,
    Choice,
    Empty,
    ExpressionError,
    Group,
    Node,
    Repetition,
    Sequence,
    Step,
    parse,
)

__all__ = ["ExpressionError", "Match", "Pattern", "compile_expression"]

MAXIMUM_INSTRUCTIONS: Final = 5_000  # the time of a match is proportional to it, per character
MAXIMUM_STATES: Final = 1_000  # of the automaton; then it is rebuilt

# Instructions: (_STEP, class), (_SPLIT, preferred, other), (_JUMP, target), (_SAVE, index), (_ASSERT, kind), (_MATCH,).
_STEP, _SPLIT, _JUMP, _SAVE, _ASSERT, _MATCH = range(6)

# Kind of the character before a position in the text.
_START, _NEWLINE, _WORD, _OTHER = range(4)

_WORD_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")

_Instruction = tuple[int, object, int]
_Ends = tuple[int, ...]
"""Start and end of each group; -1 for a group that did not participate."""


class Match:
    """A match."""

    __slots__ = ("_ends", "_text")

    def __init__(self, text: str, ends: _Ends) -> None:
        self._text = text
        self._ends = ends

    def groups(self) -> tuple[str | None, ...]:
        """Return the text of each group; None for one that did not participate."""
        ends = self._ends
        return tuple(
            self._text[ends[index] : ends[index + 1]] if ends[index] >= 0 <= ends[index + 1] else None
            for index in range(0, len(ends), 2)
        )


class Pattern:
    """A compiled expression."""

    __slots__ = ("_automaton", "_groups", "_program")

    def __init__(self, program: list[_Instruction], groups: int) -> None:
        self._program = program
        self._groups = groups
        self._automaton = _Automaton(program)

    def search(self, text: str) -> Match | None:
        """Return the leftmost match, which may start and end anywhere; of several, the preferred one."""
        if not self._automaton.matches(text):
            return None
        return self._search_groups(text) if self._groups else Match(text, ())

    def _search_groups(self, text: str) -> Match | None:
        none: _Ends = (-1,) * (2 * self._groups)
        threads: list[tuple[CharacterClass, int, _Ends]] = []
        found: _Ends | None = None
        for place in range(len(text) + 1):
            character = text[place : place + 1]
            arrived: list[tuple[CharacterClass, int, _Ends]] = []
            seen: set[int] = set()
            for accepted, index, ends in threads:
                if accepted.has(text[place - 1]):
                    complete = self._follow(index, ends, text, place, arrived, seen)
                    if complete is not None:
                        found = complete
                        break  # the following ones have lower priority
            else:
                if found is None:
                    found = self._follow(0, none, text, place, arrived, seen)
            threads = arrived
            if not threads and (found is not None or not character):
                break
        return Match(text, found) if found is not None else None

    def _follow(
        self,
        index: int,
        ends: _Ends,
        text: str,
        place: int,
        arrived: list[tuple[CharacterClass, int, _Ends]],
        seen: set[int],
    ) -> _Ends | None:
        """Follow all instructions that consume no character, in order of priority, up to steps and to a match."""
        pending = [(index, ends)]
        while pending:
            index, ends = pending.pop()
            if index in seen:
                continue
            seen.add(index)
            code, argument, other = self._program[index]
            if code == _STEP:
                assert isinstance(argument, CharacterClass)
                arrived.append((argument, index + 1, ends))
            elif code == _SPLIT:
                assert isinstance(argument, int)
                pending += ((other, ends), (argument, ends))
            elif code == _JUMP:
                pending.append((other, ends))
            elif code == _SAVE:
                pending.append((index + 1, (*ends[:other], place, *ends[other + 1 :])))
            elif code == _ASSERT:
                assert isinstance(argument, str)
                before = _kind_of(text[place - 1]) if place else _START
                if _is_between(argument, before, text[place : place + 1]):
                    pending.append((index + 1, ends))
            else:
                return ends
        return None


class _State:
    """A state of the automaton: the instructions to continue from, and the kind of the previous character."""

    __slots__ = ("before", "following", "indexes")

    def __init__(self, indexes: frozenset[int], before: int) -> None:
        self.indexes = indexes
        self.before = before
        self.following: dict[str, _State | None] = {}
        """By the next character, empty at the end of the text; None if there is a match already."""


class _Automaton:
    """Decides whether a text has a match. States are cached, as names repeat."""

    __slots__ = ("_again", "_dead", "_program", "_states")

    def __init__(self, program: list[_Instruction]) -> None:
        self._program = program
        self._states: dict[tuple[frozenset[int], int], _State] = {}
        self._dead = _State(frozenset(), _OTHER)
        """No match is possible."""
        self._again: frozenset[int] = frozenset(() if self._begins_with_text() else (0,))
        """Where a match may start after the first character."""

    def matches(self, text: str) -> bool:
        state: _State | None = self._state(frozenset((0,)), _START)
        for character in text:
            assert state is not None
            following = state.following
            state = following[character] if character in following else self._step(state, character)
            if state is None:
                return True
            if state is self._dead:
                return False
        assert state is not None
        return (state.following[""] if "" in state.following else self._step(state, "")) is None

    def _state(self, indexes: frozenset[int], before: int) -> _State:
        if len(self._states) > MAXIMUM_STATES:
            self._states = {}
        return self._states.setdefault((indexes, before), _State(indexes, before))

    def _step(self, state: _State, character: str) -> _State | None:
        pending = list(state.indexes)
        seen: set[int] = set()
        following = set(self._again)
        while pending:
            index = pending.pop()
            if index in seen:
                continue
            seen.add(index)
            code, argument, other = self._program[index]
            if code == _STEP:
                assert isinstance(argument, CharacterClass)
                if character and argument.has(character):
                    following.add(index + 1)
            elif code == _SPLIT:
                assert isinstance(argument, int)
                pending += (argument, other)
            elif code == _JUMP:
                pending.append(other)
            elif code == _SAVE:
                pending.append(index + 1)
            elif code == _ASSERT:
                assert isinstance(argument, str)
                if _is_between(argument, state.before, character):
                    pending.append(index + 1)
            else:
                state.following[character] = None
                return None
        new = self._state(frozenset(following), _kind_of(character)) if following else self._dead
        state.following[character] = new
        return new

    def _begins_with_text(self) -> bool:
        """Whether every match starts at the start of the text."""
        pending = [0]
        seen: set[int] = set()
        while pending:
            index = pending.pop()
            if index in seen:
                continue
            seen.add(index)
            code, argument, other = self._program[index]
            if code in (_STEP, _MATCH):
                return False
            if code == _SPLIT:
                assert isinstance(argument, int)
                pending += (argument, other)
            elif code == _JUMP:
                pending.append(other)
            elif code == _SAVE or argument != "A":
                pending.append(index + 1)
        return True


def _kind_of(character: str) -> int:
    return _NEWLINE if character == "\n" else _WORD if character in _WORD_CHARACTERS else _OTHER


def _is_between(kind: str, before: int, after: str) -> bool:
    """Whether an assertion holds between a kind of character and the next character, empty at the end."""
    if kind == "A":
        return before == _START
    if kind == "z":
        return not after
    if kind == "^":
        return before in (_START, _NEWLINE)
    if kind == "$":
        return after in ("", "\n")
    return ((before == _WORD) != (after in _WORD_CHARACTERS)) == (kind == "b")


def compile_expression(expression: str) -> Pattern:
    """Compile an expression. Raises ExpressionError."""
    node, groups = parse(expression)
    compiler = _Compiler()
    compiler.add(node)
    compiler.emit(_MATCH)
    return Pattern(compiler.program, groups)


class _Compiler:
    def __init__(self) -> None:
        self.program: list[_Instruction] = []

    def emit(self, code: int, argument: object = None, other: int = 0) -> int:
        if len(self.program) >= MAXIMUM_INSTRUCTIONS:
            raise ExpressionError("it is too large")
        self.program.append((code, argument, other))
        return len(self.program) - 1

    def add(self, node: Node) -> None:
        if isinstance(node, Step):
            self.emit(_STEP, node.accepted)
        elif isinstance(node, Assertion):
            self.emit(_ASSERT, node.kind)
        elif isinstance(node, Sequence):
            for part in node.parts:
                self.add(part)
        elif isinstance(node, Group):
            self.emit(_SAVE, None, 2 * node.number - 2)
            self.add(node.part)
            self.emit(_SAVE, None, 2 * node.number - 1)
        elif isinstance(node, Choice):
            self._choice(node)
        elif isinstance(node, Repetition):
            self._repetition(node)

    def _choice(self, node: Choice) -> None:
        jumps = []
        for part in node.parts[:-1]:
            split = self.emit(_SPLIT)
            self.add(part)
            jumps.append(self.emit(_JUMP))
            self.program[split] = (_SPLIT, split + 1, len(self.program))
        self.add(node.parts[-1])
        for jump in jumps:
            self.program[jump] = (_JUMP, None, len(self.program))

    def _repetition(self, node: Repetition) -> None:
        if node.most is None and node.least > 0:
            for _ in range(node.least - 1):
                self.add(node.part)
            self._at_least_once(node)
        elif node.most is None and _may_be_empty(node.part):
            # So that an empty iteration ends the loop, and has no lower priority than no iteration.
            skip = self.emit(_SPLIT)
            self._at_least_once(node)
            self._aim(skip, node.is_greedy)
        elif node.most is None:
            loop = self.emit(_SPLIT)
            self.add(node.part)
            self.emit(_JUMP, None, loop)
            self._aim(loop, node.is_greedy)
        else:
            for _ in range(node.least):
                self.add(node.part)
            skips = []
            for _ in range(node.most - node.least):
                skips.append(self.emit(_SPLIT))
                self.add(node.part)
            for skip in skips:
                self._aim(skip, node.is_greedy)

    def _at_least_once(self, node: Repetition) -> None:
        start = len(self.program)
        self.add(node.part)
        loop = self.emit(_SPLIT)
        behind = len(self.program)
        self.program[loop] = (_SPLIT, *((start, behind) if node.is_greedy else (behind, start)))

    def _aim(self, split: int, is_greedy: bool) -> None:
        """Set one target of a split to the instruction after it, or to the current end."""
        inner, behind = split + 1, len(self.program)
        self.program[split] = (_SPLIT, *((inner, behind) if is_greedy else (behind, inner)))


def _may_be_empty(node: Node) -> bool:
    if isinstance(node, Sequence):
        return all(map(_may_be_empty, node.parts))
    if isinstance(node, Choice):
        return any(map(_may_be_empty, node.parts))
    if isinstance(node, Group):
        return _may_be_empty(node.part)
    if isinstance(node, Repetition):
        return node.least == 0 or _may_be_empty(node.part)
    return isinstance(node, Empty | Assertion)
