"""Requests that wait for what a muxer is about to publish: those that ask for the same wait together."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Question = TypeVar("Question", bound=Hashable)
Result = TypeVar("Result")


class Waiter(Generic[Question, Result]):
    """A request that waits."""

    __slots__ = ("_room", "deadline", "on_result", "question")

    def __init__(
        self,
        room: WaitingRoom[Question, Result],
        question: Question,
        deadline: float,
        on_result: Callable[[Result], None],
    ) -> None:
        self._room = room
        self.question = question
        self.deadline = deadline
        self.on_result = on_result

    def cancel(self) -> None:
        """Wait no longer: the client has gone. Nothing when it has its result."""
        self._room.discard(self)


class _Group(Generic[Question, Result]):
    """Those who wait for the answer to one question."""

    __slots__ = ("timeout", "waiters")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.waiters: dict[Waiter[Question, Result], None] = {}
        """In the order in which they came."""


class WaitingRoom(Generic[Question, Result]):
    """Waiting requests. Each question is answered once, however many wait for it."""

    def __init__(self, answer: Callable[[Question], Result | None], timed_out: Result) -> None:
        """``answer`` returns None while there is no answer. ``timed_out`` is what those get who waited too long."""
        self._answer = answer
        self._timed_out = timed_out
        self._groups: dict[Question, _Group[Question, Result]] = {}
        self.count = 0
        """Requests that wait now."""

    def timeout(self, question: Question) -> float | None:
        """Return how long (seconds) those wait who asked a question; None when nobody waits for its answer."""
        group = self._groups.get(question)
        return group.timeout if group is not None else None

    def wait(
        self, question: Question, timeout: float, now: float, on_result: Callable[[Result], None]
    ) -> Waiter[Question, Result]:
        """Call ``on_result`` with the answer to a question; `tick` gives up after ``timeout`` seconds."""
        group = self._groups.get(question)
        if group is None:
            group = self._groups[question] = _Group(timeout)
        waiter = Waiter(self, question, now + timeout, on_result)
        group.waiters[waiter] = None
        self.count += 1
        return waiter

    def discard(self, waiter: Waiter[Question, Result]) -> None:
        """Forget a request; nothing when it does not wait."""
        group = self._groups.get(waiter.question)
        if group is None or waiter not in group.waiters:
            return
        del group.waiters[waiter]
        self.count -= 1
        if not group.waiters:
            del self._groups[waiter.question]

    def wake(self) -> None:
        """Ask all questions again; whoever has an answer gets it at once, in a plain loop."""
        for question in list(self._groups):
            result = self._answer(question)
            if result is None:
                continue
            group = self._groups.pop(question, None)
            if group is not None:
                self.count -= len(group.waiters)
                for waiter in group.waiters:
                    waiter.on_result(result)

    def tick(self, now: float) -> None:
        """To be called about once a second: ends those who have waited too long."""
        late = [waiter for group in self._groups.values() for waiter in group.waiters if now >= waiter.deadline]
        for waiter in late:
            self.discard(waiter)
            waiter.on_result(self._timed_out)
