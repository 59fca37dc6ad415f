"""The RTP fixed header (RFC 3550 section 5.1): parse, build, rewrite."""

from __future__ import annotations

import struct
from typing import NamedTuple

from polycast.errors import RemoteProtocolError
from polycast.media.packet import RtpPacket

HEADER_SIZE = 12
"""Bytes of an RTP header without CSRC list and extension."""
MAXIMUM_PACKET_SIZE = 1472
"""Bytes of the largest RTP packet that fits an Ethernet frame over UDP and IPv4: 1500 - 20 - 8."""
TARGET_PACKET_SIZE = 1440
"""Maximum size of generated packets, and of all packets over UDP if their format allows splitting: tunnels and PPPoE
take up to 32 bytes of an Ethernet frame, and some proxies reserve space for their own headers."""
MAXIMUM_PAYLOAD_SIZE = TARGET_PACKET_SIZE - HEADER_SIZE
"""Bytes of payload in such a packet."""

ENCRYPTION_SIZE = 10
"""Bytes by which SRTP makes a packet longer (RFC 3711 section 4.2.1)."""


class PacketSizes(NamedTuple):
    """Limits for the packets of a stream, in bytes, with their RTP headers."""

    maximum: int = MAXIMUM_PACKET_SIZE
    """Larger ones are split, if their format allows that; otherwise those of publishers over TCP are refused."""
    target: int = TARGET_PACKET_SIZE
    """Maximum size of generated packets, and of the parts of those that are split."""


def packet_sizes_for(datagram_size: int) -> PacketSizes:
    """Return the limits for UDP datagrams of at most ``datagram_size`` bytes."""
    protected = datagram_size - ENCRYPTION_SIZE
    # Up to the default target, the sender knows that larger datagrams do not arrive; encrypted ones must not be larger.
    maximum = datagram_size if protected >= TARGET_PACKET_SIZE else protected
    return PacketSizes(maximum, min(TARGET_PACKET_SIZE, protected))


EMPTY_PACKET = b"\x80" + bytes(HEADER_SIZE - 1)
"""A header without payload, sent to open the NATs in between, as rtsp-simple-server does."""

_VERSION_2 = 0x80
_PADDING_BIT = 0x20
_EXTENSION_BIT = 0x10

_unpack_start = struct.Struct("!BBHI").unpack_from
_pack_header = struct.Struct("!BBHII").pack
_unpack_word = struct.Struct("!I").unpack_from


def parse_packet(data: bytes, start: int, end: int) -> RtpPacket:
    """Parse the RTP packet in ``data[start:end]``; ``key`` stays false until the caller sets it.

    Padding is stripped. A packet with padding is returned in its own buffer, with the padding bit cleared
    (`normalized`), so that it can be forwarded; all other packets point into ``data``.
    Raises `RemoteProtocolError` if the packet is too short or is not RTP version 2.
    """
    if end - start < HEADER_SIZE:
        raise RemoteProtocolError(f"RTP packet is too short: {end - start} bytes")
    first, second, sequence, timestamp = _unpack_start(data, start)
    if first == _VERSION_2:
        return RtpPacket(data, start, start + HEADER_SIZE, end, sequence, timestamp, second > 127, False)
    return _parse_uncommon(data, start, end)


def _parse_uncommon(data: bytes, start: int, end: int) -> RtpPacket:
    first, second, sequence, timestamp = _unpack_start(data, start)
    if first & 0xC0 != _VERSION_2:
        raise RemoteProtocolError(f"invalid RTP version: {first >> 6}")
    payload = start + HEADER_SIZE + 4 * (first & 0x0F)
    if first & _EXTENSION_BIT:
        if payload + 4 > end:
            raise RemoteProtocolError("RTP header extension is cut off")
        payload += 4 + 4 * int.from_bytes(data[payload + 2 : payload + 4], "big")
    if payload > end:
        raise RemoteProtocolError("RTP header is cut off")
    if first & _PADDING_BIT:
        # RFC 3550 section 5.1: the last octet counts the padding, itself included.
        padding = data[end - 1] if end > payload else 0
        if padding == 0 or end - padding < payload:
            raise RemoteProtocolError(f"invalid RTP padding: {padding} bytes")
        end -= padding
    return normalized(RtpPacket(data, start, payload, end, sequence, timestamp, second > 127, False))


def normalized(packet: RtpPacket) -> RtpPacket:
    """Return a packet without padding bit: the same object if it is clear, else a copy with the bit cleared.

    `RtpPacket.end` never includes padding, so bytes that still have the bit set must not be sent.
    """
    data, start = packet.data, packet.start
    if not data[start] & _PADDING_BIT:
        return packet
    copy = bytes((data[start] & ~_PADDING_BIT,)) + data[start + 1 : packet.end]
    return RtpPacket(
        copy, 0, packet.payload - start, len(copy), packet.sequence, packet.timestamp, packet.marker, packet.key
    )


def payload_type_of(packet: RtpPacket) -> int:
    """Return the payload type, 0 to 127."""
    return packet.data[packet.start + 1] & 0x7F


def ssrc_of(packet: RtpPacket) -> int:
    """Return the synchronisation source, 32 bits."""
    return ssrc_at(packet.data, packet.start)


def timestamp_at(data: bytes, start: int) -> int:
    """Return the timestamp of the packet that starts at ``start``, 32 bits."""
    timestamp: int = _unpack_word(data, start + 4)[0]
    return timestamp


def ssrc_at(data: bytes, start: int) -> int:
    """Return the synchronisation source of the packet that starts at ``start``, 32 bits."""
    ssrc: int = _unpack_word(data, start + 8)[0]
    return ssrc


def build_header(payload_type: int, sequence: int, timestamp: int, ssrc: int, *, marker: bool = False) -> bytes:
    """Return the 12 header bytes. Sequence number and timestamp are taken modulo 2**16 and 2**32."""
    second = payload_type | 0x80 if marker else payload_type
    return _pack_header(_VERSION_2, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)


def build_packet(
    payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, *, marker: bool, key: bool = False
) -> RtpPacket:
    """Return a packet in its own buffer."""
    sequence &= 0xFFFF
    timestamp &= 0xFFFFFFFF
    data = build_header(payload_type, sequence, timestamp, ssrc, marker=marker) + payload
    return RtpPacket(data, 0, HEADER_SIZE, len(data), sequence, timestamp, marker, key)


def rewrite(
    packet: RtpPacket,
    *,
    payload_type: int | None = None,
    sequence: int | None = None,
    timestamp: int | None = None,
    ssrc: int | None = None,
    marker: bool | None = None,
) -> RtpPacket:
    """Return a copy of ``packet`` with the given header fields changed; the payload and ``key`` stay.

    CSRC list and extension are kept. The padding bit is cleared, as padding was stripped when the packet was parsed.
    """
    data, start = packet.data, packet.start
    sequence = packet.sequence if sequence is None else sequence & 0xFFFF
    timestamp = packet.timestamp if timestamp is None else timestamp & 0xFFFFFFFF
    marker = packet.marker if marker is None else marker
    second = data[start + 1] & 0x7F if payload_type is None else payload_type
    header = _pack_header(
        data[start] & ~_PADDING_BIT,
        second | 0x80 if marker else second,
        sequence,
        timestamp,
        ssrc_of(packet) if ssrc is None else ssrc,
    )
    copy = header + data[start + HEADER_SIZE : packet.end]
    return RtpPacket(copy, 0, packet.payload - start, len(copy), sequence, timestamp, marker, packet.key)
