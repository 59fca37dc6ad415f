"""Bytes that belong to nothing, between frames and messages."""

from __future__ import annotations

import random

import pytest
from tests.wire.rtsp.test_rtsp_parser import events, frame

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.message import Method, Request, Response
from polycast.wire.rtsp.parser import MessageParser
from polycast.wire.rtsp.resynchronization import FALSE_START_LIMIT, SKIP_LIMIT

PACKET = b"\x80\x60" + bytes(range(40))
REPORT = b"\x81\xc9\x00\x01abcd"
TEARDOWN = b"TEARDOWN rtsp://h/p RTSP/1.0\r\nCSeq: 1\r\n\r\n"
ANSWER = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"

STRAY = [
    b"\0",
    b"\0\0\0",
    b"$",
    b"$$$$",
    b"R",
    b"RTSP",
    b"GET",
    b"\xff" * 300,
    b"$\x09\x00\x20" + bytes(10),  # a channel that is not in use, and no RTP
    b"\x00$\x00\x00\x04\x80abc",  # too short for RTCP
    b"\x00$\x00\x00\x20\x00abc",  # not version 2
    b"OPTIONS it is not\r\n\x00",
    b"RTSP/2.0 200 OK\r\n\x00",
    b"\r\n\0\r\n",
    bytes(range(0x25, 0x52)) * 7,
]


def parser_of(*channels: int) -> MessageParser:
    parser = MessageParser()
    parser.expect_frames(channels)
    return parser


def read(parser: MessageParser, data: bytes, step: int) -> list[object]:
    found: list[object] = []
    for start in range(0, len(data), step):
        parser.receive_data(data[start : start + step])
        found += events(parser)
    return found


@pytest.mark.parametrize("stray", STRAY, ids=repr)
@pytest.mark.parametrize("step", [1, 3, 7, 1 << 20])
def test_stray_bytes_are_skipped(stray: bytes, step: int) -> None:
    parser = parser_of(0, 1)
    data = frame(0, PACKET) + stray + frame(1, REPORT) + stray + TEARDOWN + frame(0, PACKET) + stray + ANSWER
    found = read(parser, data, step)
    assert [type(event) for event in found] == [tuple, tuple, Request, tuple, Response]
    assert found[0] == found[3] == (0, PACKET)
    assert found[1] == (1, REPORT)
    # Letters before a request make it one with an unknown method; line ends are no stray bytes.
    if not stray.isalpha() and not stray.endswith(b"\n"):
        assert parser.skipped == 3 * len(stray)
    assert not parser.is_incomplete


@pytest.mark.parametrize("stray", STRAY, ids=repr)
def test_without_known_channels_nothing_is_skipped(stray: bytes) -> None:
    parser = parser_of(0, 1)
    parser.expect_frames(())
    parser.receive_data(stray + bytes(5000))
    if not stray.startswith(b"$"):
        with pytest.raises(RemoteProtocolError):
            events(parser)
    assert parser.skipped == 0


@pytest.mark.parametrize("method", list(Method))
def test_requests_are_found(method: Method) -> None:
    for url in (b"rtsp://h/p", b"rtsps://h/p", b"*", b"/p"):
        parser = parser_of(0)
        parser.receive_data(b"\0QTO" + method.encode() + b" " + url + b" RTSP/1.0\r\n\r\n")
        [request] = events(parser)
        assert isinstance(request, Request)
        assert request.method == method


def test_packets_in_order_are_read_as_usual() -> None:
    """A method that nobody knows, a frame of a channel that was not set up, an empty frame."""
    parser = parser_of(0)
    data = frame(0, b"") + frame(6, PACKET) + b"\r\nx-ping * RTSP/1.0\r\n\r\n" + frame(0, b"no RTP") + frame(6, PACKET)
    for step in (1, 5, 1000):
        found = read(parser, data, step)
        assert found[:2] == [(0, b""), (6, PACKET)]
        assert isinstance(found[2], Request)
        assert found[3:] == [(0, b"no RTP"), (6, PACKET)]
    assert parser.skipped == 0


def test_the_limit_is_one_of_bytes_in_a_row() -> None:
    parser = parser_of(0)
    for _ in range(3):
        parser.receive_data(bytes(SKIP_LIMIT))
        assert events(parser) == []
        parser.receive_data(frame(0, PACKET))
        assert events(parser) == [(0, PACKET)]
    assert parser.skipped == 3 * SKIP_LIMIT
    parser.receive_data(bytes(SKIP_LIMIT + 1))
    with pytest.raises(RemoteProtocolError, match="bytes between two frames"):
        events(parser)


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_the_number_of_false_starts_is_limited(step: int) -> None:
    """Each makes the parser look at a line."""
    stray = b"OPTIONS rtsp://h/p RTSP/2.0\n"
    parser = parser_of(0)
    for _ in range(3):
        assert read(parser, stray * FALSE_START_LIMIT + frame(0, PACKET), step) == [(0, PACKET)]
    with pytest.raises(RemoteProtocolError, match="bytes between two frames"):
        read(parser, stray * (FALSE_START_LIMIT + 1), step)


def test_frames_of_one_size_behind_stray_bytes() -> None:
    parser = parser_of(0)
    read_at_once = frame(0, PACKET) * 3
    parser.receive_data(bytes(7))
    assert events(parser) == []
    for _ in range(2):
        parser.receive_data(read_at_once)
        assert events(parser) == [(0, PACKET)] * 3
    assert parser.skipped == 7


@pytest.mark.parametrize("seed", range(20))
def test_noise(seed: int) -> None:
    """Hardly ever is noise taken for a frame, and then it costs what is inside it."""
    source = random.Random(seed)
    data = b"".join(frame(0, PACKET) + source.randbytes(source.randrange(200)) for _ in range(50))
    parser = parser_of(0, 1)
    found = read(parser, data, source.choice((1, 100, 1 << 20)))
    assert sum(event == (0, PACKET) for event in found) >= 45
