"""What a client reads from STUN answers."""

from __future__ import annotations

import ipaddress

from polycast.wire.webrtc.stun import AttributeType, Message

MAGIC_COOKIE = bytes.fromhex("2112a442")  # RFC 8489 section 5


def mapped_address(message: Message) -> tuple[str, int]:
    """Return the address in XOR-MAPPED-ADDRESS (RFC 8489 section 14.2)."""
    value = message.attribute(AttributeType.XOR_MAPPED_ADDRESS)
    assert value is not None
    assert (value[:2], len(value)) in ((b"\0\1", 8), (b"\0\2", 20))
    mask = MAGIC_COOKIE + message.transaction_id
    address = bytes(one ^ other for one, other in zip(value[4:], mask, strict=False))
    port = bytes(one ^ other for one, other in zip(value[2:4], mask, strict=False))
    return str(ipaddress.ip_address(address)), int.from_bytes(port, "big")
