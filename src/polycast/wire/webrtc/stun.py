"""STUN messages (RFC 8489) of ICE (RFC 8445 section 16) and TURN (RFC 8656 section 17): parses, verifies, writes."""

from __future__ import annotations

import binascii
import hmac
import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from polycast.errors import RemoteProtocolError

MAXIMUM_MESSAGE_SIZE: Final = 2048
"""Bytes of a message: one datagram that a relay passes on; the checks of browsers have 100 to 150."""
MAXIMUM_ATTRIBUTES: Final = 32
"""Attributes in one message; a check has five to ten."""
MAXIMUM_USERNAME_SIZE: Final = 513
"""Bytes of USERNAME: 256 characters of either side's fragment and a colon (RFC 8445 section 5.3)."""

TRANSACTION_ID_SIZE: Final = 12
_HEADER: Final = struct.Struct("!HHI12s")
_ATTRIBUTE_HEADER: Final = struct.Struct("!HH")
_MAGIC_COOKIE: Final = 0x2112A442
_COOKIE_BYTES: Final = _MAGIC_COOKIE.to_bytes(4, "big")
_INTEGRITY_SIZE: Final = 20
_FINGERPRINT_MASK: Final = 0x5354554E
_FIRST_OPTIONAL_ATTRIBUTE: Final = 0x8000
"""Unknown attributes from this type on may be ignored (RFC 8489 section 14)."""

SocketAddress = tuple[str, int]
"""IP address and port."""


class MessageType(IntEnum):
    """The Binding method in its four classes (RFC 8489 section 5), and those of TURN (RFC 8656 section 17)."""

    REQUEST = 0x0001
    INDICATION = 0x0011
    SUCCESS = 0x0101
    ERROR = 0x0111
    ALLOCATE = 0x0003
    ALLOCATE_SUCCESS = 0x0103
    ALLOCATE_ERROR = 0x0113
    REFRESH = 0x0004
    REFRESH_SUCCESS = 0x0104
    REFRESH_ERROR = 0x0114
    SEND_INDICATION = 0x0016
    DATA_INDICATION = 0x0017
    CREATE_PERMISSION = 0x0008
    CREATE_PERMISSION_SUCCESS = 0x0108
    CREATE_PERMISSION_ERROR = 0x0118
    CHANNEL_BIND = 0x0009
    CHANNEL_BIND_SUCCESS = 0x0109
    CHANNEL_BIND_ERROR = 0x0119


class AttributeType(IntEnum):
    """RFC 8489 section 18.3, RFC 8445 section 20.1 and RFC 8656 section 18."""

    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    CHANNEL_NUMBER = 0x000C
    LIFETIME = 0x000D
    XOR_PEER_ADDRESS = 0x0012
    DATA = 0x0013
    REALM = 0x0014
    NONCE = 0x0015
    XOR_RELAYED_ADDRESS = 0x0016
    REQUESTED_TRANSPORT = 0x0019
    XOR_MAPPED_ADDRESS = 0x0020
    PRIORITY = 0x0024
    USE_CANDIDATE = 0x0025
    SOFTWARE = 0x8022
    FINGERPRINT = 0x8028
    ICE_CONTROLLED = 0x8029
    ICE_CONTROLLING = 0x802A


_KNOWN: Final = frozenset(AttributeType)

Attribute = tuple[int, bytes]


def is_stun(data: bytes) -> bool:
    """Return whether a datagram is STUN by its first bytes and its size (RFC 7983 section 7, RFC 8489 section 5)."""
    return len(data) >= _HEADER.size and data[0] < 4 and data[4:8] == _COOKIE_BYTES


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    type: MessageType
    transaction_id: bytes
    attributes: tuple[Attribute, ...] = ()
    """(type, value) in wire order, without those after MESSAGE-INTEGRITY."""
    signed: bytes = b""
    """The data that MESSAGE-INTEGRITY covers, if the message was received with one."""

    def attribute(self, kind: AttributeType) -> bytes | None:
        """Return the value of the first attribute of a type, or None."""
        return next((value for found, value in self.attributes if found == kind), None)

    @property
    def username(self) -> str:
        """The USERNAME; empty if there is none."""
        return (self.attribute(AttributeType.USERNAME) or b"").decode("utf-8", "replace")

    @property
    def error_code(self) -> int:
        """The code of an error response; 0 if there is none."""
        value = self.attribute(AttributeType.ERROR_CODE)
        return 100 * (value[2] & 7) + value[3] if value is not None and len(value) >= 4 else 0

    @property
    def unknown_attributes(self) -> tuple[int, ...]:
        """Types of unknown attributes that must be understood (RFC 8489 section 6.3.1)."""
        return tuple(kind for kind, _ in self.attributes if kind < _FIRST_OPTIONAL_ATTRIBUTE and kind not in _KNOWN)

    def is_signed_with(self, password: str | bytes) -> bool:
        """Return whether there is a MESSAGE-INTEGRITY that was made with this password (RFC 8489 section 14.5), or with
        this key of long-term credentials."""
        integrity = self.attribute(AttributeType.MESSAGE_INTEGRITY)
        if integrity is None or not self.signed:
            return False
        return hmac.compare_digest(hmac.digest(_key(password), self.signed, "sha1"), integrity)

    def address(self, kind: AttributeType = AttributeType.XOR_MAPPED_ADDRESS) -> SocketAddress | None:
        """Return the address in XOR-MAPPED-ADDRESS, or another attribute of this form; None if it is missing or
        invalid."""
        value = self.attribute(kind)
        if value is None or len(value) not in (8, 20):
            return None
        mask = (_COOKIE_BYTES + self.transaction_id)[: len(value) - 4]
        address = bytes(one ^ other for one, other in zip(value[4:], mask, strict=True))
        port = int.from_bytes(value[2:4], "big") ^ _MAGIC_COOKIE >> 16
        return str(ipaddress.ip_address(address)), port

    def serialize(self, password: str | bytes | None = None) -> bytes:
        """Return the message with FINGERPRINT, signed if there is a password, or a key of long-term credentials
        (RFC 8489 section 14.7)."""
        body = b"".join(_serialize_attribute(*attribute) for attribute in self.attributes)
        if password is not None:
            unsigned = self._header(len(body) + _ATTRIBUTE_HEADER.size + _INTEGRITY_SIZE) + body
            integrity = hmac.digest(_key(password), unsigned, "sha1")
            body += _serialize_attribute(AttributeType.MESSAGE_INTEGRITY, integrity)
        message = self._header(len(body) + _ATTRIBUTE_HEADER.size + 4) + body
        checksum = binascii.crc32(message) ^ _FINGERPRINT_MASK
        return message + _serialize_attribute(AttributeType.FINGERPRINT, checksum.to_bytes(4, "big"))

    def _header(self, length: int) -> bytes:
        return _HEADER.pack(self.type, length, _MAGIC_COOKIE, self.transaction_id)


def parse_message(data: bytes) -> Message:
    """Parse a message of ICE or TURN. Raises RemoteProtocolError.

    A FINGERPRINT must be correct if present. MESSAGE-INTEGRITY is not checked, because the password depends on the
    username: see `Message.is_signed_with`.
    """
    if not is_stun(data):
        raise RemoteProtocolError("not a STUN message")
    if len(data) > MAXIMUM_MESSAGE_SIZE:
        raise RemoteProtocolError(f"STUN message larger than {MAXIMUM_MESSAGE_SIZE} bytes")
    kind, length, _, transaction_id = _HEADER.unpack_from(data)
    if length % 4 or length != len(data) - _HEADER.size:
        raise RemoteProtocolError("the length of a STUN message differs from its header")
    try:
        message_type = MessageType(kind)
    except ValueError:
        raise RemoteProtocolError(f"unknown STUN message type: {kind:#06x}") from None
    attributes: list[Attribute] = []
    signed = b""
    position = _HEADER.size
    while position < len(data):
        if position + _ATTRIBUTE_HEADER.size > len(data):
            raise RemoteProtocolError("STUN attribute is cut off")
        attribute, size = _ATTRIBUTE_HEADER.unpack_from(data, position)
        start = position + _ATTRIBUTE_HEADER.size
        value = data[start : start + size]
        if len(value) != size:
            raise RemoteProtocolError("STUN attribute is cut off")
        if attribute == AttributeType.FINGERPRINT:
            _check_fingerprint(data, position, value)
        elif not signed:  # what follows the integrity could have been added by anybody (RFC 8489 section 14.5)
            if len(attributes) == MAXIMUM_ATTRIBUTES:
                raise RemoteProtocolError(f"STUN message with more than {MAXIMUM_ATTRIBUTES} attributes")
            if attribute == AttributeType.USERNAME and size > MAXIMUM_USERNAME_SIZE:
                raise RemoteProtocolError("STUN username is too long")
            attributes.append((attribute, value))
            if attribute == AttributeType.MESSAGE_INTEGRITY:
                end = position - _HEADER.size + _ATTRIBUTE_HEADER.size + _INTEGRITY_SIZE
                signed = data[:2] + end.to_bytes(2, "big") + data[4:position]
        position = start + (size + 3 & ~3)
    return Message(message_type, transaction_id, tuple(attributes), signed)


def xor_mapped_address(
    address: SocketAddress, transaction_id: bytes, kind: AttributeType = AttributeType.XOR_MAPPED_ADDRESS
) -> Attribute:
    """Return the XOR-MAPPED-ADDRESS attribute for an address (RFC 8489 section 14.2), or another of its form."""
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    mask = (_COOKIE_BYTES + transaction_id)[: len(ip.packed)]
    masked = bytes(one ^ other for one, other in zip(ip.packed, mask, strict=True))
    family = 1 if ip.version == 4 else 2
    port = address[1] ^ _MAGIC_COOKIE >> 16
    return kind, struct.pack("!BBH", 0, family, port) + masked


def error_code(code: int, reason: str) -> Attribute:
    """Return the ERROR-CODE attribute (RFC 8489 section 14.8)."""
    return AttributeType.ERROR_CODE, struct.pack("!HBB", 0, code // 100, code % 100) + reason.encode()


def unknown_attributes(kinds: Sequence[int]) -> Attribute:
    """Return the UNKNOWN-ATTRIBUTES attribute (RFC 8489 section 14.9)."""
    return AttributeType.UNKNOWN_ATTRIBUTES, b"".join(kind.to_bytes(2, "big") for kind in kinds)


def _key(password: str | bytes) -> bytes:
    return password.encode() if isinstance(password, str) else password


def _serialize_attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE_HEADER.pack(kind, len(value)) + value + bytes(-len(value) % 4)


def _check_fingerprint(data: bytes, position: int, value: bytes) -> None:
    if position + _ATTRIBUTE_HEADER.size + 4 != len(data) or len(value) != 4:
        raise RemoteProtocolError("STUN fingerprint is not the last attribute")
    if binascii.crc32(data[:position]) ^ _FINGERPRINT_MASK != int.from_bytes(value, "big"):
        raise RemoteProtocolError("wrong STUN fingerprint")
