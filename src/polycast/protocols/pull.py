"""The sources of a path: the interface of a puller, and the supervisor that switches to the next source on failure."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from polycast.config.path_schema import PathConfiguration
from polycast.config.redact import redact
from polycast.config.schema import Configuration
from polycast.errors import PolycastError
from polycast.hub.errors import PathError
from polycast.hub.movement import CannotMove, Movement
from polycast.hub.path import Path, Source
from polycast.hub.retry import Ended, Failure, Next, RetryPauses, Supervisor
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.media.track import Track, describe_tracks
from polycast.net.dial import describe_failure

# Seconds for sources to end when the server stops: the program of a camera is killed after six.
END_SECONDS: Final = 8.0


class PullError(PolycastError):
    """A source cannot be pulled now. The text is for the log."""


@dataclass(frozen=True, slots=True)
class PullContext:
    """What a puller gets from the supervisor."""

    loop: asyncio.AbstractEventLoop
    log: Log
    path_configuration: PathConfiguration
    configuration: Configuration
    counters: Counters
    publish: Callable[[Sequence[Track], bool], Stream]
    """Called with the tracks, and whether they come as RTP packets; makes the path ready. Raises PullError if the path
    cannot have them, so that the attempt has to end."""

    @property
    def read_timeout(self) -> float:
        """Seconds without data after which the source counts as dead; also for connecting."""
        return float(self.configuration.read_timeout)

    @property
    def write_timeout(self) -> float:
        """Seconds."""
        return float(self.configuration.write_timeout)

    def dump_prefix(self, prefix: str) -> str:
        """Return the beginning of the names of files with its packets, or an empty text if there are none."""
        return prefix if self.configuration.dump_packets else ""


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

        Cancelled to stop the source; it then closes what it opened.
        """

    def request_key_frame(self) -> None:
        """Request a key frame from the other side. Most protocols cannot."""
        return

    async def move(self, movement: Movement, configuration: PathConfiguration, timeout: float) -> None:
        """Move the camera, within ``timeout`` seconds. Raises CannotMove; most sources cannot."""
        raise CannotMove("the source of this path is no camera that can be moved")


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """What a supervisor needs in addition to the path."""

    loop: asyncio.AbstractEventLoop
    configuration: Callable[[], Configuration]
    """Returns the current settings of the server."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """The running tasks, including those that are ending; see `wait_for_end`."""

    async def wait_for_end(self) -> None:
        """Wait until all stopped sources have closed their connections and processes."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=END_SECONDS)


class SupervisedSource(Source):
    """Keeps a path supplied from its sources, in order.

    If one fails, the next takes over immediately, and the first one after the last; if all have failed, they are
    retried after a pause that doubles from round to round.

    It does not always restart with the first one: readers would wait while a source that may still be down is tried.
    """

    def __init__(
        self,
        path: Path,
        pullers: Sequence[Puller],
        settings: SourceSettings,
        renew: Callable[[], Sequence[Puller]] | None = None,
    ) -> None:
        """``renew`` makes the pullers anew at each start, if their addresses depend on it."""
        self._path = path
        self._renew = renew
        self._pullers = tuple(pullers)
        self._settings = settings
        self._current = 0
        self._failures = 0
        """Sources that failed in this round, since one was last ready."""
        self._supervisor = Supervisor(
            self._attempt, self._on_ended, pauses=self._pauses, describe=describe_failure, log=lambda: self._log
        )
        self.counters = Counters()
        self.state = "stopped"
        """For the API and logs: ``stopped``, ``connecting``, ``ready`` or ``waiting``."""

    # Source

    @property
    def failure(self) -> Failure | None:
        return self._supervisor.failure

    def start(self) -> None:
        if self._supervisor.is_running:
            return
        self._current = self._failures = 0
        if self._renew is not None:
            self._pullers = tuple(self._renew())
        self._log.info("started")
        task = self._supervisor.start(self._settings.loop)
        self._settings.tasks.add(task)
        task.add_done_callback(self._settings.tasks.discard)

    def stop(self, reason: str) -> None:
        if self._supervisor.stop() is None:
            return
        log = self._log
        self.state = "stopped"
        self._path.remove_publisher(self, reason, for_good=True)
        log.info("stopped")

    async def move(self, movement: Movement) -> None:
        timeout = float(self._settings.configuration().read_timeout)
        await self._pullers[self._current].move(movement, self._path.configuration, timeout)

    def close_publisher(self, reason: str) -> None:
        self.stop(reason)

    def request_key_frame(self) -> None:
        self._pullers[self._current].request_key_frame()

    def reference(self) -> Reference:
        return Reference(self._pullers[self._current].type_name)

    @property
    def _log(self) -> Log:
        return self._path.log.child(self._pullers[self._current].label)

    # Life cycle of the source

    async def _attempt(self) -> None:
        self.state = "connecting"
        context = PullContext(
            self._settings.loop,
            self._log,
            self._path.configuration,
            self._settings.configuration(),
            self.counters,
            self._publish,
        )
        await self._pullers[self._current].pull(context)

    def _on_ended(self, ended: Ended) -> Next:
        failed = self._log.child(redact(self._pullers[self._current].url))
        self._failures = 1 if ended.has_worked else self._failures + 1
        self._current = (self._current + 1) % len(self._pullers)
        if self._failures < len(self._pullers):
            # Readers stay as long as another source may take over.
            self._path.hold_publisher(self, ended.reason)
            failed.warning("failed: %s; the next source takes over", ended.reason)
            self._log.info("takes over from the source that failed")
            return Next.AT_ONCE
        self._failures = 0
        self.state = "waiting"
        self._path.remove_publisher(self, ended.reason)
        failed.warning("failed: %s; next attempt in %.3g s", ended.reason, ended.pause)
        return Next.PAUSE

    def _pauses(self) -> RetryPauses:
        configuration = self._path.configuration
        return RetryPauses(float(configuration.source_retry_pause), float(configuration.source_retry_pause_max))

    def _publish(self, tracks: Sequence[Track], publishes_packets: bool) -> Stream:
        try:
            stream = self._path.start_publishing(self, tracks, publishes_packets=publishes_packets)
        except PathError as error:
            raise PullError(str(error)) from error
        self._supervisor.worked()
        self.state = "ready"
        self._log.info("ready: %s", describe_tracks(tracks))
        return stream


async def first_of(*awaitables: Awaitable[None]) -> None:
    """Wait for the first of several that only end with an exception; the others are cancelled."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        del task, tasks  # their exceptions refer to this frame


async def until_lost(lost: asyncio.Future[None]) -> None:
    """Wait for the exception of a connection's ``lost``, which others may wait for, too."""
    try:
        await asyncio.shield(lost)
    finally:
        del lost  # its exception refers to this frame
