"""The publisher in the hub that writers pass their frames to."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

from polycast.api.errors import StreamEnded, public_error
from polycast.api.runtime import STOPPED, Runtime
from polycast.errors import PolycastError
from polycast.hub.hub import Hub
from polycast.hub.path import Path, PathObserver, Publisher
from polycast.hub.stats import Reference
from polycast.hub.stream import Reader, Stream
from polycast.media.frame import Frame
from polycast.media.track import Track

# Seconds between two key frames that are inserted because a reader joined.
KEY_REQUEST_SECONDS = 0.5


class _ReaderObserver(PathObserver):
    """Notifies the publication when a reader joins its path."""

    def __init__(self, publication: Publication) -> None:
        self._publication = weakref.ref(publication)

    def on_reader_added(self, path: Path, reader: Reader) -> None:
        publication = self._publication()
        if publication is not None and path is publication.path:
            publication.wants_key = True


class Publication(Publisher):
    """Publishes frames of the program on a path. May be created, written and ended from any thread."""

    def __init__(self, runtime: Runtime, hub: Hub, name: str, tracks: Sequence[Track]) -> None:
        self._runtime = runtime
        self._hub = hub
        self._stream: Stream | None = None
        self._reader_observer = _ReaderObserver(self)
        self.path: Path | None = None
        self.wants_key = False
        """Whether a reader that needs a key frame has joined since this was last cleared."""
        self.error: PolycastError | None = None
        """Why it has ended; None while it has not."""
        self.on_end: Callable[[], None] | None = None
        runtime.call(self._begin, name, tracks)

    def write(self, frames: list[tuple[int, Frame]]) -> None:
        """Publish frames as (track index, frame). Raises StreamEnded, or the reason for which the stream was ended."""
        if self.error is not None:
            raise self.error
        self._runtime.post(self._write, frames)

    def end(self, error: PolycastError | None = None) -> None:
        """End the stream; readers are closed. May be called several times."""
        if self.error is None:
            self.error = error or StreamEnded("the stream was closed")
        self._runtime.defer(self._end)

    # Publisher

    def close_publisher(self, reason: str) -> None:
        if self.error is None:
            self.error = StreamEnded(reason or STOPPED)
        self._end()

    def reference(self) -> Reference:
        return Reference("pythonPublisher")

    # In the loop's thread

    def _begin(self, name: str, tracks: Sequence[Track]) -> None:
        try:
            path = self._hub.path(name)
            try:
                path.set_publisher(self)
                self.path = path
                self._stream = path.start_publishing(self, tracks, publishes_packets=False)
            except PolycastError:
                path.remove_publisher(self, "it was refused")
                self._hub.release(path)
                raise
        except PolycastError as error:
            raise public_error(error) from error
        self._hub.observers.append(self._reader_observer)

    def _write(self, frames: list[tuple[int, Frame]]) -> None:
        stream = self._stream
        if stream is None:
            return
        now = self._runtime.loop.time()
        for track_index, frame in frames:
            stream.publish_frame(track_index, frame, now)
        stream.end_of_read()

    def _end(self) -> None:
        if self._stream is None:
            return
        self._stream = None
        self._hub.observers.remove(self._reader_observer)
        if self.path is not None:
            self.path.remove_publisher(self, str(self.error))
        if self.on_end is not None:
            self.on_end()
