"""Drives the engines as a connection does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from polycast.errors import RemoteProtocolError
from polycast.wire.http.http1 import Http1Connection
from polycast.wire.http.http2 import Http2Connection
from polycast.wire.http.message import Request, Reset
from polycast.wire.http.response import Response

DATE = b"Thu, 01 Jan 1970 00:00:00 GMT"
ANSWER = Response(200, [(b"content-type", b"text/plain")], b"the answer")

Engine = Http1Connection | Http2Connection


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Return the data in pieces of a size."""
    return (data[start : start + size] for start in range(0, len(data), size))


def take(engine: Engine, limit: int = 1 << 20) -> bytes:
    """Take all that may be sent now."""
    taken = bytearray()
    while parts := engine.data_to_send(limit):
        taken += b"".join(parts)
    return bytes(taken)


def converse(
    engine: Engine, data: Iterable[bytes], answer: Callable[[Request], Response | None] = lambda _: ANSWER
) -> tuple[list[Request | Reset], bytes, RemoteProtocolError | None]:
    """Feed pieces and answer each request at once; return what happened, what was sent, and the error that ended it."""
    events: list[Request | Reset] = []
    sent = bytearray()
    for piece in data:
        error = None
        try:
            engine.receive_data(piece)
        except RemoteProtocolError as raised:
            error = raised
        while True:
            event = engine.next_event()
            if event is None:
                sent += take(engine)
                event = engine.next_event()
                if event is None:
                    break
            events.append(event)
            if isinstance(event, Request):
                response = answer(event)
                if response is not None:
                    engine.respond(event.stream, response, DATE, head=event.method == "HEAD")
        sent += take(engine)
        if error is not None:
            return events, bytes(sent), error
    return events, bytes(sent), None
