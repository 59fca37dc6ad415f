"""A thread that transcodes one track of a stream, beside the event loop."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from polycast.media.frame import Frame
from polycast.media.track import Track

MAXIMUM_WAITING: Final = 1_000
"""Frames and descriptions of the track that wait for the thread: what a publisher sends at once when it begins, about
20 s of sound."""

MAXIMUM_WAITING_SIZE: Final = 4 * 1024 * 1024
"""Bytes of frames that wait for the thread: far more than 20 s of any sound."""
MAXIMUM_WAITING_PICTURES: Final = 32 * 1024 * 1024
"""The same for pictures: a second at 256 Mbit/s."""

MAXIMUM_AGE: Final = 1.0
"""Seconds that a frame waits. Older sound would only delay the pictures, or be played too late, and older pictures are
not live."""


class Transcoder(Protocol):
    """What transcodes frames. Used by one thread at a time."""

    errors: int
    """Frames that could not be decoded."""
    problem: str
    """Why the last one of them could not."""

    def update(self, track: Track) -> None:
        """Use the new description of the track for the following frames."""

    def restart(self) -> None:
        """Frames are missing before the next one, which is a key frame."""

    def request_key_frame(self) -> None:
        """Make a key frame soon. From any thread."""

    def transcode(self, frame: Frame) -> list[Frame]:
        """Return the frames that are ready after this frame."""
        ...


class _Batch(NamedTuple):
    received: float
    entries: Sequence[Frame | Track]
    size: int
    """Bytes of the frames."""
    follows_gap: bool
    """Whether frames before it were dropped."""


class _Queue:
    """Batches that wait, limited in number and size."""

    def __init__(self, maximum_size: int) -> None:
        """``maximum_size``: bytes of frames that may wait."""
        self._maximum_size = maximum_size
        self._batches: deque[_Batch] = deque()
        self._waiting = self._size = 0
        """Number of entries in these batches, and bytes of their frames."""
        self._has_gap = False
        """Whether the last frames were dropped."""

    def __bool__(self) -> bool:
        return bool(self._batches)

    def put(self, entries: Sequence[Frame | Track], now: float) -> int:
        """Add a batch. If there is no room, drop its frames, and of its descriptions all but the last one.

        Returns the number of dropped frames.
        """
        size = sum(entry.size for entry in entries if isinstance(entry, Frame))
        dropped = 0
        if self._waiting + len(entries) > MAXIMUM_WAITING or self._size + size > self._maximum_size:
            self._has_gap = True
            dropped = sum(isinstance(entry, Frame) for entry in entries)
            size = 0
            entries = [entry for entry in entries if isinstance(entry, Track)][-1:]
            if entries and self._batches and all(isinstance(entry, Track) for entry in self._batches[-1].entries):
                self._waiting -= len(self._batches.pop().entries)
        if entries:
            self._waiting += len(entries)
            self._size += size
            self._batches.append(_Batch(now, entries, size, self._has_gap))
            self._has_gap = self._has_gap and not size
        return dropped

    def take(self) -> _Batch:
        """Remove and return the first batch."""
        batch = self._batches.popleft()
        self._waiting -= len(batch.entries)
        self._size -= batch.size
        return batch


class Worker:
    """Transcodes batches of frames. All methods are called by one other thread, and none of them waits."""

    def __init__(
        self,
        open_transcoder: Callable[[], Transcoder],
        *,
        deliver: Callable[[list[Frame]], None],
        fail: Callable[[Exception], None],
        name: str,
        maximum_size: int = MAXIMUM_WAITING_SIZE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``open_transcoder`` is called in the thread. ``deliver`` gets what was made of each batch, and ``fail`` an
        exception that ended the thread; both are called in the thread. ``name`` is that of the thread.
        ``maximum_size``: bytes of frames that may wait for it."""
        self._deliver = deliver
        self._fail = fail
        self._now = now
        self._condition = threading.Condition()
        self._queue = _Queue(maximum_size)
        self._transcoder: Transcoder | None = None
        """Once the thread has opened it."""
        self._is_skipping = False
        """Whether frames are dropped up to the next key frame. For the thread."""
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

        If too many are waiting, the frames are dropped, and all that follow up to the next key frame.
        """
        with self._condition:
            self.dropped += self._queue.put(entries, self._now())
            self._condition.notify()

    def request_key_frame(self) -> None:
        """Make a key frame soon."""
        transcoder = self._transcoder
        if transcoder is not None:
            transcoder.request_key_frame()

    def close(self) -> None:
        """End the thread after the frame on which it works; nothing is delivered from then on."""
        with self._condition:
            self._is_closed = True
            self._condition.notify()

    def _run(self, open_transcoder: Callable[[], Transcoder]) -> None:
        try:
            transcoder = self._transcoder = open_transcoder()
            while (batch := self._next()) is not None:
                frames = self._transcode(transcoder, batch)
                if frames and not self._is_closed:
                    self._deliver(frames)
        except Exception as error:
            if not self._is_closed:
                self._fail(error)

    def _next(self) -> _Batch | None:
        """Return the next batch, waiting for it; None if closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._queue or self._is_closed)
            return None if self._is_closed else self._queue.take()

    def _transcode(self, transcoder: Transcoder, batch: _Batch) -> list[Frame]:
        frames: list[Frame] = []
        self._is_skipping |= batch.follows_gap
        for entry in batch.entries:
            if isinstance(entry, Track):
                transcoder.update(entry)
            elif self._now() - batch.received > MAXIMUM_AGE or (self._is_skipping and not entry.key):
                self._is_skipping = True
                with self._condition:
                    self.dropped += 1
            elif not self._is_closed:
                if self._is_skipping:
                    self._is_skipping = False
                    transcoder.restart()
                frames += transcoder.transcode(entry)
        self.errors, self.problem = transcoder.errors, transcoder.problem
        return frames
