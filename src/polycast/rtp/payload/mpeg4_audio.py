"""MPEG-4 audio in RTP with AU headers: mpeg4-generic (RFC 3640), modes AAC-hbr and AAC-lbr."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polycast.codecs import aac
from polycast.errors import RemoteProtocolError
from polycast.media.codec import MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.timebase import rescale
from polycast.rtp.payload.base import NO_FRAMES, BaseDepacketizer, BasePacketizer, FragmentBuffer

MAXIMUM_ACCESS_UNITS = 256
"""Access units in one packet. Speech at AAC-lbr sizes (down to 6 bytes) fits at most this many in 1460 bytes."""

_MAXIMUM_FIELD_BITS = 32


@dataclass(frozen=True, slots=True)
class HeaderFormat:
    """Sizes of the AU header's fields in bits (RFC 3640 section 4.1), as the fmtp line tells them."""

    size: int = 13
    index: int = 3
    index_delta: int = 3
    cts_delta: int = 0
    dts_delta: int = 0
    random_access: bool = False
    stream_state: int = 0
    auxiliary_size: int = 0

    @classmethod
    def from_parameters(cls, parameters: dict[str, str]) -> HeaderFormat:
        """Return the format that an fmtp line tells; what it leaves out is as its mode (AAC-hbr, AAC-lbr) has it."""
        low_bit_rate = parameters.get("mode", "").lower() == "aac-lbr"

        def bits(name: str, default: int) -> int:
            text = parameters.get(name, "")
            return min(int(text), _MAXIMUM_FIELD_BITS) if text.isascii() and text.isdigit() else default

        return cls(
            size=bits("sizelength", 6 if low_bit_rate else 13),
            index=bits("indexlength", 2 if low_bit_rate else 3),
            index_delta=bits("indexdeltalength", 2 if low_bit_rate else 3),
            cts_delta=bits("ctsdeltalength", 0),
            dts_delta=bits("dtsdeltalength", 0),
            random_access=bits("randomaccessindication", 0) != 0,
            stream_state=bits("streamstateindication", 0),
            auxiliary_size=bits("auxiliarydatasizelength", 0),
        )

    @property
    def has_only_sizes(self) -> bool:
        """Whether the header consists of size and index."""
        return not (self.cts_delta or self.dts_delta or self.random_access or self.stream_state or self.auxiliary_size)


class MPEG4AudioDepacketizer(BaseDepacketizer):
    """See `Depacketizer`. One frame is one access unit."""

    def __init__(self, codec: MPEG4Audio, clock_rate: int, header_format: HeaderFormat) -> None:
        super().__init__()
        self._format = header_format
        self._duration = rescale(aac.samples_per_frame(codec), codec.sample_rate, clock_rate)
        self._fragments = FragmentBuffer()
        self._fragments_pts = 0
        self._expected_size = 0
        self._skipping = False
        self._in_adts: bool | None = None

    def on_loss(self) -> None:
        if self._fragments:
            self.lost_frames += 1
            self._fragments.clear()
            self._skipping = True

    def reset(self) -> None:
        self._fragments.clear()

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        data = packet.data
        sizes, position = self._parse_headers(data, packet.payload, packet.end)
        room = packet.end - position
        if len(sizes) == 1 and (sizes[0] > room or self._fragments or self._skipping):
            return self._add_fragment(packet, position, sizes[0], pts)
        self._skipping = False
        if self._fragments:
            self._fragments.clear()
            self.lost_frames += 1
        if sum(sizes) > room:
            raise RemoteProtocolError("AAC access unit is cut off")
        frames: list[Frame] = []
        for index, size in enumerate(sizes):
            self._add_frame(frames, data[position : position + size], pts + index * self._duration)
            position += size
        return frames

    def _add_fragment(self, packet: RtpPacket, position: int, size: int, pts: int) -> Sequence[Frame]:
        whole = size <= packet.end - position
        if self._skipping:
            if pts == self._fragments_pts:
                return NO_FRAMES  # The rest of a frame that lost a fragment.
            self._skipping = False
        if self._fragments and (size != self._expected_size or pts != self._fragments_pts):
            self._fragments.clear()
            self.lost_frames += 1
        if not self._fragments:
            if packet.marker and not whole:
                # RFC 3640 section 3.1: the marker ends a fragmented unit, so its beginning is missing.
                self.lost_frames += 1
                return NO_FRAMES
            self._expected_size = size
            self._fragments_pts = pts
        self._fragments.append(packet.data[position : packet.end])
        if self._fragments.size < size and not packet.marker:
            return NO_FRAMES
        unit = self._fragments.take()
        if len(unit) != size and not whole:
            self.lost_frames += 1
            return NO_FRAMES
        frames: list[Frame] = []
        self._add_frame(frames, unit[:size], pts)
        return frames

    def _add_frame(self, frames: list[Frame], unit: bytes, pts: int) -> None:
        if not unit:
            return
        if self._in_adts is None:
            self._in_adts = unit[0] == 0xFF and len(unit) > 7 and unit[1] & 0xF6 == 0xF0
        if self._in_adts and unit[0] == 0xFF:
            # Some devices put ADTS frames where raw ones belong.
            for offset, (_, payload) in enumerate(aac.parse_adts(unit)):
                time = pts + offset * self._duration
                frames.append(Frame((payload,), time, time, key=True, duration=self._duration))
        else:
            frames.append(Frame((unit,), pts, pts, key=True, duration=self._duration))

    def _parse_headers(self, data: bytes, position: int, end: int) -> tuple[list[int], int]:
        if not self._format.size:
            # Without sizelength there are no AU headers that matter: one unit per packet (constantSize is not in use).
            return [end - position], position
        if end - position < 2:
            raise RemoteProtocolError("AAC packet is too short")
        bits = int.from_bytes(data[position : position + 2], "big")
        position += 2
        header_end = position + (bits + 7) // 8
        if bits == 0 or header_end > end:
            raise RemoteProtocolError("AU headers are cut off")
        if bits == 16 and self._format.size == 13 and self._format.has_only_sizes:
            return [int.from_bytes(data[position:header_end], "big") >> 3], header_end
        value = int.from_bytes(data[position:header_end], "big") >> (-bits % 8)
        sizes = self._parse_fields(value, bits)
        return sizes, self._skip_auxiliary(data, header_end, end)

    def _parse_fields(self, value: int, remaining: int) -> list[int]:
        form = self._format

        def read(count: int) -> int:
            nonlocal remaining
            remaining -= count
            if remaining < 0:
                raise RemoteProtocolError("AU headers are cut off")
            return value >> remaining & (1 << count) - 1

        sizes: list[int] = []
        while remaining > 0:
            if len(sizes) == MAXIMUM_ACCESS_UNITS:
                raise RemoteProtocolError("too many AAC access units in a packet")
            size = read(form.size)
            if read(form.index_delta if sizes else form.index):
                raise RemoteProtocolError("interleaved AAC access units are not supported")
            if form.cts_delta and read(1):
                read(form.cts_delta)
            if form.dts_delta and read(1):
                read(form.dts_delta)
            read(int(form.random_access) + form.stream_state)
            sizes.append(size)
        return sizes

    def _skip_auxiliary(self, data: bytes, position: int, end: int) -> int:
        count = self._format.auxiliary_size
        if not count:
            return position
        field_end = position + (count + 7) // 8
        size = int.from_bytes(data[position:field_end], "big") >> (-count % 8)
        position += (count + size + 7) // 8
        if position > end:
            raise RemoteProtocolError("AAC auxiliary section is cut off")
        return position


class MPEG4AudioPacketizer(BasePacketizer):
    """Mode AAC-hbr, one access unit per packet, or several packets for a large one (RFC 3640 section 3.3.6)."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        unit = frame.units[0]
        if len(unit) >= 1 << 13:
            raise RemoteProtocolError(f"AAC access unit is too large: {len(unit)} bytes")
        header = b"\x00\x10" + (len(unit) << 3).to_bytes(2, "big")
        room = self._maximum_payload - len(header)
        return [header + unit[position : position + room] for position in range(0, len(unit), room)]
