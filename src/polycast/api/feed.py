"""Feeds the private path of a reader of another server: pulls the address, and reconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from polycast.api.errors import is_permanent, public_error
from polycast.config.schema import Configuration
from polycast.errors import PolycastError
from polycast.hub.path import Path, Source
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.media.track import Track
from polycast.net.dial import describe_failure
from polycast.protocols.pull import PullContext, Puller

# Seconds before the first attempt after a failure; doubled by each further one, up to the longest.
SHORTEST_PAUSE = 0.5
LONGEST_PAUSE = 10.0

# What pullers say of a stream that its server has ended.
ENDED = "the stream has ended"


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
        self._task: asyncio.Task[None] | None = None
        self._was_ready = False

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self, reason: str) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self._path.remove_publisher(self, reason)

    def close_publisher(self, reason: str) -> None:
        self.stop(reason)

    def reference(self) -> Reference:
        return Reference(self._puller.type_name)

    async def _run(self) -> None:
        pause = SHORTEST_PAUSE
        while True:
            self._was_ready = False
            error = await self._attempt()
            # The end of a stream that was there is an event for who reconnects, and no error where it was said.
            is_end = self._was_ready and (self._reconnect or str(error) == ENDED)
            if not is_end or is_permanent(error):
                self._on_error(error)
            self._path.remove_publisher(self, str(error))
            if is_permanent(error) or not self._reconnect:
                return
            if self._was_ready:
                pause = SHORTEST_PAUSE
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _attempt(self) -> PolycastError:
        context = PullContext(
            asyncio.get_running_loop(),
            self._log,
            self._path.configuration,
            self._configuration,
            Counters(),
            self._publish,
        )
        try:
            await self._puller.pull(context)
        except PolycastError as error:
            return public_error(error)
        except (OSError, TimeoutError) as error:
            return public_error(OSError(describe_failure(error)))
        except Exception as error:
            self._log.exception("internal error")
            return public_error(error)
        return public_error(OSError(ENDED))

    def _publish(self, tracks: Sequence[Track], publishes_packets: bool) -> Stream:
        stream = self._path.start_publishing(self, tracks, publishes_packets=publishes_packets)
        self._was_ready = True
        return stream
