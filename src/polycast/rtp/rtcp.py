"""RTCP compound packets (RFC 3550 section 6, feedback of RFC 4585 and RFC 5104): parse and serialise."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from polycast.errors import RemoteProtocolError

SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
GOODBYE = 203
APPLICATION = 204
TRANSPORT_FEEDBACK = 205
PAYLOAD_FEEDBACK = 206

NACK_FORMAT = 1
"""Feedback message type of a generic NACK in TRANSPORT_FEEDBACK (RFC 4585 section 6.2.1)."""
PLI_FORMAT = 1
"""Feedback message type of a picture loss indication in PAYLOAD_FEEDBACK (RFC 4585 section 6.3.1)."""
FIR_FORMAT = 4
"""Feedback message type of a full intra request in PAYLOAD_FEEDBACK (RFC 5104 section 4.3.1)."""

MAXIMUM_COMPOUND_SIZE = 65_535
"""Bytes of a compound packet: the maximum of an interleaved frame or a UDP datagram."""
MAXIMUM_LOST = 1024
"""Sequence numbers of one NACK that are read, and up to 16 more: senders do not keep more packets."""
MAXIMUM_PACKETS_PER_COMPOUND = 64
"""Packets in one compound packet. Real ones have two or three; the bound keeps a datagram of empty ones cheap."""
MAXIMUM_DESCRIPTION_ITEMS = 256
"""Items in one source description. There are eight kinds of them, and 31 sources at most (RFC 3550 section 6.5)."""

_CNAME_ITEM = 1
_SENDER_INFO = struct.Struct("!IQIII")
_REPORT_BLOCK = struct.Struct("!IIIIII")
_FEEDBACK = struct.Struct("!II")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """Reception statistics of one source (RFC 3550 section 6.4.1)."""

    ssrc: int
    fraction_lost: int
    """Since the last report, in 1/256."""
    cumulative_lost: int
    """Packets lost since the start; negative when duplicates outnumber losses (24 bits, signed)."""
    highest_sequence: int
    """Extended highest sequence number received, 32 bits."""
    jitter: int
    """Interarrival jitter in ticks of the RTP clock."""
    last_sender_report: int
    """Middle 32 bits of the NTP time of the last sender report; 0 if there was none."""
    delay_since_last_sender_report: int
    """In 1/65536 seconds."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """RFC 3550 section 6.4.1."""

    ssrc: int
    ntp: int
    """NTP time, 64 bits."""
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """RFC 3550 section 6.4.2."""

    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """Canonical names by source (RFC 3550 section 6.5). Other items are not kept."""

    names: tuple[tuple[int, str], ...]
    """Pairs of SSRC and CNAME."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """RFC 3550 section 6.6."""

    sources: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PictureLossIndication:
    """The receiver requests a new intra picture (RFC 4585 section 6.3.1)."""

    sender_ssrc: int
    media_ssrc: int


@dataclass(frozen=True, slots=True)
class FullIntraRequest:
    """The receiver requests a decoder refresh point (RFC 5104 section 4.3.1)."""

    sender_ssrc: int
    media_ssrc: int
    requests: tuple[tuple[int, int], ...]
    """Pairs of SSRC and command sequence number."""


@dataclass(frozen=True, slots=True)
class GenericNack:
    """The receiver misses packets (RFC 4585 section 6.2.1)."""

    sender_ssrc: int
    media_ssrc: int
    lost: tuple[int, ...]
    """Sequence numbers."""


@dataclass(frozen=True, slots=True)
class TransportFeedback:
    """Any other feedback of types 205 and 206, for example transport-wide congestion control; kept as it is."""

    packet_type: int
    format: int
    sender_ssrc: int
    media_ssrc: int
    control: bytes


@dataclass(frozen=True, slots=True)
class UnknownPacket:
    """APP packets and unknown packet types; kept as they are."""

    packet_type: int
    count: int
    """The five bits after the padding bit (count, subtype or format)."""
    body: bytes
    """The data after the 4-byte header; a multiple of 4 bytes."""


RtcpPacket = (
    SenderReport
    | ReceiverReport
    | SourceDescription
    | Goodbye
    | PictureLossIndication
    | FullIntraRequest
    | GenericNack
    | TransportFeedback
    | UnknownPacket
)


def parse_compound(data: bytes, start: int = 0, end: int | None = None) -> list[RtcpPacket]:
    """Parse the compound packet in ``data[start:end]``.

    Reduced-size packets (RFC 5506), which do not begin with a report, are accepted. Raises `RemoteProtocolError`.
    """
    end = len(data) if end is None else end
    if end - start > MAXIMUM_COMPOUND_SIZE:
        raise RemoteProtocolError(f"RTCP packet is too large: {end - start} bytes")
    packets: list[RtcpPacket] = []
    while start < end:
        if end - start < 4:
            raise RemoteProtocolError("RTCP packet is cut off")
        if len(packets) == MAXIMUM_PACKETS_PER_COMPOUND:
            raise RemoteProtocolError("too many packets in an RTCP compound packet")
        first, packet_type = data[start], data[start + 1]
        if first >> 6 != 2:
            raise RemoteProtocolError(f"invalid RTCP version: {first >> 6}")
        size = 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
        if start + size > end:
            raise RemoteProtocolError("RTCP packet is cut off")
        body = bytes(data[start + 4 : start + size])
        if first & 0x20:
            body = _without_padding(body)
        packets.append(_parse_one(packet_type, first & 0x1F, body))
        start += size
    return packets


def serialize_compound(packets: Iterable[RtcpPacket]) -> bytes:
    """Return the packets as one compound packet."""
    return b"".join(map(_serialize_one, packets))


def _without_padding(body: bytes) -> bytes:
    padding = body[-1] if body else 0
    if padding == 0 or padding > len(body):
        raise RemoteProtocolError(f"invalid RTCP padding: {padding} bytes")
    return body[:-padding]


def _parse_one(packet_type: int, count: int, body: bytes) -> RtcpPacket:
    if packet_type == SENDER_REPORT:
        if len(body) < _SENDER_INFO.size:
            raise RemoteProtocolError("RTCP sender report is cut off")
        ssrc, ntp, timestamp, packet_count, octet_count = _SENDER_INFO.unpack_from(body)
        return SenderReport(
            ssrc, ntp, timestamp, packet_count, octet_count, _parse_blocks(body, _SENDER_INFO.size, count)
        )
    if packet_type == RECEIVER_REPORT:
        if len(body) < 4:
            raise RemoteProtocolError("RTCP receiver report is cut off")
        return ReceiverReport(int.from_bytes(body[:4], "big"), _parse_blocks(body, 4, count))
    if packet_type == SOURCE_DESCRIPTION:
        return _parse_source_description(body, count)
    if packet_type == GOODBYE:
        return _parse_goodbye(body, count)
    if packet_type in (TRANSPORT_FEEDBACK, PAYLOAD_FEEDBACK):
        return _parse_feedback(packet_type, count, body)
    return UnknownPacket(packet_type, count, body)


def _parse_blocks(body: bytes, offset: int, count: int) -> tuple[ReportBlock, ...]:
    if offset + count * _REPORT_BLOCK.size > len(body):
        raise RemoteProtocolError("RTCP report block is cut off")
    blocks: list[ReportBlock] = []
    for position in range(offset, offset + count * _REPORT_BLOCK.size, _REPORT_BLOCK.size):
        ssrc, loss, highest, jitter, last, delay = _REPORT_BLOCK.unpack_from(body, position)
        cumulative = loss & 0xFFFFFF
        if cumulative & 0x800000:
            cumulative -= 1 << 24
        blocks.append(ReportBlock(ssrc, loss >> 24, cumulative, highest, jitter, last, delay))
    return tuple(blocks)


def _parse_source_description(body: bytes, count: int) -> SourceDescription:
    names: list[tuple[int, str]] = []
    position = items = 0
    for _ in range(count):
        if position + 4 > len(body):
            raise RemoteProtocolError("RTCP source description is cut off")
        ssrc = int.from_bytes(body[position : position + 4], "big")
        position += 4
        while position < len(body) and body[position] != 0:
            item = body[position]
            items += 1
            if items > MAXIMUM_DESCRIPTION_ITEMS:
                raise RemoteProtocolError("too many items in an RTCP source description")
            if position + 2 > len(body) or position + 2 + body[position + 1] > len(body):
                raise RemoteProtocolError("RTCP source description item is cut off")
            text = body[position + 2 : position + 2 + body[position + 1]]
            position += 2 + len(text)
            if item == _CNAME_ITEM:
                names.append((ssrc, text.decode("utf-8", "replace")))
        # A chunk ends with at least one zero byte and is filled up to a multiple of four (RFC 3550 section 6.5).
        position += 4 - position % 4
    return SourceDescription(tuple(names))


def _parse_goodbye(body: bytes, count: int) -> Goodbye:
    if count * 4 > len(body):
        raise RemoteProtocolError("RTCP goodbye is cut off")
    sources = struct.unpack_from(f"!{count}I", body)
    reason = b""
    if len(body) > count * 4:
        size = body[count * 4]
        reason = body[count * 4 + 1 : count * 4 + 1 + size]
        if len(reason) != size:
            raise RemoteProtocolError("RTCP goodbye reason is cut off")
    return Goodbye(sources, reason.decode("utf-8", "replace"))


def _parse_feedback(packet_type: int, count: int, body: bytes) -> RtcpPacket:
    if len(body) < _FEEDBACK.size:
        raise RemoteProtocolError("RTCP feedback is cut off")
    sender, media = _FEEDBACK.unpack_from(body)
    control = body[_FEEDBACK.size :]
    if packet_type == PAYLOAD_FEEDBACK and count == PLI_FORMAT and not control:
        return PictureLossIndication(sender, media)
    if packet_type == PAYLOAD_FEEDBACK and count == FIR_FORMAT and len(control) % 8 == 0:
        requests = tuple((ssrc, number >> 24) for ssrc, number in struct.iter_unpack("!II", control))
        return FullIntraRequest(sender, media, requests)
    if packet_type == TRANSPORT_FEEDBACK and count == NACK_FORMAT and len(control) % 4 == 0:
        lost: list[int] = []
        for first, mask in struct.iter_unpack("!HH", control):
            if len(lost) >= MAXIMUM_LOST:
                break
            lost.append(first)
            while mask:
                lowest = mask & -mask
                lost.append((first + lowest.bit_length()) & 0xFFFF)
                mask ^= lowest
        return GenericNack(sender, media, tuple(lost))
    return TransportFeedback(packet_type, count, sender, media, control)


def _serialize_one(packet: RtcpPacket) -> bytes:
    match packet:
        case SenderReport():
            info = _SENDER_INFO.pack(
                packet.ssrc, packet.ntp, packet.rtp_timestamp, packet.packet_count, packet.octet_count
            )
            return _with_header(SENDER_REPORT, len(packet.blocks), info + _serialize_blocks(packet.blocks))
        case ReceiverReport():
            body = packet.ssrc.to_bytes(4, "big") + _serialize_blocks(packet.blocks)
            return _with_header(RECEIVER_REPORT, len(packet.blocks), body)
        case SourceDescription():
            return _with_header(
                SOURCE_DESCRIPTION, len(packet.names), b"".join(_serialize_chunk(*name) for name in packet.names)
            )
        case Goodbye():
            return _serialize_goodbye(packet)
        case PictureLossIndication():
            return _with_header(PAYLOAD_FEEDBACK, PLI_FORMAT, _FEEDBACK.pack(packet.sender_ssrc, packet.media_ssrc))
        case FullIntraRequest():
            control = b"".join(struct.pack("!II", ssrc, number << 24) for ssrc, number in packet.requests)
            return _with_header(
                PAYLOAD_FEEDBACK, FIR_FORMAT, _FEEDBACK.pack(packet.sender_ssrc, packet.media_ssrc) + control
            )
        case GenericNack():
            control = _serialize_lost(packet.lost)
            return _with_header(
                TRANSPORT_FEEDBACK, NACK_FORMAT, _FEEDBACK.pack(packet.sender_ssrc, packet.media_ssrc) + control
            )
        case TransportFeedback():
            body = _FEEDBACK.pack(packet.sender_ssrc, packet.media_ssrc) + packet.control
            return _with_header(packet.packet_type, packet.format, body)
        case UnknownPacket():
            return _with_header(packet.packet_type, packet.count, packet.body)


def _with_header(packet_type: int, count: int, body: bytes) -> bytes:
    # Only APP and unknown packets whose padding was stripped can have an odd size here.
    body += bytes(-len(body) % 4)
    return struct.pack("!BBH", 0x80 | count, packet_type, len(body) // 4) + body


def _serialize_blocks(blocks: Sequence[ReportBlock]) -> bytes:
    return b"".join(
        _REPORT_BLOCK.pack(
            report.ssrc,
            report.fraction_lost << 24 | report.cumulative_lost & 0xFFFFFF,
            report.highest_sequence,
            report.jitter,
            report.last_sender_report,
            report.delay_since_last_sender_report,
        )
        for report in blocks
    )


def _serialize_chunk(ssrc: int, name: str) -> bytes:
    text = name.encode()[:255]
    chunk = ssrc.to_bytes(4, "big") + bytes((_CNAME_ITEM, len(text))) + text
    return chunk + bytes(4 - len(chunk) % 4)


def _serialize_goodbye(packet: Goodbye) -> bytes:
    body = struct.pack(f"!{len(packet.sources)}I", *packet.sources)
    if packet.reason:
        text = packet.reason.encode()[:255]
        body += bytes((len(text),)) + text
    return _with_header(GOODBYE, len(packet.sources), body)


def _serialize_lost(lost: Sequence[int]) -> bytes:
    parts: list[bytes] = []
    position = 0
    while position < len(lost):
        first, mask = lost[position], 0
        position += 1
        while position < len(lost) and 0 < (distance := (lost[position] - first) & 0xFFFF) <= 16:
            mask |= 1 << (distance - 1)
            position += 1
        parts.append(struct.pack("!HH", first, mask))
    return b"".join(parts)
