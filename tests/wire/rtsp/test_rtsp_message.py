"""Requests and responses to bytes; the headers' container."""

from __future__ import annotations

import pytest
from tests.wire.rtsp.cases import MESSAGES, MessageCase

from polycast.errors import LocalProtocolError
from polycast.wire.rtsp.message import REASONS, Headers, Method, Request, Response


@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: case.name)
def test_serialize(case: MessageCase) -> None:
    assert case.message.serialize() == (case.data if case.canonical is None else case.canonical)


def test_headers_know_no_case_and_keep_order_and_repetition() -> None:
    headers = Headers([("CSeq", "1"), ("X-A", "first")])
    headers.add("x-a", "second")
    headers.set("cseq", "2")
    assert headers.get("CSEQ") == "2"
    assert headers.get("X-a") == "first"
    assert headers.get_all("X-A") == ["first", "second"]
    assert headers.get("missing") is None
    assert headers.get_all("missing") == []
    assert "x-A" in headers
    assert "y" not in headers
    assert headers.items() == [("X-A", "first"), ("x-a", "second"), ("cseq", "2")]
    assert headers == Headers([("x-a", "first"), ("x-a", "second"), ("CSeq", "2")])
    assert headers != Headers()


def test_content_length_follows_the_body() -> None:
    assert Response(200, Headers(), b"abc").serialize() == b"RTSP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    wrong = Headers([("Content-Length", "7")])
    assert Response(200, wrong, b"abc").serialize() == b"RTSP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    assert Response(200, wrong).serialize() == b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert Response(200).serialize() == b"RTSP/1.0 200 OK\r\n\r\n"


def test_reasons() -> None:
    assert Response(461).serialize().startswith(b"RTSP/1.0 461 Unsupported Transport\r\n")
    assert Response(499).serialize().startswith(b"RTSP/1.0 499 Unknown\r\n")
    assert Response(404, reason="Gone Fishing").serialize().startswith(b"RTSP/1.0 404 Gone Fishing\r\n")
    # RFC 2326 section 7.1.1: 250, and the 45x and 46x that HTTP does not have.
    assert {250, 451, 453, 454, 455, 456, 457, 458, 459, 460, 461, 462, 551} <= REASONS.keys()


@pytest.mark.parametrize("evil", ["a\r\nX: 1", "a\nb", "a\rb", "a\0b"])
def test_no_header_can_be_smuggled(evil: str) -> None:
    for message in (
        Response(200, Headers([("CSeq", evil)])),
        Response(200, Headers([(evil, "1")])),
        Response(200, reason=evil),
        Request("OPTIONS", evil),
    ):
        with pytest.raises(LocalProtocolError):
            message.serialize()


def test_methods_compare_as_text() -> None:
    assert Request("SETUP", "rtsp://h/p").method == Method.SETUP
    assert "SET_PARAMETER" in set(Method)
    assert Request("PLAY", "*", Headers([("cseq", "a 1")])).cseq == "a 1"
    assert Response(200).cseq is None
