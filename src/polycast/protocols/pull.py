"""What the sources of a path have in common: one that pulls, and the supervisor that retries and changes sources."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from polycast.config.path_schema import PathConfiguration
from polycast.config.redact import redact
from polycast.config.schema import Configuration
from polycast.errors import PolycastError
from polycast.hub.path import Path, Source, SourceFailure
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.media.track import Track, describe_tracks
from polycast.net.dial import describe_failure

# The pause before each attempt is longer or shorter by up to this part of it, at random, so that hundreds of sources
# of one origin do not all come back in the same moment.
JITTER: Final = 0.2

# Seconds that sources get to end when the server stops: a camera's program is killed after six.
END_SECONDS: Final = 8.0

# The back-off doubles at most so often; sourceRetryPauseMax is reached long before.
MAXIMUM_DOUBLINGS: Final = 30


def retry_pause(rounds: int, first: float, longest: float) -> float:
    """Return the seconds to wait after ``rounds`` failures in a row before the last one."""
    return min(longest, first * 2.0 ** min(rounds, MAXIMUM_DOUBLINGS))


def jittered(pause: float) -> float:
    """Return the pause, made a little longer or shorter at random."""
    return pause * random.uniform(1 - JITTER, 1 + JITTER)


class PullError(PolycastError):
    """A source cannot be pulled now. The text is for the log."""


@dataclass(frozen=True, slots=True)
class PullContext:
    """What one that pulls gets from the supervisor."""

    loop: asyncio.AbstractEventLoop
    log: Log
    path_configuration: PathConfiguration
    configuration: Configuration
    counters: Counters
    publish: Callable[[Sequence[Track], bool], Stream]
    """Called with the tracks, and whether they come as RTP packets; makes the path ready."""

    @property
    def read_timeout(self) -> float:
        """Seconds without data after which the source counts as dead; also for connecting."""
        return float(self.configuration.read_timeout)

    @property
    def write_timeout(self) -> float:
        """Seconds."""
        return float(self.configuration.write_timeout)


class Puller(ABC):
    """Pulls one address. Kept between attempts, so it may remember what worked."""

    label: ClassVar[str]
    """In logs: ``rtsp source``."""
    type_name: ClassVar[str]
    """In the API: ``rtspSource``."""

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    async def pull(self, context: PullContext) -> None:
        """Pull until the stream ends; always ends with an exception: OSError, TimeoutError or PolycastError.

        Cancelled when the source is to stop; it then closes what it opened.
        """


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """What a supervisor needs beside the path."""

    loop: asyncio.AbstractEventLoop
    configuration: Callable[[], Configuration]
    """Returns the settings of the server as they are now."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """What runs, also while it is ending; see `wait_for_end`."""

    async def wait_for_end(self) -> None:
        """Wait until all sources that were stopped have said farewell and ended their helpers."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=END_SECONDS)


class SupervisedSource(Source):
    """Keeps a path fed from its sources, in their order: when one fails the next takes over at once, and the first
    after the last; when all have failed, they are tried again after a pause that doubles from round to round.

    Not always the first: while one that may still be down is tried in vain, readers wait.
    """

    def __init__(self, path: Path, pullers: Sequence[Puller], settings: SourceSettings) -> None:
        self._path = path
        self._pullers = tuple(pullers)
        self._settings = settings
        self._current = 0
        self._task: asyncio.Task[None] | None = None
        self._was_ready = False
        self.counters = Counters()
        self.state = "stopped"
        """For the API and logs: ``stopped``, ``connecting``, ``ready`` or ``waiting``."""

    # Source

    def start(self) -> None:
        if self._task is not None:
            return
        self._log.info("started")
        self._current = 0
        task = self._task = self._settings.loop.create_task(self._run())
        self._settings.tasks.add(task)
        task.add_done_callback(self._settings.tasks.discard)

    def stop(self, reason: str) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        if self.failure is not None:
            self.failure = dataclasses.replace(self.failure, next_attempt=None)
        log = self._log
        self.state = "stopped"
        self._path.remove_publisher(self, reason, for_good=True)
        log.info("stopped")

    def close_publisher(self, reason: str) -> None:
        self.stop(reason)

    def reference(self) -> Reference:
        return Reference(self._pullers[self._current].type_name)

    @property
    def _log(self) -> Log:
        return self._path.log.child(self._pullers[self._current].label)

    # The life of the source

    async def _run(self) -> None:
        failures = 0
        """Sources that failed since one was ready, in this round."""
        rounds = 0
        """Times that all of them failed in a row."""
        task = asyncio.current_task()
        while True:
            self._was_ready = False
            error = await self._attempt(self._pullers[self._current])
            if self._task is not task:
                return  # stopped: asyncio.wait_for may swallow a cancellation (before Python 3.12)
            failed = self._log.child(redact(self._pullers[self._current].url))
            since = self.failure.since if self.failure is not None else time.time()
            self.failure = SourceFailure(error, since)
            if self._was_ready:
                failures = rounds = 0
            failures += 1
            self._current = (self._current + 1) % len(self._pullers)
            if failures < len(self._pullers):
                # Readers stay for as long as there is another source that may take over.
                self._path.hold_publisher(self, error)
                failed.warning("failed: %s; the next source takes over", error)
                self._log.info("takes over from the source that failed")
                continue
            failures = 0
            self.state = "waiting"
            self._path.remove_publisher(self, error)
            pause = self._next_pause(rounds)
            failed.warning("failed: %s; next attempt in %.3g s", error, pause)
            await self._pause(pause, self.failure)
            rounds += 1

    async def _attempt(self, puller: Puller) -> str:
        """Pull until that ends; return why it did."""
        self.state = "connecting"
        context = PullContext(
            self._settings.loop,
            self._log,
            self._path.configuration,
            self._settings.configuration(),
            self.counters,
            self._publish,
        )
        try:
            await puller.pull(context)
        except (OSError, TimeoutError, PolycastError) as error:
            return describe_failure(error)
        except Exception:
            self._log.exception("internal error")
            return "internal error"
        return "the stream has ended"

    def _next_pause(self, rounds: int) -> float:
        configuration = self._path.configuration
        longest = float(configuration.source_retry_pause_max)
        return jittered(retry_pause(rounds, float(configuration.source_retry_pause), longest))

    async def _pause(self, pause: float, failure: SourceFailure) -> None:
        self.failure = dataclasses.replace(failure, next_attempt=time.time() + pause)
        await asyncio.sleep(pause)
        self.failure = failure

    def _publish(self, tracks: Sequence[Track], publishes_packets: bool) -> Stream:
        stream = self._path.start_publishing(self, tracks, publishes_packets=publishes_packets)
        self._was_ready = True
        self.state = "ready"
        self.failure = None
        self._log.info("ready: %s", describe_tracks(tracks))
        return stream


async def first_of(*awaitables: Awaitable[None]) -> None:
    """Wait for the first of several that only end with an exception; the others are cancelled."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
