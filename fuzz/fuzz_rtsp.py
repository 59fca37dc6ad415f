"""The RTSP byte stream: messages and interleaved frames, whole and in small pieces."""

from __future__ import annotations

from itertools import pairwise

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp import parser as parser_module
from polycast.wire.rtsp.interleaved import InterleavedRun, uniform_run
from polycast.wire.rtsp.message import Request, Response
from polycast.wire.rtsp.parser import Limits, MessageParser

SEEDS: list[bytes] = [
    b"OPTIONS rtsp://127.0.0.1:8554/cam RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: Lavf59.27.100\r\n\r\n",
    b"ANNOUNCE rtsp://h/p RTSP/1.0\r\nContent-Type: application/sdp\r\nCSeq: 2\r\nContent-Length: 5\r\n\r\nv=0\r\n",
    b"SETUP rtsp://h/p/streamid=0 RTSP/1.0\nTransport : RTP/AVP/TCP;unicast;interleaved=0-1\nCSeq:3\n\n",
    b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nSession: 1;timeout=60\r\nContent-Length: 3\r\n\r\n"
    b"abc$\x00\x00\x04rtp1$\x01\x00\x00",
    b"$\x00\x00\x02ab$\x01\x00\x03abc\r\nTEARDOWN * RTSP/1.0\r\n\r\n$\x02\x01\x00" + bytes(256),
    b"$\x00\x00\x05\x80abcd" * 5,
    b"$\x04\x00\x05\x80abcd" * 3 + b"$\x04\x00\x02\x80a",
    b"$\x00\x00\x01\x80" * 64 + b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"$\x00\x00\x08\x80abcdefg\x00\x00$\x00\x00\x08\x81abcdefg\x00TEARDOWN * RTSP/1.0\r\n\r\n"
    b"$$\x00RTSP/1.0 200 OK\r\n\r\n",
]
DICTIONARY: list[bytes] = [
    b"RTSP/1.0",
    b"\r\n",
    b"\r\n\r\n",
    b"Content-Length: ",
    b": ",
    b"$\x00\x00\x01",
    b"$\x00\x00\x02ab" * 3,
    b"$\x00\x00\x05\x80abcd",
    b"$\x04\x00\x02\x80a",
    b"CSeq: 1\r\n",
]

_PIECES = 64
_USUAL = Limits()
# Latin-1 text is written as UTF-8, which may take twice as many bytes.
_TWICE = Limits(
    url=2 * _USUAL.url,
    header_name=2 * _USUAL.header_name,
    header_value=2 * _USUAL.header_value,
    head=2 * _USUAL.head,
)


def _read(
    pieces: list[bytes], limits: Limits = _USUAL, *, has_shortcut: bool = True, channels: tuple[int, ...] = ()
) -> list[object]:
    """Return the messages and frames of reads; ``has_shortcut``: with the one for frames of one size."""
    parser_module.uniform_run = uniform_run if has_shortcut else lambda data, start, limit: None
    parser = MessageParser(limits)
    parser.expect_frames(channels)
    found: list[object] = []
    try:
        for piece in pieces:
            run = None
            if has_shortcut:
                run = parser.receive_run(piece)
            else:
                parser.receive_data(piece)
            while (event := run or parser.next_event()) is not None:
                run = None
                if isinstance(event, InterleavedRun):
                    found += [(channel, event.data[start:end]) for channel, start, end in event.frames()]
                else:
                    found.append(event)
    except RemoteProtocolError as error:
        found.append(error.status)
    finally:
        parser_module.uniform_run = uniform_run
    return found


def _cut_at_frames(data: bytes) -> list[bytes]:
    """Cut where a frame may begin, in such a way that some pieces have one of them and some have more."""
    places = [index for index, byte in enumerate(data) if byte == ord("$")]
    bounds = sorted({0, *places[::3], *places[1::7], len(data)})
    return [data[start:end] for start, end in pairwise(bounds)]


def fuzz_one(data: bytes) -> None:
    """Reading in pieces gives what reading at once gives; what was read can be written and read again."""
    whole = _read([data])
    step = max(1, len(data) // _PIECES)
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    if _read(pieces) != whole:
        raise ValueError("pieces are read differently")
    for reads in ([data], pieces, _cut_at_frames(data)):
        if _read(reads) != whole or _read(reads, has_shortcut=False) != whole:
            raise ValueError("frames of one size are read differently")
    # With stray bytes skipped, too.
    skipping = _read([data], channels=(0, 4))
    for reads in ([data], pieces, _cut_at_frames(data)):
        if any(_read(reads, has_shortcut=shortcut, channels=(0, 4)) != skipping for shortcut in (True, False)):
            raise ValueError("pieces are read differently where stray bytes are skipped")
    for event in (*whole, *skipping):
        if isinstance(event, Request | Response):
            written = event.serialize()
            [again] = _read([written], _TWICE)
            if not isinstance(again, Request | Response) or again.serialize() != written:
                raise ValueError("what was written is read differently")
