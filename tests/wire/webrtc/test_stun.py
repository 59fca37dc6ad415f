"""STUN messages against the test vectors of RFC 5769, and what has to be refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.stun import mapped_address

from polycast.errors import RemoteProtocolError
from polycast.wire.webrtc import stun
from polycast.wire.webrtc.stun import AttributeType, Message, MessageType, is_stun, parse_message, xor_mapped_address

PASSWORD = "VOkJxbRl1RmTxUk/WvJxBt"

# RFC 5769 sections 2.1 to 2.3.
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008"
    "932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004"
    "e57a3bcf"
)
RESPONSE_IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643000800142b"
    "91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
RESPONSE_IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc"
    "25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)


def test_request() -> None:
    message = parse_message(REQUEST)
    assert message.type is MessageType.REQUEST
    assert message.username == "evtj:h6vY"
    assert message.attribute(AttributeType.PRIORITY) == bytes.fromhex("6e0001ff")
    assert message.attribute(AttributeType.ICE_CONTROLLED) == bytes.fromhex("932ff9b151263b36")
    assert message.unknown_attributes == ()
    assert message.is_signed_with(PASSWORD)
    assert not message.is_signed_with(PASSWORD + "x")


@pytest.mark.parametrize(
    ("data", "address"),
    [(RESPONSE_IPV4, "192.0.2.1"), (RESPONSE_IPV6, "2001:db8:1234:5678:11:2233:4455:6677")],
    ids=["IPv4", "IPv6"],
)
def test_response(data: bytes, address: str) -> None:
    message = parse_message(data)
    assert message.type is MessageType.SUCCESS
    assert message.is_signed_with(PASSWORD)
    assert mapped_address(message) == (address, 32853)
    # The vectors pad with spaces where we pad with zeros, so only what has no padding is compared byte for byte.
    mapped = xor_mapped_address((address, 32853), message.transaction_id)
    assert mapped == (AttributeType.XOR_MAPPED_ADDRESS, message.attribute(AttributeType.XOR_MAPPED_ADDRESS))


def test_what_is_serialized_is_parsed_and_signed() -> None:
    transaction = bytes(range(12))
    message = Message(
        MessageType.ERROR,
        transaction,
        (stun.error_code(420, "Unknown Attribute"), stun.unknown_attributes([0x7FFE, 0x7FFD, 1])),
    )
    parsed = parse_message(message.serialize("secret"))
    assert parsed.error_code == 420
    assert parsed.attribute(AttributeType.UNKNOWN_ATTRIBUTES) == bytes.fromhex("7ffe7ffd0001")
    assert parsed.transaction_id == transaction
    assert parsed.is_signed_with("secret")
    assert not parse_message(message.serialize()).is_signed_with("secret")


def test_mapped_addresses_have_their_own_family() -> None:
    message = Message(MessageType.SUCCESS, bytes(12), (xor_mapped_address(("::ffff:192.0.2.7", 5), bytes(12)),))
    assert mapped_address(message) == ("192.0.2.7", 5)
    message = Message(MessageType.SUCCESS, bytes(12), (xor_mapped_address(("fe80::1%eth0", 5), bytes(12)),))
    assert mapped_address(message) == ("fe80::1", 5)


def test_attributes_that_must_be_understood_are_named() -> None:
    message = Message(MessageType.REQUEST, bytes(12), ((0x7777, b"abc"), (0x8777, b"may be ignored")))
    assert parse_message(message.serialize()).unknown_attributes == (0x7777,)


def test_what_stands_behind_the_signature_is_ignored() -> None:
    """Anybody could have added it (RFC 8489 section 14.5)."""
    signed = Message(MessageType.REQUEST, bytes(12), ((AttributeType.USERNAME, b"a:b"),)).serialize("secret")
    unsigned_end = len(signed) - 8
    forged = bytearray(signed[:unsigned_end] + bytes.fromhex("00250000"))
    forged[2:4] = (len(forged) - 20).to_bytes(2, "big")
    message = parse_message(bytes(forged))
    assert message.is_signed_with("secret")
    assert message.attribute(AttributeType.USE_CANDIDATE) is None


@pytest.mark.parametrize(
    "data",
    [
        REQUEST[:-4],
        REQUEST + bytes(4),
        REQUEST[:-1] + b"\0",
        b"\x01\x13" + REQUEST[2:],
        REQUEST[:2] + b"\0\x59" + REQUEST[4:],
        REQUEST[:22] + b"\xff\xff" + REQUEST[24:],
        bytes(20),
    ],
    ids=["cut off", "too long", "fingerprint", "method", "odd length", "long attribute", "no cookie"],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_message(data)


def test_other_protocols_on_the_port_are_no_stun() -> None:
    assert is_stun(REQUEST)
    assert not is_stun(b"\x16\xfe\xfd" + bytes(40)), "DTLS"
    assert not is_stun(b"\x80\x60" + bytes(40)), "RTP"
    assert not is_stun(REQUEST[:19])
    assert not is_stun(b"")


@given(st.binary(max_size=200))
def test_nothing_but_the_documented_error(data: bytes) -> None:
    head = b"\0\1" + len(data).to_bytes(2, "big") + REQUEST[4:20]
    for candidate in (data, head + data, head + data[: len(data) & ~3]):
        try:
            message = parse_message(candidate)
        except RemoteProtocolError:
            continue
        message.is_signed_with("x")
        assert message.error_code >= 0
        assert message.unknown_attributes is not None
