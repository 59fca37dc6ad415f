"""One track of a publisher: reads the codec configuration and frames from the parts of its messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from polycast.codecs import aac, ac3, av1, flac, h264, h265, mpeg_audio, opus, vp8, vp9
from polycast.codecs.nal import split_length_prefixed
from polycast.codecs.registry import updated_codec
from polycast.errors import RemoteProtocolError
from polycast.media.codec import (
    AC3,
    AV1,
    FLAC,
    G711,
    H264,
    H265,
    LPCM,
    VP8,
    VP9,
    Codec,
    MPEG4Audio,
    MPEGAudio,
    Opus,
    Speex,
)
from polycast.media.frame import Frame
from polycast.media.timebase import MILLISECONDS, NANOSECONDS, TimestampExtender, rescale_nearest
from polycast.wire.rtmp.flv import Part, PartType
from polycast.wire.rtmp.supported import LPCM_SAMPLE_RATES, SoundFormat

SPEEX_SAMPLES_PER_FRAME = 320
"""Samples in a frame of 20 ms at 16 kHz."""

AUDIO_TOLERANCE = 1
"""In milliseconds. RTMP rounds times to milliseconds; audio frames this close to the end of the previous one are
assumed to follow it without a gap, so that the rounding does not cause jitter."""

_FLAC_MARKER = b"fLaC"
_FLAC_BLOCK_HEADER_SIZE = 4
_MILLISECOND = NANOSECONDS // MILLISECONDS


class InputTrack:
    """State of one track. ``codec`` is None until its parameters are known."""

    __slots__ = (
        "_codec_type",
        "_extender",
        "_first_time",
        "_has_frames",
        "_length_size",
        "_next_audio",
        "_parse",
        "codec",
        "elapsed",
        "identifier",
        "kind",
        "number",
    )

    def __init__(self, part: Part, codec_type: type[Codec]) -> None:
        self.kind = part.kind
        self.number = part.track_id
        self.identifier = part.identifier
        self.codec: Codec | None = None
        self.elapsed = 0
        """Milliseconds of media so far."""
        self._extender: TimestampExtender | None = None
        """One per track: the tracks of some publishers count from different zeros."""
        self._first_time = 0
        self._has_frames = False
        self._codec_type = codec_type
        self._length_size = 4
        self._next_audio: int | None = None
        self._parse = _PARSERS[codec_type]

    @property
    def ready(self) -> bool:
        """Whether the codec is known with all parameters needed to describe the track."""
        codec = self.codec
        if isinstance(codec, (H264, H265)):
            return bool(codec.sps and codec.pps)
        return codec is not None

    @property
    def settled(self) -> bool:
        """Whether all parameters are known: AV1 and VP9 have some of them only in the first frame."""
        return self.ready and (self._has_frames or not isinstance(self.codec, (AV1, VP9)))

    def extend(self, timestamp: int, near: int | None) -> int:
        """Return the 32-bit timestamp of a frame as unwrapped milliseconds.

        ``near``: the last time of any track. Backward steps and jumps are handled where the tracks' time lines are
        joined.
        """
        extender = self._extender
        if extender is None:
            extender = self._extender = TimestampExtender(near=near)
            self._first_time = time = extender.extend(timestamp)
        else:
            time = extender.extend(timestamp)
        self.elapsed = time - self._first_time
        return time

    def receive(self, part: Part, milliseconds: int) -> list[Frame]:
        """Process one part, whose message has the time ``milliseconds`` (unwrapped); return its frames.

        ``codec`` reflects a changed configuration. Raises `RemoteProtocolError`.
        """
        if part.codec is not self._codec_type:
            raise RemoteProtocolError(
                f"the codec of {self.kind} track {self.number} changed mid-stream to {part.codec_name}"
            )
        if part.type is PartType.FRAME:
            return self._parse(self, part, milliseconds) if len(part.payload) > part.start else []
        if part.type is PartType.CONFIGURATION:
            self._configure(part.body)
        elif part.type is PartType.CHANNELS:
            self._set_channels(part.body)
        return []

    def _configure(self, body: bytes) -> None:
        codec_type = self._codec_type
        if not body and codec_type is not Opus:
            return  # some encoders send this before they know their parameters
        if codec_type is H264:
            self.codec, self._length_size = h264.parse_configuration_record(body)
        elif codec_type is H265:
            self.codec, self._length_size = h265.parse_configuration_record(body)
        elif codec_type is MPEG4Audio:
            self._set_audio(aac.parse_audio_specific_config(body))
        elif codec_type is AV1:
            self.codec = av1.parse_configuration_record(body)
        elif codec_type is VP9:
            self._configure_vp9(body)
        elif codec_type is Opus:
            # An empty configuration means mono or stereo (Enhanced RTMP v2).
            self._set_audio(Opus(opus.parse_id_header(body).channels) if body else Opus())
        elif codec_type is FLAC:
            self._set_audio(_parse_flac_configuration(body))

    def _configure_vp9(self, body: bytes) -> None:
        configured = vp9.parse_configuration_record(body)
        if isinstance(self.codec, VP9):  # the record has no picture size
            configured = replace(configured, width=self.codec.width, height=self.codec.height)
        self.codec = configured

    def _set_channels(self, body: bytes) -> None:
        if isinstance(self.codec, Opus) and len(body) >= 2 and 0 < body[1] <= 8:
            self.codec = Opus(body[1])

    def _set_audio(self, codec: Codec) -> None:
        if self.codec is not None and self.codec.clock_rate != codec.clock_rate:
            raise RemoteProtocolError(
                f"the sample rate of audio track {self.number} changed mid-stream"
                f" from {self.codec.clock_rate} to {codec.clock_rate} Hz"
            )
        self.codec = codec

    def _ticks(self, part: Part, milliseconds: int, rate: int) -> int:
        if part.nanoseconds:
            return rescale_nearest(milliseconds * _MILLISECOND + part.nanoseconds, NANOSECONDS, rate)
        return rescale_nearest(milliseconds, MILLISECONDS, rate)

    def _video(self, part: Part, milliseconds: int, units: tuple[bytes, ...], key: bool) -> list[Frame]:
        codec = self.codec
        if codec is None or not units:
            return []
        dts = self._ticks(part, milliseconds, 90_000)
        pts = dts + part.composition_time * 90
        self._has_frames = True
        frame = Frame(units, pts, min(dts, pts), key=key)
        if key:
            self.codec = updated_codec(codec, frame)
        return [frame]

    def _audio(self, part: Part, milliseconds: int, pieces: list[tuple[bytes, int]]) -> list[Frame]:
        """``pieces``: consecutive coded frames with their durations in ticks."""
        codec = self.codec
        if codec is None:
            return []
        rate = codec.clock_rate
        time = self._ticks(part, milliseconds, rate)
        expected = self._next_audio
        if expected is not None and abs(time - expected) * MILLISECONDS <= AUDIO_TOLERANCE * rate:
            time = expected
        self._has_frames = True
        frames: list[Frame] = []
        for data, duration in pieces:
            frames.append(Frame((data,), time, time, key=True, duration=duration))
            time += duration
        self._next_audio = time
        return frames

    def parse_h264(self, part: Part, milliseconds: int) -> list[Frame]:
        if self.codec is None:
            return []
        units = split_length_prefixed(part.payload, self._length_size, part.start)
        units = [unit for unit in units if unit[0] & 0x1F != 9]
        return self._units(part, milliseconds, units, h264.is_key(units))

    def parse_h265(self, part: Part, milliseconds: int) -> list[Frame]:
        if self.codec is None:
            return []
        units = split_length_prefixed(part.payload, self._length_size, part.start)
        units = [unit for unit in units if len(unit) > 1 and unit[0] >> 1 & 0x3F != 35]
        return self._units(part, milliseconds, units, h265.is_key(units))

    def _units(self, part: Part, milliseconds: int, units: list[bytes], key: bool) -> list[Frame]:
        frames = self._video(part, milliseconds, tuple(units), key)
        # The usual case: the body can be forwarded unchanged, as nothing was removed.
        if self._length_size == 4 and len(part.payload) - part.start == sum(map(len, units)) + 4 * len(units):
            for frame in frames:
                frame.keep_avcc(memoryview(part.payload)[part.start :])
        return frames

    def parse_av1(self, part: Part, milliseconds: int) -> list[Frame]:
        if self.codec is None:
            self.codec = AV1()
        units = [unit for unit in av1.split_obus(part.body) if unit[0] >> 3 & 0x0F != 2]
        return self._video(part, milliseconds, tuple(units), av1.is_key(units))

    def parse_vp9(self, part: Part, milliseconds: int) -> list[Frame]:
        key = vp9.is_key(part.body)
        if self.codec is None:
            self.codec = VP9()
        return self._video(part, milliseconds, (part.body,), key)

    def parse_vp8(self, part: Part, milliseconds: int) -> list[Frame]:
        self.codec = self.codec or VP8()
        return self._video(part, milliseconds, (part.body,), vp8.is_key(part.body))

    def parse_aac(self, part: Part, milliseconds: int) -> list[Frame]:
        body = part.body
        # Some cameras send ADTS headers, with or without a preceding sequence header.
        if body[0] == 0xFF and len(body) > 7 and body[1] & 0xF6 == 0xF0:
            pieces = _split_adts(body)
            if pieces:
                if self.codec is None:
                    self._set_audio(pieces[0][0].codec)
                return self._aac(part, milliseconds, [payload for _, payload in pieces])
        return self._aac(part, milliseconds, [body])

    def _aac(self, part: Part, milliseconds: int, payloads: list[bytes]) -> list[Frame]:
        codec = self.codec
        if not isinstance(codec, MPEG4Audio):
            return []
        duration = aac.samples_per_frame(codec)
        return self._audio(part, milliseconds, [(payload, duration) for payload in payloads])

    def parse_opus(self, part: Part, milliseconds: int) -> list[Frame]:
        self.codec = self.codec or Opus()
        return self._audio(part, milliseconds, [(part.body, opus.packet_duration(part.body))])

    def parse_flac(self, part: Part, milliseconds: int) -> list[Frame]:
        if self.codec is None:
            return []
        return self._audio(part, milliseconds, [(part.body, flac.frame_samples(part.body))])

    def parse_ac3(self, part: Part, milliseconds: int) -> list[Frame]:
        frames = ac3.split_frames(part.body)
        if not frames:
            return []
        header = ac3.parse_sync_frame(frames[0])
        codec = self.codec
        if not isinstance(codec, AC3) or (codec.sample_rate, codec.channels) != (header.sample_rate, header.channels):
            self._set_audio(AC3(header.sample_rate, header.channels))
        return self._audio(part, milliseconds, [(frame, ac3.SAMPLES_PER_FRAME) for frame in frames])

    def parse_mpeg_audio(self, part: Part, milliseconds: int) -> list[Frame]:
        pieces: list[tuple[bytes, int]] = []
        for frame in mpeg_audio.split_frames(part.body):
            header = mpeg_audio.parse_frame_header(frame)
            found = MPEGAudio(header.sample_rate, header.channels, header.layer)
            if found != self.codec:
                self._set_audio(found)
            pieces.append((frame, rescale_nearest(header.samples, header.sample_rate, found.clock_rate)))
        return self._audio(part, milliseconds, pieces)

    def parse_g711(self, part: Part, milliseconds: int) -> list[Frame]:
        channels = 2 if part.sound & 1 else 1
        codec = G711(part.sound >> 4 == SoundFormat.G711_MU_LAW, 8000, channels)
        if codec != self.codec:
            self._set_audio(codec)
        return self._audio(part, milliseconds, [(part.body, len(part.body) // channels)])

    def parse_lpcm(self, part: Part, milliseconds: int) -> list[Frame]:
        sound = part.sound
        codec = LPCM(16 if sound & 2 else 8, LPCM_SAMPLE_RATES[sound >> 2 & 3], 2 if sound & 1 else 1)
        if codec != self.codec:
            self._set_audio(codec)
        body = part.body
        block = codec.bit_depth // 8 * codec.channels
        body = body[: len(body) - len(body) % block]
        if codec.bit_depth == 16:
            body = swap_samples(body)
        return self._audio(part, milliseconds, [(body, len(body) // block)]) if body else []

    def parse_speex(self, part: Part, milliseconds: int) -> list[Frame]:
        self.codec = self.codec or Speex()
        return self._audio(part, milliseconds, [(part.body, SPEEX_SAMPLES_PER_FRAME)])


def swap_samples(data: bytes) -> bytes:
    """Return 16-bit samples in the other byte order."""
    swapped = bytearray(data)
    swapped[::2], swapped[1::2] = data[1::2], data[::2]
    return bytes(swapped)


def _split_adts(body: bytes) -> list[tuple[aac.AdtsHeader, bytes]]:
    try:
        return aac.parse_adts(body)
    except RemoteProtocolError:
        return []  # raw AAC that starts like ADTS


def _parse_flac_configuration(body: bytes) -> FLAC:
    """``fLaC``, then the STREAMINFO block with its header (Enhanced RTMP v2); some writers omit the marker."""
    body = body.removeprefix(_FLAC_MARKER)
    if len(body) >= _FLAC_BLOCK_HEADER_SIZE + flac.STREAM_INFO_SIZE:
        body = body[_FLAC_BLOCK_HEADER_SIZE:]
    return flac.parse_stream_info(body[: flac.STREAM_INFO_SIZE])


_PARSERS: dict[type[Codec], Callable[[InputTrack, Part, int], list[Frame]]] = {
    H264: InputTrack.parse_h264,
    H265: InputTrack.parse_h265,
    AV1: InputTrack.parse_av1,
    VP9: InputTrack.parse_vp9,
    VP8: InputTrack.parse_vp8,
    MPEG4Audio: InputTrack.parse_aac,
    Opus: InputTrack.parse_opus,
    FLAC: InputTrack.parse_flac,
    AC3: InputTrack.parse_ac3,
    MPEGAudio: InputTrack.parse_mpeg_audio,
    G711: InputTrack.parse_g711,
    LPCM: InputTrack.parse_lpcm,
    Speex: InputTrack.parse_speex,
}
