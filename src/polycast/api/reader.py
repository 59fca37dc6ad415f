"""Readers: iterators over the frames of a stream, for threads and for event loops."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from polycast.api.decoding import Decoding
from polycast.api.errors import ReadTimeout, StreamEnded
from polycast.api.frames import CodedFrame, VideoFrame
from polycast.api.inbox import Arrival, End, Entry, Event, Inbox
from polycast.api.runtime import Runtime
from polycast.api.subscription import Subscription
from polycast.media.timebase import NANOSECONDS, ticks_to_seconds
from polycast.media.track import Track

FrameType = TypeVar("FrameType", covariant=True)

# In newest-first mode: how often to check for even newer frames after a long run of decoding.
CATCH_UP_ROUNDS = 3

OnEvent = Callable[[Event], object]


class Reader(Generic[FrameType]):
    """The frames of a stream: iterate over it with ``for`` or ``async for``, or call `read`.

    Made by `Server.read` and `polycast.read`. It starts immediately and ends when the server stops, when `close` is
    called or, with ``reconnect=False``, when the stream ends. It also ends when it is garbage-collected. It may be used
    from several threads; each frame goes to one of them.
    """

    def __init__(
        self,
        runtime: Runtime,
        subscription: Subscription,
        inbox: Inbox,
        *,
        decoding: Decoding | None,
        has_video: bool,
        newest: bool,
        timeout: float | None,
        on_event: OnEvent | None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._subscription = subscription
        self._inbox = inbox
        self._decoding = decoding
        self._has_video = has_video
        self._newest = newest
        self._size: tuple[int, int] | None = None
        self._timeout = timeout
        self._on_event = on_event
        self._lock = threading.RLock()  # on_event may call back
        self._ready: deque[Any] = deque()
        self._end: End | None = None
        self._trouble = ""  # why there is no stream; empty while there is one
        self._passed_over = 0
        self._skipped_before = 0
        self._finalizer = weakref.finalize(self, _close, runtime, subscription, on_close)
        runtime.post(subscription.start)

    @property
    def skipped(self) -> int:
        """Number of frames skipped so far because the reader was too slow."""
        return self._inbox.dropped + self._passed_over

    @property
    def decode_errors(self) -> int:
        """Number of frames the decoder could not decode so far."""
        return self._decoding.errors if self._decoding is not None else 0

    @property
    def tracks(self) -> tuple[Track, ...]:
        """All tracks of the stream, each with ``index``, ``kind`` and ``codec``; empty until it is connected."""
        return self._subscription.tracks

    @property
    def closed(self) -> bool:
        """Whether the reader has ended."""
        return self._end is not None or not self._finalizer.alive

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the video in pixels.

        Waits for the first picture if necessary, within the reader's ``timeout``; that picture is not lost. In an event
        loop, call `size_async`. Raises ReadTimeout, StreamEnded if the stream ends without a picture, ValueError for a
        reader that does not decode video, and everything that the iteration raises.
        """
        self._check_has_pictures()
        while self._size is None:
            with self._lock:
                if self._size is None and not self._fill(self._timeout):
                    raise StreamEnded("the stream ended before its first picture")
        return self._size

    async def size_async(self) -> tuple[int, int]:
        """Do what `size` does, in an event loop."""
        self._check_has_pictures()
        while self._size is None:
            if not await self._fill_async(self._timeout):
                raise StreamEnded("the stream ended before its first picture")
        return self._size

    def read(self, timeout: float | None = None) -> FrameType | None:
        """Return the next frame, or None at the end of the stream.

        ``timeout``: in seconds; default: that of the reader. Raises ReadTimeout if no frame arrived in time, and
        everything that the iteration raises.
        """
        limit = self._timeout if timeout is None else timeout
        deadline = None if limit is None else time.monotonic() + limit
        with self._lock:
            while not self._ready:
                if not self._fill(limit, deadline):
                    return None
            frame: FrameType = self._ready.popleft()
            return frame

    async def read_async(self, timeout: float | None = None) -> FrameType | None:
        """Do what `read` does, in an event loop. Decoding is done in a worker thread."""
        limit = self._timeout if timeout is None else timeout
        deadline = None if limit is None else time.monotonic() + limit
        while not self._ready:
            if not await self._fill_async(limit, deadline):
                return None
        frame: FrameType = self._ready.popleft()
        return frame

    def close(self) -> None:
        """Stop reading; a call waiting for a frame returns None. May be called several times, and from any thread."""
        self._inbox.put_event(End(None))
        self._finalizer()

    def __iter__(self) -> Iterator[FrameType]:
        return self

    def __next__(self) -> FrameType:
        frame = self.read()
        if frame is None:
            raise StopIteration
        return frame

    def __aiter__(self) -> AsyncIterator[FrameType]:
        return self

    async def __anext__(self) -> FrameType:
        frame = await self.read_async()
        if frame is None:
            raise StopAsyncIteration
        return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        names = ", ".join(track.codec_name for track in self.tracks)
        return f"<Reader {'closed' if self.closed else names or 'connecting'}>"

    def _fill(self, limit: float | None, deadline: float | None = None) -> bool:
        """Wait for the next entries and process them; return False at the end. Raises ReadTimeout."""
        if self._is_over():
            return False
        if deadline is None and limit is not None:
            deadline = time.monotonic() + limit
        entries = self._inbox.get(_seconds_until(deadline), one=not self._newest)
        if not entries:
            raise self._timed_out(limit)
        self._process(entries)
        return True

    async def _fill_async(self, limit: float | None, deadline: float | None = None) -> bool:
        if self._is_over():
            return False
        if deadline is None and limit is not None:
            deadline = time.monotonic() + limit
        entries = await self._inbox.get_async(_seconds_until(deadline), one=not self._newest)
        if not entries:
            raise self._timed_out(limit)
        if self._decoding is None or not any(isinstance(entry, Arrival) for entry in entries):
            self._process(entries)
        else:
            await asyncio.to_thread(self._process_locked, entries)
        return True

    def _timed_out(self, limit: float | None) -> ReadTimeout:
        cause = f" (last error: {self._trouble})" if self._trouble else ""
        return ReadTimeout(f"no frame arrived within {limit or 0:g} seconds{cause}")

    def _check_has_pictures(self) -> None:
        if self._decoding is None:
            raise ValueError("encoded frames have no size: see the codec of their track")
        if not self._has_video:
            raise ValueError("this reader reads audio only: pass video=True")

    def _is_over(self) -> bool:
        end = self._end
        if end is None:
            return False
        self._finalizer()
        if end.error is not None:
            error, end.error = end.error, None  # raised once; then the end
            raise error
        return True

    def _process_locked(self, entries: list[Entry]) -> None:
        with self._lock:
            self._process(entries)

    def _process(self, entries: list[Entry]) -> None:
        """Process entries: frames, events, or the end."""
        if self._decoding is None:
            self._ready.extend(_coded(entry) for entry in entries if isinstance(entry, Arrival))
            self._process_events(entries)
            return
        pictures: list[VideoFrame] = []
        skipped = self._skipped_before
        for _ in range(CATCH_UP_ROUNDS):
            for entry in entries:
                if isinstance(entry, Arrival):
                    skipped += entry.skipped
                    for frame in self._decoding.decode(entry):
                        if isinstance(frame, VideoFrame):
                            pictures.append(frame)
                        else:
                            frame.skipped = entry.skipped
                            self._ready.append(frame)
            self._process_events(entries)
            entries = self._inbox.get(0, one=False) if self._newest and len(entries) > 1 else []
            if not entries:
                break
        if not pictures:
            self._skipped_before = skipped
            return
        self._skipped_before = 0
        if self._newest and len(pictures) > 1:
            self._passed_over += len(pictures) - 1
            skipped += len(pictures) - 1
            pictures = pictures[-1:]
        self._size = (pictures[-1].width, pictures[-1].height)
        pictures[0].skipped = skipped
        self._ready.extend(pictures)

    def _process_events(self, entries: list[Entry]) -> None:
        for entry in entries:
            if isinstance(entry, End):
                self._end = entry
            elif isinstance(entry, Event):
                self._trouble = entry.reason
                if self._on_event is not None:
                    self._on_event(entry)


def _seconds_until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _coded(arrival: Arrival) -> CodedFrame:
    frame, track = arrival.frame, arrival.track
    rate = track.clock_rate
    return CodedFrame(
        track,
        frame.units,
        ticks_to_seconds(frame.pts, rate),
        ticks_to_seconds(frame.dts, rate),
        frame.key,
        None if frame.wall_time is None else frame.wall_time / NANOSECONDS,
        arrival.skipped,
    )


def _close(runtime: Runtime, subscription: Subscription, on_close: Callable[[], None] | None) -> None:
    # Never immediately: the garbage collector may call this at any point.
    runtime.defer(subscription.stop)
    if on_close is not None:
        on_close()
