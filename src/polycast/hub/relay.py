"""A source that copies the stream of another path of the same server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from polycast.hub.batch import FrameBatch, PacketBatch
from polycast.hub.errors import PathError
from polycast.hub.path import Path, Source, SourceFailure
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader, PacketReader, Reader, Stream
from polycast.media.frame import Frame
from polycast.rtp.rtcp import SenderReport

# Seconds before a path that cannot be read is looked at again.
RETRY_SECONDS = 1.0


class PathRelay(Source):
    """Reads one path and publishes on another one. Nothing is converted: packets stay packets, frames stay frames."""

    def __init__(
        self, path: Path, find: Callable[[], Path], release: Callable[[Path], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        """``find`` returns the path to read; ``release`` takes it back when nothing comes of it."""
        self._path = path
        self._find = find
        self._release = release
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._origin: Path | None = None
        self._reader: Reader | None = None

    def now(self) -> float:
        """Return monotonic seconds."""
        return self._loop.time()

    def start(self) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._run())

    def stop(self, reason: str) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._detach()
        self._path.remove_publisher(self, reason, for_good=True)

    def close_publisher(self, reason: str) -> None:
        self.stop(reason)

    def reference(self) -> Reference:
        return Reference("path")

    async def _run(self) -> None:
        while True:
            try:
                origin = self._find()
                try:
                    self._attach(origin, await origin.wait_ready(follows=True))
                    return
                finally:
                    self._release(origin)
            except PathError as error:
                since = self.failure.since if self.failure is not None else time.time()
                self.failure = SourceFailure(str(error), since)
                self._path.log.debug("cannot be fed from another path: %s", error)
            await asyncio.sleep(RETRY_SECONDS)

    def _attach(self, origin: Path, stream: Stream) -> None:
        own = self._path.start_publishing(self, stream.descriptions, publishes_packets=stream.publishes_packets)
        if stream.publishes_packets:
            stream.share_clock(own, self.now())
        reader = _Packets(self, own) if stream.publishes_packets else _Frames(self, own)
        origin.attach_reader(reader, stream)
        self._origin, self._reader = origin, reader
        self.failure = None

    def _detach(self) -> None:
        origin, self._origin = self._origin, None
        reader, self._reader = self._reader, None
        if origin is not None and reader is not None:
            origin.remove_reader(reader)

    def on_origin_ended(self, reason: str) -> None:
        """The other stream is over: wait for the next one."""
        self._origin = self._reader = None
        self._task = self._loop.create_task(self._run())
        self._path.remove_publisher(self, reason)


class _Packets(PacketReader):
    def __init__(self, relay: PathRelay, own: Stream) -> None:
        self._relay = relay
        self._own = own

    def deliver(self, batch: PacketBatch) -> None:
        own = self._own
        now = self._relay.now()
        for run in batch.runs:
            track = own.tracks[run.track_index]
            for packet in run.packets:
                track.add_packet(packet, now, run.channel)
        own.flush()  # what is to wait has waited in the origin

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
                own.tracks[index].write_frame(entry, now)
            else:
                own.tracks[index].set_codec(entry.codec)
        own.end_of_read()

    def close_reader(self, reason: str) -> None:
        self._relay.on_origin_ended(reason)

    def reference(self) -> Reference:
        return Reference("path")
