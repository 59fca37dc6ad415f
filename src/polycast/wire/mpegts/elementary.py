"""Elementary streams of a transport stream: parses PES payloads into frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

from polycast.codecs import aac, ac3, eac3, h264, h265, latm, mpeg2_video, mpeg4_video, mpeg_audio, nal, opus
from polycast.errors import RemoteProtocolError
from polycast.media.codec import AC3, EAC3, H264, H265, KLV, Codec, MPEG4Audio, MPEG4Video, MPEGAudio, Opus
from polycast.media.frame import Frame
from polycast.media.timebase import rescale_nearest
from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.metadata import MetadataReader
from polycast.wire.mpegts.psi import ElementaryStream, iterate_descriptors

MAXIMUM_AUDIO_FRAMES = 256
"""Audio frames in one PES packet: 64 KiB of the smallest ones."""
MAXIMUM_INCOMPLETE_SIZE = 0x2000
"""Bytes of an audio frame that continues in the next PES packet: larger than any frame."""
MAXIMUM_SEARCHES = 512
"""Places in one PES packet that are tried when the start of an audio frame is searched for: in compressed data, one of
256 bytes is like its first one, so this many are in 128 KiB."""
_READS = 32
"""Searches that reading a whole frame counts as: its end was found, but it is not valid."""
MAXIMUM_HELD_UNITS = 64
MAXIMUM_HELD_SIZE = 0x10000
"""Bytes of parameter sets and the like that wait for their picture."""
_LOAS_HEADER_SIZE = 3
_LOAS_SYNC_WORD = 0x2B7
_TIME_TOLERANCE = 500
"""Audio times within 1/500 s of the end of the previous frame are considered equal to it: they are rounded."""


class ElementaryParser(Protocol):
    """Parses the PES packets of one stream into frames."""

    @property
    def codec(self) -> Codec:
        """The codec, as far as it is known; see ``ready``."""

    @property
    def ready(self) -> bool:
        """Whether all parameters of the codec are known, or a key frame came without any that can be parsed: the track
        can be forwarded without them, since decoders also find them in the frames."""

    def parse(self, payload: bytes, pts: int | None, dts: int | None) -> list[Frame]:
        """Return the frames of one PES packet; times are in unwrapped 90 kHz ticks, frames in those of the codec.

        Raises RemoteProtocolError if it is invalid.
        """


class _VideoParser:
    """Video: one PES packet is one access unit, as common muxers write it."""

    leading_types: ClassVar[frozenset[int]] = frozenset()
    """Types of NAL units that come before the picture that they belong to."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.ready = False
        self._last: int | None = None
        self._step = 3600
        self._held: tuple[bytes, ...] = ()
        """Units of packets without a picture: some encoders put each unit into a packet of its own."""
        self._held_times: tuple[int, int | None] | None = None

    def parse(self, payload: bytes, pts: int | None, dts: int | None) -> list[Frame]:
        units, key = self._split(payload)
        self.ready = self.ready or key
        if not units:
            if pts is not None:
                self._held_times = pts, dts
            return []
        if pts is None and self._held_times is not None:
            pts, dts = self._held_times
        self._held_times = None
        if pts is None or dts is None:  # no time: continue after the previous frame
            if self._last is None:
                return []
            pts = dts = self._last + self._step
        elif self._last is not None and 0 < dts - self._last < ts.CLOCK_RATE:
            self._step = dts - self._last
        self._last = dts
        return [Frame(units, max(pts, dts), dts, key=key)]

    def _split(self, payload: bytes) -> tuple[tuple[bytes, ...], bool]:
        """Return the units of the picture that is complete now, none if there is none, and whether it is a key frame.

        Raises RemoteProtocolError.
        """
        raise NotImplementedError

    def _with_held(self, units: tuple[bytes, ...], types: Sequence[int], has_picture: bool) -> tuple[bytes, ...]:
        """Return the units with those that were held for their picture; none, and hold them, if it is not there.

        Units that belong to the picture before, and filler, are not held.
        """
        if not has_picture:
            units = tuple(unit for unit, each in zip(units, types, strict=True) if each in self.leading_types)
        if self._held:
            units = self._held + units
        self._held = ()
        if has_picture:
            return units
        if len(units) <= MAXIMUM_HELD_UNITS and sum(map(len, units)) <= MAXIMUM_HELD_SIZE:
            self._held = units
        return ()


class H264Parser(_VideoParser):
    """H.264 in Annex B form."""

    leading_types = frozenset((6, 7, 8, 13, 14, 15))  # SEI and parameter sets (table 7-1)
    codec: H264

    def _split(self, payload: bytes) -> tuple[tuple[bytes, ...], bool]:
        units = h264.without_delimiters(nal.split_annexb(payload))
        self.codec = h264.updated(self.codec, units)
        self.ready = bool(self.codec.sps and self.codec.pps)
        types = [unit[0] & 0x1F for unit in units]
        units = self._with_held(units, types, any(1 <= each <= 5 for each in types))
        return units, h264.is_key(units)


class H265Parser(_VideoParser):
    """H.265 in Annex B form."""

    leading_types = frozenset((32, 33, 34, 39))  # parameter sets and prefix SEI (table 7-1)
    codec: H265

    def _split(self, payload: bytes) -> tuple[tuple[bytes, ...], bool]:
        units = h265.without_delimiters(nal.split_annexb(payload))
        self.codec = h265.updated(self.codec, units)
        self.ready = bool(self.codec.vps and self.codec.sps and self.codec.pps)
        types = [unit[0] >> 1 & 0x3F for unit in units]
        units = self._with_held(units, types, any(each < 32 for each in types))
        return units, h265.is_key(units)


class MPEG2VideoParser(_VideoParser):
    """MPEG-1 and MPEG-2 video."""

    def _split(self, payload: bytes) -> tuple[tuple[bytes, ...], bool]:
        self.ready = True
        return ((payload,) if payload else ()), mpeg2_video.is_key(payload)


class MPEG4VideoParser(_VideoParser):
    """MPEG-4 Part 2."""

    codec: MPEG4Video

    def _split(self, payload: bytes) -> tuple[tuple[bytes, ...], bool]:
        self.codec = mpeg4_video.updated(self.codec, payload)
        self.ready = bool(self.codec.configuration)
        return ((payload,) if payload else ()), mpeg4_video.is_key(payload)


class KlvParser:
    """Asynchronous KLV metadata: a unit in each PES packet (SMPTE RP 217)."""

    ready = True

    def __init__(self, codec: KLV) -> None:
        self.codec = codec

    def parse(self, payload: bytes, pts: int | None, dts: int | None) -> list[Frame]:
        if not payload or pts is None:
            return []
        return [Frame((payload,), pts, pts, key=True)]


class SynchronousKlvParser:
    """Synchronous KLV metadata: units in metadata cells (MISB ST 1402)."""

    ready = True

    def __init__(self, codec: KLV) -> None:
        self.codec = codec
        self._reader = MetadataReader()

    def parse(self, payload: bytes, pts: int | None, dts: int | None) -> list[Frame]:
        units = self._reader.read(payload)
        return [Frame((unit,), pts, pts, key=True) for unit in units if unit] if pts is not None else []


class _AudioFrame(NamedTuple):
    header_size: int
    """Bytes before the payload that are not part of the frame."""
    size: int
    """Bytes, header included."""
    samples: int
    """Duration in samples, of each unit."""
    codec: Codec
    units: Sequence[bytes] | None = None
    """What is in the frame; None for one unit, the bytes after the header."""


class _AudioParser:
    """Audio: a PES packet contains some frames, the last of which may continue in the next packet.

    The packets need not start with a frame (ISO/IEC 13818-1 section 2.4.3.7), so where one starts may have to be
    searched for.
    """

    sync_byte: ClassVar[bytes] = b"\xff"
    """The first byte of every frame."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.ready = False
        self._rest = b""
        self._rest_time: int | None = None
        """PTS of the frame that starts in the rest, until that is complete."""
        self._is_aligned = True
        """Whether a frame starts where the next data starts; the first packet is taken at its word."""
        self._next: int | None = None
        """Time of the next frame in ticks of the codec, according to the previous frames."""

    def parse(self, payload: bytes, pts: int | None, dts: int | None) -> list[Frame]:
        rest, rest_time = self._rest, self._rest_time
        self._rest, self._rest_time = b"", None
        data = rest + payload
        frames: list[Frame] = []
        offset = 0
        searches = 0
        error: RemoteProtocolError | None = None
        while offset < len(data) and len(frames) < MAXIMUM_AUDIO_FRAMES:
            try:
                header = self._read(data, offset) if self._is_aligned or self._confirm(data, offset) else None
            except RemoteProtocolError as reason:  # such as the middle of a frame, after a loss or where reading began
                error = reason
                searches += _READS if self._is_aligned else 1
                self._is_aligned = False
                offset = data.find(self.sync_byte, offset + 1)
                if offset < 0 or searches >= MAXIMUM_SEARCHES:
                    break
                continue
            if header is None or offset + header.size > len(data):
                self._rest = data[offset : offset + MAXIMUM_INCOMPLETE_SIZE]
                self._rest_time = rest_time if offset < len(rest) else pts
                break
            if header.units == ():
                offset += header.size
                continue
            if header.codec.clock_rate != self.codec.clock_rate:
                self._next = None
            self.codec = header.codec
            self.ready = True
            # a time belongs to the first frame that starts in its packet (ISO/IEC 13818-1 section 2.4.3.7)
            if offset >= len(rest):
                rest_time, pts = pts, None
            if rest_time is not None:
                self._set_time(rescale_nearest(rest_time, ts.CLOCK_RATE, self.codec.clock_rate))
                rest_time = None
            units = header.units or (data[offset + header.header_size : offset + header.size],)
            offset += header.size
            for unit in units:
                time = self._next
                if time is None:
                    continue
                duration = self._duration(header)
                self._next = time + duration
                if unit:
                    frames.append(Frame((unit,), time, time, key=True, duration=duration))
        if error is not None and not frames and not self._rest:
            raise error
        return frames

    def _confirm(self, data: bytes, offset: int) -> bool:
        """Return whether a frame starts at ``offset``, because another one follows it; False if more data is needed to
        tell. Raises RemoteProtocolError if none does."""
        size = self._size(data, offset)
        if size is None or offset + size + 2 > len(data):
            return False
        if data[offset + size] != data[offset] or (data[offset + size + 1] ^ data[offset + 1]) & 0xE0:
            raise RemoteProtocolError("an audio frame is not followed by another one")
        self._is_aligned = True
        return True

    def _size(self, data: bytes, offset: int) -> int | None:
        """Return the size of the frame at ``offset``; None if it is incomplete. Raises RemoteProtocolError."""
        header = self._read(data, offset)
        return None if header is None else header.size

    def _set_time(self, time: int) -> None:
        if self._next is None or abs(time - self._next) * _TIME_TOLERANCE > self.codec.clock_rate:
            self._next = time

    def _duration(self, header: _AudioFrame) -> int:
        return header.samples

    def _read(self, data: bytes, offset: int) -> _AudioFrame | None:
        """Return the header at ``offset``; None if it is incomplete. Raises RemoteProtocolError."""
        raise NotImplementedError


class AacParser(_AudioParser):
    """AAC in ADTS."""

    codec: MPEG4Audio

    def _read(self, data: bytes, offset: int) -> _AudioFrame | None:
        if len(data) - offset < 7:
            return None
        header = aac.parse_adts_header(data, offset)
        codec = self.codec
        channels = header.channels or codec.channels
        if not self.ready or codec.sample_rate != header.sample_rate or codec.channels != channels:
            configuration = aac.build_audio_specific_config(header.object_type, header.sample_rate, channels)
            codec = MPEG4Audio(configuration, header.sample_rate, channels)
        return _AudioFrame(header.header_size, header.frame_size, aac.SAMPLES_PER_FRAME, codec)


class LatmParser(_AudioParser):
    """AAC in LATM with LOAS (ISO/IEC 14496-3 section 1.7.2: AudioSyncStream)."""

    sync_byte = b"\x56"
    codec: MPEG4Audio

    def __init__(self, codec: MPEG4Audio) -> None:
        super().__init__(codec)
        self._reader = latm.ElementReader()
        self._configuration: latm.StreamMuxConfig | None = None

    def _size(self, data: bytes, offset: int) -> int | None:
        if len(data) - offset < _LOAS_HEADER_SIZE:
            return None
        header = int.from_bytes(data[offset : offset + _LOAS_HEADER_SIZE], "big")
        if header >> 13 != _LOAS_SYNC_WORD:
            raise RemoteProtocolError("a LATM frame does not start with its sync word")
        return _LOAS_HEADER_SIZE + (header & 0x1FFF)

    def _read(self, data: bytes, offset: int) -> _AudioFrame | None:
        size = self._size(data, offset)
        if size is None or offset + size > len(data):
            return None
        units = tuple(self._reader.read(data[offset + _LOAS_HEADER_SIZE : offset + size]))
        configuration = self._reader.configuration
        if configuration is not None and configuration != self._configuration:
            self._configuration = configuration
            codec = aac.parse_audio_specific_config(configuration.audio_specific_config)
            if codec != self.codec:
                return _AudioFrame(0, size, aac.samples_per_frame(codec), codec, units)
        return _AudioFrame(0, size, aac.samples_per_frame(self.codec) if units else 0, self.codec, units)


class MpegAudioParser(_AudioParser):
    """MPEG audio, all layers."""

    codec: MPEGAudio

    def _read(self, data: bytes, offset: int) -> _AudioFrame | None:
        if len(data) - offset < 4:
            return None
        header = mpeg_audio.parse_frame_header(data[offset : offset + 4])
        codec = self.codec
        if (codec.sample_rate, codec.channels, codec.layer) != (header.sample_rate, header.channels, header.layer):
            codec = MPEGAudio(header.sample_rate, header.channels, header.layer)
        return _AudioFrame(0, header.frame_size, header.samples, codec)

    def _duration(self, header: _AudioFrame) -> int:
        # the clock of MPEG audio is 90 kHz whatever the sample rate
        return rescale_nearest(header.samples, self.codec.sample_rate, ts.CLOCK_RATE)


class Ac3Parser(_AudioParser):
    """AC-3."""

    sync_byte = b"\x0b"
    codec: AC3

    def _read(self, data: bytes, offset: int) -> _AudioFrame | None:
        if len(data) - offset < 8:
            return None
        header = ac3.parse_sync_frame(data[offset : offset + 8])
        codec = self.codec
        if (codec.sample_rate, codec.channels) != (header.sample_rate, header.channels):
            codec = AC3(header.sample_rate, header.channels)
        return _AudioFrame(0, header.frame_size, ac3.SAMPLES_PER_FRAME, codec)


class EnhancedAc3Parser(_AudioParser):
    """E-AC-3."""

    sync_byte = b"\x0b"
    codec: EAC3

    def _size(self, data: bytes, offset: int) -> int | None:
        if offset + eac3.HEADER_SIZE > len(data):
            return None
        return eac3.parse_sync_frame(data[offset : offset + eac3.HEADER_SIZE]).size

    def _read(self, data: bytes, offset: int) -> _AudioFrame | None:
        unit = eac3.read_access_unit(data, offset)
        if unit is None:
            return None
        if self.codec == unit.codec:
            return _AudioFrame(0, unit.size, unit.samples, self.codec)
        return _AudioFrame(0, unit.size, unit.samples, unit.codec)


class OpusParser(_AudioParser):
    """Opus access units with control headers (ETSI TS 103 491 annex B; the layout that FFmpeg writes)."""

    sync_byte = b"\x7f"
    codec: Opus

    def _read(self, data: bytes, offset: int) -> _AudioFrame | None:
        start = offset
        if len(data) - offset < 3:
            return None
        if data[offset] != 0x7F or data[offset + 1] & 0xE0 != 0xE0:
            raise RemoteProtocolError("an Opus control header does not start with its prefix")
        flags = data[offset + 1]
        offset += 2
        size = 0
        while True:
            if offset >= len(data):
                return None
            byte = data[offset]
            offset += 1
            size += byte
            if byte != 0xFF:
                break
        offset += (2 if flags & 0x10 else 0) + (2 if flags & 0x08 else 0)  # trimming at the start and at the end
        if flags & 0x04:  # control extension
            if offset >= len(data):
                return None
            offset += 1 + data[offset]
        samples = opus.packet_duration(data[offset : offset + size]) if offset + size <= len(data) else 0
        return _AudioFrame(offset - start, offset - start + size, samples, self.codec)


def language_of(stream: ElementaryStream) -> str | None:
    """Return the ISO 639-2 language of a stream, None if it has none."""
    for tag, body in iterate_descriptors(stream.descriptors):
        if tag == ts.DESCRIPTOR_LANGUAGE and len(body) >= 3 and body[:3].isalpha():
            return body[:3].decode("ascii").lower()
    return None
