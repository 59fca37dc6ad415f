"""Sound that WebRTC cannot carry, as Opus: transcoded once for all viewers of a stream, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from polycast.hub.batch import FrameBatch
from polycast.hub.stream import FrameReader, Stream
from polycast.hub.warnings import RepeatedWarning
from polycast.log import Log
from polycast.media.codec import Codec
from polycast.media.frame import Frame
from polycast.media.timebase import WallTime
from polycast.media.track import Track
from polycast.protocols.webrtc.outgoing import OutgoingPackets, OutgoingTrack
from polycast.transcode.audio import CODEC
from polycast.transcode.decoder import decoder_name
from polycast.transcode.worker import AudioWorker

OPUS: Final = CODEC
"""The codec that viewers get."""


def can_transcode(codec: Codec) -> bool:
    """Whether a codec can be decoded."""
    return codec.kind == "audio" and decoder_name(codec) is not None


class TranscodedTrack(OutgoingTrack):
    """One track for the viewers that get it as Opus. The thread runs while there are any.

    The frames come from the viewers: the first one that asks for the packets of a batch of the stream hands it over.
    What was made of it later goes to all viewers, as a batch of its own.
    """

    def __init__(
        self,
        source: Track,
        wall_time_of: Callable[[Frame, int], WallTime],
        loop: asyncio.AbstractEventLoop,
        log: Log,
    ) -> None:
        """``wall_time_of`` is that of `OutgoingTrack`."""
        # The index differs from those of all tracks of the stream.
        super().__init__(Track(-1 - source.index, OPUS, None, source.language, source.title), wall_time_of)
        self._source = source
        self._loop = loop
        self._log = log
        self._stream: Stream | None = None
        """Only known while there are viewers, so that a stream that ended is not kept."""
        self._viewers: tuple[FrameReader, ...] = ()
        self._worker: AudioWorker | None = None
        self._source_key = f"transcoded {id(self)}"
        self._drops = RepeatedWarning(log)
        self._errors = RepeatedWarning(log)
        self._told = (0, 0)
        """Dropped and undecodable frames that were reported."""

    def attach(self, viewer: FrameReader, stream: Stream) -> None:
        """Begin to send to a viewer. The first one starts the thread."""
        self._viewers = (*self._viewers, viewer)
        if self._worker is not None:
            return
        self._stream = stream
        self._source = source = stream.tracks[self._source.index].track
        self._told = (0, 0)
        self._worker = worker = AudioWorker(
            source,
            deliver=lambda frames: self._call(worker, frames),
            fail=lambda error: self._call(worker, error),
            name=f"audio transcoder {source.index + 1}",
        )
        worker.start()
        self._log.info("track %d (%s) is converted to Opus", source.index + 1, source.codec_name)

    def detach(self, viewer: FrameReader) -> None:
        """Stop sending to a viewer. The last one ends the thread."""
        if viewer not in self._viewers:
            return
        self._viewers = tuple(other for other in self._viewers if other is not viewer)
        if not self._viewers:
            self._stop()
            self._stream = None

    def packets_of(self, batch: FrameBatch) -> OutgoingPackets | None:
        batch.form(self._source_key, self._pass_on)
        return super().packets_of(batch)

    def _pass_on(self, batch: FrameBatch) -> None:
        worker = self._worker
        entries = [entry for index, entry in batch.entries if index == self._source.index]
        if worker is not None and entries:
            worker.put(entries)
            self._report(worker)

    def _report(self, worker: AudioWorker) -> None:
        dropped, errors = now_known = worker.dropped, worker.errors
        if now_known == self._told:
            return
        told_dropped, told_errors = self._told
        self._told = now_known
        now = self._loop.time()
        number, name = self._source.index + 1, self._source.codec_name
        if dropped > told_dropped:
            self._drops.warn(
                now,
                "this machine is too slow to convert track %d (%s) to Opus; frames dropped so far: %d",
                number,
                name,
                dropped,
            )
        if errors > told_errors:
            self._errors.warn(
                now,
                "frames of track %d (%s) that could not be decoded so far: %d (%s)",
                number,
                name,
                errors,
                worker.problem,
            )

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None
            self._log.info("track %d (%s) is no longer converted", self._source.index + 1, self._source.codec_name)

    def _on_failed(self, failure: Exception) -> None:
        try:
            raise failure
        except Exception:
            self._log.exception("internal error: the conversion to Opus has ended")
        self._stop()

    # The worker's side

    def _call(self, worker: AudioWorker, result: Sequence[Frame] | Exception) -> None:
        """Called in the thread."""
        try:
            self._loop.call_soon_threadsafe(self._on_result, worker, result)
        except RuntimeError:  # the loop was closed
            worker.close()

    def _on_result(self, worker: AudioWorker, result: Sequence[Frame] | Exception) -> None:
        if worker is not self._worker:
            return  # the last viewer has left
        if isinstance(result, Exception):
            self._on_failed(result)
            return
        batch = FrameBatch([(self.index, frame) for frame in result])
        for viewer in self._viewers:
            try:
                viewer.deliver_frames(batch)
            except Exception:
                if self._stream is not None:
                    self._stream.on_reader_failed(viewer)
