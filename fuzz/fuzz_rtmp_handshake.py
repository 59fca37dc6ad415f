"""Fuzz target: bytes to the RTMP handshake of both sides, in two pieces."""

from __future__ import annotations

from polycast.errors import RemoteProtocolError
from polycast.wire.rtmp.handshake import (
    PACKET_SIZE,
    ClientHandshake,
    ServerHandshake,
    build_first_packet,
    random_packet,
)

_SEED = bytes(32)
_RANDOM = random_packet(_SEED, b"")

SEEDS: list[bytes] = [
    b"",
    b"\x03" + bytes(2 * PACKET_SIZE),
    b"\x03" + build_first_packet(_RANDOM, 0, from_client=True) + _RANDOM + b"rest",
    b"\x03" + build_first_packet(_RANDOM, 0, from_client=False) + _RANDOM,
    b"\x06" + bytes(PACKET_SIZE),
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
]


def fuzz_one(data: bytes) -> None:
    """A handshake ends in the rest of the bytes, wants more, or raises RemoteProtocolError."""
    for handshake in (ServerHandshake(_SEED), ClientHandshake(_SEED)):
        try:
            rest = b""
            for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
                rest = rest + piece if handshake.done else handshake.receive(piece)
        except RemoteProtocolError:
            continue
        if handshake.done and rest != data[1 + 2 * PACKET_SIZE :]:
            raise AssertionError("bytes after the handshake were lost")
        handshake.data_to_send()
