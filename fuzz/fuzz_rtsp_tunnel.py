"""RTSP through HTTP and WebSocket: heads, base64 and frames, whole and in pieces.

The first byte chooses what the rest is: a request on the port of a server, base64, frames of a client or of a server,
or the response of a server.
"""

from __future__ import annotations

from collections.abc import Callable

from polycast.errors import RemoteProtocolError
from polycast.wire.http.head import Head, HeadReader
from polycast.wire.http.websocket import CONTROL_LIMIT, WebSocketConnection, binary_message
from polycast.wire.rtsp.tunnel import (
    Base64Stream,
    check_upgraded,
    download_request,
    encode,
    read_request,
    upgrade_request,
    upload_request,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x11\x22\x33\x44"

SEEDS: list[bytes] = [
    b"\x00" + download_request("/cam", "h:8554", "abc"),
    b"\x00" + upload_request("/cam", "h:8554", "abc") + encode(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
    b"\x00" + upgrade_request("/cam", "h:8554", KEY) + binary_message(b"OPTIONS * RTSP/1.0\r\n\r\n", MASK),
    b"\x00GET / HTTP/1.0\r\nx-sessioncookie: \r\n\r\n",
    b"\x01" + encode(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n") + encode(b"a") + b"\r\n" + encode(b"$\x00\x00\x02ab"),
    b"\x02" + binary_message(b"abc", MASK) + binary_message(bytes(300), MASK) + b"\x89\x82aaaabc\x88\x82aaaa\x03\xe8",
    b"\x02\x02\x83aaaabcd\x80\x81aaaab",
    b"\x03" + binary_message(bytes(70_000 % 4096)) + b"\x8a\x00\x89\x03abc\x88\x00",
    b"\x04HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: rtsp.onvif.org\r\n\r\n\x82\x01a",
    b"\x04HTTP/1.0 200 OK\r\nContent-Type: application/x-rtsp-tunnelled\r\n\r\n$\x00\x00\x01a",
]
DICTIONARY: list[bytes] = [
    b"x-sessioncookie: ",
    b"Upgrade: websocket\r\n",
    b"Sec-WebSocket-Key: ",
    b"\r\n\r\n",
    b"HTTP/1.1",
    b"==",
    b"\x82\xfe",
    b"\x82\xff\x00\x00\x00\x00",
    b"\x89\x80",
    b"\x00\x80",
    MASK,
]

_PIECES = 48


def _pieces(data: bytes) -> list[bytes]:
    step = max(1, len(data) // _PIECES)
    return [data[start : start + step] for start in range(0, len(data), step)]


def _read_head(pieces: list[bytes], *, is_response: bool) -> object:
    reader = HeadReader(is_response=is_response)
    try:
        for number, piece in enumerate(pieces):
            found = reader.receive_data(piece)
            if found is not None:
                return found[0], found[1] + b"".join(pieces[number + 1 :])
    except RemoteProtocolError as error:
        return error.status
    return None


def _use(head: Head, *, is_response: bool) -> None:
    try:
        if is_response:
            check_upgraded(head, KEY)
        else:
            read_request(head)
    except RemoteProtocolError:
        pass


def _stream(receive: Callable[[bytes], bytes], pieces: list[bytes]) -> tuple[bytes, bool]:
    """Return what was read, and whether there was an error. What precedes an error may be read or not."""
    found = b""
    try:
        for piece in pieces:
            found += receive(piece)
    except RemoteProtocolError:
        return found, True
    return found, False


def _check_heads(data: bytes, *, is_response: bool) -> None:
    whole = _read_head([data], is_response=is_response)
    pieces = _read_head(_pieces(data), is_response=is_response)
    if whole != pieces:
        raise ValueError("a head is read differently in pieces")
    if isinstance(whole, tuple):
        _use(whole[0], is_response=is_response)


def _check_stream(make: Callable[[], Callable[[bytes], bytes]], data: bytes) -> None:
    whole, failed = _stream(make(), [data])
    pieces, failed_too = _stream(make(), _pieces(data))
    if failed is not failed_too or not pieces.startswith(whole) or (not failed and pieces != whole):
        raise ValueError("a stream is read differently in pieces")


def _websocket(*, is_client: bool) -> Callable[[bytes], bytes]:
    engine = WebSocketConnection(is_client=is_client, new_mask=lambda: MASK if is_client else b"")

    def receive(data: bytes) -> bytes:
        found = engine.receive_data(data)
        engine.data_to_send()
        if engine.held_size > CONTROL_LIMIT + 14:
            raise ValueError("more than a control frame is held")
        return found

    return receive


def fuzz_one(data: bytes) -> None:
    """Reading in pieces gives what reading at once gives, and nothing but RemoteProtocolError comes out."""
    if not data:
        return
    kind, data = data[0] % 5, data[1:]
    if kind in (0, 4):
        _check_heads(data, is_response=kind == 4)
    elif kind == 1:
        _check_stream(lambda: Base64Stream().receive_data, data)
    else:
        _check_stream(lambda: _websocket(is_client=kind == 3), data)
