"""WebSocket: against the independent implementation of the package ``websockets``, whole, in pieces and hostile."""

from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.protocol import CLIENT, SERVER, Protocol, State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from polycast.errors import RemoteProtocolError
from polycast.wire.http.websocket import (
    FRAME_LIMIT,
    WebSocketConnection,
    accept_key,
    binary_message,
    frame_head,
    is_key,
)

MASK = b"\x01\x02\x03\x04"
SIZES = (0, 1, 3, 4, 5, 125, 126, 127, 65_535, 65_536, 100_003)


def payload(size: int) -> bytes:
    return bytes(index * 7 & 0xFF for index in range(size))


def client_engine() -> WebSocketConnection:
    return WebSocketConnection(is_client=True, new_mask=lambda: MASK)


def server_engine() -> WebSocketConnection:
    return WebSocketConnection(is_client=False)


def read_all(protocol: Protocol) -> bytes:
    return b"".join(
        bytes(event.data) for event in protocol.events_received() if isinstance(event, Frame) and event.opcode <= 2
    )


def test_example_of_the_specification() -> None:
    """RFC 6455 section 1.3."""
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert is_key("dGhlIHNhbXBsZSBub25jZQ==")
    assert not is_key("dGhlIHNhbXBsZSBub25j")
    assert not is_key("not base64")


@pytest.mark.parametrize("size", SIZES)
def test_what_a_client_sends(size: int) -> None:
    peer = Protocol(SERVER, state=State.OPEN, max_size=None)
    peer.receive_data(client_engine().send(payload(size)))
    assert read_all(peer) == payload(size)


@pytest.mark.parametrize("size", SIZES)
def test_what_a_server_sends(size: int) -> None:
    peer = Protocol(CLIENT, state=State.OPEN, max_size=None)
    peer.receive_data(server_engine().send(payload(size)))
    assert read_all(peer) == payload(size)


@pytest.mark.parametrize("size", SIZES)
def test_what_a_client_of_others_sends(size: int) -> None:
    peer = Protocol(CLIENT, state=State.OPEN, max_size=None)
    peer.send_binary(payload(size))
    assert server_engine().receive_data(b"".join(peer.data_to_send())) == payload(size)


def test_fragments_and_pings_cut_anywhere() -> None:
    peer = Protocol(CLIENT, state=State.OPEN, max_size=None)
    peer.send_binary(b"abcde", fin=False)
    peer.send_ping(b"hello")
    peer.send_continuation(b"fgh", fin=True)
    peer.send_binary(payload(300))
    data = b"".join(peer.data_to_send())
    for step in (1, 2, 3, 7, len(data)):
        engine = server_engine()
        pieces = [data[start : start + step] for start in range(0, len(data), step)]
        assert b"".join(map(engine.receive_data, pieces)) == b"abcdefgh" + payload(300)
        assert engine.data_to_send() == b"\x8a\x05hello"
        assert engine.held_size == 0


def test_the_peer_closes() -> None:
    peer = Protocol(CLIENT, state=State.OPEN)
    peer.send_binary(b"last")
    peer.send_close(1001)
    engine = server_engine()
    assert engine.receive_data(b"".join(peer.data_to_send())) == b"last"
    assert engine.is_closed
    peer.receive_data(engine.data_to_send())
    assert peer.close_rcvd is not None
    assert peer.close_rcvd.code == 1001
    assert engine.receive_data(b"\xff\xff") == b""


def test_closing_first() -> None:
    engine, peer = client_engine(), Protocol(SERVER, state=State.OPEN)
    engine.close()
    engine.close()
    peer.receive_data(engine.data_to_send())
    assert peer.close_rcvd is not None
    assert peer.close_rcvd.code == 1000
    engine.receive_data(b"".join(peer.data_to_send()))
    assert engine.is_closed
    assert engine.data_to_send() == b""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x82\x01a", "unmasked"),
        (b"\xc2\x81" + MASK + b"a", "extension"),
        (b"\x81\x81" + MASK + b"a", "not binary"),
        (b"\x80\x81" + MASK + b"a", "fragment"),
        (b"\x02\x81" + MASK + b"a\x82\x81" + MASK + b"a", "fragment"),
        (b"\x89\xfe\x00\x7e", "control frame"),
        (b"\x09\x80" + MASK, "control frame"),
        (b"\x8b\x80" + MASK, "control frame"),
        (b"\x82\xff" + (FRAME_LIMIT + 1).to_bytes(8, "big"), "larger than"),
        (b"\x82\xff" + b"\xff" * 8, "larger than"),
    ],
)
def test_violations(data: bytes, reason: str) -> None:
    engine = server_engine()
    with pytest.raises(RemoteProtocolError, match=reason):
        engine.receive_data(data)
    assert engine.data_to_send() == b"\x88\x02\x03\xea"  # 1002
    assert engine.is_closed
    assert engine.held_size == 0


def test_a_masked_frame_of_a_server() -> None:
    with pytest.raises(RemoteProtocolError, match="a masked"):
        client_engine().receive_data(binary_message(b"a", MASK))


def test_frames_are_not_held() -> None:
    engine = server_engine()
    assert engine.receive_data(frame_head(FRAME_LIMIT, MASK)) == b""
    for _ in range(4):
        assert len(engine.receive_data(bytes(1000))) == 1000
        assert engine.held_size == 0


def test_handshake_of_the_other_implementation() -> None:
    """The keys agree with those of `websockets` in both roles."""
    client = ClientProtocol(parse_uri("ws://h/"))
    request = client.connect()
    response = ServerProtocol().accept(request)
    assert isinstance(response.headers, Headers)
    assert response.headers["Sec-WebSocket-Accept"] == accept_key(request.headers["Sec-WebSocket-Key"])
