"""HTTP/2: what clients send, whole and in pieces; each row of the table of frames; limits. RFC 9113 is the truth."""

from __future__ import annotations

from collections.abc import Iterator

import hpack
import pytest
from tests.wire.http.cases import (
    ACK,
    BLOCK,
    BLOCK_POST,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    HTTP2_CASES,
    INTERNAL_ERROR,
    NO_ERROR,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    START,
    STREAM_CLOSED,
    WHOLE,
    WINDOW_UPDATE,
    Http2Case,
    frame,
    get,
    literal,
    long,
)
from tests.wire.http.support import ANSWER, DATE, converse, pieces, take

from polycast.errors import RemoteProtocolError
from polycast.wire.http.http2 import REMEMBERED_STREAMS, Http2Connection
from polycast.wire.http.http2_limits import BODIES_LIMIT, CONTROL_LIMIT, MAXIMUM_STREAMS, RESET_LIMIT
from polycast.wire.http.message import Request, Reset
from polycast.wire.http.response import Response


def frames(sent: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Return (type, flags, stream, payload) of each frame."""
    position = 0
    while position < len(sent):
        length = int.from_bytes(sent[position : position + 3], "big")
        kind, flags = sent[position + 3], sent[position + 4]
        stream = int.from_bytes(sent[position + 5 : position + 9], "big")
        yield kind, flags, stream, sent[position + 9 : position + 9 + length]
        position += 9 + length
    assert position == len(sent)


def resets(sent: bytes) -> dict[int, int]:
    return {stream: payload[3] for kind, _, stream, payload in frames(sent) if kind == RST_STREAM}


def errors(sent: bytes) -> list[int]:
    return [payload[7] for kind, _, _, payload in frames(sent) if kind == GOAWAY]


def requests(events: list[Request | Reset]) -> list[int]:
    return [event.stream for event in events if isinstance(event, Request)]


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in pieces"])
@pytest.mark.parametrize("case", HTTP2_CASES, ids=lambda case: case.name)
def test_what_clients_send(case: Http2Case, whole: bool) -> None:
    engine = Http2Connection()
    data = START + case.data
    size = len(data) if whole else 1 if len(data) < 5000 else 997
    events, sent, error = converse(engine, pieces(data, size), lambda _: None)
    assert requests(events) == case.streams
    assert resets(sent) == case.resets
    assert errors(sent) == ([] if case.error is None else [case.error])
    assert engine.is_finished is (case.error is not None)
    if error is not None:
        assert error.status == 400
        with pytest.raises(RemoteProtocolError):
            engine.receive_data(b"x")
        begun = 1 if case.data.startswith(frame(HEADERS, END_HEADERS, 1, BLOCK_POST)) else 0
        assert next(frames(sent[sent.rindex(b"\0\0\x08\x07") :]))[3][:4] == long(max([begun, *case.streams]))
    told = [event.stream for event in events if isinstance(event, Reset)]
    assert set(told) <= set(case.streams), "only of requests that were told"


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", PREFACE[:-1] + b"\r", PREFACE + get(1), PREFACE + frame(SETTINGS, ACK, 0)]
)
def test_invalid_starts(data: bytes) -> None:
    for size in (1, len(data)):
        events, sent, error = converse(Http2Connection(), pieces(data, size))
        assert error is not None
        assert not events
        assert errors(sent) == [PROTOCOL_ERROR]


def test_settings_come_first_and_are_acknowledged() -> None:
    engine = Http2Connection()
    [(kind, flags, stream, payload)] = frames(take(engine))
    assert (kind, flags, stream) == (SETTINGS, 0, 0)
    assert payload[:6] == b"\0\x03" + long(MAXIMUM_STREAMS)
    assert engine.is_incomplete
    engine.receive_data(START)
    assert not engine.is_incomplete
    assert take(engine) == frame(SETTINGS, ACK, 0)


def test_ping_is_answered() -> None:
    _, sent, _ = converse(Http2Connection(), [START + frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, bytes(8))])
    assert [payload for kind, flags, _, payload in frames(sent) if (kind, flags) == (PING, ACK)] == [b"12345678"]


def test_request() -> None:
    [event], _, _ = converse(Http2Connection(), [START + get(1, BLOCK + b"\0\x01a\x01b")])
    assert isinstance(event, Request)
    assert (event.method, event.target) == ("GET", b"/")
    assert event.headers == [(b"a", b"b"), (b"host", b"h")]


# How a client brings stream 1 into each condition; the requests are answered at once where True.
CONDITIONS = {
    "idle": (b"", False),
    "open": (frame(HEADERS, END_HEADERS, 1, BLOCK_POST), False),
    "half closed": (get(1), False),
    "closed": (get(1), True),
    "reset": (frame(HEADERS, END_HEADERS, 1, BLOCK_POST + literal(b"content-length", b"99999")), True),
}
TRAILERS = frame(HEADERS, WHOLE, 1, b"\0\x01a\x01b")
SENT = {
    DATA: frame(DATA, 0, 1, b"x"),
    HEADERS: TRAILERS,
    RST_STREAM: frame(RST_STREAM, 0, 1, long(CANCEL)),
    WINDOW_UPDATE: frame(WINDOW_UPDATE, 0, 1, long(1)),
}
TAKEN, STREAM, CONNECTION = "taken or ignored", "stream error", "connection error"
# RFC 9113 section 5.1, state by state. HEADERS on an idle stream lack what a request needs: a mistake in the request.
ROWS = [
    (DATA, "idle", CONNECTION, PROTOCOL_ERROR),
    (DATA, "open", TAKEN, NO_ERROR),
    (DATA, "half closed", STREAM, STREAM_CLOSED),
    (DATA, "closed", CONNECTION, STREAM_CLOSED),
    (DATA, "reset", TAKEN, NO_ERROR),
    (HEADERS, "idle", STREAM, PROTOCOL_ERROR),
    (HEADERS, "open", TAKEN, NO_ERROR),
    (HEADERS, "half closed", STREAM, STREAM_CLOSED),
    (HEADERS, "closed", CONNECTION, STREAM_CLOSED),
    (HEADERS, "reset", TAKEN, NO_ERROR),
    (RST_STREAM, "idle", CONNECTION, PROTOCOL_ERROR),
    (RST_STREAM, "open", TAKEN, NO_ERROR),
    (RST_STREAM, "half closed", TAKEN, NO_ERROR),
    (RST_STREAM, "closed", TAKEN, NO_ERROR),
    (RST_STREAM, "reset", TAKEN, NO_ERROR),
    (WINDOW_UPDATE, "idle", CONNECTION, PROTOCOL_ERROR),
    (WINDOW_UPDATE, "open", TAKEN, NO_ERROR),
    (WINDOW_UPDATE, "half closed", TAKEN, NO_ERROR),
    (WINDOW_UPDATE, "closed", TAKEN, NO_ERROR),
    (WINDOW_UPDATE, "reset", TAKEN, NO_ERROR),
]


@pytest.mark.parametrize(("kind", "condition", "expected", "code"), ROWS)
def test_each_frame_in_each_condition(kind: int, condition: str, expected: str, code: int) -> None:
    engine = Http2Connection()
    before, answered = CONDITIONS[condition]
    converse(engine, [START + before], lambda _: ANSWER if answered else None)
    events, sent, error = converse(engine, [SENT[kind]])
    if expected is TAKEN:
        assert error is None
        assert not resets(sent)
        told = {(RST_STREAM, "half closed"): Reset, (HEADERS, "open"): Request}
        assert [type(event) for event in events] == [told[key] for key in [(kind, condition)] if key in told]
    elif expected is STREAM:
        assert error is None
        assert resets(sent) == {1: code}
        assert [event.stream for event in events] == ([1] if before else [])
    else:
        assert error is not None
        assert errors(sent) == [code]
    if error is None:
        events, sent, error = converse(engine, [get(3)])
        assert requests(events) == [3], "the connection goes on"


def test_a_body() -> None:
    engine = Http2Connection()
    sent = [START + frame(HEADERS, END_HEADERS, 1, BLOCK_POST), *(frame(DATA, 0, 1, bytes(16_000)) for _ in range(4))]
    events, answers, _ = converse(engine, sent)
    assert not events
    assert engine.is_incomplete
    given = [
        (stream, int.from_bytes(size, "big")) for kind, _, stream, size in frames(answers) if kind == WINDOW_UPDATE
    ]
    assert {stream for stream, _ in given} == {0, 1}, "there is room for more, on the connection and on the stream"
    [event], answers, _ = converse(engine, [frame(DATA, END_STREAM, 1, b"end")])
    assert isinstance(event, Request)
    assert event.body == bytes(64_000) + b"end"
    assert not event.is_truncated
    assert not engine.is_incomplete
    assert not engine._bodies.size


@pytest.mark.parametrize("length", [b"", literal(b"content-length", b"480000")], ids=["no length", "a length"])
def test_a_body_that_is_too_large(length: bytes) -> None:
    engine = Http2Connection()
    data = frame(HEADERS, END_HEADERS, 1, BLOCK_POST + length) + frame(DATA, 0, 1, bytes(16_000)) * 30
    [event], sent, error = converse(engine, [START + data])
    assert error is None
    assert isinstance(event, Request)
    assert (event.is_truncated, event.body) == (True, b"")
    kinds = [(kind, flags) for kind, flags, stream, _ in frames(sent) if stream == 1 and kind != WINDOW_UPDATE]
    assert kinds == [(HEADERS, END_HEADERS), (DATA, END_STREAM), (RST_STREAM, 0)], "RFC 9113 section 8.1"
    assert resets(sent) == {1: NO_ERROR}
    given = sum(
        int.from_bytes(payload, "big") for kind, _, stream, payload in frames(sent) if stream == 0 and kind == 8
    )
    assert 480_000 - 65_535 // 2 - 16_000 <= given <= 480_000, "the connection's window stays open for others"
    assert not engine._bodies.size


def test_bodies_have_a_total_limit() -> None:
    engine = Http2Connection()
    converse(engine, [START])
    for stream in range(1, 2 * BODIES_LIMIT + 1, 2):
        upload = frame(HEADERS, END_HEADERS, stream, BLOCK_POST) + frame(DATA, 0, stream, bytes(16_000)) * 4
        assert not resets(converse(engine, [upload])[1])
    last = 2 * BODIES_LIMIT + 1
    upload = frame(HEADERS, END_HEADERS, last, BLOCK_POST) + frame(DATA, 0, last, bytes(16_000))
    assert resets(converse(engine, [upload])[1]) == {last: REFUSED_STREAM}
    converse(engine, [frame(RST_STREAM, 0, 1, long(CANCEL)) + frame(DATA, END_STREAM, 3)])
    assert engine._bodies.size == 64_000 * (BODIES_LIMIT - 2)


def test_a_client_that_waits_for_permission() -> None:
    engine = Http2Connection()
    expects = BLOCK_POST + literal(b"expect", b"100-continue")
    _, sent, _ = converse(engine, [START + frame(HEADERS, END_HEADERS, 1, expects)])
    [(flags, block)] = [(flags, payload) for kind, flags, _, payload in frames(sent) if kind == HEADERS]
    assert (flags, hpack.Decoder().decode(block, raw=True)) == (END_HEADERS, [(b":status", b"100")])


def test_a_streamed_response() -> None:
    engine = Http2Connection()
    streamed = Response(200, [(b"content-type", b"text/event-stream")], is_streamed=True)
    _, sent, _ = converse(engine, [START + get(1)], lambda _: streamed)
    assert [kind for kind, _, stream, _ in frames(sent) if stream] == [HEADERS]
    engine.send_body(1, b"a" * 40_000, is_last=False)
    engine.send_body(1, b"b" * 40_000, is_last=False)
    found = list(frames(take(engine)))
    assert b"".join(payload for _, _, _, payload in found) == b"a" * 40_000 + b"b" * 25_535, "as far as the window goes"
    assert not any(flags for _, flags, _, _ in found)
    assert engine.unsent(1) == 14_465
    sent = converse(engine, [frame(WINDOW_UPDATE, 0, 0, long(50_000)) + frame(WINDOW_UPDATE, 0, 1, long(50_000))])[1]
    assert b"".join(payload for _, _, _, payload in frames(sent)) == b"b" * 14_465
    engine.send_body(1, b"", is_last=True)
    assert list(frames(take(engine))) == [(DATA, END_STREAM, 1, b"")]
    engine.send_body(1, b"late", is_last=True)
    assert not take(engine)
    assert not engine._streams


def test_a_streamed_response_that_fails() -> None:
    engine = Http2Connection()
    converse(engine, [START + get(1)], lambda _: Response(200, [], is_streamed=True))
    engine.send_body(1, b"half", is_last=False)
    engine.abandon(1)
    assert resets(take(engine)) == {1: INTERNAL_ERROR}


def test_headers_of_a_reset_stream_keep_the_table_right() -> None:
    engine = Http2Connection()
    encoder = hpack.Encoder()
    fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"h"), (b"x", b"y")]
    large = [*fields, (b"content-length", b"99999")]
    converse(engine, [START + frame(HEADERS, END_HEADERS, 1, encoder.encode(large))])
    converse(engine, [frame(HEADERS, WHOLE, 1, encoder.encode([(b"trailer", b"new in the table")]))])
    [event], _, _ = converse(engine, [get(3, encoder.encode([*fields, (b"trailer", b"new in the table")]))])
    assert isinstance(event, Request)
    assert event.fields[b"trailer"] == b"new in the table"


def test_more_requests_than_may_be_under_way() -> None:
    engine = Http2Connection()
    asked = [1 + 2 * index for index in range(MAXIMUM_STREAMS + 2)]
    events, sent, _ = converse(engine, [START, *map(get, asked)], lambda _: None)
    assert requests(events) == asked[:-2]
    assert resets(sent) == dict.fromkeys(asked[-2:], REFUSED_STREAM)
    engine.respond(1, ANSWER, DATE)
    take(engine)
    assert requests(converse(engine, [get(asked[-1] + 2)])[0]) == [asked[-1] + 2]


def rapid_resets(count: int, first: int = 1) -> bytes:
    return b"".join(
        get(stream) + frame(RST_STREAM, 0, stream, long(CANCEL)) for stream in range(first, first + 2 * count, 2)
    )


def test_rapid_reset() -> None:
    engine = Http2Connection()
    assert converse(engine, [START + rapid_resets(RESET_LIMIT)])[2] is None
    _, sent, error = converse(engine, [rapid_resets(1, 9_999)])
    assert error is not None
    assert errors(sent) == [ENHANCE_YOUR_CALM]


def test_who_gets_answers_may_give_some_up() -> None:
    engine = Http2Connection()
    converse(engine, [START])
    for index in range(2 * RESET_LIMIT):
        first = 1 + 4 * index
        assert converse(engine, [get(first), rapid_resets(1, first + 2)])[2] is None


def test_a_client_that_sends_and_does_not_read() -> None:
    engine = Http2Connection()

    def ask() -> None:
        engine.receive_data(START)
        for stream in range(1, 100_000, 2):
            engine.receive_data(get(stream) + frame(PING, 0, 0, bytes(8)))
            while (event := engine.next_event()) is not None:
                engine.respond(event.stream, ANSWER, DATE, head=True)

    with pytest.raises(RemoteProtocolError, match="sends without reading"):
        ask()
    assert len(engine._output.control) < CONTROL_LIMIT + 1000


def test_requests_and_data_explain_frames() -> None:
    engine = Http2Connection()
    converse(engine, [START])
    ping, update = frame(PING, ACK, 0, bytes(8)), frame(WINDOW_UPDATE, 0, 0, long(1))
    for stream in range(1, 1001, 2):
        assert converse(engine, [ping * 90 + get(stream)])[2] is None
    for stream in range(1001, 1401, 2):
        window = frame(WINDOW_UPDATE, 0, 0, long(100_000)) + frame(WINDOW_UPDATE, 0, stream, long(100_000))
        large = Response(200, [], bytes(100_000))
        assert converse(engine, [get(stream) + window + update * 100], lambda _, large=large: large)[2] is None
    assert converse(engine, [ping * 20_000])[2] is not None


def test_the_last_streams_that_were_reset_are_remembered() -> None:
    engine = Http2Connection()
    streams = range(1, 2 * REMEMBERED_STREAMS + 3, 2)
    large = BLOCK_POST + literal(b"content-length", b"99999")
    converse(engine, [START, *(frame(HEADERS, END_HEADERS, stream, large) for stream in streams)])
    assert converse(engine, [frame(DATA, 0, streams[1], b"x")])[2] is None
    assert converse(engine, [frame(DATA, 0, streams[0], b"x")])[2] is not None


def test_a_header_block_larger_than_a_frame() -> None:
    engine = Http2Connection()
    large = Response(301, [(b"location", b"/" + b"a" * 40_000)])
    _, sent, _ = converse(engine, [START + get(1)], lambda _: large)
    found = [(kind, flags, payload) for kind, flags, stream, payload in frames(sent) if stream == 1]
    assert [(kind, flags) for kind, flags, _ in found] == [
        (HEADERS, END_STREAM), (CONTINUATION, 0), (CONTINUATION, END_HEADERS),
    ]  # fmt: skip
    assert max(len(payload) for _, _, payload in found) == 16_384
    fields = hpack.Decoder(max_header_list_size=1 << 20).decode(b"".join(payload for _, _, payload in found), raw=True)
    assert (b"location", b"/" + b"a" * 40_000) in fields


def test_shutting_down() -> None:
    engine = Http2Connection()
    converse(engine, [START + get(1)], lambda _: None)
    engine.shut_down()
    engine.shut_down()
    events, sent, _ = converse(engine, [get(3)])
    assert not events
    assert errors(sent) == [NO_ERROR]
    assert resets(sent) == {3: REFUSED_STREAM}
    assert not engine.is_finished
    engine.respond(1, ANSWER, DATE)
    assert not engine.is_finished
    take(engine)
    assert engine.is_finished


def test_a_client_that_goes_away_gets_its_answers() -> None:
    engine = Http2Connection()
    converse(engine, [START + get(1)], lambda _: None)
    converse(engine, [frame(GOAWAY, 0, 0, bytes(8))])
    assert not engine.is_finished
    engine.respond(1, ANSWER, DATE)
    assert b"the answer" in take(engine)
    assert engine.is_finished


def test_an_answer_to_a_request_that_was_given_up() -> None:
    engine = Http2Connection()
    events, _, _ = converse(engine, [START + rapid_resets(1)], lambda _: None)
    assert [type(event) for event in events] == [Request, Reset]
    engine.respond(1, ANSWER, DATE)
    assert take(engine) == b""
    converse(engine, [get(3)])
    engine.respond(3, ANSWER, DATE)
    assert take(engine) == b"", "nor a second one"


def test_a_block_that_stands_alone() -> None:
    """Blocks of answers are shared by all connections: they must mean the same to a decoder that saw others before."""
    engine = Http2Connection()
    decoder = hpack.Decoder()
    for stream in (1, 3):
        _, sent, _ = converse(engine, [(START if stream == 1 else b"") + get(stream, BLOCK)])
        [block] = [payload for kind, _, _, payload in frames(sent) if kind == HEADERS]
        assert decoder.decode(block, raw=True) == [
            (b":status", b"200"), (b"content-type", b"text/plain"), (b"content-length", b"10"), (b"date", DATE),
        ]  # fmt: skip
