"""RTSP in HTTP and WebSocket: requests as real clients send them, and base64 cut anywhere."""

from __future__ import annotations

import base64

import pytest

from polycast.errors import RemoteProtocolError
from polycast.wire.http.head import Head, HeadReader
from polycast.wire.rtsp.tunnel import (
    COOKIE_LIMIT,
    Base64Stream,
    Download,
    Upload,
    WebSocket,
    check_upgraded,
    download_request,
    encode,
    read_request,
    refusal,
    upgrade_request,
    upload_request,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="

# As FFmpeg 5.1, GStreamer 1.22, live555 and QuickTime write them.
DOWNLOADS = [
    "GET /cam HTTP/1.1\r\nUser-Agent: Lavf/59.27.100\r\nAccept: */*\r\nRange: bytes=0-\r\nConnection: close\r\n"
    "Host: h\r\nx-sessioncookie: 0a1b\r\nAccept: application/x-rtsp-tunnelled\r\nPragma: no-cache\r\n"
    "Cache-Control: no-cache\r\n\r\n",
    "GET /cam HTTP/1.0\r\nx-sessioncookie: 0a1b\r\nAccept: application/x-rtsp-tunnelled\r\nPragma: no-cache\r\n"
    "Cache-Control: no-cache\r\n\r\n",
    "GET /cam HTTP/1.1\r\nHost: h\r\nX-Sessioncookie: 0a1b\r\nAccept: application/x-rtsp-tunnelled\r\n"
    "Content-Length: 30000\r\n\r\n",
    "GET / HTTP/1.1\r\nCSeq: 1\r\nUser-Agent: x\r\nHost: h\r\nx-sessioncookie: 0a1b\r\n"
    "Accept: application/x-rtsp-tunnelled\r\n\r\n",
]


def parse(text: str | bytes) -> Head:
    found = HeadReader().receive_data(text.encode() if isinstance(text, str) else text)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("text", DOWNLOADS)
def test_get(text: str) -> None:
    request = read_request(parse(text))
    assert isinstance(request, Download)
    assert request.cookie == "0a1b"
    version = text.partition("HTTP/")[2][:3]
    assert request.response.startswith(f"HTTP/{version} 200 OK\r\n".encode())
    assert b"\r\nContent-Type: application/x-rtsp-tunnelled\r\n" in request.response
    assert b"Content-Length" not in request.response


def test_post() -> None:
    text = "POST /cam HTTP/1.0\r\nx-sessioncookie: 0a1b\r\nContent-Type: application/x-rtsp-tunnelled\r\n\r\n"
    request = read_request(parse(text))
    assert isinstance(request, Upload)
    assert request.cookie == "0a1b"


def test_websocket() -> None:
    request = read_request(parse(upgrade_request("/cam", "h:8554", KEY)))
    assert isinstance(request, WebSocket)
    found = HeadReader(is_response=True).receive_data(request.response)
    assert found is not None
    assert found[0].status == 101
    check_upgraded(found[0], KEY)
    with pytest.raises(RemoteProtocolError):
        check_upgraded(found[0], "AAAAAAAAAAAAAAAAAAAAAA==")


def test_our_own_requests() -> None:
    get = read_request(parse(download_request("/cam", "h:8554", "c", "Basic x")))
    post = read_request(parse(upload_request("/cam", "h:8554", "c")))
    assert isinstance(get, Download)
    assert isinstance(post, Upload)
    assert get.cookie == post.cookie == "c"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP request on the RTSP port"),
        ("PUT / HTTP/1.1\r\nHost: h\r\nx-sessioncookie: a\r\n\r\n", "HTTP request on the RTSP port"),
        ("GET / HTTP/1.1\r\nHost: h\r\nx-sessioncookie:\r\n\r\n", "must have 1 to"),
        (f"GET / HTTP/1.1\r\nHost: h\r\nx-sessioncookie: {'a' * (COOKIE_LIMIT + 1)}\r\n\r\n", "must have 1 to"),
        ("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "invalid WebSocket"),
        (upgrade_request("/", "h", KEY).replace(b"Version: 13", b"Version: 8").decode(), "version of WebSocket"),
        (upgrade_request("/", "h", KEY).replace(b"rtsp.onvif.org", b"chat").decode(), "sub-protocol rtsp.onvif.org"),
    ],
)
def test_no_tunnel(text: str, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        read_request(parse(text))


@pytest.mark.parametrize("status", [400, 431, 503, 505])
def test_refusal(status: int) -> None:
    head, _, body = refusal(status).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert f"\r\nContent-Length: {len(body)}".encode() in head


MESSAGES = [b"a", b"OPTIONS * RTSP/1.0\r\n\r\n", bytes(range(256)), b"ab", b"abc", b""]


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("between", [b"", b"\r\n", b" "])
def test_base64_cut_anywhere(step: int, between: bytes) -> None:
    data = between.join(map(encode, MESSAGES))
    stream = Base64Stream()
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    assert b"".join(map(stream.receive_data, pieces)) == b"".join(MESSAGES)
    assert stream.held_size == 0


def test_what_is_complete_comes_at_once() -> None:
    stream = Base64Stream()
    data = base64.b64encode(b"0123456789")
    assert stream.receive_data(data[:7]) == b"012"
    assert stream.receive_data(data[7:]) == b"3456789"


@pytest.mark.parametrize("data", [b"a", b"$$$$", b"====", b"AB=C", b"A===", b"AB=\x00", "ä".encode(), b"RTSP/1.0 "])
def test_no_base64(data: bytes) -> None:
    stream = Base64Stream()

    def receive() -> None:
        stream.receive_data(data)
        stream.receive_data(b"=Q==")

    with pytest.raises(RemoteProtocolError) as raised:
        receive()
    assert raised.value.status == 400
