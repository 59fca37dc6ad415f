"""Readers: iterators over the frames of a stream, for threads and for event loops."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from polycast.api.clip import Clip
from polycast.api.closing import Closing
from polycast.api.errors import ReadTimeout, StreamEnded
from polycast.api.frames import AudioFrame, CodedFrame, VideoFrame
from polycast.api.inbox import Arrival, End, Entry, Event, Inbox
from polycast.api.options import OnEvent
from polycast.api.rate import RateMeter
from polycast.api.runtime import Runtime
from polycast.media.timebase import NANOSECONDS, ticks_to_seconds
from polycast.media.track import Track

FrameType = TypeVar("FrameType", covariant=True)

# In newest-first mode: how often to check for even newer frames after a long run of decoding.
CATCH_UP_ROUNDS = 3


class FrameSource(Protocol):
    """Fills the inbox of a reader. ``start``, ``stop`` and ``record`` are called in the loop's thread."""

    meter: RateMeter

    @property
    def tracks(self) -> tuple[Track, ...]:
        """All tracks of the stream; empty until it is connected."""
        ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def record(self, file: str | os.PathLike[str], before: float, after: float | None) -> Clip: ...


class FrameDecoding(Protocol):
    """Decodes entries of the inbox."""

    errors: int

    def decode(self, arrival: Arrival) -> list[VideoFrame | AudioFrame]: ...


@dataclass(slots=True)
class _Progress:
    """How far a reader is."""

    size: tuple[int, int] | None = None
    """That of the last picture."""
    end: End | None = None
    last_error: str = ""
    """Why there is no stream; empty while there is one."""
    passed_over: int = 0
    """Pictures that were decoded but not handed out."""
    skipped_before: int = 0
    """Frames skipped before the next picture."""


class Reader(Closing, Generic[FrameType]):
    """The frames of a stream: iterate over it with ``for`` or ``async for``, or call `read`.

    Made by `Server.read` and `polycast.read`. It starts immediately and ends when the server stops, when `close` is
    called or, with ``reconnect=False``, when the stream ends. It also ends when it is garbage-collected. It may be used
    from several threads; each frame goes to one of them.
    """

    def __init__(
        self,
        runtime: Runtime,
        source: FrameSource,
        inbox: Inbox,
        *,
        decoding: FrameDecoding | None,
        has_video: bool,
        newest: bool,
        timeout: float | None,
        on_event: OnEvent | None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._runtime = runtime
        self._source = source
        self._inbox = inbox
        self._decoding = decoding
        self._has_video = has_video
        self._newest = newest
        self._timeout = timeout
        self._on_event = on_event
        self._lock = threading.RLock()  # on_event may call back
        self._ready: deque[Any] = deque()
        self._progress = _Progress()
        self._finalizer = weakref.finalize(self, _close, runtime, source, on_close)
        runtime.post(source.start)

    @property
    def skipped(self) -> int:
        """Number of frames skipped so far because the reader was too slow."""
        return self._inbox.dropped + self._progress.passed_over

    @property
    def decode_errors(self) -> int:
        """Number of frames the decoder could not decode so far."""
        return self._decoding.errors if self._decoding is not None else 0

    @property
    def tracks(self) -> tuple[Track, ...]:
        """All tracks of the stream, each with ``index``, ``kind`` and ``codec``; empty until it is connected."""
        return self._source.tracks

    @property
    def closed(self) -> bool:
        """Whether the reader has ended."""
        return self._progress.end is not None or not self._finalizer.alive

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the video in pixels.

        Waits for the first picture if necessary, within the reader's ``timeout``; that picture is not lost. In an event
        loop, call `size_async`. Raises ReadTimeout, StreamEnded if the stream ends without a picture, ValueError for a
        reader that does not decode video, and everything that the iteration raises.
        """
        self._check_has_pictures()
        while self._progress.size is None:
            with self._lock:
                if self._progress.size is None and not self._fill(self._timeout):
                    raise StreamEnded("the stream ended before its first picture")
        return self._progress.size

    async def size_async(self) -> tuple[int, int]:
        """Do what `size` does, in an event loop."""
        self._check_has_pictures()
        while self._progress.size is None:
            if not await self._fill_async(self._timeout):
                raise StreamEnded("the stream ended before its first picture")
        return self._progress.size

    @property
    def rate(self) -> float:
        """Frames of video per second: what a webcam reports, otherwise measured on the first ten frames.

        Waits for them if necessary, within the reader's ``timeout``; no picture is lost. In an event loop, call
        `rate_async`. Raises ReadTimeout, and StreamEnded if the stream ends first.
        """
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while True:  # a wait without a timeout would not notice Ctrl-C on Windows
            rest = _seconds_until(deadline)
            with contextlib.suppress(concurrent.futures.TimeoutError):
                return self._source.meter.known.result(1.0 if rest is None else min(1.0, rest))
            if rest == 0:
                raise self._timed_out(self._timeout)

    async def rate_async(self) -> float:
        """Do what `rate` does, in an event loop."""
        known = asyncio.wrap_future(self._source.meter.known)
        try:
            return await asyncio.wait_for(asyncio.shield(known), self._timeout)
        except TimeoutError:
            raise self._timed_out(self._timeout) from None

    def record(self, file: str | os.PathLike[str], *, before: float = 0.0, after: float | None = None) -> Clip:
        """Record the stream to a file, with all tracks and without decoding; return immediately.

        The name ends in ``.mp4`` or ``.ts``; an existing file is replaced. ``before``: seconds before this call that
        the file begins with, from the key frame before them on; they are kept if the reader was made with at least so
        much ``history``. ``after``: seconds after which the clip ends by itself; otherwise it ends with `Clip.close`,
        or with the reader. Raises ValueError, OSError if the folder does not exist, and StreamEnded if the reader has
        ended.
        """
        return self._runtime.call(self._source.record, file, before, after)

    def batches(self, count: int) -> Batches[FrameType]:
        """Iterate over lists of ``count`` consecutive frames, as networks take them; the last list may be shorter.

        With ``for``, or with ``async for`` in an event loop. Raises ValueError for a count below 1.
        """
        if count < 1:
            raise ValueError("a batch has at least one frame")
        return Batches(self, count)

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

    async def _close_async(self) -> None:
        self.close()

    def __repr__(self) -> str:
        names = ", ".join(track.codec_name for track in self.tracks)
        if not names and self._progress.size is not None:  # a webcam
            names = "{}x{}".format(*self._progress.size)
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
        cause = f" (last error: {self._progress.last_error})" if self._progress.last_error else ""
        return ReadTimeout(f"no frame arrived within {limit or 0:g} seconds{cause}")

    def _check_has_pictures(self) -> None:
        if self._decoding is None:
            raise ValueError("encoded frames have no size: see the codec of their track")
        if not self._has_video:
            raise ValueError("this reader reads audio only: pass video=True")

    def _is_over(self) -> bool:
        end = self._progress.end
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
        skipped = self._progress.skipped_before
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
            self._progress.skipped_before = skipped
            return
        self._progress.skipped_before = 0
        if self._newest and len(pictures) > 1:
            self._progress.passed_over += len(pictures) - 1
            skipped += len(pictures) - 1
            pictures = pictures[-1:]
        self._progress.size = (pictures[-1].width, pictures[-1].height)
        pictures[0].skipped = skipped
        self._ready.extend(pictures)

    def _process_events(self, entries: list[Entry]) -> None:
        for entry in entries:
            if isinstance(entry, End):
                self._progress.end = entry
            elif isinstance(entry, Event):
                self._progress.last_error = entry.reason
                if self._on_event is not None:
                    self._on_event(entry)


class Batches(Generic[FrameType]):
    """The frames of a reader in lists, see `Reader.batches`."""

    def __init__(self, reader: Reader[FrameType], count: int) -> None:
        self._reader = reader
        self._count = count

    def __iter__(self) -> Iterator[list[FrameType]]:
        return self

    def __next__(self) -> list[FrameType]:
        batch = list(itertools.islice(self._reader, self._count))
        if not batch:
            raise StopIteration
        return batch

    def __aiter__(self) -> AsyncIterator[list[FrameType]]:
        return self

    async def __anext__(self) -> list[FrameType]:
        batch: list[FrameType] = []
        while len(batch) < self._count and (frame := await self._reader.read_async()) is not None:
            batch.append(frame)
        if not batch:
            raise StopAsyncIteration
        return batch

    def __repr__(self) -> str:
        return f"<Batches of {self._count} from {self._reader!r}>"


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


def _close(runtime: Runtime, source: FrameSource, on_close: Callable[[], None] | None) -> None:
    # Never immediately: the garbage collector may call this at any point.
    runtime.defer(source.stop)
    if on_close is not None:
        on_close()
