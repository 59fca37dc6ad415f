"""The demo stream as a source of a path."""

from __future__ import annotations

import asyncio

from polycast.demo.source import DemoSource
from polycast.hub.path import Path, Source
from polycast.hub.stats import Reference
from polycast.hub.stream import Stream
from polycast.media.frame import Frame


class DemoPublisher(Source):
    """Publishes a test picture with a clock and a tone on a path.

    Raises PolycastError without PyAV.
    """

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._loop = loop
        self._source = DemoSource()
        self._stream: Stream | None = None

    def start(self) -> None:
        self._stream = self._path.start_publishing(self, self._source.tracks, publishes_packets=False)
        self._source.start(self._on_frames)

    def stop(self, reason: str) -> None:
        self._stream = None
        self._source.stop()
        self._path.remove_publisher(self, reason)

    def close_publisher(self, reason: str) -> None:
        self.stop(reason)

    def reference(self) -> Reference:
        return Reference("demoSource")

    def _on_frames(self, frames: list[tuple[int, Frame]]) -> None:
        """Pass frames from the encoder's thread to the event loop."""
        self._loop.call_soon_threadsafe(self._write, frames)

    def _write(self, frames: list[tuple[int, Frame]]) -> None:
        stream = self._stream
        if stream is None:
            return
        now = self._loop.time()
        for track_index, frame in frames:
            stream.publish_frame(track_index, frame, now)
        stream.end_of_read()
