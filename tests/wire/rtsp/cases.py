"""RTSP messages as clients, cameras and the RFCs have them: bytes and what they mean.

The requests of FFmpeg and GStreamer are as those programs sent them.
"""

from __future__ import annotations

from dataclasses import dataclass

from polycast.wire.rtsp.message import Headers, Request, Response

FFMPEG_DESCRIBE = (
    b"DESCRIBE rtsp://127.0.0.1:42363/cam/a?x=1&y=2 RTSP/1.0\r\n"
    b"Accept: application/sdp\r\n"
    b"CSeq: 3\r\n"
    b"User-Agent: Lavf59.27.100\r\n"
    b'Authorization: Digest username="us er", realm="IPCAM", nonce="0123456789abcdef0123456789abcdef", '
    b'uri="rtsp://127.0.0.1:42363/cam/a?x=1&y=2", response="f6a7e862d67c67a871837bfdf78e25bf"\r\n'
    b"\r\n"
)

FFMPEG_SDP = (
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"a=tool:libavformat LIBAVFORMAT_VERSION\r\n"
    b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    b"a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z/QACpGbKFCPxOAiAAADAAIAAAMAFB4kSyw=,aOvjxEhE; "
    b"profile-level-id=F4000A\r\na=control:streamid=0\r\n"
    b"m=audio 0 RTP/AVP 97\r\nb=AS:69\r\na=rtpmap:97 MPEG4-GENERIC/44100/1\r\n"
    b"a=fmtp:97 profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3; config=120856E500\r\n"
    b"a=control:streamid=1\r\n"
)

FFMPEG_ANNOUNCE = (
    b"ANNOUNCE rtsp://127.0.0.1:45199/cam/b?k=v RTSP/1.0\r\n"
    b"Content-Type: application/sdp\r\nCSeq: 2\r\nUser-Agent: Lavf59.27.100\r\n"
    b"Content-Length: " + str(len(FFMPEG_SDP)).encode() + b"\r\n\r\n" + FFMPEG_SDP
)

GSTREAMER_OPTIONS = (
    b"OPTIONS rtsp://127.0.0.1:38683/cam/a?x=1&y=2 RTSP/1.0\r\n"
    b"CSeq: 1\r\n"
    b"User-Agent: GStreamer/1.22.0\r\n"
    b"User-Agent: RealMedia Player Version 6.0.9.1235 (linux-2.0-libc6-i386-gcc2.95)\r\n"
    b"ClientChallenge: 9e26d33f2984236010ef6253fb1887f7\r\n"
    b"PlayerStarttime: [28/03/2003:22:50:23 00:00]\r\n"
    b"Date: Mon, 23 Nov 2026 22:00:40 GMT\r\n"
    b"\r\n"
)

GSTREAMER_SETUP = (
    b"SETUP rtsp://127.0.0.1:36427/cam/b/stream=0?k=v RTSP/1.0\r\n"
    b"CSeq: 3\r\n"
    b"User-Agent: GStreamer/1.22.0\r\n"
    b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=RECORD\r\n"
    b"Date: Mon, 23 Nov 2026 22:04:11 GMT\r\n"
    b"\r\n"
)


@dataclass(frozen=True)
class MessageCase:
    """One message: its bytes, what they mean, and its bytes as we would write it where those differ."""

    name: str
    data: bytes
    message: Request | Response
    canonical: bytes | None = None


MESSAGES = [
    MessageCase(
        "FFmpeg DESCRIBE",
        FFMPEG_DESCRIBE,
        Request(
            "DESCRIBE",
            "rtsp://127.0.0.1:42363/cam/a?x=1&y=2",
            Headers(
                [
                    ("Accept", "application/sdp"),
                    ("CSeq", "3"),
                    ("User-Agent", "Lavf59.27.100"),
                    (
                        "Authorization",
                        'Digest username="us er", realm="IPCAM", nonce="0123456789abcdef0123456789abcdef", '
                        'uri="rtsp://127.0.0.1:42363/cam/a?x=1&y=2", response="f6a7e862d67c67a871837bfdf78e25bf"',
                    ),
                ]
            ),
        ),
    ),
    MessageCase(
        "FFmpeg ANNOUNCE",
        FFMPEG_ANNOUNCE,
        Request(
            "ANNOUNCE",
            "rtsp://127.0.0.1:45199/cam/b?k=v",
            Headers(
                [
                    ("Content-Type", "application/sdp"),
                    ("CSeq", "2"),
                    ("User-Agent", "Lavf59.27.100"),
                    ("Content-Length", str(len(FFMPEG_SDP))),
                ]
            ),
            FFMPEG_SDP,
        ),
    ),
    MessageCase(
        "GStreamer OPTIONS with a header twice",
        GSTREAMER_OPTIONS,
        Request(
            "OPTIONS",
            "rtsp://127.0.0.1:38683/cam/a?x=1&y=2",
            Headers(
                [
                    ("CSeq", "1"),
                    ("User-Agent", "GStreamer/1.22.0"),
                    ("User-Agent", "RealMedia Player Version 6.0.9.1235 (linux-2.0-libc6-i386-gcc2.95)"),
                    ("ClientChallenge", "9e26d33f2984236010ef6253fb1887f7"),
                    ("PlayerStarttime", "[28/03/2003:22:50:23 00:00]"),
                    ("Date", "Mon, 23 Nov 2026 22:00:40 GMT"),
                ]
            ),
        ),
    ),
    MessageCase(
        "GStreamer SETUP",
        GSTREAMER_SETUP,
        Request(
            "SETUP",
            "rtsp://127.0.0.1:36427/cam/b/stream=0?k=v",
            Headers(
                [
                    ("CSeq", "3"),
                    ("User-Agent", "GStreamer/1.22.0"),
                    ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1;mode=RECORD"),
                    ("Date", "Mon, 23 Nov 2026 22:04:11 GMT"),
                ]
            ),
        ),
    ),
    MessageCase(
        "OPTIONS of the whole server, RFC 2326 section 10.1",
        b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nRequire: implicit-play\r\nProxy-Require: gzipped-messages\r\n\r\n",
        Request(
            "OPTIONS",
            "*",
            Headers([("CSeq", "1"), ("Require", "implicit-play"), ("Proxy-Require", "gzipped-messages")]),
        ),
    ),
    MessageCase(
        "GET_PARAMETER with a body, RFC 2326 section 10.8",
        b"GET_PARAMETER rtsp://example.com/fizzle/foo RTSP/1.0\r\nCSeq: 431\r\nContent-Type: text/parameters\r\n"
        b"Session: 12345678\r\nContent-Length: 15\r\n\r\npackets_lost\r\nj",
        Request(
            "GET_PARAMETER",
            "rtsp://example.com/fizzle/foo",
            Headers(
                [
                    ("CSeq", "431"),
                    ("Content-Type", "text/parameters"),
                    ("Session", "12345678"),
                    ("Content-Length", "15"),
                ]
            ),
            b"packets_lost\r\nj",
        ),
    ),
    MessageCase(
        "line feeds alone, spaces round the colon, empty lines before",
        b"\r\n\r\n\nPAUSE rtsp://h/p RTSP/1.0\nCSeq : 7\nSession:\t1 \nEmpty:\n\n",
        Request("PAUSE", "rtsp://h/p", Headers([("CSeq", "7"), ("Session", "1"), ("Empty", "")])),
        b"PAUSE rtsp://h/p RTSP/1.0\r\nCSeq: 7\r\nSession: 1\r\nEmpty: \r\n\r\n",
    ),
    MessageCase(
        "Content-Length twice, the same",
        b"OPTIONS * RTSP/1.0\r\ncontent-length: 2\r\nContent-Length: 2\r\n\r\nab",
        Request("OPTIONS", "*", Headers([("content-length", "2"), ("Content-Length", "2")]), b"ab"),
        b"OPTIONS * RTSP/1.0\r\nContent-Length: 2\r\n\r\nab",
    ),
    MessageCase(
        "header in Latin-1, as older cameras have it",
        b"OPTIONS * RTSP/1.0\r\nX: K\xfcche\r\n\r\n",
        Request("OPTIONS", "*", Headers([("X", "Küche")])),
        "OPTIONS * RTSP/1.0\r\nX: Küche\r\n\r\n".encode(),
    ),
    MessageCase(
        "unknown method",
        b"x-ping rtsp://h/ RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        Request("x-ping", "rtsp://h/", Headers([("CSeq", "1")])),
    ),
    MessageCase(
        "response with two challenges",
        b"RTSP/1.0 401 Unauthorized\r\nCSeq: 2\r\nServer: gortsplib\r\n"
        b'WWW-Authenticate: Basic realm="IPCAM"\r\nWWW-Authenticate: Digest realm="IPCAM", nonce="abc"\r\n\r\n',
        Response(
            401,
            Headers(
                [
                    ("CSeq", "2"),
                    ("Server", "gortsplib"),
                    ("WWW-Authenticate", 'Basic realm="IPCAM"'),
                    ("WWW-Authenticate", 'Digest realm="IPCAM", nonce="abc"'),
                ]
            ),
            reason="Unauthorized",
        ),
    ),
    MessageCase(
        "response with lines among its headers that are none",
        b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nDate\r\n  folded: 1\r\n: no name\r\nSession: 1\r\n\r\n",
        Response(200, Headers([("CSeq", "2"), ("Session", "1")]), reason="OK"),
        b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nSession: 1\r\n\r\n",
    ),
    MessageCase(
        "response without a reason",
        b"RTSP/1.0 200\r\nCSeq: 2\r\n\r\n",
        Response(200, Headers([("CSeq", "2")]), reason=""),
        b"RTSP/1.0 200 \r\nCSeq: 2\r\n\r\n",
    ),
    MessageCase(
        "response with a body",
        b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n",
        Response(
            200,
            Headers([("CSeq", "2"), ("Content-Type", "application/sdp"), ("Content-Length", "5")]),
            b"v=0\r\n",
            "OK",
        ),
    ),
]


@dataclass(frozen=True)
class InvalidCase:
    """Bytes that are refused, and with which status."""

    name: str
    data: bytes
    status: int = 400
    text: str = ""


INVALID = [
    InvalidCase("TLS", b"\x16\x03\x01\x02\x00\x01\x00", text="rtsps://"),
    InvalidCase("other binary", b"\x16\x04\x01"),
    InvalidCase("binary", b"\x80abc"),
    InvalidCase("HTTP", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 505, "HTTP request on the RTSP port"),
    InvalidCase("version 2", b"OPTIONS * RTSP/2.0\r\n\r\n", 505),
    InvalidCase("version 2 in a response", b"RTSP/2.0 200 OK\r\n\r\n", 505),
    InvalidCase("protocol in lower case", b"OPTIONS * rtsp/1.0\r\n\r\n"),
    InvalidCase("carriage return in the method", b"SETU\r rtsp://h/p RTSP/1.0\r\n\r\n"),
    InvalidCase("no protocol", b"OPTIONS *\r\n\r\n"),
    InvalidCase("no URL", b"OPTIONS  RTSP/1.0\r\n\r\n"),
    InvalidCase("space inside the URL", b"OPTIONS rtsp://h/a b RTSP/1.0\r\n\r\n"),
    InvalidCase("method of 65 bytes", b"A" * 65, text="method"),
    InvalidCase("URL of 2049 bytes", b"OPTIONS rtsp://" + b"u" * 2042 + b" RTSP/1.0\r\n", 414),
    InvalidCase("URL without end", b"OPTIONS " + b"u" * 3000, 414),
    InvalidCase("protocol of 65 bytes", b"OPTIONS * RTSP/" + b"1" * 60 + b"\r\n"),
    InvalidCase("start line without end", b"OPTIONS * " + b"R" * 3000),
    InvalidCase("header without a colon", b"OPTIONS * RTSP/1.0\r\nCSeq 1\r\n\r\n"),
    InvalidCase("header without a name", b"OPTIONS * RTSP/1.0\r\n: 1\r\n\r\n"),
    InvalidCase("folded header", b"OPTIONS * RTSP/1.0\r\nA: 1\r\n 2\r\n\r\n", text="continuation"),
    InvalidCase("zero byte in a header", b"OPTIONS * RTSP/1.0\r\nA: 1\x002\r\n\r\n"),
    InvalidCase("carriage return in a header", b"OPTIONS * RTSP/1.0\r\nA: 1\rB: 2\r\n\r\n"),
    InvalidCase("header name of 513 bytes", b"OPTIONS * RTSP/1.0\r\n" + b"A" * 513 + b": 1\r\n\r\n"),
    InvalidCase("header value of 2049 bytes", b"OPTIONS * RTSP/1.0\r\nA: " + b"1" * 2049 + b"\r\n\r\n"),
    InvalidCase("header without end", b"OPTIONS * RTSP/1.0\r\nA: " + b"1" * 5000),
    InvalidCase("256 headers", b"OPTIONS * RTSP/1.0\r\n" + b"A: 1\r\n" * 256 + b"\r\n", text="255"),
    InvalidCase(
        "headers of 64 KiB and one",
        b"OPTIONS * RTSP/1.0\r\n" + (b"A: " + b"1" * 2045 + b"\r\n") * 32 + b"B:\r\n",
        text="65536",
    ),
    InvalidCase("Content-Length in words", b"OPTIONS * RTSP/1.0\r\nContent-Length: two\r\n\r\n"),
    InvalidCase("Content-Length below zero", b"OPTIONS * RTSP/1.0\r\nContent-Length: -1\r\n\r\n"),
    InvalidCase("Content-Length empty", b"OPTIONS * RTSP/1.0\r\nContent-Length:\r\n\r\n"),
    InvalidCase("Content-Length twice", b"OPTIONS * RTSP/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    InvalidCase("body of 128 KiB and one", b"OPTIONS * RTSP/1.0\r\nContent-Length: 131073\r\n\r\n", 413),
    InvalidCase("body of 10000 digits", b"OPTIONS * RTSP/1.0\r\nContent-Length: " + b"9" * 2000 + b"\r\n\r\n", 413),
    InvalidCase("status in words", b"RTSP/1.0 OK\r\n\r\n"),
    InvalidCase("status of zero", b"RTSP/1.0 000 OK\r\n\r\n"),
    InvalidCase("carriage return in the reason", b"RTSP/1.0 200 OK\rx\r\n\r\n"),
    InvalidCase("status of four digits", b"RTSP/1.0 2000 OK\r\n\r\n"),
]

AT_THE_LIMIT = [
    b"A" * 64 + b" * RTSP/1.0\r\n\r\n",
    b"OPTIONS rtsp://" + b"u" * 2041 + b" RTSP/1.0\r\n\r\n",
    b"OPTIONS * RTSP/1.0\r\n" + b"A" * 512 + b": " + b"1" * 2048 + b"\r\n\r\n",
    b"OPTIONS * RTSP/1.0\r\n" + b"A: 1\r\n" * 255 + b"\r\n",
    b"OPTIONS * RTSP/1.0\r\n" + (b"A: " + b"1" * 2045 + b"\r\n") * 32 + b"\r\n",
    b"OPTIONS * RTSP/1.0\r\nContent-Length: 131072\r\n\r\n" + b"b" * 131072,
]
