"""The HTTP/2 engine: whole and in small pieces, with requests answered at the end, and at once."""

from __future__ import annotations

from tests.wire.http.cases import BLOCK, HTTP2_CASES, PREFACE, START, frame, get
from tests.wire.http.support import DATE, converse, pieces, take

from polycast.errors import RemoteProtocolError
from polycast.wire.http.http2 import Http2Connection
from polycast.wire.http.http2_limits import CONTROL_LIMIT, MAXIMUM_STREAMS
from polycast.wire.http.message import Request
from polycast.wire.http.response import Response

SEEDS: list[bytes] = [PREFACE, *(START + case.data for case in HTTP2_CASES if len(case.data) < 8192)]
DICTIONARY: list[bytes] = [
    BLOCK,
    *(get(stream) for stream in (1, 3, 5)),
    *(frame(kind, flags, stream) for kind in range(10) for flags, stream in ((0, 0), (1, 1), (4, 1), (0, 3), (8, 3))),
    frame(8, 0, 0, b"\0\0\x10\0"),
    frame(4, 0, 0, b"\0\x04\0\0\0\x05"),
]

_PIECES = 64
_LARGE = Response(200, [], bytes(100_000))


def _read(data: bytes, size: int) -> tuple[list[object], bytes, str | None]:
    """Read everything, then answer."""
    engine = Http2Connection()
    error = None
    try:
        for piece in pieces(data, size):
            engine.receive_data(piece)
    except RemoteProtocolError as raised:
        error = str(raised)
    if len(engine._streams) > MAXIMUM_STREAMS or len(engine._output.control) > CONTROL_LIMIT + 64:
        raise ValueError("a limit does not hold")
    found: list[object] = []
    streams = []
    while (event := engine.next_event()) is not None:
        if isinstance(event, Request):
            found.append((event.stream, event.method, event.target, event.headers, event.body, event.is_truncated))
            streams.append(event.stream)
        else:
            found.append(event.stream)
    for stream in streams:
        engine.respond(stream, _LARGE, DATE)
    return found, take(engine, 30_000), error


def _check_frames(sent: bytes) -> None:
    """Frames are whole, and none is larger than the engine makes them."""
    position = 0
    while position < len(sent):
        length = int.from_bytes(sent[position : position + 3], "big")
        if length > 4 * 16_384:
            raise ValueError("a frame that is too large")
        position += 9 + length
    if position != len(sent):
        raise ValueError("a frame that is cut")


def fuzz_one(data: bytes) -> None:
    """Reading in pieces gives what reading at once gives; answering meanwhile breaks nothing."""
    whole = _read(data, max(1, len(data)))
    _check_frames(whole[1])
    size = max(1, len(data) // _PIECES)
    if _read(data, size) != whole:
        raise ValueError("pieces are read differently")
    for answer in (_LARGE, None):
        _, sent, _ = converse(Http2Connection(), pieces(data, size), lambda _, answer=answer: answer)
        _check_frames(sent)
