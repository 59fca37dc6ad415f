"""Requests that were read before: the engine says the same with and without them, and they stay few and harmless."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.wire.http.cases import CURL, CURL_UPGRADE, GET, HTTP1_CASES
from tests.wire.http.support import ANSWER, DATE, converse, take

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.http import http1_reader
from polycast.wire.http.http1 import Http1Connection
from polycast.wire.http.http1_reader import KNOWN_LIMIT, KNOWN_SIZE, RequestCache
from polycast.wire.http.message import Request
from polycast.wire.http.response import SMALL_BODY, Response


class Forgetful(RequestCache):
    def keep(self, data: bytes, event: tuple[Request, bool]) -> None:
        pass


def told(known: RequestCache, reads: Sequence[bytes], *, answers: bool) -> list[object]:
    """Return all that an engine says to reads; ``answers`` after each, or never."""
    engine = Http1Connection(known)
    said: list[object] = []
    for read in reads:
        error: RemoteProtocolError | None = None
        sent = b""
        if answers:
            events, sent, error = converse(engine, [read])
        else:
            try:
                engine.receive_data(read)
            except RemoteProtocolError as raised:
                error = raised
            events = [event for event in [engine.next_event()] if event is not None]
        for event in events:
            assert isinstance(event, Request)
            said.append((event.method, event.target, event.headers, event.fields))
        said.append((sent, str(error), error.status if error else 0, len(engine.events)))
        said.append((engine.is_incomplete, engine.is_finished, engine.is_full, engine.is_sending))
    return said


_WHOLE = [case.data for case in HTTP1_CASES if len(case.data) < KNOWN_SIZE]
_PIECES = [
    GET[:-1],
    GET[-1:],
    b"G",
    b"\r",
    b"\n",
    b"\r\n",
    b"",
    b"x",
    CURL[:30],
    CURL[30:],
    CURL[:30] + GET,
    GET + b"G",
]


@settings(deadline=None)
@given(st.lists(st.sampled_from([*_WHOLE, *_PIECES] + [GET, CURL, CURL_UPGRADE] * 8), max_size=12), st.booleans())
@example([GET[:-1], GET, GET[-1:], GET], True)
@example([CURL_UPGRADE, GET, CURL_UPGRADE, b"\r\n", GET], True)
def test_what_is_known_changes_nothing(reads: list[bytes], answers: bool) -> None:
    expected = told(Forgetful(), reads, answers=answers)
    known = RequestCache()
    assert told(known, reads, answers=answers) == expected
    for warm in (*_WHOLE, *_PIECES):
        converse(Http1Connection(known), [warm])
    assert told(known, reads, answers=answers) == expected, "with what others have sent"


def known_after(*reads: bytes) -> list[bytes]:
    known = RequestCache()
    converse(Http1Connection(known), reads)
    return list(known.by_bytes)


def test_one_request_for_all_who_send_the_same() -> None:
    known = RequestCache()
    [one], _, _ = converse(Http1Connection(known), [CURL])
    [other], _, _ = converse(Http1Connection(known), [CURL[:9] + CURL[9:]])
    assert one is other
    [different], _, _ = converse(Http1Connection(known), [CURL.replace(b"a=b", b"a=c")])
    assert different is not one


@pytest.mark.parametrize("name", ["Authorization", "cookie", "PROXY-AUTHORIZATION"])
def test_secrets_are_not_kept(name: str) -> None:
    assert known_after(GET[:-2] + name.encode() + b": secret\r\n\r\n") == []


def test_what_is_kept() -> None:
    assert known_after(GET, GET, CURL) == [GET, CURL]
    assert known_after(GET + GET) == [], "more than one request"
    assert known_after(GET[:-1], GET[-1:]) == [], "pieces of one"
    assert known_after(GET + b"G", GET[1:]) == [], "a piece of another one"
    for header in (b"Connection: close", b"Content-Length: 3", b"Transfer-Encoding: chunked"):
        assert known_after(GET[:-2] + header + b"\r\n\r\n") == []


def test_large_reads_are_not_kept() -> None:
    padded = GET[:-2] + b"a: %b\r\n\r\n"
    room = KNOWN_SIZE - len(padded) + 2
    assert len(known_after(padded % (b"b" * room))) == 1
    assert known_after(padded % (b"b" * (room + 1))) == []


def test_there_are_never_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert KNOWN_LIMIT * KNOWN_SIZE <= 2 << 20
    monkeypatch.setattr(http1_reader, "KNOWN_LIMIT", 4)
    known = RequestCache()
    for number in range(30):
        [event], _, _ = converse(Http1Connection(known), [GET.replace(b"/", b"/%d" % number, 1)])
        assert isinstance(event, Request)
        assert event.target == b"/%d" % number
        assert 0 < len(known.by_bytes) <= 4


@pytest.mark.parametrize("size", [0, 1, SMALL_BODY, SMALL_BODY + 1])
@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("asked", [GET, GET[:-2] + b"Connection: close\r\n\r\n"])
def test_an_immediate_answer_is_the_same(size: int, head: bool, asked: bytes) -> None:
    sent = []
    for at_once in (False, True):
        engine = Http1Connection()
        engine.receive_data(asked)
        engine.next_event()
        whole = b""
        if at_once:
            whole = engine.respond_at_once(0, Response(200, [], bytes(size)), DATE, head=head)
            assert bool(whole) is (asked == GET and not head and 0 < size <= SMALL_BODY)
        else:
            engine.respond(0, Response(200, [], bytes(size)), DATE, head=head)
        sent.append((whole + take(engine), engine.is_finished))
        assert engine.next_event() is None
        with pytest.raises(LocalProtocolError):
            engine.respond_at_once(0, ANSWER, DATE)
    assert sent[0] == sent[1]
