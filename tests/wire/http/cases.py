"""Bytes that HTTP clients send, good and bad ones, and what they mean: for both engines and their fuzz targets."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from polycast.wire.http.http1 import PIPELINE_LIMIT
from polycast.wire.http.http1_reader import HEAD_LIMIT
from polycast.wire.http.message import BODY_LIMIT, HEADER_COUNT_LIMIT, TARGET_LIMIT

CURL = b"GET /cam/index.m3u8?a=b HTTP/1.1\r\nHost: 127.0.0.1:8888\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n"
CURL_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8888\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
)
WGET = b"GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@dataclass(frozen=True)
class Http1Case:
    """What a client sends, the requests in it (method, target), and the statuses the engine itself answers with."""

    name: str
    data: bytes
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    status: int | None = None
    goes_on: bool = True
    """Whether the connection is kept."""


def _with(line: bytes, start: bytes = b"GET / HTTP/1.1\r\nHost: h\r\n") -> bytes:
    return start + line + b"\r\n\r\n"


_ONE = [("GET", b"/")]
_LARGEST = bytes(BODY_LIMIT)
_POST = b"POST / HTTP/1.1\r\nHost: h\r\n"

HTTP1_CASES = [
    Http1Case("curl", CURL, [("GET", b"/cam/index.m3u8?a=b")]),
    Http1Case("upgrade is ignored", CURL_UPGRADE + GET, _ONE * 2),
    Http1Case("HTTP/1.0", WGET, [("GET", b"/a")], goes_on=False),
    Http1Case("HTTP/1.0 without Host", b"HEAD / HTTP/1.0\r\n\r\n", [("HEAD", b"/")], goes_on=False),
    Http1Case("pipelined", GET * 3, _ONE * 3),
    Http1Case("many pipelined", GET * (2 * PIPELINE_LIMIT), _ONE * (2 * PIPELINE_LIMIT)),
    Http1Case("empty lines before", b"\r\n\r\n" + GET, _ONE),
    Http1Case("absolute form", b"GET http://h/a?b HTTP/1.1\r\nHost: h\r\n\r\n", [("GET", b"http://h/a?b")]),
    Http1Case("asterisk form", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", [("OPTIONS", b"*")]),
    Http1Case("close", _with(b"Connection: close"), _ONE, goes_on=False),
    Http1Case("close, and more", _with(b"Connection: close") + GET, _ONE, goes_on=False),
    Http1Case("close, and junk", _with(b"Connection: close") + b"\0\0\xff", _ONE, goes_on=False),
    Http1Case("an empty body", _with(b"Content-Length: 0") + GET, _ONE * 2),
    Http1Case("a body", _with(b"Content-Length: 5") + b"12345" + GET, _ONE * 2),
    Http1Case(
        "a body, and junk", _with(b"Content-Length: 5", _POST) + b"12345\xff", [("POST", b"/")], 400, goes_on=False
    ),
    Http1Case("half a body", _with(b"Content-Length: 5", _POST) + b"12"),
    Http1Case("chunks", _with(b"Transfer-Encoding: chunked") + b"2\r\nab\r\n0\r\nX: y\r\n\r\n" + GET, _ONE * 2),
    Http1Case("a body in HTTP/1.0", b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab", [("POST", b"/")], goes_on=False),
    Http1Case("the largest body", _with(b"Content-Length: %d" % BODY_LIMIT, _POST) + _LARGEST, [("POST", b"/")]),
    Http1Case(
        "a larger body",
        _with(b"Content-Length: %d" % (BODY_LIMIT + 1), _POST) + _LARGEST,
        [("POST", b"/")],
        goes_on=False,
    ),
    Http1Case("a body of 10**30 bytes", _with(b"Content-Length: 1" + b"0" * 30, _POST), [], 400, goes_on=False),
    Http1Case(
        "larger chunks",
        _with(b"Transfer-Encoding: chunked", _POST) + b"8000\r\n%b\r\n" % bytes(0x8000) * 3 + b"0\r\n\r\n" + GET,
        [("POST", b"/")],
        goes_on=False,
    ),
    Http1Case(
        "a chunk extension without end",
        _with(b"Transfer-Encoding: chunked", _POST) + b"2;a=" + b"b" * 200_000,
        [],
        431,
        goes_on=False,
    ),
    Http1Case(
        "a trailer without end",
        _with(b"Transfer-Encoding: chunked", _POST) + b"0\r\nA: " + b"b" * 200_000,
        [],
        431,
        goes_on=False,
    ),
    Http1Case("Host with user information", b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", [], 400, goes_on=False),
    Http1Case("Host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", [], 400, goes_on=False),
    Http1Case("Host with brackets", b"GET / HTTP/1.1\r\nHost: [::1]:8888\r\n\r\n", _ONE),
    Http1Case("Host with half a bracket", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", [], 400, goes_on=False),
    Http1Case("an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", _ONE),
    Http1Case("a tunnel", b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n\x16", [("CONNECT", b"h:1")], goes_on=False),
    Http1Case("good, then bad", GET + b"junk\r\n\r\n", _ONE, 400, goes_on=False),
    Http1Case("no Host", b"GET / HTTP/1.1\r\n\r\n", [], 400, goes_on=False),
    Http1Case("two Hosts", _with(b"Host: h"), [], 400, goes_on=False),
    Http1Case("HTTP/0.9", b"GET /\r\n\r\n", [], 505, goes_on=False),
    Http1Case("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", [], 505, goes_on=False),
    Http1Case("RTSP", b"OPTIONS rtsp://h:8888/cam RTSP/1.0\r\nCSeq: 1\r\n\r\n", [], 505, goes_on=False),
    Http1Case("bare LF", b"GET / HTTP/1.1\nHost: h\n\n", [], 400, goes_on=False),
    Http1Case("folded header", _with(b"A: b\r\n c"), [], 400, goes_on=False),
    Http1Case("space before colon", _with(b"A : b"), [], 400, goes_on=False),
    Http1Case("NUL in a header", _with(b"A: b\0c"), [], 400, goes_on=False),
    Http1Case("lone CR in a header", _with(b"A: b\rc"), [], 400, goes_on=False),
    Http1Case("control character in the target", b"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n", [], 400, goes_on=False),
    Http1Case("two lengths", _with(b"Content-Length: 1\r\nContent-Length: 2"), [], 400, goes_on=False),
    Http1Case("length and chunks", _with(b"Content-Length: 1\r\nTransfer-Encoding: chunked"), [], 400, goes_on=False),
    Http1Case("negative length", _with(b"Content-Length: -1"), [], 400, goes_on=False),
    Http1Case("signed length", _with(b"Content-Length: +0"), [], 400, goes_on=False),
    Http1Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00", [], 400, goes_on=False),
    Http1Case("half a head", GET[:-2]),
    Http1Case(
        "the longest target",
        b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"a" * (TARGET_LIMIT - 1)),
        [("GET", b"/" + b"a" * (TARGET_LIMIT - 1))],
    ),
    Http1Case("a longer target", b"GET /%b HTTP/1.1\r\n\r\n" % (b"a" * TARGET_LIMIT), [], 414, goes_on=False),
    Http1Case("a target without end", b"GET /" + b"a" * HEAD_LIMIT * 2, [], 414, goes_on=False),
    Http1Case("the most headers", _with(b"\r\n".join([b"A: b"] * (HEADER_COUNT_LIMIT - 1))), _ONE),
    Http1Case("more headers", _with(b"\r\n".join([b"A: b"] * HEADER_COUNT_LIMIT)), [], 431, goes_on=False),
    Http1Case("a header without end", b"GET / HTTP/1.1\r\nA: " + b"b" * HEAD_LIMIT * 2, [], 431, goes_on=False),
]  # fmt: skip

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS = 4
PADDED = 8
PRIORITY_FLAG = 32


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame (RFC 9113 section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """Return a field without compression (RFC 7541 section 6.2.2); for texts shorter than 127 bytes."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


# :method GET, :scheme http, :path / of the static table (RFC 7541 appendix A), and an authority.
BLOCK = b"\x82\x86\x84" + b"\x01\x01h"
BLOCK_POST = b"\x83\x86\x84" + b"\x01\x01h"
START = PREFACE + frame(SETTINGS, 0, 0)
WHOLE = END_HEADERS | END_STREAM
# RFC 7541 appendix C.4.1: a first request with Huffman code, which grows the table.
BLOCK_HUFFMAN = bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")


def get(stream: int, block: bytes = BLOCK) -> bytes:
    """Return a request without a body."""
    return frame(HEADERS, WHOLE, stream, block)


def long(value: int) -> bytes:
    return struct.pack(">I", value)


@dataclass(frozen=True)
class Http2Case:
    """What a client sends after its preface and SETTINGS, the streams of its requests, and how it ends."""

    name: str
    data: bytes
    streams: list[int] = field(default_factory=list)
    resets: dict[int, int] = field(default_factory=dict)
    """Streams that the engine resets, with the error code."""
    error: int | None = None
    """Error code of the engine's GOAWAY."""


NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)

_OPEN = frame(HEADERS, END_HEADERS, 1, BLOCK_POST)
_BAD = {1: PROTOCOL_ERROR}

HTTP2_CASES = [
    Http2Case("a request", get(1), [1]),
    Http2Case("Huffman code", get(1, BLOCK_HUFFMAN) + get(3, bytes.fromhex("828684be5886a8eb10649cbf")), [1, 3]),
    Http2Case("two requests, streams left out", get(1) + get(7), [1, 7]),
    Http2Case(
        "padding and priority",
        frame(HEADERS, WHOLE | PADDED | PRIORITY_FLAG, 1, b"\x03" + bytes(5) + BLOCK + b"\0\0\0"),
        [1],
    ),
    Http2Case(
        "in three frames",
        frame(HEADERS, END_STREAM, 1, BLOCK[:2])
        + frame(CONTINUATION, 0, 1, BLOCK[2:4])
        + frame(CONTINUATION, END_HEADERS, 1, BLOCK[4:]),
        [1],
    ),
    Http2Case("unknown frames", frame(200, 255, 1, b"x") + get(1) + frame(99, 0, 0), [1]),
    Http2Case("reserved bit", get(1 | 1 << 31), [1]),
    Http2Case("PING", frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, b"12345678")),
    Http2Case("unknown setting", frame(SETTINGS, 0, 0, struct.pack(">HI", 99, 1)) + frame(SETTINGS, ACK, 0)),
    Http2Case("a body", _OPEN + frame(DATA, 0, 1, b"x" * 99) + frame(DATA, END_STREAM, 1), [1]),
    Http2Case("a padded body", _OPEN + frame(DATA, PADDED | END_STREAM, 1, b"\x02ab\0\0"), [1]),
    Http2Case("trailers", _OPEN + frame(DATA, 0, 1, b"x") + get(1, literal(b"a", b"b")), [1]),
    Http2Case(
        "a reset",
        _OPEN
        + frame(RST_STREAM, 0, 1, long(CANCEL))
        + frame(WINDOW_UPDATE, 0, 1, long(9))
        + frame(RST_STREAM, 0, 1, long(CANCEL)),
    ),
    Http2Case("a reset of a whole request", get(1) + frame(RST_STREAM, 0, 1, long(CANCEL)), [1]),
    Http2Case("GOAWAY", get(1) + frame(GOAWAY, 0, 0, bytes(8)) + get(3), [1], {3: REFUSED_STREAM}),
    Http2Case("PRIORITY", frame(PRIORITY, 0, 5, bytes(5)) + get(1) + frame(PRIORITY, 0, 1, bytes(5)) + get(5), [1, 5]),
    Http2Case(
        "content-length",
        frame(HEADERS, END_HEADERS, 1, BLOCK_POST + literal(b"content-length", b"2"))
        + frame(DATA, END_STREAM, 1, b"ab"),
        [1],
    ),
    Http2Case(
        "content-length too large",
        frame(HEADERS, END_HEADERS, 1, BLOCK_POST + literal(b"content-length", b"3"))
        + frame(DATA, END_STREAM, 1, b"ab"),
        [],
        _BAD,
    ),
    Http2Case("content-length without body", get(1, BLOCK + literal(b"content-length", b"3")), [], _BAD),
    Http2Case("content-length that is none", get(1, BLOCK + literal(b"content-length", b"-1")), [], _BAD),
    Http2Case("upper case", get(1, BLOCK + literal(b"Aa", b"b")), [], _BAD),
    Http2Case("space in a name", get(1, BLOCK + literal(b"a b", b"b")), [], _BAD),
    Http2Case("empty name", get(1, BLOCK + literal(b"", b"b")), [], _BAD),
    Http2Case("CR LF in a value", get(1, BLOCK + literal(b"a", b"b\r\nc: d")), [], _BAD),
    Http2Case("NUL in a value", get(1, BLOCK + literal(b"a", b"b\0")), [], _BAD),
    Http2Case("space around a value", get(1, BLOCK + literal(b"a", b" b")), [], _BAD),
    Http2Case("connection", get(1, BLOCK + literal(b"connection", b"close")), [], _BAD),
    Http2Case(
        "te",
        get(1, BLOCK + literal(b"te", b"trailers")) + get(3, BLOCK + literal(b"te", b"gzip")),
        [1],
        {3: PROTOCOL_ERROR},
    ),
    Http2Case("pseudo-header field after others", get(1, BLOCK[:2] + literal(b"a", b"b") + BLOCK[2:]), [], _BAD),
    Http2Case("pseudo-header field twice", get(1, BLOCK + b"\x84"), [], _BAD),
    Http2Case("unknown pseudo-header field", get(1, BLOCK + literal(b":a", b"b")), [], _BAD),
    Http2Case("no path", get(1, b"\x82\x86"), [], _BAD),
    Http2Case("no method", get(1, b"\x86\x84"), [], _BAD),
    Http2Case("no scheme", get(1, b"\x82\x84"), [], _BAD),
    Http2Case("line break in the path", get(1, b"\x82\x86" + literal(b":path", b"/\r\na: b")), [], _BAD),
    Http2Case("line break in the authority", get(1, b"\x82\x86\x84" + literal(b":authority", b"h\r\n")), [], _BAD),
    Http2Case(
        "too many headers", get(1, BLOCK + literal(b"a", b"b") * HEADER_COUNT_LIMIT + literal(b"a", b"b")), [], _BAD
    ),
    Http2Case("pseudo-header field in trailers", _OPEN + get(1, b"\x84"), [], _BAD),
    Http2Case("trailers that do not end", _OPEN + frame(HEADERS, END_HEADERS, 1, literal(b"a", b"b")), [], _BAD),
    Http2Case(
        "window of a stream too large",
        _OPEN + frame(WINDOW_UPDATE, 0, 1, long(2**31 - 1)),
        [],
        {1: FLOW_CONTROL_ERROR},
    ),
    Http2Case("window of a stream by nothing", _OPEN + frame(WINDOW_UPDATE, 0, 1, long(0)), [], _BAD),
    Http2Case("window too large", frame(WINDOW_UPDATE, 0, 0, long(2**31 - 1)), [], {}, FLOW_CONTROL_ERROR),
    Http2Case("window by nothing", frame(WINDOW_UPDATE, 0, 0, long(0)), [], {}, PROTOCOL_ERROR),
    Http2Case(
        "window of a stream too large by settings",
        _OPEN
        + frame(WINDOW_UPDATE, 0, 1, long(2**30))
        + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**30))
        + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31 - 1)),
        [],
        {},
        FLOW_CONTROL_ERROR,
    ),
    Http2Case(
        "INITIAL_WINDOW_SIZE too large", frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)), [], {}, FLOW_CONTROL_ERROR
    ),
    Http2Case("MAX_FRAME_SIZE too small", frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 16383)), [], {}, PROTOCOL_ERROR),
    Http2Case("MAX_FRAME_SIZE too large", frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 2**24)), [], {}, PROTOCOL_ERROR),
    Http2Case("ENABLE_PUSH", frame(SETTINGS, 0, 0, struct.pack(">HI", 2, 2)), [], {}, PROTOCOL_ERROR),
    Http2Case("SETTINGS on a stream", frame(SETTINGS, 0, 1), [], {}, PROTOCOL_ERROR),
    Http2Case("SETTINGS of a wrong size", frame(SETTINGS, 0, 0, b"12345"), [], {}, FRAME_SIZE_ERROR),
    Http2Case("SETTINGS ACK with settings", frame(SETTINGS, ACK, 0, bytes(6)), [], {}, FRAME_SIZE_ERROR),
    Http2Case("PING on a stream", frame(PING, 0, 1, bytes(8)), [], {}, PROTOCOL_ERROR),
    Http2Case("PING of a wrong size", frame(PING, 0, 0, bytes(7)), [], {}, FRAME_SIZE_ERROR),
    Http2Case("GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8)), [], {}, PROTOCOL_ERROR),
    Http2Case("GOAWAY of a wrong size", frame(GOAWAY, 0, 0, bytes(7)), [], {}, FRAME_SIZE_ERROR),
    Http2Case("RST_STREAM of a wrong size", _OPEN + frame(RST_STREAM, 0, 1, bytes(3)), [], {}, FRAME_SIZE_ERROR),
    Http2Case("WINDOW_UPDATE of a wrong size", frame(WINDOW_UPDATE, 0, 0, bytes(3)), [], {}, FRAME_SIZE_ERROR),
    Http2Case("PRIORITY on stream 0", frame(PRIORITY, 0, 0, bytes(5)), [], {}, PROTOCOL_ERROR),
    Http2Case("PRIORITY of a wrong size", frame(PRIORITY, 0, 1, bytes(4)), [], {}, FRAME_SIZE_ERROR),
    Http2Case("PRIORITY on itself", frame(PRIORITY, 0, 1, long(1) + b"\0"), [], {}, PROTOCOL_ERROR),
    Http2Case(
        "HEADERS on itself", frame(HEADERS, WHOLE | PRIORITY_FLAG, 1, long(1) + b"\0" + BLOCK), [], {}, PROTOCOL_ERROR
    ),
    Http2Case(
        "HEADERS without its priority", frame(HEADERS, WHOLE | PRIORITY_FLAG, 1, bytes(4)), [], {}, FRAME_SIZE_ERROR
    ),
    Http2Case("HEADERS on stream 0", get(0), [], {}, PROTOCOL_ERROR),
    Http2Case("HEADERS on a stream of ours", get(2), [], {}, PROTOCOL_ERROR),
    Http2Case("too much padding", frame(HEADERS, WHOLE | PADDED, 1, b"\x09" + BLOCK[:5]), [], {}, PROTOCOL_ERROR),
    Http2Case("too much padding of DATA", _OPEN + frame(DATA, PADDED, 1, b"\x01"), [], {}, PROTOCOL_ERROR),
    Http2Case("PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, long(2) + BLOCK), [], {}, PROTOCOL_ERROR),
    Http2Case("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, BLOCK), [], {}, PROTOCOL_ERROR),
    Http2Case(
        "CONTINUATION of another stream",
        frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, END_HEADERS, 3),
        [],
        {},
        PROTOCOL_ERROR,
    ),
    Http2Case("interrupted headers", frame(HEADERS, 0, 1, BLOCK) + frame(200, 0, 0), [], {}, PROTOCOL_ERROR),
    Http2Case("a frame that is too large", frame(DATA, 0, 1, bytes(16385)), [], {}, FRAME_SIZE_ERROR),
    Http2Case("HPACK index that does not exist", get(1, b"\xff\xff\x01"), [], {}, COMPRESSION_ERROR),
    Http2Case("HPACK that is cut", get(1, BLOCK[:-1]), [], {}, COMPRESSION_ERROR),
    Http2Case("HPACK table too large", get(1, b"\x3f\xe1\xff\x03" + BLOCK), [], {}, COMPRESSION_ERROR),
    # One field of 4000 bytes goes into the table, then is named 20 times.
    Http2Case(
        "HPACK bomb", get(1, BLOCK + b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 20), [], {}, ENHANCE_YOUR_CALM
    ),
    Http2Case(
        "CONTINUATION without end",
        frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1) * 40,
        [],
        {},
        ENHANCE_YOUR_CALM,
    ),
    Http2Case(
        "headers without end",
        frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1, bytes(16384)) * 3,
        [],
        {},
        ENHANCE_YOUR_CALM,
    ),
    Http2Case("host that agrees", get(1, BLOCK + literal(b"host", b"H")), [1]),
    Http2Case("host instead of authority", get(1, BLOCK[:3] + literal(b"host", b"h")), [1]),
    Http2Case("host that differs", get(1, BLOCK + literal(b"host", b"g")), [], _BAD),
    Http2Case("two hosts", get(1, BLOCK + literal(b"host", b"h") * 2), [], _BAD),
    Http2Case("neither host nor authority", get(1, BLOCK[:3]), [], _BAD),
    Http2Case("an empty authority", get(1, BLOCK[:3] + b"\x01\x00"), [], _BAD),
    Http2Case("an authority with user information", get(1, BLOCK[:3] + literal(b":authority", b"u@h")), [], _BAD),
    Http2Case("a path without slash", get(1, b"\x82\x86\x01\x01h" + literal(b":path", b"a")), [], _BAD),
    Http2Case("a path with a scheme", get(1, b"\x82\x86\x01\x01h" + literal(b":path", b"http://h/")), [], _BAD),
    Http2Case("the path * for GET", get(1, b"\x82\x86\x01\x01h" + literal(b":path", b"*")), [], _BAD),
    Http2Case(
        "the path * for OPTIONS",
        get(1, literal(b":method", b"OPTIONS") + b"\x86\x01\x01h" + literal(b":path", b"*")),
        [1],
    ),
    Http2Case("another scheme", get(1, b"\x82\x84\x01\x01h" + literal(b":scheme", b"junk")), [], _BAD),
    Http2Case("CONNECT", get(1, literal(b":method", b"CONNECT") + b"\x01\x01h"), [], _BAD),
    Http2Case(
        "two lengths", get(1, BLOCK + literal(b"content-length", b"0") + literal(b"content-length", b"1")), [], _BAD
    ),
    Http2Case("two changes of the table's size", get(1, b"\x20\x3f\xe1\x1f" + BLOCK), [1]),
    Http2Case("more changes of the table's size", get(1, b"\x20" * 3 + BLOCK), [], {}, COMPRESSION_ERROR),
    Http2Case("a change of the table's size behind a field", get(1, BLOCK + b"\x20"), [], {}, COMPRESSION_ERROR),
    Http2Case("an HPACK integer without end", get(1, b"\xff" + b"\x80" * 50), [], {}, COMPRESSION_ERROR),
    Http2Case("Huffman code that is none", get(1, b"\x82\x86\x04\x84\xff\xff\xff\xff"), [], {}, COMPRESSION_ERROR),
    Http2Case("more settings than there are", frame(SETTINGS, 0, 0, bytes(6) * 65), [], {}, ENHANCE_YOUR_CALM),
    Http2Case("a WINDOW_UPDATE flood", frame(WINDOW_UPDATE, 0, 0, long(1)) * 10_001, [], {}, ENHANCE_YOUR_CALM),
    Http2Case(
        "a WINDOW_UPDATE flood of a stream",
        get(1) + frame(WINDOW_UPDATE, 0, 1, long(1)) * 10_001,
        [1],
        {},
        ENHANCE_YOUR_CALM,
    ),
    Http2Case("a PING flood", frame(PING, 0, 0, bytes(8)) * 10_001, [], {}, ENHANCE_YOUR_CALM),
    Http2Case("a SETTINGS flood", frame(SETTINGS, 0, 0) * 10_001, [], {}, ENHANCE_YOUR_CALM),
    Http2Case("a SETTINGS ACK flood", frame(SETTINGS, ACK, 0) * 10_001, [], {}, ENHANCE_YOUR_CALM),
    Http2Case("a PRIORITY flood", frame(PRIORITY, 0, 1, bytes(5)) * 10_001, [], {}, ENHANCE_YOUR_CALM),
    Http2Case("a GOAWAY flood", frame(GOAWAY, 0, 0, bytes(8)) * 10_001, [], {}, ENHANCE_YOUR_CALM),
    Http2Case("a flood of unknown frames", frame(99, 0, 0) * 10_001, [], {}, ENHANCE_YOUR_CALM),
    Http2Case("a flood of empty DATA", _OPEN + frame(DATA, 0, 1) * 10_001, [], {}, ENHANCE_YOUR_CALM),
    Http2Case("a flood of late frames", _OPEN + frame(RST_STREAM, 0, 1, bytes(4)) * 10_002, [], {}, ENHANCE_YOUR_CALM),
]
"""Everything that is sent after `START`."""
