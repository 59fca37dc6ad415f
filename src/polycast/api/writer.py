"""Writers, with which a program publishes pictures and audio, or encoded frames."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time as clock
import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from polycast.api.audio_encoder import AudioEncoder
from polycast.api.closing import Closing
from polycast.api.frames import CodedFrame
from polycast.api.publication import KEY_REQUEST_SECONDS
from polycast.api.video_encoder import CLOCK_RATE, VideoEncoder, VideoSettings
from polycast.codecs.registry import bitstream_of
from polycast.errors import PolycastError
from polycast.media.codec import Codec
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime, seconds_to_ticks
from polycast.media.track import Track

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Seconds at which the timeline of a stream starts: audio may begin slightly before the first picture, never below 0.
START_TIME = 1.0

# Seconds by which audio may drift from the clock before it is corrected: a capture device that paused.
MAXIMUM_AUDIO_DRIFT = 0.25

# Key frames are also inserted by the clock if pictures arrive this much more slowly than announced.
KEY_INTERVAL_TOLERANCE = 1.5


class Publishing(Protocol):
    """The destination of a writer: a path of a server, or a connection to another server."""

    wants_key: bool

    @property
    def error(self) -> PolycastError | None: ...
    def write(self, frames: list[tuple[int, Frame]]) -> None: ...
    def end(self, error: PolycastError | None = None) -> None: ...


class _Base(Closing):
    def __init__(self, publishing: Publishing, tracks: Sequence[Track]) -> None:
        self._publishing = publishing
        self.tracks = tuple(tracks)
        """The published tracks, each with its ``codec`` and ``index``."""
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._finalizer = weakref.finalize(self, publishing.end)

    @property
    def closed(self) -> bool:
        """Whether the stream has ended: closed here, by the server, or by another publisher."""
        return self._publishing.error is not None

    def close(self) -> None:
        """End the stream. May be called several times, and from any thread."""
        self._closed.set()
        self._finalizer()

    def __repr__(self) -> str:
        names = ", ".join(track.codec_name for track in self.tracks)
        return f"<{type(self).__name__} {'closed' if self.closed or self._closed.is_set() else names}>"

    async def _close_async(self) -> None:
        self.close()


class Writer(_Base):
    """Publishes pictures and sound. Made by `Server.publish` and `polycast.publish`; close it, or use ``with``.

    May be used from several threads. Times are those of the clock when `write` is called, unless ``time`` is given.
    """

    def __init__(
        self,
        publishing: Publishing,
        tracks: Sequence[Track],
        video: VideoEncoder | None,
        audio: AudioEncoder | None,
        settings: VideoSettings | None,
        *,
        pace: bool,
    ) -> None:
        super().__init__(publishing, tracks)
        self._video = video
        self._audio = audio
        self._settings = settings
        self._audio_index = 0 if video is None else 1
        self._pace = pace
        self._origin = clock.monotonic()
        self._wall_origin = clock.time()
        self._time_offset: float | None = None
        self._next_slot = 0.0
        self._last_pts = -1
        self._last_key = 0.0
        self._walls: dict[int, WallTime] = {}
        self._audio_wall: int | None = None
        self.frames = 0
        """Number of pictures written so far."""
        self.bytes = 0
        """Encoded bytes so far, video and audio."""

    @property
    def encoder(self) -> str:
        """Name of the video encoder that is used, such as ``libx264``; empty without video."""
        return self._video.name if self._video is not None else ""

    def write(self, frame: NDArray[Any], *, time: float | None = None, key: bool = False) -> None:
        """Publish a picture: an array of uint8 in the writer's format and size.

        ``time``: capture time, in seconds since 1970-01-01 UTC; default: now. ``key``: make it a key
        frame. With ``pace``, it waits until this picture is due. Raises ValueError for an array of the wrong shape or
        type, and StreamEnded (or the underlying error) if the stream has ended.
        """
        self._check()
        video = self._video
        if video is None:
            raise ValueError("this writer has no video: give a size to publish()")
        if self._pace:
            self._wait_for_turn()
        with self._lock:
            now = clock.monotonic()
            wall = self._wall_origin + now - self._origin if time is None else time
            pts = max(self._last_pts + 1, seconds_to_ticks(self._position(now, time), CLOCK_RATE))
            key = key or self._is_key_due(now)
            self._last_pts = pts
            self._walls[pts] = _wall_time(wall)
            coded = video.encode(frame, pts, key=key)
            self.frames += 1
            self._send_video(coded, now)

    async def write_async(self, frame: NDArray[Any], *, time: float | None = None, key: bool = False) -> None:
        """Do what `write` does in a worker thread, so that the caller's event loop is not blocked."""
        await asyncio.to_thread(self.write, frame, time=time, key=key)

    def write_audio(self, samples: NDArray[Any], *, time: float | None = None) -> None:
        """Publish audio: int16, or floats between -1 and 1, of shape (samples, channels).

        For one channel, the shape may also be (samples,). ``time``: capture time of the first sample, in seconds since
        1970-01-01 UTC. If omitted, audio continues where the last chunk ended; the first chunk, and one after a pause,
        is assumed to end now. Raises as `write` does.
        """
        self._check()
        audio = self._audio
        if audio is None:
            raise ValueError("this writer has no audio: give a sample_rate to publish()")
        with self._lock:
            rate = audio.clock_rate
            now = clock.monotonic()
            position = self._position(now, time) - (len(samples) / rate if time is None else 0.0)
            pts = max(0, seconds_to_ticks(position, rate))
            if self._audio_wall is None or abs(pts - audio.next_pts) > MAXIMUM_AUDIO_DRIFT * rate:
                if self._audio_wall is None or pts > audio.next_pts:
                    audio.skip_to(pts)
                wall = time if time is not None else self._wall_origin + now - self._origin - len(samples) / rate
                self._audio_wall = round(wall * NANOSECONDS) - audio.next_pts * NANOSECONDS // rate
            frames: list[tuple[int, Frame]] = []
            for data, frame_pts, duration in audio.encode(samples):
                if frame_pts < 0:
                    continue
                wall_time = WallTime(self._audio_wall + frame_pts * NANOSECONDS // rate)
                self.bytes += len(data)
                frames.append(
                    (
                        self._audio_index,
                        Frame((data,), frame_pts, frame_pts, key=True, wall_time=wall_time, duration=duration),
                    )
                )
            if frames:
                self._publishing.write(frames)

    async def write_audio_async(self, samples: NDArray[Any], *, time: float | None = None) -> None:
        """Do what `write_audio` does in a worker thread."""
        await asyncio.to_thread(self.write_audio, samples, time=time)

    def close(self) -> None:
        """Flush the encoder and end the stream. May be called several times and from any thread."""
        if not self._closed.is_set() and self._video is not None and not self.closed:
            with self._lock, contextlib.suppress(PolycastError):
                self._send_video(self._video.flush(), clock.monotonic())
                self._video = None
        super().close()

    def _check(self) -> None:
        error = self._publishing.error
        if error is not None:
            raise error

    def _position(self, now: float, time: float | None) -> float:
        """Return a position on the timeline, in seconds."""
        position = START_TIME + now - self._origin
        if time is None:
            return position
        if self._time_offset is None:
            self._time_offset = position - time
        return time + self._time_offset

    def _wait_for_turn(self) -> None:
        if self._settings is None:
            return
        now = clock.monotonic()
        if self._next_slot <= 0 or now - self._next_slot > 1.0:  # the first picture, or the caller paused
            self._next_slot = now
        if self._next_slot > now:
            self._closed.wait(self._next_slot - now)
        self._next_slot += 1 / self._settings.rate

    def _is_key_due(self, now: float) -> bool:
        since = now - self._last_key
        if self._publishing.wants_key and since >= KEY_REQUEST_SECONDS:
            return True
        return self._settings is not None and since >= self._settings.key_interval * KEY_INTERVAL_TOLERANCE

    def _send_video(self, coded: Iterable[tuple[tuple[bytes, ...], int, bool]], now: float) -> None:
        frames: list[tuple[int, Frame]] = []
        for units, pts, key in coded:
            if key:
                self._last_key = now
                self._publishing.wants_key = False
            frame = Frame(units, pts, pts, key=key, wall_time=self._walls.pop(pts, None))
            self.bytes += frame.size
            frames.append((0, frame))
        if frames:
            self._publishing.write(frames)


class CodedWriter(_Base):
    """Publishes encoded frames; does not need PyAV. Made by ``publish(tracks=[...])``."""

    def __init__(self, publishing: Publishing, tracks: Sequence[Track]) -> None:
        super().__init__(publishing, tracks)
        self._last_dts = [-(1 << 62)] * len(self.tracks)
        self._lock = threading.Lock()

    def write(
        self,
        data: CodedFrame | bytes | Sequence[bytes],
        *,
        track: int | None = None,
        pts: float | None = None,
        dts: float | None = None,
        key: bool | None = None,
        time: float | None = None,
    ) -> None:
        """Publish one encoded frame, in decoding order.

        ``data``: a frame of a reader with ``decode=False``; or bytes (H264 and H265: one picture in Annex B form; AV1:
        one temporal unit; others: the frame); or a list of units as in `CodedFrame.units`. ``track``: index in
        ``tracks``; 0, or that of the coded frame, when left out. ``pts`` and ``dts``: seconds on one timeline shared by
        all tracks, 0 or more; ``dts`` defaults to ``pts``. ``key``: whether decoding can start here; detected if
        omitted. ``time``: when it was captured, in seconds since 1970-01-01 UTC. Raises ValueError if a time is missing
        or decreases, or if there is no such track, StreamEnded (or the underlying error) if the stream has ended.
        """
        error = self._publishing.error
        if error is not None:
            raise error
        if isinstance(data, CodedFrame):
            track = data.track.index if track is None else track
            pts = data.pts if pts is None else pts
            dts = data.dts if dts is None else dts
            key = data.key if key is None else key
            time = data.time if time is None else time
            units: tuple[bytes, ...] = data.units
        else:
            units = ()
        index = track or 0
        if not 0 <= index < len(self.tracks):
            raise ValueError(f"there is no track {index}")
        codec = self.tracks[index].codec
        if not isinstance(data, CodedFrame):
            units = bitstream_of(codec).split(data) if isinstance(data, bytes) else tuple(data)
        if pts is None:
            raise ValueError("an encoded frame needs a pts")
        self._publish(index, codec, units, pts, pts if dts is None else dts, key, time)

    def _publish(
        self, index: int, codec: Codec, units: tuple[bytes, ...], pts: float, dts: float, key: bool | None,
        time: float | None,
    ) -> None:  # fmt: skip
        rate = self.tracks[index].clock_rate
        pts_ticks, dts_ticks = seconds_to_ticks(pts, rate), seconds_to_ticks(dts, rate)
        if pts_ticks < dts_ticks:
            raise ValueError(f"the pts {pts} is before the dts {dts}")
        wall_time = None if time is None else _wall_time(time)
        if key is None:
            key = bitstream_of(codec).is_key(units)
        with self._lock:
            if dts_ticks < self._last_dts[index]:
                raise ValueError(f"the dts {dts} is before that of the previous frame")
            self._last_dts[index] = dts_ticks
            frame = Frame(units, pts_ticks, dts_ticks, key=key, wall_time=wall_time)
            self._publishing.write([(index, frame)])


def _wall_time(seconds: float) -> WallTime:
    """Return Unix seconds as wall-clock time, rounded to microseconds, the precision of a float for current times."""
    return WallTime(round(seconds * 1_000_000) * 1_000)
