"""The HTTP/1.1 engine: whole, in small pieces, and once more, with each request answered at once."""

from __future__ import annotations

from tests.wire.http.cases import HTTP1_CASES
from tests.wire.http.support import converse, pieces

from polycast.wire.http.http1 import Http1Connection
from polycast.wire.http.http1_reader import HEAD_LIMIT, RequestCache
from polycast.wire.http.message import HEADER_COUNT_LIMIT, TARGET_LIMIT, Request

SEEDS: list[bytes] = [case.data for case in HTTP1_CASES if len(case.data) < 4096]
DICTIONARY: list[bytes] = [
    b"\r\n",
    b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"Host: ",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    b"3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.0",
]

_PIECES = 64


def _read(data: bytes, size: int, known: RequestCache) -> tuple[list[object], bytes, int | None]:
    engine = Http1Connection(known)
    events, sent, error = converse(engine, pieces(data, size))
    found: list[object] = []
    for event in events:
        if not isinstance(event, Request):
            raise TypeError("an event that HTTP/1.1 does not have")
        if len(event.target) > TARGET_LIMIT or len(event.headers) > HEADER_COUNT_LIMIT:
            raise ValueError("a limit does not hold")
        if any(byte <= 0x20 for byte in event.target) or any(b"\n" in value for _, value in event.headers):
            raise ValueError("a request with characters that would split it")
        found.append((event.method, event.target, event.headers, event.body, event.is_truncated))
    if error is not None and not engine.is_finished:
        raise ValueError("the connection goes on after a mistake")
    # Whether a client still waits for permission to send its body depends on what it has sent by then.
    return found, sent.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""), None if error is None else error.status


def fuzz_one(data: bytes) -> None:
    """Reading in pieces, and what was read before, gives what reading at once gives, to the byte that is sent."""
    known = RequestCache()
    whole = _read(data, max(1, len(data)), known)
    if _read(data, max(1, len(data)), known) != whole:
        raise ValueError("what was read before is read differently")
    in_pieces = _read(data, max(1, len(data) // _PIECES), known)
    if len(data) <= HEAD_LIMIT and in_pieces != whole:
        raise ValueError("pieces are read differently")
