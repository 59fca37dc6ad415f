"""Makes packets that fit a UDP datagram out of larger ones, which publishers over TCP may send."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from polycast.errors import RemoteProtocolError
from polycast.media.codec import G711, G722, H264, H265, LPCM, MPEGTS, VP8, VP9, Codec, MPEG4Video
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.header import (
    HEADER_SIZE,
    MAXIMUM_PACKET_SIZE,
    MAXIMUM_PAYLOAD_SIZE,
    TARGET_PACKET_SIZE,
    build_packet,
    payload_type_of,
    rewrite,
    ssrc_of,
)
from polycast.rtp.payload import h264, h265, vp8, vp9
from polycast.rtp.payload.base import split_evenly
from polycast.rtp.payload.nal_unit_assembler import aggregate
from polycast.rtp.payload.registry import packet_peek
from polycast.rtp.refragment import Piece, make_refragmenter

_TRANSPORT_STREAM_PACKET = 188

Part = tuple[bytes, int]
"""A payload, and the ticks to add to the timestamp."""


class Oversized:
    """Makes packets of at most ``limit`` bytes out of those of one track, and numbers all packets anew.

    Fragments are cut anew, so that what is left of one goes in front of the next; other packets are split for
    themselves, without waiting for the rest of the frame. Those that cannot be split pass if they fit a datagram. SSRC,
    payload type and timestamp stay, the marker goes to the last part.
    """

    def __init__(self, track: Track, limit: int = TARGET_PACKET_SIZE, *, refuses: bool = True) -> None:
        """``refuses``: raise for packets that no datagram holds and that cannot be split; else they pass, too."""
        self._limit = limit
        self._refuses = refuses
        self._refragmenter = make_refragmenter(track.codec, limit - HEADER_SIZE)
        self._split = _splitter(track.codec)
        self._peek = packet_peek(track.codec)
        self._shift = 0

    def push(self, packet: RtpPacket) -> list[RtpPacket]:
        """Return the packets to pass on in place of ``packet``: often just that, the same object.

        Raises `RemoteProtocolError` when it is too large and the payload format does not let it be split.
        """
        made: list[RtpPacket] = []
        pieces = (Piece(packet, None, packet.marker),)
        for source, payload, marker in self._refragmenter.push(packet) if self._refragmenter is not None else pieces:
            if payload is not None:
                self._add(made, source, payload, packet.sequence, marker=marker)
                continue
            for part, ticks in self._parts_of(source):
                if part is None:
                    sequence = packet.sequence + self._shift + len(made)
                    made.append(source if not self._shift and not made else rewrite(source, sequence=sequence))
                else:
                    self._add(made, source, part, packet.sequence, ticks=ticks)
            if made and marker and made[-1].data is not source.data:
                made[-1] = rewrite(made[-1], marker=True)
        self._shift = (self._shift + len(made) - 1) & 0xFFFF
        return made

    def _parts_of(self, packet: RtpPacket) -> Sequence[tuple[bytes | None, int]]:
        """Return the payloads to make of a packet; None for the packet as it is."""
        size = packet.end - packet.start
        if size <= self._limit:
            return ((None, 0),)
        if packet.end - packet.payload <= self._limit - HEADER_SIZE:
            # Only CSRC list or header extension make it too large; they are left out.
            return ((packet.payload_bytes(), 0),)
        parts = self._split(packet) if self._split is not None else ()
        if parts and max(len(part) for part, _ in parts) <= MAXIMUM_PAYLOAD_SIZE:
            return parts
        if size > MAXIMUM_PACKET_SIZE and self._refuses:
            raise _too_large(packet)
        return ((None, 0),)

    def _add(
        self,
        made: list[RtpPacket],
        source: RtpPacket,
        payload: bytes,
        sequence: int,
        *,
        ticks: int = 0,
        marker: bool = False,
    ) -> None:
        smaller = build_packet(
            payload_type_of(source),
            sequence + self._shift + len(made),
            source.timestamp + ticks,
            ssrc_of(source),
            payload,
            marker=marker,
        )
        smaller.key = bool(self._peek(smaller.data, HEADER_SIZE, smaller.end) & 1)
        made.append(smaller)


def _too_large(packet: RtpPacket) -> RemoteProtocolError:
    size = packet.end - packet.start
    return RemoteProtocolError(f"payload size ({size}) greater than maximum allowed ({MAXIMUM_PACKET_SIZE})")


_Splitter = Callable[[RtpPacket], Sequence[Part]]


def _splitter(codec: Codec) -> _Splitter | None:
    match codec:
        case H264():
            return _split_h264
        case H265():
            return lambda packet: _split_h265(codec, packet)
        case VP8():
            return _split_vp8
        case VP9():
            return _split_vp9
        case MPEG4Video():
            return lambda packet: [(part, 0) for part in split_evenly(packet.payload_bytes(), MAXIMUM_PAYLOAD_SIZE)]
        case MPEGTS():
            return lambda packet: _split_blocks(packet, _TRANSPORT_STREAM_PACKET, ticks=0)
        case G711() | G722():
            return lambda packet: _split_blocks(packet, codec.channels, ticks=1)
        case LPCM():
            return lambda packet: _split_blocks(packet, codec.channels * codec.bit_depth // 8, ticks=1)
    return None


def _split_blocks(packet: RtpPacket, block_size: int, *, ticks: int) -> list[Part]:
    room = MAXIMUM_PAYLOAD_SIZE // block_size
    parts = split_evenly(packet.payload_bytes(), room * block_size)
    return [(part, index * room * ticks) for index, part in enumerate(parts)]


def _split_h264(packet: RtpPacket) -> list[Part]:
    data, payload, end = packet.data, packet.payload, packet.end
    if data[payload] & 0x1F == h264.FU_A:
        header = data[payload + 1]
        unit = bytes((data[payload] & 0xE0 | header & 0x1F,)) + data[payload + 2 : end]
        begin, finish = header & 0x80 != 0, header & 0x40 != 0
        return [(part, 0) for part in h264.fragments(unit, MAXIMUM_PAYLOAD_SIZE, begin=begin, finish=finish)]
    parts: list[bytes] = []
    for group in aggregate(h264.units_of(data, payload, end), MAXIMUM_PAYLOAD_SIZE, 1, 2):
        if len(group) > 1:
            parts.append(h264.aggregation_packet(group))
        elif len(group[0]) <= MAXIMUM_PAYLOAD_SIZE:
            parts.append(group[0])
        else:
            parts.extend(h264.fragments(group[0], MAXIMUM_PAYLOAD_SIZE))
    return [(part, 0) for part in parts]


def _split_h265(codec: H265, packet: RtpPacket) -> list[Part]:
    if codec.maximum_don_difference:
        return []  # The parts would need decoding order numbers of their own.
    data, payload, end = packet.data, packet.payload, packet.end
    if data[payload] >> 1 & 0x3F == h265.FRAGMENTATION_UNIT:
        header = data[payload + 2]
        unit = bytes((data[payload] & 0x81 | (header & 0x3F) << 1, data[payload + 1])) + data[payload + 3 : end]
        begin, finish = header & 0x80 != 0, header & 0x40 != 0
        return [(part, 0) for part in h265.fragments(unit, MAXIMUM_PAYLOAD_SIZE, begin=begin, finish=finish)]
    parts: list[bytes] = []
    for group in aggregate(h265.units_of(codec, data, payload, end), MAXIMUM_PAYLOAD_SIZE, 2, 2):
        if len(group) > 1:
            parts.append(h265.aggregation_packet(group))
        elif len(group[0]) <= MAXIMUM_PAYLOAD_SIZE:
            parts.append(group[0])
        else:
            parts.extend(h265.fragments(group[0], MAXIMUM_PAYLOAD_SIZE))
    return [(part, 0) for part in parts]


def _split_vp8(packet: RtpPacket) -> list[Part]:
    data, payload, end = packet.data, packet.payload, packet.end
    size = vp8.descriptor_size(data, payload, end)
    first = data[payload : payload + size]
    following = bytes((first[0] & ~0x10,)) + first[1:]  # S is for the start of a partition only
    chunks = split_evenly(data[payload + size : end], MAXIMUM_PAYLOAD_SIZE - size)
    return [((following if index else first) + chunk, 0) for index, chunk in enumerate(chunks)]


def _split_vp9(packet: RtpPacket) -> list[Part]:
    data, payload, end = packet.data, packet.payload, packet.end
    size = vp9.descriptor_size(data, payload, end)
    descriptor = data[payload : payload + size]
    chunks = list(split_evenly(data[payload + size : end], MAXIMUM_PAYLOAD_SIZE - size))
    parts: list[Part] = []
    for index, chunk in enumerate(chunks):
        first = descriptor[0]
        if index:
            first &= ~0x08  # B
        if index < len(chunks) - 1:
            first &= ~0x04  # E
        parts.append((bytes((first,)) + descriptor[1:] + chunk, 0))
    return parts
