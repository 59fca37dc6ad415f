"""Captures for Wireshark: files of packets in the format pcapng (draft-ietf-opsawg-pcapng).

A program sees the data of its sockets, not packets: these are made of it, with headers that have the right addresses.
"""

from __future__ import annotations

import ipaddress
import struct
import sys
from array import array
from enum import IntFlag
from typing import Final

# The largest payload of one packet: IPv4 has 16 bits for the length, with the headers.
MAXIMUM_PAYLOAD: Final = 65_000

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 1
_ENHANCED_PACKET: Final = 6
_DECRYPTION_SECRETS: Final = 10

_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_UNKNOWN_LENGTH: Final = -1
_LINKTYPE_RAW: Final = 101
"""Packets begin with the header of IPv4 or IPv6."""
_TIME_RESOLUTION_OPTION: Final = 9
_NANOSECONDS: Final = 9
"""10 to the power of minus nine seconds."""
_TLS_KEY_LOG: Final = 0x544C534B

_TCP: Final = 6
_UDP: Final = 17
_HOP_LIMIT: Final = 64
_WINDOW: Final = 65_535
_TCP_HEADER: Final = struct.Struct("!HHIIBBHHH")
_UDP_HEADER: Final = struct.Struct("!HHHH")
_TCP_HEADER_WORDS: Final = 5 << 4

_CLIENT_START: Final = 1_000
_SERVER_START: Final = 2_000
"""Initial sequence numbers; the real ones are unknown."""

Endpoint = tuple[str, int]
"""IP address and port."""


class _Flags(IntFlag):
    FIN = 1
    SYN = 2
    PSH = 8
    ACK = 16


def file_header() -> bytes:
    """Return the beginning of a file."""
    section = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, _UNKNOWN_LENGTH)
    resolution = struct.pack("<HHBxxxHH", _TIME_RESOLUTION_OPTION, 1, _NANOSECONDS, 0, 0)
    interface = struct.pack("<HHI", _LINKTYPE_RAW, 0, 0) + resolution
    return _block(_SECTION_HEADER, section) + _block(_INTERFACE_DESCRIPTION, interface)


def secrets_block(key_log: bytes) -> bytes:
    """Return a block with the keys of a TLS connection, as lines of NSS's key log. It goes in front of the packets."""
    return _block(_DECRYPTION_SECRETS, struct.pack("<II", _TLS_KEY_LOG, len(key_log)) + key_log)


def udp_packet(sender: Endpoint, receiver: Endpoint, payload: bytes, time: int) -> bytes:
    """Return a block with one datagram. ``time``: nanoseconds since 1970."""
    header = _UDP_HEADER.pack(sender[1], receiver[1], _UDP_HEADER.size + len(payload), 0)
    return _packet(_UDP, sender[0], receiver[0], header, payload, time)


class TcpConversation:
    """Makes packets of what a connection carries. Nothing gets lost or is repeated in it."""

    def __init__(self, local: Endpoint, remote: Endpoint, *, is_server: bool) -> None:
        """``is_server``: whether the remote side has connected to the local one."""
        self._endpoints = (remote, local) if is_server else (local, remote)
        self._is_server = is_server
        self._next = [_CLIENT_START, _SERVER_START]
        """The next sequence numbers of client and server."""

    def opening(self, time: int) -> bytes:
        """Return the blocks with the handshake. ``time``: nanoseconds since 1970, here and below."""
        return b"".join(
            (
                self._segment(0, _Flags.SYN, b"", time),
                self._segment(1, _Flags.SYN | _Flags.ACK, b"", time),
                self._segment(0, _Flags.ACK, b"", time),
            )
        )

    def data(self, data: bytes, time: int, *, is_received: bool) -> bytes:
        """Return the blocks with data that the local side received or sent."""
        sender = self._sender(is_received=is_received)
        return b"".join(
            self._segment(sender, _Flags.PSH | _Flags.ACK, data[start : start + MAXIMUM_PAYLOAD], time)
            for start in range(0, len(data), MAXIMUM_PAYLOAD)
        )

    def skip(self, size: int, *, is_received: bool) -> None:
        """Leave out so many bytes, which is a gap in the sequence numbers."""
        self._advance(self._sender(is_received=is_received), size)

    def closing(self, time: int) -> bytes:
        """Return the blocks with the end of the connection."""
        sender = self._sender(is_received=False)
        return self._segment(sender, _Flags.FIN | _Flags.ACK, b"", time) + self._segment(
            1 - sender, _Flags.FIN | _Flags.ACK, b"", time
        )

    def _sender(self, *, is_received: bool) -> int:
        return int(is_received is not self._is_server)

    def _segment(self, sender: int, flags: _Flags, payload: bytes, time: int) -> bytes:
        (source, source_port), (target, target_port) = self._endpoints[sender], self._endpoints[1 - sender]
        sequence = self._next[sender]
        acknowledged = self._next[1 - sender] if _Flags.ACK in flags else 0
        header = _TCP_HEADER.pack(
            source_port, target_port, sequence, acknowledged, _TCP_HEADER_WORDS, flags, _WINDOW, 0, 0
        )
        self._advance(sender, len(payload) + bool(flags & (_Flags.SYN | _Flags.FIN)))
        return _packet(_TCP, source, target, header, payload, time)

    def _advance(self, sender: int, size: int) -> None:
        self._next[sender] = (self._next[sender] + size) % 2**32


_CHECKSUM_OFFSETS: Final = {_TCP: 16, _UDP: 6}
"""Where the checksum is in the header of each protocol."""


def _packet(protocol: int, source: str, target: str, header: bytes, payload: bytes, time: int) -> bytes:
    sender, receiver = ipaddress.ip_address(source), ipaddress.ip_address(target)
    length = len(header) + len(payload)
    if sender.version == receiver.version == 4:
        pseudo_header = sender.packed + receiver.packed + struct.pack("!BBH", 0, protocol, length)
        front = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, _HOP_LIMIT, protocol, 0)
        front += sender.packed + receiver.packed
        front = front[:10] + struct.pack("!H", _checksum(front)) + front[12:]
    else:
        addresses = _as_ipv6(sender) + _as_ipv6(receiver)
        pseudo_header = addresses + struct.pack("!II", length, protocol)
        front = struct.pack("!IHBB", 6 << 28, length, protocol, _HOP_LIMIT) + addresses
    checksum = _checksum(pseudo_header + header + payload) or 0xFFFF
    offset = _CHECKSUM_OFFSETS[protocol]
    header = header[:offset] + struct.pack("!H", checksum) + header[offset + 2 :]
    return _packet_block(front + header + payload, time)


def _as_ipv6(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def _checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071."""
    words = array("H", data if len(data) % 2 == 0 else data + b"\0")
    if sys.byteorder == "little":
        words.byteswap()
    total = sum(words)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _packet_block(packet: bytes, time: int) -> bytes:
    size = len(packet)
    return _block(_ENHANCED_PACKET, struct.pack("<IIIII", 0, time >> 32, time & 0xFFFFFFFF, size, size) + packet)


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size
