"""The reader that turns one path's stream into HLS, and the requests that wait for it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

from polycast.config.schema import Configuration
from polycast.errors import LocalProtocolError
from polycast.hub.batch import FrameBatch
from polycast.hub.path import Path
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader, Stream
from polycast.log import Log
from polycast.media.frame import Frame
from polycast.media.timebase import WallTime
from polycast.media.track import describe_tracks
from polycast.wire.hls.muxer import Muxer
from polycast.wire.hls.options import MuxerOptions, Variant
from polycast.wire.hls.resource import Refusal, Resource, WaitFor

# Seconds without a request after which a muxer that was made for a request is closed.
IDLE_SECONDS = 60.0

# Requests that may wait at one muxer for what is not there yet; more are told to come back.
MAXIMUM_WAITING = 10_000

_BUSY = Refusal(503, "too many requests wait for this stream")
_TIMED_OUT = Refusal(503, "the stream does not go on")


class Remuxer(FrameReader):
    """Feeds a muxer with the frames of a stream. Raises LocalProtocolError when HLS can carry none of the tracks."""

    def __init__(
        self,
        path: Path,
        stream: Stream,
        configuration: Configuration,
        *,
        log: Log,
        now: Callable[[], float],
        on_closed: Callable[[Remuxer], None],
        is_automatic: bool,
    ) -> None:
        options = MuxerOptions(
            prefix=f"{int(time.time()):x}{secrets.token_hex(3)}",
            segment_count=configuration.hls_segment_count,
            segment_duration=float(configuration.hls_segment_duration),
            part_duration=float(configuration.hls_part_duration),
            segment_maximum_size=int(configuration.hls_segment_max_size),
        )
        self.path = path
        self.is_automatic = is_automatic
        """Made because ``hlsAlwaysRemux`` is set, not for a request: never idle."""
        self.created = datetime.now(UTC)
        self.last_request = self.created
        self.bytes_sent = 0
        self._muxer = Muxer(Variant(configuration.hls_variant.value), stream.descriptions, options)
        self._log = log
        self._now = now
        self._on_closed = on_closed
        self._used = now()
        self._published = asyncio.Event()
        self._waiting = 0
        self._mended = 0
        for track in self._muxer.skipped:
            log.warning("track %d (%s) is skipped: HLS cannot carry it in this variant", track.index + 1, track)
        log.info("is converting into HLS, %s", describe_tracks(self._muxer.tracks))

    def deliver_frames(self, batch: FrameBatch) -> None:
        muxer = self._muxer
        now = self._now()
        wall_time = WallTime(time.time_ns())
        published = False
        for index, entry in batch.entries:
            if isinstance(entry, Frame):
                published |= muxer.write_frame(index, entry, now, wall_time)
            else:
                try:
                    muxer.update_track(entry)
                except LocalProtocolError as error:
                    self._log.warning("%s", error)
        if published:
            self._wake()

    async def request(self, name: str, query: str) -> Resource | Refusal:
        """Return the file of a name; waits for what is about to exist."""
        self.last_request = datetime.now(UTC)
        self._used = self._now()
        answer = self._muxer.request(name, query)
        if isinstance(answer, WaitFor):
            return await self._wait(name, query, answer.timeout)
        return answer

    async def _wait(self, name: str, query: str, timeout: float) -> Resource | Refusal:
        if self._waiting >= MAXIMUM_WAITING:
            return _BUSY
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout):
                while True:
                    await self._published.wait()
                    answer = self._muxer.request(name, query)
                    if not isinstance(answer, WaitFor):
                        return answer
        except TimeoutError:
            return _TIMED_OUT
        finally:
            self._waiting -= 1
            self._used = self._now()

    def log_created(self, address: str | None = None) -> None:
        """Say who the muxer was made for: the client at ``address``, or nobody."""
        self._log.info("created %s", "automatically" if address is None else f"(requested by {address})")

    def close_reader(self, reason: str) -> None:
        self.close(reason)

    def reference(self) -> Reference:
        return Reference("hlsMuxer")

    def tick(self, now: float) -> None:
        """Called about once a second: closes an idle muxer, and tells what was mended."""
        counters = self._muxer.counters
        mended = counters.mended + counters.jumps + counters.strays + counters.dropped
        if mended != self._mended:
            self._log.warning(
                "timestamps or sizes had to be mended: %d times not growing, %d jumps, %d frames dropped so far",
                counters.mended,
                counters.jumps,
                counters.strays + counters.dropped,
            )
            self._mended = mended
        if not self.is_automatic and not self._waiting and now - self._used >= IDLE_SECONDS:
            self.close("no requests in a while")

    def close(self, reason: str) -> None:
        """Stop; whoever waits is refused."""
        if self._muxer.closed:
            return
        self._muxer.close()
        self.path.remove_reader(self)
        self._wake()
        self._on_closed(self)
        self._log.info("destroyed (%s)", reason)

    def _wake(self) -> None:
        """Let everyone who waits look again."""
        self._published.set()
        self._published.clear()
