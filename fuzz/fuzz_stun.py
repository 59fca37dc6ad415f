"""STUN messages, as a lite agent gets them from anybody."""

from __future__ import annotations

from polycast.errors import RemoteProtocolError
from polycast.wire.webrtc.candidates import parse_candidate
from polycast.wire.webrtc.ice import Credentials, LiteAgent, local_ufrag
from polycast.wire.webrtc.stun import AttributeType, Message, MessageType, parse_message, xor_mapped_address

PASSWORD = "a password of twenty-two"

SEEDS: list[bytes] = [
    Message(
        MessageType.REQUEST,
        bytes(range(12)),
        (
            (AttributeType.USERNAME, b"server:client"),
            (AttributeType.ICE_CONTROLLING, bytes(8)),
            (AttributeType.PRIORITY, bytes(4)),
            (AttributeType.USE_CANDIDATE, b""),
        ),
    ).serialize(PASSWORD),
    Message(MessageType.SUCCESS, bytes(12), (xor_mapped_address(("2001:db8::1", 5), bytes(12)),)).serialize(PASSWORD),
    Message(MessageType.INDICATION, bytes(12), ((0x7777, b"abc"), (0x8022, b"software"))).serialize(),
    b"candidate:842163049 1 udp 1677729535 203.0.113.1 54321 typ srflx raddr 0.0.0.0 rport 0 generation 0",
    b"1 1 TCP 1671430143 2001:db8::1 8189 typ host tcptype passive",
]
DICTIONARY: list[bytes] = [b"\x21\x12\xa4\x42", b"\x00\x08\x00\x14", b"\x80\x28\x00\x04", b"typ", b"tcptype"]


def fuzz_one(data: bytes) -> None:
    """Only RemoteProtocolError comes out; nothing unsigned is answered; what was read can be written again."""
    try:
        candidate = parse_candidate(data.decode("latin-1"))
    except RemoteProtocolError:
        pass
    else:
        if parse_candidate(candidate.serialize()) != candidate:
            raise ValueError("a candidate is read differently")
    try:
        message = parse_message(data)
    except RemoteProtocolError:
        return
    local_ufrag(message)
    message.address()
    agent = LiteAgent(Credentials("server", PASSWORD), 0.0)
    if agent.answer(message, ("192.0.2.1", 1), 0.0) is not None and not message.is_signed_with(PASSWORD):
        raise ValueError("an unsigned check was answered")
    again = parse_message(Message(message.type, message.transaction_id, message.attributes).serialize())
    if again.attributes != message.attributes:
        raise ValueError("a message is read differently")
