"""Requests that wait for what a muxer is about to publish: those that ask for the same wait together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question", bound=Hashable)
Waiter = TypeVar("Waiter", bound=Hashable)
Result = TypeVar("Result")


class Group(Generic[Question, Waiter, Result]):
    """Those who wait for the answer to one question."""

    __slots__ = ("deadlines", "question", "room", "timeout")

    def __init__(self, room: WaitingRoom[Question, Waiter, Result], question: Question, timeout: float) -> None:
        self.room = room
        self.question = question
        self.timeout = timeout
        """Seconds."""
        self.deadlines: dict[Waiter, float] = {}
        """By waiter, in the order in which they came."""

    def leave(self, waiter: Waiter) -> None:
        """Forget one who waits no longer; nothing when it has its result."""
        if self.deadlines.pop(waiter, None) is not None:
            self.room.on_left(self)


class WaitingRoom(Generic[Question, Waiter, Result]):
    """Waiting requests. Each question is answered once, however many wait for it."""

    def __init__(
        self,
        answer: Callable[[Question], Result | None],
        deliver: Callable[[Sequence[Waiter], Result], None],
        timed_out: Result,
    ) -> None:
        """``answer`` returns None while there is no answer; ``deliver`` takes it to all who waited for it.

        ``timed_out`` is what those get who waited too long.
        """
        self._answer = answer
        self._deliver = deliver
        self._timed_out = timed_out
        self.groups: dict[Question, Group[Question, Waiter, Result]] = {}
        self.count = 0
        """Requests that wait now."""

    def open(self, question: Question, timeout: float) -> Group[Question, Waiter, Result]:
        """Return a new group; `join` it at once. `tick` gives up after ``timeout`` seconds."""
        group = self.groups[question] = Group(self, question, timeout)
        return group

    def join(self, group: Group[Question, Waiter, Result], waiter: Waiter, now: float) -> None:
        """Let one more wait for the answer to the group's question."""
        group.deadlines[waiter] = now + group.timeout
        self.count += 1

    def on_left(self, group: Group[Question, Waiter, Result]) -> None:
        """Called when one of a group no longer waits."""
        self.count -= 1
        if not group.deadlines:
            del self.groups[group.question]

    def wake(self) -> None:
        """Ask all questions again; whoever has an answer gets it at once, in a plain loop."""
        for question in list(self.groups):
            result = self._answer(question)
            if result is None:
                continue
            group = self.groups.pop(question, None)
            if group is not None:
                waiters = list(group.deadlines)
                group.deadlines.clear()  # whoever gives up from now on, gives up an answer
                self.count -= len(waiters)
                self._deliver(waiters, result)

    def tick(self, now: float) -> None:
        """To be called about once a second: ends those who have waited too long."""
        for group in list(self.groups.values()):
            late = [waiter for waiter, deadline in group.deadlines.items() if now >= deadline]
            for waiter in late:
                group.leave(waiter)
            if late:
                self._deliver(late, self._timed_out)
