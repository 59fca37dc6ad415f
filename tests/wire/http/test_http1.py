"""HTTP/1.1: requests out of bytes, whole and a byte at a time; answers as h11 reads them; limits."""

from __future__ import annotations

import h11
import pytest
from tests.wire.http.cases import CURL, GET, HTTP1_CASES, Http1Case
from tests.wire.http.support import ANSWER, DATE, converse, pieces, take

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.http.http1 import PIPELINE_LIMIT, Http1Connection
from polycast.wire.http.http1_reader import HEAD_LIMIT
from polycast.wire.http.message import Request
from polycast.wire.http.response import SMALL_BODY, Response

POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
STREAMED = Response(200, [], is_streamed=True)


def statuses(sent: bytes) -> list[int]:
    return [int(part[:3]) for part in sent.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("size", [1 << 20, 4096, 7, 1], ids="pieces of {}".format)
@pytest.mark.parametrize("case", HTTP1_CASES, ids=lambda case: case.name)
def test_what_clients_send(case: Http1Case, size: int) -> None:
    engine = Http1Connection()
    events, sent, error = converse(engine, pieces(case.data, size))
    assert [(event.method, event.target) for event in events if isinstance(event, Request)] == case.requests
    assert (error.status if error else None) == case.status
    assert statuses(sent) == [200] * len(case.requests) + ([case.status] if case.status else [])
    assert engine.is_finished is not case.goes_on
    assert (b"connection: close\r\n" in sent) is not case.goes_on
    if error is not None:
        with pytest.raises(RemoteProtocolError):
            engine.receive_data(b"x")


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("GET", ANSWER),
        ("HEAD", ANSWER),
        ("GET", Response(200, [], b"")),
        ("GET", Response(200, [(b"etag", b'"a"')], bytes(SMALL_BODY))),
        ("GET", Response(200, [], bytes(range(256)) * 5000)),
        ("GET", Response(206, [], memoryview(b"0123456789")[2:5])),
        ("GET", Response(304, [(b"etag", b'"a"')])),
        ("GET", Response(204, [])),
        ("GET", Response(404, [], b"nothing")),
        ("HEAD", Response(404, [], b"nothing")),
    ],
)
def test_h11_reads_the_answers(method: str, response: Response) -> None:
    client = h11.Connection(h11.CLIENT)
    server = Http1Connection()
    for last in (False, True):
        headers = [("Host", "h"), *([("Connection", "close")] if last else [])]
        asked = client.send(h11.Request(method=method, target="/a", headers=headers))
        asked += client.send(h11.EndOfMessage())
        _, sent, _ = converse(server, [asked], lambda _: response)
        client.receive_data(sent)
        if last:
            client.receive_data(b"")
        answer = client.next_event()
        assert isinstance(answer, h11.Response)
        assert answer.status_code == response.status
        assert set(response.headers) <= set(answer.headers)
        assert (b"date", DATE) in list(answer.headers)
        body = bytearray()
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
            body += event.data
        assert body == (b"" if method == "HEAD" else response.body)
        assert client.trailing_data[0] == b""
        if not last:
            client.start_next_cycle()
    assert server.is_finished


def test_headers_have_lower_case_names() -> None:
    [event], _, _ = converse(Http1Connection(), [CURL])
    assert isinstance(event, Request)
    assert event.headers == [(b"host", b"127.0.0.1:8888"), (b"user-agent", b"curl/7.88.1"), (b"accept", b"*/*")]
    assert event.fields[b"accept"] == b"*/*"


def test_one_request_at_a_time() -> None:
    engine = Http1Connection()
    engine.receive_data(GET * 3)
    assert engine.next_event() is not None
    assert engine.next_event() is None, "the first is not answered"
    engine.respond(0, Response(200, [], bytes(1000)), DATE)
    assert engine.next_event() is None, "its answer was not taken"
    assert sum(map(len, engine.data_to_send(10))) == 10
    assert engine.is_sending
    assert engine.next_event() is None
    take(engine)
    assert not engine.is_sending
    assert engine.next_event() is not None


def test_answers_are_taken_in_portions() -> None:
    body = bytes(range(256)) * 400
    engine = Http1Connection()
    engine.receive_data(GET)
    engine.next_event()
    engine.respond(0, Response(200, [], body), DATE)
    portions = []
    while parts := engine.data_to_send(1000):
        portions.append(b"".join(parts))
    assert {len(portion) for portion in portions[:-1]} == {1000}
    assert b"".join(portions).endswith(b"\r\n\r\n" + body)


def test_too_many_requests_that_wait() -> None:
    engine = Http1Connection()
    engine.receive_data(GET * PIPELINE_LIMIT)
    assert engine.is_full
    engine.next_event()
    assert not engine.is_full


def test_a_request_that_is_not_whole() -> None:
    engine = Http1Connection()
    assert not engine.is_incomplete
    engine.receive_data(GET[:-1])
    assert engine.is_incomplete
    engine.receive_data(GET[-1:])
    assert not engine.is_incomplete


def test_a_large_read_before_does_not_count() -> None:
    engine = Http1Connection()
    head = GET[:-2] + b"a: " + b"b" * 30_000 + b"\r\n\r\n"
    filler = GET * ((HEAD_LIMIT - len(head)) // len(GET) + 200)
    events, _, error = converse(engine, [filler + head[:20_000], head[20_000:]])
    assert error is None
    assert isinstance(events[-1], Request)
    assert b"a" in events[-1].fields


def test_a_mistake_after_a_request_that_is_being_answered() -> None:
    engine = Http1Connection()
    engine.receive_data(GET)
    engine.next_event()
    with pytest.raises(RemoteProtocolError):
        engine.receive_data(b"\0\0\0\0")
    assert take(engine) == b"", "the error is told in its turn"
    engine.respond(0, ANSWER, DATE)
    sent = take(engine)
    assert engine.next_event() is None
    assert statuses(sent + take(engine)) == [200, 400]
    assert engine.is_finished


def test_shutting_down() -> None:
    engine = Http1Connection()
    engine.receive_data(GET * 2)
    engine.next_event()
    engine.shut_down()
    assert not engine.is_finished
    engine.respond(0, ANSWER, DATE)
    assert b"connection: close\r\n" in take(engine)
    assert engine.next_event() is None
    assert engine.is_finished


def test_an_answer_to_nothing() -> None:
    with pytest.raises(LocalProtocolError):
        Http1Connection().respond(0, ANSWER, DATE)


def test_a_new_date() -> None:
    for response in (ANSWER, Response(200, [], bytes(SMALL_BODY + 1))):
        for date in (DATE, b"Fri, 02 Jan 1970 00:00:00 GMT"):
            engine = Http1Connection()
            engine.receive_data(GET)
            engine.next_event()
            engine.respond(0, response, date)
            assert b"date: " + date in take(engine)


def test_a_body() -> None:
    [event], _, _ = converse(Http1Connection(), [POST % 5 + b"12345"])
    assert isinstance(event, Request)
    assert (event.body, event.is_truncated) == (b"12345", False)


def test_a_body_that_is_too_large() -> None:
    [event], sent, _ = converse(Http1Connection(body_limit=4), [POST % 5 + b"12345"])
    assert isinstance(event, Request)
    assert (event.body, event.is_truncated) == (b"", True)
    assert b"connection: close" in sent


def test_a_client_that_waits_for_permission() -> None:
    engine = Http1Connection()
    head = POST[:-2] % 5 + b"Expect: 100-continue\r\n\r\n"
    events, sent, _ = converse(engine, [GET + head])
    assert statuses(sent) == [200, 100]
    assert len(events) == 1
    events, sent, _ = converse(engine, [b"12345"])
    assert statuses(sent) == [200]
    assert len(events) == 1
    assert statuses(converse(engine, [head + b"12345"])[1]) == [200], "nobody waits"
    large = head.replace(b"5", b"99999", 1)
    assert statuses(converse(engine, [large])[1]) == [200], "its body is not wanted"


def test_a_request_that_takes_too_long() -> None:
    engine = Http1Connection()
    converse(engine, [POST % 5])
    engine.time_out()
    assert engine.next_event() is None
    assert statuses(take(engine)) == [408]
    assert engine.is_finished


@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"])
def test_h11_reads_a_streamed_response(fields: bytes) -> None:
    server = Http1Connection()
    streamed = Response(200, [(b"content-type", b"text/event-stream")], is_streamed=True)
    _, sent, _ = converse(server, [GET[:-2] + fields + b"\r\n"], lambda _: streamed)
    assert server.next_event() is None
    for piece, is_last in ((b"one", False), (b"", False), (b"two", True)):
        server.send_body(0, piece, is_last=is_last)
        sent += take(server)
    server.send_body(0, b"late", is_last=True)
    assert not take(server)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(sent)
    if fields:
        client.receive_data(b"")
    assert isinstance(client.next_event(), h11.Response)
    body = bytearray()
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        body += event.data
    assert body == b"onetwo"
    assert server.is_finished is bool(fields)


@pytest.mark.parametrize("fields", [b"\r\n", b"connection: close\r\n\r\n"])
def test_h11_reads_a_streamed_response_of_known_length(fields: bytes) -> None:
    server = Http1Connection()
    streamed = Response(200, [(b"content-length", b"6")], is_streamed=True)
    _, sent, _ = converse(server, [GET[:-2] + fields], lambda _: streamed)
    for piece in (b"one", b"two"):
        server.send_body(0, piece, is_last=False)
    server.send_body(0, b"", is_last=True)
    sent += take(server)
    assert b"transfer-encoding" not in sent
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(sent)
    body = b""
    event = client.next_event()
    assert isinstance(event, h11.Response)
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        body += event.data
    assert body == b"onetwo"
    assert server.is_finished is (b"close" in fields)


def test_a_streamed_response_that_fails() -> None:
    server = Http1Connection()
    converse(server, [GET], lambda _: Response(200, [], is_streamed=True))
    server.send_body(0, b"half", is_last=False)
    server.abandon(0)
    assert take(server) == b"4\r\nhalf\r\n", "without its end"
    assert server.is_finished


def test_a_streamed_response_to_head() -> None:
    server = Http1Connection()
    head = GET.replace(b"GET", b"HEAD")
    _, sent, _ = converse(server, [head + GET], lambda request: ANSWER if request.method == "GET" else STREAMED)
    assert statuses(sent) == [200, 200]
    assert sent.endswith(b"the answer")
