"""A thread that transcodes one track of a stream, beside the event loop."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from polycast.media.frame import Frame
from polycast.media.track import Track

MAXIMUM_WAITING: Final = 1_000
"""Frames and descriptions of the track that wait for the thread: what a publisher sends at once when it begins, about
20 s of sound."""

MAXIMUM_WAITING_SIZE: Final = 4 * 1024 * 1024
"""Bytes of frames that wait for the thread: far more than 20 s of any sound."""

MAXIMUM_AGE: Final = 1.0
"""Seconds that a frame waits; older sound would only delay the pictures, or be played too late."""


class Transcoder(Protocol):
    """What transcodes frames. Used by one thread at a time."""

    errors: int
    """Frames that could not be decoded."""
    problem: str
    """Why the last one of them could not."""

    def update(self, track: Track) -> None:
        """Use the new description of the track for the following frames."""

    def transcode(self, frame: Frame) -> list[Frame]:
        """Return the frames that are ready after this frame."""
        ...


class Worker:
    """Transcodes batches of frames. All methods are called by one other thread, and none of them waits."""

    def __init__(
        self,
        open_transcoder: Callable[[], Transcoder],
        *,
        deliver: Callable[[list[Frame]], None],
        fail: Callable[[Exception], None],
        name: str,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``open_transcoder`` is called in the thread. ``deliver`` gets what was made of each batch, and ``fail`` an
        exception that ended the thread; both are called in the thread. ``name`` is that of the thread."""
        self._deliver = deliver
        self._fail = fail
        self._now = now
        self._condition = threading.Condition()
        self._batches: deque[tuple[float, Sequence[Frame | Track]]] = deque()
        self._waiting = 0
        """Number of entries in these batches."""
        self._waiting_size = 0
        """Bytes of the frames among them."""
        self._is_closed = False
        self.dropped = 0
        """Frames that were dropped because the thread could not keep up."""
        self.errors = 0
        """Frames that could not be decoded."""
        self.problem = ""
        """Why the last one of them could not."""
        self.thread = threading.Thread(target=self._run, args=(open_transcoder,), name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def put(self, entries: Sequence[Frame | Track]) -> None:
        """Pass on frames, and changed descriptions of the track in their place between them.

        If too many are waiting, the frames are dropped, and of the descriptions only the last one is kept.
        """
        with self._condition:
            size = _size_of(entries)
            if self._waiting + len(entries) > MAXIMUM_WAITING or self._waiting_size + size > MAXIMUM_WAITING_SIZE:
                size = 0
                self.dropped += sum(isinstance(entry, Frame) for entry in entries)
                entries = [entry for entry in entries if isinstance(entry, Track)][-1:]
                if entries and self._batches and all(isinstance(entry, Track) for entry in self._batches[-1][1]):
                    self._waiting -= len(self._batches.pop()[1])
            if entries:
                self._waiting += len(entries)
                self._waiting_size += size
                self._batches.append((self._now(), entries))
                self._condition.notify()

    def close(self) -> None:
        """End the thread after the frame on which it works; nothing is delivered from then on."""
        with self._condition:
            self._is_closed = True
            self._batches.clear()
            self._condition.notify()

    def _run(self, open_transcoder: Callable[[], Transcoder]) -> None:
        try:
            transcoder = open_transcoder()
            while (batch := self._next()) is not None:
                frames = self._transcode(transcoder, *batch)
                if frames and not self._is_closed:
                    self._deliver(frames)
        except Exception as error:
            if not self._is_closed:
                self._fail(error)

    def _next(self) -> tuple[float, Sequence[Frame | Track]] | None:
        """Return the next batch, waiting for it; None if closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._batches or self._is_closed)
            if self._is_closed:
                return None
            batch = self._batches.popleft()
            self._waiting -= len(batch[1])
            self._waiting_size -= _size_of(batch[1])
            return batch

    def _transcode(self, transcoder: Transcoder, received: float, entries: Sequence[Frame | Track]) -> list[Frame]:
        frames: list[Frame] = []
        for entry in entries:
            if isinstance(entry, Track):
                transcoder.update(entry)
            elif self._now() - received > MAXIMUM_AGE:
                with self._condition:
                    self.dropped += 1
            elif not self._is_closed:
                frames += transcoder.transcode(entry)
        self.errors, self.problem = transcoder.errors, transcoder.problem
        return frames


def _size_of(entries: Sequence[Frame | Track]) -> int:
    """Return the bytes of the frames among some entries."""
    return sum(entry.size for entry in entries if isinstance(entry, Frame))
