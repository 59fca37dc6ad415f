"""Slates that the server generates: pictures that say that the stream is offline, and silence."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import takewhile
from typing import Final

from polycast.codecs import aac
from polycast.config.always_available import AlwaysAvailableTrack, SlateCodec
from polycast.hub.slate import Slate, SlateFrame, SlateReader
from polycast.media.codec import G711, LPCM, Codec, MPEG4Audio, Opus
from polycast.media.track import Track
from polycast.slates.clip import Clip

_PICTURES: Final = {
    SlateCodec.H264: "h264.mp4",
    SlateCodec.H265: "h265.mp4",
    SlateCodec.VP9: "vp9.mp4",
    SlateCodec.AV1: "av1.mp4",
}
"""One second of pictures each; `make.sh` makes them."""

_OPUS_SILENCE: Final = b"\xf8\xff\xfe"
"""20 ms without sound, as encoders write it: CELT at full bandwidth, mono (RFC 6716 section 3.1)."""
_OPUS_DURATION: Final = 960
_MU_LAW_ZERO, _A_LAW_ZERO = 0xFF, 0xD5  # ITU-T G.711 tables 1a and 2a
_BIT_DEPTH: Final = 16
_PARTS_PER_SECOND: Final = 50
"""Frames per second of codecs without frames of their own."""


class _Part(ABC):
    """One track of the slate."""

    track: Track

    @abstractmethod
    def second(self, number: int) -> Iterator[SlateFrame]:
        """Yield the frames that are due in a second, counted from 0."""


class _Pictures(_Part):
    def __init__(self, index: int, frames: Sequence[SlateFrame], codec: Codec) -> None:
        self.track = Track(index, codec)
        self._frames = frames

    def second(self, number: int) -> Iterator[SlateFrame]:
        offset = number * self.track.clock_rate
        for frame in self._frames:
            yield frame._replace(
                due=frame.due + number, track=self.track.index, pts=frame.pts + offset, dts=frame.dts + offset
            )


class _Silence(_Part):
    def __init__(self, index: int, codec: Codec, unit: bytes, duration: int) -> None:
        """``duration``: that of the unit, in ticks."""
        self.track = Track(index, codec)
        self._units = (unit,)
        self._duration = duration

    def second(self, number: int) -> Iterator[SlateFrame]:
        rate, duration = self.track.clock_rate, self._duration
        first = -(-number * rate // duration)
        for time in range(first * duration, (number + 1) * rate, duration):
            yield SlateFrame(time / rate, self.track.index, self._units, time, time, duration, key=True)


class GeneratedSlate(Slate):
    """A slate for tracks as the configuration describes them. Reads files when it is created for the first time."""

    def __init__(self, tracks: Sequence[AlwaysAvailableTrack]) -> None:
        self._parts = [_part(index, track) for index, track in enumerate(tracks)]
        self.tracks = [part.track for part in self._parts]

    def open(self) -> SlateReader:
        return _Reader(self._parts)


class _Reader(SlateReader):
    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = parts
        self._second = 0

    async def read(self) -> Sequence[SlateFrame]:
        frames = [frame for part in self._parts for frame in part.second(self._second)]
        self._second += 1
        return sorted(frames, key=lambda frame: frame.due)


def _part(index: int, track: AlwaysAvailableTrack) -> _Part:
    rate, channels = track.sample_rate, track.channel_count
    codec: Codec
    match track.codec:
        case SlateCodec.OPUS:
            return _Silence(index, Opus(), _OPUS_SILENCE, _OPUS_DURATION)
        case SlateCodec.MPEG4_AUDIO:
            codec = MPEG4Audio(aac.build_audio_specific_config(aac.AAC_LC, rate, channels), rate, channels)
            return _Silence(index, codec, aac.silent_frame(channels), aac.SAMPLES_PER_FRAME)
        case SlateCodec.G711:
            zero = _MU_LAW_ZERO if track.mu_law else _A_LAW_ZERO
            samples = rate // _PARTS_PER_SECOND
            return _Silence(index, G711(track.mu_law, rate, channels), bytes((zero,)) * samples * channels, samples)
        case SlateCodec.LPCM:
            samples = rate // _PARTS_PER_SECOND
            unit = bytes(samples * channels * _BIT_DEPTH // 8)
            return _Silence(index, LPCM(_BIT_DEPTH, rate, channels), unit, samples)
    return _Pictures(index, *_pictures(track.codec))


@cache
def _pictures(codec: SlateCodec) -> tuple[Sequence[SlateFrame], Codec]:
    """Return the pictures of a second."""
    file = io.BytesIO(files(__package__).joinpath(_PICTURES[codec]).read_bytes())
    clip = Clip(file)
    places = takewhile(lambda place: not place.since, clip.places())
    frames = [frame for place in places if (frame := clip.read(file, place)) is not None]
    return frames, clip.tracks[0].codec
