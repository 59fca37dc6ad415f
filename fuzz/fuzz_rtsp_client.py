"""Fuzz target: what servers send to an RTSP client that has asked something, whole and in pieces.

The first byte chooses the size of the pieces.
"""

from __future__ import annotations

from itertools import count

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.client import PENDING_LIMIT, Answered, ClientConnection, NotAnswered
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.message import Request, Response
from polycast.wire.rtsp.parser import Limits, MessageParser

_CHALLENGE = b'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"\r\n'

SEEDS: list[bytes] = [
    b"\x00"
    + b"".join(b"RTSP/1.0 200 OK\r\nCSeq: %d\r\nSession: S;timeout=5\r\n\r\n" % number for number in range(1, 7)),
    b"\x01RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n" + _CHALLENGE + b"\r\nRTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n",
    b"\x03RTSP/1.0 200 OK\r\n\r\nRTSP/1.0 454 X\r\n\r\nRTSP/1.0 100 Continue\r\nCSeq: 3\r\n\r\n$\x00\x00\x02\x80a",
    b"\x10OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\nTEARDOWN rtsp://h/p RTSP/1.0\r\nCSeq: 10\r\n\r\n",
    b"\xff$\x00\x00\x08\x80abcdefg\x00\x00$\x00\x00\x08\x80abcdefgRTSP/1.0 200 OK\r\nCSeq: 4\r\n\r\n",
]
DICTIONARY: list[bytes] = [
    b"RTSP/1.0 200 OK\r\n",
    b"RTSP/1.0 401 Unauthorized\r\n",
    b"\r\nCSeq: 2\r\n",
    b"Session: T\r\n",
    b"SET_PARAMETER ",
    b"REDIRECT ",
    _CHALLENGE,
]

_METHODS = ("DESCRIBE", "SETUP", "PLAY")


def fuzz_one(data: bytes) -> None:
    """Only RemoteProtocolError leaves the engine, pieces give what the whole gives, each request has one outcome."""
    piece, data = (data[0] or 1 << 16, data[1:]) if data else (1, data)
    if _run(data, 1 << 16) != _run(data, piece):
        raise AssertionError("the result depends on how the bytes were cut")


def _run(data: bytes, piece: int) -> list[str]:
    nonces = count(1)
    client = ClientConnection(("user", "pass"), new_nonce=lambda: str(next(nonces)))
    numbers = [client.send_request(method, "rtsp://h/p", now=0.0, patience=5.0) for method in _METHODS]
    client.send_request("TEARDOWN", "rtsp://h/p", now=0.0)
    client.expect_frames({0, 1})
    outcomes: list[int] = []
    happened: list[str] = []
    try:
        for position in range(0, len(data), piece):
            part = data[position : position + piece]
            while part or client.has_more:
                for event in client.receive_data(part, 1.0):
                    if isinstance(event, InterleavedRun):
                        happened += [f"{channel} {event.data[start:end]!r}" for channel, start, end in event.frames()]
                        continue
                    happened.append(repr(event))
                    if isinstance(event, Answered):
                        outcomes.append(event.number)
                part = b""
    except RemoteProtocolError as error:
        happened.append(str(error.status))  # the text quotes what there was at that time
    else:
        client.keep_alive("rtsp://h/p", {"GET_PARAMETER"}, 1.0)
        while (timeout := client.next_timeout()) is not None and timeout < 40.0:
            outcomes += [event.number for event in client.handle_timeout(timeout) if isinstance(event, NotAnswered)]
        if sorted(outcomes) != numbers:
            raise AssertionError("a request has no outcome, or two")
    if len(client._pending) > PENDING_LIMIT:
        raise AssertionError("too much is remembered")
    sent = client.data_to_send()
    _check_sent(sent)
    return [*happened, repr(sent)]


def _check_sent(data: bytes) -> None:
    parser = MessageParser(Limits(header_value=1 << 16, head=1 << 20))  # what servers tell comes back in requests
    parser.receive_data(data)
    while (message := parser.next_event()) is not None:
        if not isinstance(message, Request | Response):
            raise AssertionError("what was sent cannot be read")
