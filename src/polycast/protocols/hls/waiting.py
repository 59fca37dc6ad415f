"""Requests that wait for what a muxer is about to publish: those that ask for the same wait together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from polycast.net.http import Receive

# Seconds of waiting after which it is watched whether the client is still there. Most requests never wait so long.
WATCH_AFTER_SECONDS = 2.0

Question = TypeVar("Question", bound=Hashable)
Result = TypeVar("Result")


class _Waiter(Generic[Result]):
    __slots__ = ("deadline", "future", "receive", "since", "watch")

    def __init__(self, future: asyncio.Future[Result], receive: Receive, since: float, deadline: float) -> None:
        self.future = future
        self.receive = receive
        self.since = since
        self.deadline = deadline
        self.watch: asyncio.Task[None] | None = None


class WaitingRoom(Generic[Question, Result]):
    """Waiting requests. Each question is answered once, however many wait for it."""

    def __init__(self, answer: Callable[[Question], Result | None], timed_out: Result, gone: Result) -> None:
        """``answer`` returns None while there is no answer. ``timed_out`` is what those get who have waited too long;
        ``gone`` those whose client has closed the connection, which nobody sees."""
        self._answer = answer
        self._timed_out = timed_out
        self._gone = gone
        self._groups: dict[Question, set[_Waiter[Result]]] = {}
        self.count = 0
        """Requests that wait now."""

    async def wait(self, question: Question, timeout: float, receive: Receive, now: float) -> Result:
        """Return the answer to a question, at most about a second later than ``timeout`` (seconds) allows."""
        waiter = _Waiter(asyncio.get_running_loop().create_future(), receive, now, now + timeout)
        group = self._groups.get(question)
        if group is None:
            group = self._groups[question] = set()
        group.add(waiter)
        self.count += 1
        try:
            result: Result = await waiter.future
            return result
        finally:
            self.count -= 1
            if waiter.watch is not None:
                waiter.watch.cancel()
            group.discard(waiter)
            if not group and self._groups.get(question) is group:
                del self._groups[question]

    def wake(self) -> None:
        """Ask all questions again."""
        for question in list(self._groups):
            result = self._answer(question)
            if result is not None:
                for waiter in self._groups.pop(question):
                    _settle(waiter, result)

    def tick(self, now: float) -> None:
        """To be called about once a second: ends those who have waited too long, looks after the others."""
        for group in list(self._groups.values()):
            for waiter in list(group):
                if now >= waiter.deadline:
                    _settle(waiter, self._timed_out)
                elif waiter.watch is None and now - waiter.since >= WATCH_AFTER_SECONDS:
                    waiter.watch = asyncio.get_running_loop().create_task(self._watch(waiter))

    async def _watch(self, waiter: _Waiter[Result]) -> None:
        while (await waiter.receive())["type"] != "http.disconnect":
            pass
        _settle(waiter, self._gone)


def _settle(waiter: _Waiter[Result], result: Result) -> None:
    if not waiter.future.done():
        waiter.future.set_result(result)
