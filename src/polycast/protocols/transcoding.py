"""Tracks in another codec: transcoded once for all readers of a stream, whatever their protocol, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from polycast.errors import MissingDependency
from polycast.hub.batch import FrameBatch
from polycast.hub.stream import FrameReader, Stream
from polycast.hub.warnings import RepeatedWarning
from polycast.log import Log
from polycast.media.codec import Codec
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.transcode.worker import MAXIMUM_WAITING_PICTURES, MAXIMUM_WAITING_SIZE, Transcoder, Worker

FIRST_INDEX: Final = 1_000_000
"""`Track.index` of the first transcoded track of a stream: higher than those of all tracks of publishers."""


class Target(Protocol):
    """What tracks are transcoded to."""

    @property
    def codec(self) -> Codec:
        """That of the frames that come out, as far as it is known in advance."""
        ...

    def can_be_made_of(self, codec: Codec) -> bool:
        """Whether tracks with a codec can be transcoded to it."""
        ...

    def open(self, track: Track) -> Transcoder:
        """Return what transcodes a track. Raises MissingDependency without PyAV."""
        ...


class TranscodedTrack:
    """One track of a stream in another codec. The thread runs while there are readers.

    The frames come from the readers: the first one that gets a batch of the stream hands it over (`take`). What was
    made of it later goes to all readers that were attached, as a batch of its own.
    """

    def __init__(self, source: Track, target: Target, index: int, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        """``index`` is that of the transcoded track."""
        self.track = Track(index, target.codec, None, source.language, source.title)
        """What comes out."""
        self._target = target
        self._source = source
        self._loop = loop
        self._log = log
        self._stream: Stream | None = None
        """Only known while there are readers, so that a stream that ended is not kept."""
        self._readers: tuple[FrameReader, ...] = ()
        self._worker: Worker | None = None
        self._form_key = f"transcoded {id(self)}"
        self._drops = RepeatedWarning(log)
        self._errors = RepeatedWarning(log)
        self._told = (0, 0)
        """Dropped and undecodable frames that were reported."""

    @property
    def worker(self) -> Worker | None:
        """What transcodes at the moment."""
        return self._worker

    def attach(self, reader: FrameReader, stream: Stream) -> None:
        """Begin to send to a reader of the stream. The first one starts the thread."""
        self._readers = (*self._readers, reader)
        if self._worker is not None:
            return
        self._stream = stream
        self._source = source = stream.tracks[self._source.index].track
        self._told = (0, 0)
        self._worker = worker = Worker(
            lambda: self._target.open(source),
            deliver=lambda frames: self._call(worker, frames),
            fail=lambda error: self._call(worker, error),
            name=f"{source.kind} transcoder {source.index + 1}",
            maximum_size=MAXIMUM_WAITING_PICTURES if source.kind == "video" else MAXIMUM_WAITING_SIZE,
        )
        worker.start()
        self._log.info("track %d (%s) is converted to %s", source.index + 1, source.codec_name, self.track.codec_name)

    def detach(self, reader: FrameReader) -> None:
        """Stop sending to a reader; one that is not attached is ignored. The last one ends the thread."""
        if reader not in self._readers:
            return
        self._readers = tuple(other for other in self._readers if other is not reader)
        if not self._readers:
            self._stop()
            self._stream = None

    def take(self, batch: FrameBatch) -> None:
        """Take what there is of the source in a batch of the stream, unless another reader has handed it over."""
        batch.form(self._form_key, self._pass_on)

    def request_key_frame(self) -> None:
        """Make a key frame soon, unless one was made just now."""
        if self._worker is not None:
            self._worker.request_key_frame()

    def _pass_on(self, batch: FrameBatch) -> None:
        worker = self._worker
        entries = [entry for index, entry in batch.entries if index == self._source.index]
        if worker is not None and entries:
            worker.put(entries)
            self._report(worker)

    def _report(self, worker: Worker) -> None:
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
                "this machine is too slow to convert track %d (%s) to %s; frames dropped so far: %d",
                number,
                name,
                self.track.codec_name,
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
        if isinstance(failure, MissingDependency):
            self._log.error("%s", failure)
        else:
            try:
                raise failure
            except Exception:
                self._log.exception("internal error: the conversion to %s has ended", self.track.codec_name)
        self._stop()

    # The worker's side

    def _call(self, worker: Worker, result: Sequence[Frame] | Exception) -> None:
        """Called in the thread."""
        try:
            self._loop.call_soon_threadsafe(self._on_result, worker, result)
        except RuntimeError:  # the loop was closed
            worker.close()

    def _on_result(self, worker: Worker, result: Sequence[Frame] | Exception) -> None:
        if worker is not self._worker:
            return  # the last reader has left
        if isinstance(result, Exception):
            self._on_failed(result)
            return
        batch = FrameBatch([(self.track.index, frame) for frame in result])
        for reader in self._readers:
            try:
                reader.deliver_frames(batch)
            except Exception:
                if self._stream is not None:
                    self._stream.on_reader_failed(reader)


_tracks: WeakKeyDictionary[Stream, dict[tuple[int, Target], TranscodedTrack]] = WeakKeyDictionary()


def transcoded_track(
    stream: Stream, source: Track, target: Target, loop: asyncio.AbstractEventLoop, log: Log
) -> TranscodedTrack:
    """Return a track of a stream in another codec, created for the first reader. ``log`` is that of the path."""
    tracks = _tracks.setdefault(stream, {})
    key = (source.index, target)
    found = tracks.get(key)
    if found is None:
        found = tracks[key] = TranscodedTrack(source, target, FIRST_INDEX + len(tracks), loop, log)
    return found
