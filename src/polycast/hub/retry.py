"""Retries: keeps sources, pushes and readers of other servers connected.

One rule for all: the pause doubles with each failure up to a maximum, is reset after a success, and has random jitter.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from polycast.errors import PolycastError
from polycast.log import Log

# Random jitter as a fraction of each pause, so that hundreds of sources of one origin do not all reconnect at the same
# time.
JITTER: Final = 0.2

# Limit of the exponent; the longest pause is reached long before.
MAXIMUM_DOUBLINGS: Final = 30

INTERNAL_ERROR: Final = "internal error"
STREAM_OVER: Final = "the stream has ended"


@dataclass(frozen=True, slots=True)
class Failure:
    """The current failure."""

    error: str
    since: float
    """Unix time in seconds of the first failure since the last success."""
    next_attempt: float | None = None
    """Unix time in seconds; None during an attempt, and if none is planned."""


@dataclass(frozen=True, slots=True)
class RetryPauses:
    """The pauses between attempts, in seconds."""

    first: float
    """After the first failure; doubled by each further one."""
    longest: float


class Backoff:
    """The sequence of pauses of one supervised task."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        """``uniform`` returns a random number between two others."""
        self._uniform = uniform
        self._doublings = 0

    def pause(self, pauses: RetryPauses) -> float:
        """Return the seconds until the next attempt."""
        pause = min(pauses.longest, pauses.first * 2.0**self._doublings)
        return pause * self._uniform(1 - JITTER, 1 + JITTER)

    def advance(self) -> None:
        """Double the next pause."""
        self._doublings = min(self._doublings + 1, MAXIMUM_DOUBLINGS)

    def reset(self) -> None:
        """Reset to the first pause."""
        self._doublings = 0


class StreamOver(PolycastError):
    """An attempt has ended without an error."""

    def __init__(self) -> None:
        super().__init__(STREAM_OVER)


class StopRetrying(PolycastError):
    """Raised by an attempt to stop retrying, without a failure."""


class Next(Enum):
    """What to do after an attempt has ended."""

    PAUSE = auto()
    """Retry after the pause."""
    AT_ONCE = auto()
    """Retry immediately, without counting a failure: with another target, or because something has changed."""
    STOP = auto()


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of an attempt."""

    error: Exception
    reason: str
    """The error as text for the log."""
    has_worked: bool
    """Whether it worked for some time."""
    pause: float
    """Seconds until the next attempt, if there is one and it is not immediate."""


class Supervisor:
    """Repeats attempts until it is stopped.

    An attempt lasts as long as it works, and calls `worked` once it does. It ends with OSError, TimeoutError or
    PolycastError, or returns; any other exception is an internal error, which is logged and also counts as a failure.
    """

    def __init__(
        self,
        attempt: Callable[[], Awaitable[None]],
        on_ended: Callable[[Ended], Next],
        *,
        pauses: Callable[[], RetryPauses],
        describe: Callable[[BaseException], str],
        log: Callable[[], Log],
        sleep: Callable[[float], Awaitable[None]] | None = None,
        wall_clock: Callable[[], float] = time.time,
        backoff: Backoff | None = None,
    ) -> None:
        """``describe`` returns an error as text; ``wall_clock`` Unix time in seconds.

        ``pauses`` and ``log`` are called each time, as settings and names may change.
        """
        self._attempt = attempt
        self._on_ended = on_ended
        self._pauses = pauses
        self._describe = describe
        self._log = log
        self._sleep = sleep or asyncio.sleep
        self._wall_clock = wall_clock
        self._backoff = backoff or Backoff()
        self._task: asyncio.Task[None] | None = None
        self._has_worked = False
        self.failure: Failure | None = None
        """The current failure; None while it works, and before the first failure."""

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._task is not None

    def start(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """Start, in the background; return the task. Must not be called while it runs."""
        self._backoff.reset()
        self._task = loop.create_task(self._run())
        return self._task

    def stop(self) -> asyncio.Task[None] | None:
        """Cancel the attempt; return the task, which may take some time to end, or None if there is none."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            if self.failure is not None:
                self.failure = dataclasses.replace(self.failure, next_attempt=None)
        return task

    def worked(self) -> None:
        """The attempt has succeeded so far."""
        self._has_worked = True
        self.failure = None

    async def _run(self) -> None:
        task = asyncio.current_task()
        while True:
            self._has_worked = False
            error = await self._outcome()
            # Stopped: asyncio.wait_for may swallow a cancellation (before Python 3.12).
            if self._task is not task or isinstance(error, StopRetrying):
                return
            ended = self._end(error)
            following = self._on_ended(ended)
            if self._task is not task or following is Next.STOP:
                return
            if following is Next.PAUSE:
                await self._wait(ended.pause)

    async def _outcome(self) -> Exception:
        try:
            await self._attempt()
        except (OSError, TimeoutError, PolycastError) as error:
            return error
        except Exception as error:
            self._log().exception(INTERNAL_ERROR)
            return error
        return StreamOver()

    def _end(self, error: Exception) -> Ended:
        is_expected = isinstance(error, OSError | TimeoutError | PolycastError)
        reason = self._describe(error) if is_expected else INTERNAL_ERROR
        since = self.failure.since if self.failure is not None else self._wall_clock()
        self.failure = Failure(reason, since)
        if self._has_worked:
            self._backoff.reset()
        return Ended(error, reason, self._has_worked, self._backoff.pause(self._pauses()))

    async def _wait(self, pause: float) -> None:
        failure = self.failure
        if failure is not None:
            self.failure = dataclasses.replace(failure, next_attempt=self._wall_clock() + pause)
        await self._sleep(pause)
        self.failure = failure
        self._backoff.advance()
