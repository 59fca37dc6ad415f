"""Feeds the private path of a reader of another server: pulls the address, and reconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from polycast.api.errors import is_permanent, public_error
from polycast.config.schema import Configuration
from polycast.errors import PolycastError
from polycast.hub.path import Path, Source
from polycast.hub.retry import STREAM_OVER, Ended, Failure, Next, RetryPauses, Supervisor
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.media.track import Track
from polycast.net.dial import describe_failure
from polycast.protocols.pull import PullContext, Puller

RETRY_PAUSES = RetryPauses(first=0.5, longest=10.0)


class Feed(Source):
    """Pulls one address as long as it is wanted."""

    def __init__(
        self,
        path: Path,
        puller: Puller,
        configuration: Configuration,
        log: Log,
        *,
        reconnect: bool,
        on_error: Callable[[PolycastError], None],
    ) -> None:
        self._path = path
        self._puller = puller
        self._configuration = configuration
        self._log = log
        self._reconnect = reconnect
        self._on_error = on_error
        self._supervisor = Supervisor(
            self._attempt, self._on_ended, pauses=lambda: RETRY_PAUSES, describe=describe_failure, log=lambda: log
        )

    @property
    def failure(self) -> Failure | None:
        return self._supervisor.failure

    def start(self) -> None:
        if not self._supervisor.is_running:
            self._supervisor.start(asyncio.get_running_loop())

    def stop(self, reason: str) -> None:
        if self._supervisor.stop() is not None:
            self._path.remove_publisher(self, reason)

    def close_publisher(self, reason: str) -> None:
        self.stop(reason)

    def reference(self) -> Reference:
        return Reference(self._puller.type_name)

    async def _attempt(self) -> None:
        context = PullContext(
            asyncio.get_running_loop(),
            self._log,
            self._path.configuration,
            self._configuration,
            Counters(),
            self._publish,
        )
        await self._puller.pull(context)

    def _on_ended(self, ended: Ended) -> Next:
        error = _public(ended.error)
        # With reconnection, the end of a stream is an event, and no error if it was announced.
        is_end = ended.has_worked and (self._reconnect or str(error) == STREAM_OVER)
        if not is_end or is_permanent(error):
            self._on_error(error)
        self._path.remove_publisher(self, str(error))
        return Next.STOP if is_permanent(error) or not self._reconnect else Next.PAUSE

    def _publish(self, tracks: Sequence[Track], publishes_packets: bool) -> Stream:
        stream = self._path.start_publishing(self, tracks, publishes_packets=publishes_packets)
        self._supervisor.worked()
        return stream


def _public(error: Exception) -> PolycastError:
    if isinstance(error, OSError) and not isinstance(error, PolycastError):
        return public_error(OSError(describe_failure(error)))
    return public_error(error)
