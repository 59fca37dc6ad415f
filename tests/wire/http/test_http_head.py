"""The head of a request or response, cut anywhere."""

from __future__ import annotations

import pytest

from polycast.errors import RemoteProtocolError
from polycast.wire.http.head import HEAD_LIMIT, HEADER_COUNT_LIMIT, HeadReader

REQUEST = b"GET /cam?x=1 HTTP/1.0\r\nHost: h\r\nX-SessionCookie:  abc \r\nContent-Length: 30000\r\n\r\nrest"
UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n\x82\x80"
RESPONSE = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=a\r\nWWW-Authenticate: Digest realm=b\r\n\r\nx"


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_request(step: int) -> None:
    reader = HeadReader()
    found = None
    for start in range(0, len(REQUEST), step):
        found = reader.receive_data(REQUEST[start : start + step])
        if found is not None:
            break
        assert reader.held_size == min(start + step, len(REQUEST))
    assert found is not None
    head, rest = found
    assert (head.method, head.target, head.version, head.status) == ("GET", "/cam?x=1", "1.0", 0)
    assert head.fields["x-sessioncookie"] == "abc"
    assert b"rest".startswith(rest)


def test_upgrade() -> None:
    found = HeadReader().receive_data(UPGRADE)
    assert found is not None
    assert found[0].words("connection") == ["keep-alive", "Upgrade"]
    assert found[1] == b"\x82\x80"


def test_response() -> None:
    found = HeadReader(is_response=True).receive_data(RESPONSE)
    assert found is not None
    assert found[0].status == 401
    assert found[0].values("www-authenticate") == ["Basic realm=a", "Digest realm=b"]
    assert found[0].fields["www-authenticate"] == "Basic realm=a"
    assert found[1] == b"x"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * HEAD_LIMIT, 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (HEADER_COUNT_LIMIT + 1) + b"\r\n", 431),
        (b"GET /" + b"a" * HEAD_LIMIT, 431),
        (b"\0\1\2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
    ],
)
def test_invalid(data: bytes, status: int) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        HeadReader().receive_data(data)
    assert raised.value.status == status
