"""SRT packets (draft-sharabayko-srt-01 section 3): the header that all have, and the numbers in it."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

HEADER: Final = Struct("!IIII")
"""Two words that depend on the kind of packet, the timestamp in microseconds, the socket id of the receiver."""
HEADER_SIZE: Final = 16
WORD: Final = Struct("!I")

CONTROL_FLAG: Final = 0x80000000
"""Bit of the first word that tells control packets from data packets."""

MAXIMUM_DATAGRAM: Final = 1472
"""Bytes of a datagram: an Ethernet frame of 1500 bytes without the headers of IPv4 and UDP."""
MAXIMUM_PAYLOAD: Final = MAXIMUM_DATAGRAM - HEADER_SIZE

HANDSHAKE_PACKET: Final = b"\x80\0\0\0"
"""The first word of a handshake."""

TRANSPORT_PACKET_SIZE: Final = 188

SEQUENCE_MASK: Final = 0x7FFFFFFF
"""Sequence numbers of packets have 31 bits."""
SEQUENCE_HALF: Final = 0x40000000
TIME_MASK: Final = 0xFFFFFFFF
_TIME_HALF: Final = 0x80000000
MESSAGE_MASK: Final = 0x03FFFFFF
"""Message numbers have 26 bits, and are never 0 in data packets."""

# The second word of a data packet (section 3.1).
WHOLE_MESSAGE: Final = 0xC0000000
"""Packet position: the packet is a whole message, as all are in live transmission."""
KEY_SHIFT: Final = 27
"""The key with which the payload is encrypted: 0 for none, 1 even, 2 odd."""
RETRANSMITTED: Final = 0x04000000

_EMPTY_BODY: Final = b"\0\0\0\0"
"""Control packets without a body have one nevertheless, for implementations that cannot send an empty one."""


def largest_payload(datagram_size: int) -> int:
    """Return the bytes of as many packets of MPEG-TS as fit in a datagram of this size, at least those of one."""
    room = min(datagram_size - HEADER_SIZE, MAXIMUM_PAYLOAD)
    return max(1, room // TRANSPORT_PACKET_SIZE) * TRANSPORT_PACKET_SIZE


DEFAULT_PAYLOAD: Final = largest_payload(MAXIMUM_DATAGRAM)
"""Bytes of payload of a data packet."""


class ControlType(IntEnum):
    """Kinds of control packets (section 3.2)."""

    HANDSHAKE = 0
    KEEP_ALIVE = 1
    ACK = 2
    NAK = 3
    CONGESTION_WARNING = 4
    SHUTDOWN = 5
    ACKACK = 6
    DROP_REQUEST = 7
    PEER_ERROR = 8
    USER_DEFINED = 0x7FFF


def build_control(
    kind: ControlType,
    information: int,
    timestamp: int,
    destination: int,
    body: bytes = _EMPTY_BODY,
    subtype: int = 0,
) -> bytes:
    """Return a control packet. ``timestamp`` in microseconds since the start of the connection, of any size."""
    first = CONTROL_FLAG | kind << 16 | subtype
    return HEADER.pack(first, information, timestamp & TIME_MASK, destination) + body


def control_kind(first_word: int) -> int:
    """Return the kind of a control packet; not all numbers are a `ControlType`."""
    return first_word >> 16 & 0x7FFF


def extend_sequence(number: int, near: int) -> int:
    """Return a 31-bit sequence number as the integer nearest to ``near``: integers never wrap."""
    return near + ((number - near + SEQUENCE_HALF) & SEQUENCE_MASK) - SEQUENCE_HALF


def extend_time(timestamp: int, near: int) -> int:
    """Return a 32-bit timestamp as the integer nearest to ``near``; it wraps after 71 minutes."""
    return near + ((timestamp - near + _TIME_HALF) & TIME_MASK) - _TIME_HALF
