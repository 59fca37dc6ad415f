"""Decodes frames to pictures and audio, with settings for low delay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from polycast.api.frames import AudioFrame, PictureConverter, VideoFrame
from polycast.api.inbox import Arrival
from polycast.codecs.registry import bitstream_of
from polycast.errors import UnsupportedCodec
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime
from polycast.media.track import Track, describe_tracks
from polycast.transcode.decoder import decoder_name, open_decoder
from polycast.transcode.pyav import import_av

# Pictures that may be in a decoder at once: H.264 and H.265 allow 16 to be reordered.
MAXIMUM_TIMES = 64


def choose_tracks(tracks: Sequence[Track], *, video: bool, audio: bool) -> dict[int, Track]:
    """Return the tracks to read, by index: all if ``video`` and ``audio`` are both false, which means encoded frames.

    Otherwise the first track of each kind that can be decoded. Raises UnsupportedCodec if there is none.
    """
    if not video and not audio:
        return {track.index: track for track in tracks}
    chosen: dict[int, Track] = {}
    for kind, wanted in (("video", video), ("audio", audio)):
        track = next((track for track in tracks if track.kind == kind and decoder_name(track.codec)), None)
        if wanted and track is not None:
            chosen[track.index] = track
    if not chosen:
        wanted_kinds = " or ".join(kind for kind, wanted in (("video", video), ("audio", audio)) if wanted)
        raise UnsupportedCodec(f"no {wanted_kinds} that can be decoded in {describe_tracks(tracks)}")
    return chosen


@dataclass(slots=True)
class _Time:
    wall: WallTime | None
    key: bool


class _Decoder:
    """One track's decoder."""

    def __init__(self, av: Any, track: Track, *, hardware: bool) -> None:
        self._av = av
        self.codec = track.codec
        self._bitstream = bitstream_of(track.codec)
        self._clock_rate = track.clock_rate
        self._context = open_decoder(av, track, hardware=hardware)
        self._time_base = Fraction(1, self._clock_rate)
        self._times: dict[int, _Time] = {}

    def decode(self, frame: Frame) -> list[tuple[Any, int, _Time]]:
        """Decode a frame; return (native frame, pts, its times) for everything that is ready."""
        units = self._bitstream.with_parameters(self.codec, frame.units) if frame.key else frame.units
        data = self._bitstream.join(units)
        if not data:
            return []  # it would mean the end to the decoder
        packet = self._av.Packet(data)
        packet.pts, packet.dts = frame.pts, frame.dts
        packet.time_base = self._time_base
        times = self._times
        times[frame.pts] = _Time(frame.wall_time, frame.key)
        if len(times) > MAXIMUM_TIMES:
            del times[next(iter(times))]
        return [
            (native, native.pts, times.pop(native.pts, _Time(None, False)))
            for native in self._context.decode(packet)
            if native.pts is not None
        ]

    def flush(self) -> None:
        """Discard the state of earlier frames, because pictures are missing in between."""
        self._context.flush_buffers()
        self._times.clear()

    def seconds(self, pts: int) -> float:
        """Return a time in seconds."""
        return pts / self._clock_rate


class Decoding:
    """The decoders of a reader. Used by one thread at a time. Raises MissingDependency without PyAV."""

    def __init__(self, pixel_format: str, *, hardware: bool = False) -> None:
        self._av = import_av()
        self._hardware = hardware
        self._convert = PictureConverter(self._av, pixel_format)
        self._decoders: dict[int, _Decoder] = {}
        self._epoch = 0
        self.errors = 0
        """Frames that could not be decoded."""

    def decode(self, arrival: Arrival) -> list[VideoFrame | AudioFrame]:
        """Decode a frame; return what is ready. Raises UnsupportedCodec."""
        decoder = self._decoder_for(arrival)
        if arrival.skipped and arrival.track.kind == "video":
            decoder.flush()
        try:
            ready = decoder.decode(arrival.frame)
        except self._av.error.FFmpegError:
            self.errors += 1
            return []
        make = self._picture if arrival.track.kind == "video" else self._sound
        return [make(decoder, native, pts, known) for native, pts, known in ready]

    def _decoder_for(self, arrival: Arrival) -> _Decoder:
        if arrival.epoch != self._epoch:
            self._epoch = arrival.epoch
            self._decoders.clear()
        track = arrival.track
        decoder = self._decoders.get(track.index)
        if decoder is not None and decoder.codec is not track.codec:
            if track.kind == "video" and type(decoder.codec) is type(track.codec):
                decoder.codec = track.codec  # the next key frame contains the new parameter sets
            else:
                decoder = None
        if decoder is None:
            decoder = self._decoders[track.index] = _Decoder(self._av, track, hardware=self._hardware)
        return decoder

    def _picture(self, decoder: _Decoder, native: Any, pts: int, known: _Time) -> VideoFrame:
        return VideoFrame(
            native, self._convert, pts=decoder.seconds(pts), time=_unix_seconds(known.wall), key=known.key
        )

    def _sound(self, decoder: _Decoder, native: Any, pts: int, known: _Time) -> AudioFrame:
        return AudioFrame(
            to_floats(native),
            sample_rate=int(native.sample_rate),
            pts=decoder.seconds(pts),
            time=_unix_seconds(known.wall),
        )


def _unix_seconds(wall: WallTime | None) -> float | None:
    return None if wall is None else wall / NANOSECONDS


def to_floats(native: Any) -> Any:
    """Return decoded audio as float32, one row per sample."""
    import numpy as np

    array = native.to_ndarray()
    channels = len(native.layout.channels)
    array = array.T if native.format.is_planar else array.reshape(-1, channels)
    kind = array.dtype
    if kind == np.uint8:
        return (array.astype(np.float32) - 128) / 128
    if kind.kind == "i":
        return array.astype(np.float32) / float(-np.iinfo(kind).min)
    return np.ascontiguousarray(array, dtype=np.float32)
