"""What a TURN server sends, over UDP and TCP."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count

from polycast.errors import RemoteProtocolError
from polycast.wire.webrtc.stun import AttributeType, Message, MessageType, error_code, xor_mapped_address
from polycast.wire.webrtc.turn_client import RelayDeframer, TurnClient, TurnState

PEER = ("192.0.2.1", 5000)
_ANY = b"\0" * 12
_RELAYED = xor_mapped_address(("203.0.113.9", 49152), _ANY, AttributeType.XOR_RELAYED_ADDRESS)
_PEER = xor_mapped_address(PEER, _ANY, AttributeType.XOR_PEER_ADDRESS)

SEEDS: list[bytes] = [
    Message(
        MessageType.ALLOCATE_ERROR,
        (1).to_bytes(12, "big"),
        (error_code(401, "Unauthorized"), (AttributeType.REALM, b"example.org"), (AttributeType.NONCE, b"nonce")),
    ).serialize(),
    Message(
        MessageType.ALLOCATE_SUCCESS,
        (1).to_bytes(12, "big"),
        (_RELAYED, (AttributeType.LIFETIME, b"\0\0\x02\x58")),
    ).serialize(),
    Message(MessageType.DATA_INDICATION, _ANY, (_PEER, (AttributeType.DATA, b"media"))).serialize(),
    b"\x40\x00\x00\x05media\0\0\0\x40\x01\x00\x00",
]
DICTIONARY: list[bytes] = [b"\x21\x12\xa4\x42", b"\x01\x03", b"\x01\x13", b"\x00\x16", b"\x40\x00", b"\x00\x0d\x00\x04"]


def _numbered(numbers: Iterator[int], size: int) -> bytes:
    return next(numbers).to_bytes(size, "big")


def fuzz_one(data: bytes) -> None:
    """Nothing but RemoteProtocolError of the stream comes out, and no message is larger than what was received."""
    for is_stream in (False, True):
        random_bytes = partial(_numbered, count(1))
        client = TurnClient("user", "password", 0.0, random_bytes, is_stream=is_stream)
        client.permit(PEER[0], 0.0)
        messages = [data]
        if is_stream:
            try:
                messages = RelayDeframer().receive_data(data)
            except RemoteProtocolError:
                return
        for message in messages:
            received = client.receive_datagram(message, 1.0)
            if received is not None and len(received[1]) > len(message):
                raise ValueError("more than was received")
            client.bind(PEER, 1.0)
        client.wrap(b"media", PEER)
        client.handle_timeout(client.next_timeout() or 2.0)
        client.close(3.0)
        for sent in client.data_to_send():
            if len(sent) > 4 * len(data) + 1500:
                raise ValueError("a request is too large")
        if client.next_timeout() is not None or client.state not in (TurnState.CLOSED, TurnState.FAILED):
            raise ValueError("it goes on after its end")
