"""A source that copies the stream of another path of the same server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from polycast.hub.batch import FrameBatch, PacketBatch, PacketRun
from polycast.hub.path import Path, Source
from polycast.hub.retry import Ended, Failure, Next, RetryPauses, Supervisor
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader, PacketReader, Reader, Stream
from polycast.media.frame import Frame
from polycast.rtp.rtcp import SenderReport

# Before a path that cannot be read is retried. Constant, as it is in the same process.
RETRY_PAUSES = RetryPauses(first=1.0, longest=1.0)


class PathRelay(Source):
    """Reads one path and publishes on another one, without conversion: packets stay packets, frames stay frames."""

    def __init__(
        self, path: Path, find: Callable[[], Path], release: Callable[[Path], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        """``find`` returns the path to read; ``release`` returns it if it was not used."""
        self._path = path
        self._find = find
        self._release = release
        self._loop = loop
        self._origin: Path | None = None
        self._reader: Reader | None = None
        self._ended: asyncio.Future[None] | None = None
        """Done when the stream that is read has ended."""
        self._supervisor = Supervisor(
            self._attempt, self._on_ended, pauses=lambda: RETRY_PAUSES, describe=str, log=lambda: path.log
        )

    def now(self) -> float:
        """Return monotonic seconds."""
        return self._loop.time()

    @property
    def failure(self) -> Failure | None:
        return self._supervisor.failure

    def start(self) -> None:
        if not self._supervisor.is_running:
            self._supervisor.start(self._loop)

    def stop(self, reason: str) -> None:
        self._supervisor.stop()
        self._detach()
        self._path.remove_publisher(self, reason, for_good=True)

    def close_publisher(self, reason: str) -> None:
        self.stop(reason)

    def reference(self) -> Reference:
        return Reference("path")

    async def _attempt(self) -> None:
        origin = self._find()
        ended = self._ended = self._loop.create_future()
        try:
            self._attach(origin, await origin.wait_ready(follows=True))
        finally:
            self._release(origin)
        await ended

    def _on_ended(self, ended: Ended) -> Next:
        if ended.has_worked:
            self._supervisor.failure = None  # the next stream may already exist
            return Next.AT_ONCE
        self._path.log.debug("cannot be fed from another path: %s", ended.reason)
        return Next.PAUSE

    def _attach(self, origin: Path, stream: Stream) -> None:
        own = self._path.start_publishing(self, stream.descriptions, publishes_packets=stream.publishes_packets)
        if stream.publishes_packets:
            stream.share_clock(own, self.now())
        reader = _Packets(self, own) if stream.publishes_packets else _Frames(self, own)
        origin.attach_reader(reader, stream)
        self._origin, self._reader = origin, reader
        self._supervisor.worked()

    def _detach(self) -> None:
        origin, self._origin = self._origin, None
        reader, self._reader = self._reader, None
        if origin is not None and reader is not None:
            origin.remove_reader(reader)

    def on_origin_ended(self, reason: str) -> None:
        """The other stream has ended: wait for the next one."""
        self._origin = self._reader = None
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        self._path.remove_publisher(self, reason)


class _Packets(PacketReader):
    def __init__(self, relay: PathRelay, own: Stream) -> None:
        self._relay = relay
        self._own = own

    def deliver(self, batch: PacketBatch) -> None:
        own = self._own
        now = self._relay.now()
        for run in batch.runs:
            copy = run.copy()
            if not own.publish(copy, now):
                own.publish(PacketRun(copy.track_index, copy.packets, copy.framing), now)
        own.flush()  # delays were applied in the original stream

    def on_sender_report(self, track_index: int, report: SenderReport, now: float) -> None:
        self._own.on_sender_report(track_index, report, now)

    def close_reader(self, reason: str) -> None:
        self._relay.on_origin_ended(reason)

    def reference(self) -> Reference:
        return Reference("path")


class _Frames(FrameReader):
    def __init__(self, relay: PathRelay, own: Stream) -> None:
        self._relay = relay
        self._own = own

    def deliver_frames(self, batch: FrameBatch) -> None:
        own = self._own
        now = self._relay.now()
        for index, entry in batch.entries:
            if isinstance(entry, Frame):
                own.publish_frame(index, entry, now)
            else:
                own.set_codec(index, entry.codec)
        own.end_of_read()

    def close_reader(self, reason: str) -> None:
        self._relay.on_origin_ended(reason)

    def reference(self) -> Reference:
        return Reference("path")
