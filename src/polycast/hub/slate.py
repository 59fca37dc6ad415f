"""Slates: what readers of a path that is always available get while nobody publishes."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, NamedTuple

from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.media.codec import Kind
from polycast.media.frame import Frame
from polycast.media.track import Track

HOLD_SECONDS: Final = 0.1
"""Sound may be this late, so that it goes out with pictures, or ten times a second."""

MAXIMUM_LAG_SECONDS: Final = 1.0
"""A slate that is more behind, because the machine was suspended, does not catch up."""

RETRY_SECONDS: Final = 5.0
"""Before a slate that could not be read is played again."""


class SlateFrame(NamedTuple):
    """A frame of a slate. Times count from the beginning of its playback."""

    due: float
    """When it is decoded, in seconds."""
    track: int
    units: tuple[bytes, ...]
    pts: int
    dts: int
    duration: int
    """In ticks of the track's clock rate, like the times before."""
    key: bool


class SlateReader(ABC):
    """Reads a slate again and again."""

    @abstractmethod
    async def read(self) -> Sequence[SlateFrame]:
        """Return the next frames, of about a second, in the order in which they are due. Raises OSError."""


class Slate(ABC):
    """What is played."""

    tracks: Sequence[Track]

    @abstractmethod
    def open(self) -> SlateReader:
        """Return a reader that starts at the beginning."""


class SlatePlayer:
    """Publishes a slate to a stream, in real time, while it is on."""

    def __init__(self, slate: Slate, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        self._slate = slate
        self._loop = loop
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self._pictures = frozenset(track.index for track in slate.tracks if track.codec.kind is Kind.VIDEO)

    @property
    def tracks(self) -> Sequence[Track]:
        """The tracks of the slate."""
        return self._slate.tracks

    def begin(self, stream: Stream) -> None:
        """Play from the beginning, unless it plays already. The stream must be ready for the tracks of the slate."""
        if self._task is None:
            self._task = self._loop.create_task(self._run(stream))

    def end(self) -> None:
        """Stop: nothing is published from now on."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _run(self, stream: Stream) -> None:
        while True:
            try:
                await self._play(stream, self._slate.open())
            except OSError as error:
                self._log.error("the slate cannot be read: %s", error.strerror or error)
            except Exception:
                self._log.exception("internal error: the slate failed")
            await asyncio.sleep(RETRY_SECONDS)

    async def _play(self, stream: Stream, reader: SlateReader) -> None:
        stream.resume(self.tracks, publishes_packets=False)
        start = self._loop.time()
        while frames := await reader.read():
            position = 0
            while position < len(frames):
                now = self._loop.time()
                start = max(start, now - frames[position].due - MAXIMUM_LAG_SECONDS)
                while position < len(frames) and start + frames[position].due <= now:
                    self._publish(stream, frames[position], now)
                    position += 1
                stream.flush()
                if position < len(frames):
                    await asyncio.sleep(max(0.0, start + self._next_due(frames, position) - now))

    def _next_due(self, frames: Sequence[SlateFrame], position: int) -> float:
        """Return when to continue: at the next picture, or when sound has been held for long enough."""
        limit = frames[position].due + HOLD_SECONDS
        for frame in frames[position:]:
            if frame.due >= limit:
                break
            if frame.track in self._pictures:
                return frame.due
        return limit

    @staticmethod
    def _publish(stream: Stream, slate: SlateFrame, now: float) -> None:
        frame = Frame(slate.units, slate.pts, slate.dts, key=slate.key, duration=slate.duration)
        stream.publish_frame(slate.track, frame, now)
