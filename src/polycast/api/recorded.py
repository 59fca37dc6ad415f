"""Frames of recordings and files, as arrays."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from polycast.api.closing import Closing
from polycast.api.decoding import to_floats
from polycast.api.errors import ConnectionFailed
from polycast.api.frames import AudioFrame, PictureConverter, VideoFrame
from polycast.errors import PolycastError, UnsupportedCodec
from polycast.media.timebase import NANOSECONDS
from polycast.playback.periods import parse_date_time
from polycast.transcode.pyav import import_av

TimeLike = datetime | float | str
"""A point in time: a datetime (local time if it has no time zone), seconds since 1970, or a text as in RFC 3339."""

LONGEST_DELAY: Final = 2.0
"""Seconds of media after the end of a period that may come before all frames within it: tracks need not be in step, and
pictures are shown in another order than they are decoded in."""
LEADING_INTERVAL: Final = 0.001
"""Seconds between pictures that only decoders need."""
ROUNDING: Final = 0.0005
"""Seconds by which times may differ after conversions: those of frames have ticks of their own."""

FrameType = TypeVar("FrameType", bound="VideoFrame | AudioFrame")


@dataclass(frozen=True, slots=True)
class Source:
    """What can be decoded by itself: a file, or a part of one."""

    open: Callable[[Any], Any]
    """Opens it, given the module ``av``; returns the container. May raise OSError or PolycastError."""
    origin: float | None
    """Seconds since 1970 at which its times begin; None if unknown."""
    position: float
    """The same in the timeline of the frames, in seconds."""
    first: float = 0.0
    """Frames before this time of its own are left out."""
    last: float = float("inf")
    """Frames from this time on are left out."""
    continues: bool = False
    """Whether it continues the one before, so that decoders go on."""
    is_file: bool = False
    """Whether its own times count from its start, wherever it says that this is, and ``first`` is to be looked for."""
    marks_leading: bool = False
    """Whether pictures that only decoders need come first, all at one time (``/get`` of a playback server)."""


class RecordedFrames(Closing, Generic[FrameType]):
    """The decoded frames of a recording or a file, one after the other, as fast as they are wanted.

    Iterate over it with ``for``, or with ``async for``, which decodes in a worker thread. Use it with ``with``, or call
    `close`, unless you iterate to the end. The iteration raises UnsupportedCodec if no track can be decoded, and
    ConnectionFailed if a file or server cannot be read.
    """

    def __init__(self, sources: Iterator[Source], *, video: bool, audio: bool, pixel_format: str) -> None:
        if not video and not audio:
            raise ValueError("read needs video, audio or both")
        av = import_av()
        converter = PictureConverter(av, pixel_format)
        self._wanted = " and ".join(kind for kind, is_wanted in (("video", video), ("audio", audio)) if is_wanted)
        self._lock = threading.Lock()
        self._frames: Iterator[Any] = _Decoding(av, sources, converter, video=video, audio=audio).frames()

    def __iter__(self) -> Iterator[FrameType]:
        return self

    def __next__(self) -> FrameType:
        with self._lock:
            frame: FrameType = next(self._frames)
        return frame

    async def __aiter__(self) -> AsyncIterator[FrameType]:
        while (frame := await asyncio.to_thread(next, self, None)) is not None:
            yield frame

    def close(self) -> None:
        """Close the files; the iteration ends."""
        with self._lock:
            frames, self._frames = self._frames, iter(())
            close = getattr(frames, "close", None)
            if close is not None:
                close()

    def __repr__(self) -> str:
        return f"<RecordedFrames of {self._wanted}>"


class _Decoding:
    """Decodes one source after the other."""

    def __init__(
        self, av: Any, sources: Iterator[Source], converter: PictureConverter, *, video: bool, audio: bool
    ) -> None:
        self._av = av
        self._sources = sources
        self._converter = converter
        self._kinds = {"video": video, "audio": audio}
        self._contexts: dict[str, Any] = {}
        """The decoders, by kind; they go on over sources that continue each other."""
        self._start = 0.0
        """What the times of the source begin with."""

    def frames(self) -> Iterator[VideoFrame | AudioFrame]:
        """Yield all frames."""
        before: Source | None = None
        try:
            for source in self._sources:
                if before is not None and not source.continues:
                    yield from self._finish(before)
                try:
                    with closing(source.open(self._av)) as container:
                        yield from self._frames_of(container, source)
                except (OSError, self._av.error.FFmpegError) as error:
                    if isinstance(error, PolycastError):
                        raise
                    raise ConnectionFailed(f"it cannot be read: {error}") from error
                before = source
            if before is not None:
                yield from self._finish(before)
        finally:
            close = getattr(self._sources, "close", None)
            if close is not None:
                close()

    def _frames_of(self, container: Any, source: Source) -> Iterator[VideoFrame | AudioFrame]:
        streams = [
            next(iter(getattr(container.streams, kind)), None) for kind, is_wanted in self._kinds.items() if is_wanted
        ]
        chosen = [stream for stream in streams if stream is not None and stream.codec_context is not None]
        if not chosen:
            kinds = " or ".join(kind for kind, is_wanted in self._kinds.items() if is_wanted)
            raise UnsupportedCodec(f"there is no {kinds} that can be decoded")
        for stream in chosen:
            self._contexts.setdefault(stream.type, stream.codec_context)
        self._start = start = 0.0
        if source.is_file:
            self._start = start = (container.start_time or 0) / self._av.time_base
            if source.first > 0:
                container.seek(round((start + source.first) * self._av.time_base))
        packets = ((packet.stream.type, packet) for packet in container.demux(chosen))
        for kind, packet in self._with_leading_before(packets) if source.marks_leading else packets:
            if packet.dts is None:
                continue  # the end, but decoders may go on
            if float(packet.dts * packet.time_base) - start >= source.last + LONGEST_DELAY:
                return
            try:
                ready = self._contexts[kind].decode(packet)
            except self._av.error.InvalidDataError:
                continue
            for native in ready:
                frame = self._make(native, kind, source, start)
                if frame is not None:
                    yield frame

    def _with_leading_before(self, packets: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """Yield packets, of which the first pictures that are at the same time as the next one get earlier times.

        They are left out then like all that is before the period.
        """
        taken: list[tuple[str, Any]] = []
        videos: list[int] = []
        """Where in ``taken`` the pictures are."""
        for kind, packet in packets:
            taken.append((kind, packet))
            if packet.dts is not None and kind == "video":
                if videos and packet.dts != taken[videos[0]][1].dts:
                    break
                videos.append(len(taken) - 1)
        for place, index in enumerate(reversed(videos)):
            packet = taken[index][1]
            # A copy, as FFmpeg marks what is at the time of the fragment before as not to be shown.
            copy = self._av.Packet(bytes(packet))
            earlier = round((LONGEST_DELAY + place * LEADING_INTERVAL) / packet.time_base) if place else 0
            copy.pts, copy.dts, copy.time_base = packet.pts - earlier, packet.dts - earlier, packet.time_base
            taken[index] = ("video", copy)
        yield from taken
        yield from packets

    def _finish(self, source: Source) -> Iterator[VideoFrame | AudioFrame]:
        """Yield what the decoders still have."""
        for kind, context in self._contexts.items():
            for native in context.decode(None):
                frame = self._make(native, kind, source, self._start)
                if frame is not None:
                    yield frame
        self._contexts = {}

    def _make(self, native: Any, kind: str, source: Source, start: float) -> VideoFrame | AudioFrame | None:
        """Return a frame; None if it is outside of the period."""
        if native.time is None:
            return None
        time = native.time - start
        if not source.first - ROUNDING <= time < source.last - ROUNDING:
            return None
        wall = None if source.origin is None else source.origin + time
        pts = source.position + time
        if kind == "video":
            return VideoFrame(native, self._converter, pts=pts, time=wall, key=bool(native.key_frame))
        return AudioFrame(to_floats(native), sample_rate=int(native.sample_rate), pts=pts, time=wall)


def unix_seconds(moment: TimeLike) -> float:
    """Return a point in time in seconds since 1970. Raises ValueError if a text is not one."""
    if isinstance(moment, datetime):
        return moment.timestamp()
    if isinstance(moment, str):
        return parse_date_time(moment).time / NANOSECONDS
    return float(moment)
