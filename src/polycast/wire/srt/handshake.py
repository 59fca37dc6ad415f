"""Handshake packets and their extensions (draft-sharabayko-srt-01 section 3.2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.srt.packet import HEADER_SIZE
from polycast.wire.srt.rejection import RejectedError, Rejection

VERSION: Final = 5
INDUCTION_VERSION: Final = 4
"""Version of a caller's first packet: older listeners know no other one."""
SRT_VERSION: Final = 0x010504
"""The announced version of the extensions. Peers only use AES-GCM in the form of 1.5.4 if they see it."""
AUTHENTICATED_VERSION: Final = 0x010504
"""1.5.4, the first version whose AES-GCM is safe: before, two packets could have the same nonce."""
MINIMUM_SRT_VERSION: Final = 0x010300
"""1.3.0 introduced handshakes of version 5."""
MAGIC: Final = 0x4A17
"""Extension field of a listener's first answer."""
DATAGRAM_MODE: Final = 2
"""Extension field of a caller's first packet: UDT's mode of datagrams."""

MAXIMUM_EXTENSIONS: Final = 16
"""Extensions of one handshake; there are eight kinds."""
MAXIMUM_TEXT: Final = 512
"""Bytes of a stream id (section 3.2.1.3)."""

KEY_FIELD_UNIT: Final = 8
"""Unit of the encryption field, in bytes."""

_BODY: Final = Struct("!IHHIIIiII16s")
BODY_SIZE: Final = 48
_EXTENSION: Final = Struct("!HH")
_CAPABILITIES: Final = Struct("!IIHH")


class HandshakeType(IntEnum):
    """The phase that a handshake belongs to; rejections have other numbers."""

    CONCLUSION = -1
    AGREEMENT = -2
    DONE = -3
    WAVE_A_HAND = 0
    INDUCTION = 1


class ExtensionFlag(IntFlag):
    """Which groups of extensions a conclusion has."""

    CAPABILITIES = 1
    KEY_MATERIAL = 2
    CONFIGURATION = 4


class ExtensionType(IntEnum):
    """Kinds of extensions."""

    CAPABILITIES_REQUEST = 1
    CAPABILITIES_RESPONSE = 2
    KEY_REQUEST = 3
    KEY_RESPONSE = 4
    STREAM_ID = 5
    CONGESTION = 6
    FILTER = 7
    GROUP = 8


class Capability(IntFlag):
    """Flags of the capabilities (section 3.2.1.1.1)."""

    TIMED_SENDER = 0x01
    TIMED_RECEIVER = 0x02
    ENCRYPTION = 0x04
    DROPS_LATE = 0x08
    PERIODIC_NAK = 0x10
    RETRANSMISSION_FLAG = 0x20
    STREAM = 0x40
    FILTER = 0x80


OWN_CAPABILITIES: Final = (
    Capability.TIMED_SENDER
    | Capability.TIMED_RECEIVER
    | Capability.ENCRYPTION
    | Capability.DROPS_LATE
    | Capability.PERIODIC_NAK
    | Capability.RETRANSMISSION_FLAG
)
LIVE_CAPABILITIES: Final = Capability.TIMED_SENDER | Capability.TIMED_RECEIVER | Capability.RETRANSMISSION_FLAG
"""What a peer must have for live transmission."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Content of a capabilities request or response."""

    flags: int
    receiver_delay: int
    """Milliseconds that the sender of this packet delays what it receives."""
    sender_delay: int
    """Milliseconds that it wants the peer to delay."""
    version: int = SRT_VERSION

    def build(self) -> bytes:
        """Return the content of the extension."""
        return _CAPABILITIES.pack(self.version, self.flags, self.receiver_delay, self.sender_delay)


def parse_capabilities(content: bytes) -> Capabilities:
    """Return the capabilities in an extension. Raises RejectedError."""
    if len(content) < _CAPABILITIES.size:
        raise RejectedError(Rejection.ROGUE, "the capabilities of a handshake are too short")
    version, flags, receiver_delay, sender_delay = _CAPABILITIES.unpack_from(content)
    return Capabilities(flags, receiver_delay, sender_delay, version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """A handshake packet without its header."""

    version: int = VERSION
    encryption: int = 0
    """Key length in units of 8 bytes: 0, 2, 3 or 4."""
    extension_field: int = 0
    initial_sequence: int = 0
    mtu: int = 1500
    flow_window: int
    """Packets that may be on the way to its sender."""
    kind: int
    """A `HandshakeType`, or a rejection."""
    socket_id: int
    cookie: int = 0
    address: bytes = bytes(16)
    """IP address of the peer, as its sender knows it."""
    extensions: tuple[tuple[int, bytes], ...] = ()

    def extension(self, kind: ExtensionType) -> bytes | None:
        """Return the content of an extension; None if it is absent."""
        return next((content for number, content in self.extensions if number == kind), None)

    def build(self) -> bytes:
        """Return the body of the packet."""
        body = _BODY.pack(
            self.version,
            self.encryption,
            self.extension_field,
            self.initial_sequence,
            self.mtu,
            self.flow_window,
            self.kind,
            self.socket_id,
            self.cookie,
            self.address,
        )
        parts = [body]
        for kind, content in self.extensions:
            parts.append(_EXTENSION.pack(kind, len(content) // 4) + content)
        return b"".join(parts)


def parse_handshake(packet: bytes) -> Handshake:
    """Return the handshake in a packet, header included. Raises RemoteProtocolError."""
    size = len(packet)
    if size < HEADER_SIZE + BODY_SIZE:
        raise RemoteProtocolError("a handshake is too short")
    fields = _BODY.unpack_from(packet, HEADER_SIZE)
    extensions: list[tuple[int, bytes]] = []
    offset = HEADER_SIZE + BODY_SIZE
    if fields[6] == HandshakeType.CONCLUSION:
        while offset + 4 <= size:
            kind, words = _EXTENSION.unpack_from(packet, offset)
            end = offset + 4 + words * 4
            if end > size or len(extensions) >= MAXIMUM_EXTENSIONS:
                raise RemoteProtocolError("the extensions of a handshake are invalid")
            extensions.append((kind, packet[offset + 4 : end]))
            offset = end
    return Handshake(
        version=fields[0],
        encryption=fields[1],
        extension_field=fields[2],
        initial_sequence=fields[3] & 0x7FFFFFFF,
        mtu=fields[4],
        flow_window=fields[5],
        kind=fields[6],
        socket_id=fields[7],
        cookie=fields[8],
        address=fields[9],
        extensions=tuple(extensions),
    )


def build_address(host: str) -> bytes:
    """Return an IP address in the form of handshakes: little-endian words (section 3.2.1)."""
    try:
        address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    except ValueError:
        return bytes(16)
    return _swap_words(address.packed).ljust(16, b"\0")


def build_text(text: bytes) -> bytes:
    """Return a text as the content of an extension: padded, each word little-endian (section 3.2.1.3)."""
    return _swap_words(text + bytes(-len(text) % 4))


def parse_text(content: bytes) -> bytes:
    """Return the text in an extension. Raises RejectedError if it is too long."""
    if len(content) > MAXIMUM_TEXT:
        raise RejectedError(Rejection.ROGUE, "a text in a handshake is too long")
    return _swap_words(content).rstrip(b"\0")


def _swap_words(data: bytes) -> bytes:
    return b"".join(data[offset : offset + 4][::-1] for offset in range(0, len(data), 4))
