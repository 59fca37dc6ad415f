"""Regular checks of many connections and sessions, which do not hold up others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from polycast.net.loop import LateTimer
from polycast.net.work import SLICE_SECONDS, work_queue_of

HOUSEKEEPING_SECONDS: Final = 1.0
"""Between two checks of timeouts, reports and limits."""


class Member(Protocol):
    """Something that is checked regularly: a connection, a session."""

    def tick(self, now: float) -> None:
        """Called about once a second."""


AnyMember = TypeVar("AnyMember", bound=Member)


class Housekeeping(Generic[AnyMember]):
    """Calls all members about once a second, in slices, between which others get their turn."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        members: Callable[[], Iterable[AnyMember]],
        on_failed: Callable[[AnyMember], None],
        on_second: Callable[[float], None],
    ) -> None:
        """``clock`` returns monotonic seconds; ``members`` returns those to call in the coming round.

        ``on_failed`` is called with a member whose `tick` raised the exception that is being handled, and ``on_second``
        with the time after each round.
        """
        self._loop = loop
        self._clock = clock
        self._members = members
        self._on_failed = on_failed
        self._on_second = on_second
        self.is_running = False
        self._timer: LateTimer | None = None
        self._round: Iterator[AnyMember] = iter(())
        """Members that have yet to be called in this second."""

    def start(self) -> None:
        """Begin; the first round is due in a second."""
        self.is_running = True
        self._schedule()

    def stop(self) -> None:
        """Call no more members."""
        self.is_running = False
        self._round = iter(())
        if self._timer is not None:
            self._timer.cancel()

    def begin_round(self) -> None:
        """Call all members now instead of later: for one slice, then in the work queue."""
        if self._timer is not None:
            self._timer.cancel()
        self._round = iter(tuple(self._members()))
        if self.work():
            work_queue_of(self._loop).add(self)

    def work(self) -> bool:
        """Call members for one slice; return whether there are more."""
        now = self._clock()
        slice_end = now + SLICE_SECONDS
        for member in self._round:
            try:
                member.tick(now)
            except Exception:
                self._on_failed(member)
            if self._clock() >= slice_end:
                return True
        if self.is_running:
            self._schedule()
            self._on_second(now)
        return False

    def _schedule(self) -> None:
        self._timer = LateTimer(self._loop, HOUSEKEEPING_SECONDS, self.begin_round)
