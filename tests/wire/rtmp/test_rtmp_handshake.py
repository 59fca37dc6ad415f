"""The handshake: simple and digest forms, both sides, against digests computed here from the description."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from tests.wire.rtmp.support import SEED

from polycast.errors import RemoteProtocolError
from polycast.wire.rtmp.handshake import (
    PACKET_SIZE,
    ClientHandshake,
    ServerHandshake,
    build_first_packet,
    build_second_packet,
    find_digest,
)

CRUD = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
PLAYER = b"Genuine Adobe Flash Player 001"
SERVER = b"Genuine Adobe Flash Media Server 001"


def signed_first_packet(base: int, key: bytes) -> tuple[bytes, bytes]:
    """A C1 or S1 with its digest, made as Flash makes it."""
    packet = bytearray(bytes(range(1, 7)) * 256)
    offset = sum(packet[base : base + 4]) % 728 + base + 4
    digest = hmac.new(key, bytes(packet[:offset] + packet[offset + 32 :]), hashlib.sha256).digest()
    packet[offset : offset + 32] = digest
    return bytes(packet), digest


@pytest.mark.parametrize("base", [8, 772])
@pytest.mark.parametrize("from_client", [True, False])
def test_a_digest_is_found_in_both_schemes(base: int, from_client: bool) -> None:
    packet, digest = signed_first_packet(base, PLAYER if from_client else SERVER)
    assert find_digest(packet, from_client) == digest
    assert find_digest(packet, not from_client) is None


@pytest.mark.parametrize("from_client", [True, False])
def test_a_first_packet_has_its_digest_at_base_8(from_client: bool) -> None:
    packet = build_first_packet(bytes(range(256)) * 6, 0x01020304, from_client)
    assert len(packet) == PACKET_SIZE
    assert packet[:4] == b"\x01\x02\x03\x04"
    offset = sum(packet[8:12]) % 728 + 12
    key = PLAYER if from_client else SERVER
    expected = hmac.new(key, packet[:offset] + packet[offset + 32 :], hashlib.sha256).digest()
    assert packet[offset : offset + 32] == expected


def signature(packet: bytes, digest: bytes, text: bytes) -> bytes:
    """Return how a C2 or S2 is signed with the digest of the peer's first packet."""
    key = hmac.new(text + CRUD, digest, hashlib.sha256).digest()
    return hmac.new(key, packet[:-32], hashlib.sha256).digest()


@pytest.mark.parametrize("from_client", [True, False])
def test_a_second_packet_is_signed_with_the_digest_of_the_peer(from_client: bool) -> None:
    digest = bytes(range(32))
    packet = build_second_packet(b"r" * PACKET_SIZE, digest, from_client)
    assert packet[-32:] == signature(packet, digest, PLAYER if from_client else SERVER)


@pytest.mark.parametrize("base", [8, 772])
def test_server_signs_for_a_client_with_a_digest(base: int) -> None:
    first, digest = signed_first_packet(base, PLAYER)
    handshake = ServerHandshake(SEED)
    assert handshake.receive(b"\x03" + first) == b""
    output = handshake.data_to_send()
    assert output[0] == 3
    assert len(output) == 1 + 2 * PACKET_SIZE
    assert find_digest(output[1 : 1 + PACKET_SIZE], from_client=False) is not None
    second = output[1 + PACKET_SIZE :]
    assert second[-32:] == signature(second, digest, SERVER)
    assert not handshake.done
    assert handshake.receive(bytes(PACKET_SIZE) + b"rest") == b"rest"
    assert handshake.done


def test_server_echoes_for_a_simple_client() -> None:
    first = bytes(8) + bytes(range(256)) * 5 + bytes(248)
    handshake = ServerHandshake(SEED)
    handshake.receive(b"\x03" + first)
    output = handshake.data_to_send()
    assert output[5:9] == bytes(4), "the version of S1 says that there is no digest"
    assert output[1 + PACKET_SIZE :] == first
    assert handshake.data_to_send() == b""


@pytest.mark.parametrize("piece", [1, 7, 1536, 10_000])
def test_client_and_server_in_pieces(piece: int) -> None:
    client, server = ClientHandshake(SEED, 5), ServerHandshake(SEED[::-1], 7)
    rest: dict[str, bytes] = {}
    for _ in range(3):
        for source, target, name in ((client, server, "server"), (server, client, "client")):
            data = source.data_to_send()
            for position in range(0, len(data), piece):
                rest[name] = target.receive(data[position : position + piece])  # type: ignore[attr-defined]
    assert client.done
    assert server.done
    assert rest == {"server": b"", "client": b""}
    assert server.client_digest == find_digest(client.first_packet, from_client=True)
    assert client.server_digest is not None


def test_client_echoes_for_a_simple_server() -> None:
    client = ClientHandshake(SEED)
    client.data_to_send()
    first = bytes(range(256)) * 6
    client.receive(b"\x03" + first + bytes(PACKET_SIZE))
    assert client.data_to_send() == first


def test_the_seed_decides_the_random_bytes() -> None:
    one, two = ClientHandshake(b"a" * 16).first_packet, ClientHandshake(b"b" * 16).first_packet
    assert one != two
    assert one == ClientHandshake(b"a" * 16).first_packet


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (b"\x06", "RTMPE"),
        (b"\x16\x03\x01", "TLS"),
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"POST /open/1", "HTTP"),
        (b"\x08", "unsupported RTMP version 8"),
    ],
)
@pytest.mark.parametrize("side", [ServerHandshake, ClientHandshake])
def test_other_protocols_are_named(side: type[ServerHandshake | ClientHandshake], first: bytes, text: str) -> None:
    with pytest.raises(RemoteProtocolError, match=text):
        side(SEED).receive(first)
