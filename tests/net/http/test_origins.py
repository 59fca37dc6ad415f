"""Which web sites may read responses: one origin for all, or the one that asks."""

from __future__ import annotations

import pytest

from polycast.net.http.origins import MAXIMUM_VARIANTS, AllowedOrigins
from polycast.wire.http.message import Request
from polycast.wire.http.response import Response


def request(origin: str = "") -> Request:
    return Request(0, "GET", b"/", [(b"origin", origin.encode())] if origin else [])


@pytest.mark.parametrize(
    ("patterns", "fixed"),
    [
        ((), ""),
        (("*",), "*"),
        (("https://a.example", "*"), "*"),
        (("https://a.example",), "https://a.example"),
        (("https://*.example",), ""),
        (("https://a.example", "https://b.example"), ""),
    ],
)
def test_a_header_that_is_the_same_for_all(patterns: tuple[str, ...], fixed: str) -> None:
    allowed = AllowedOrigins(patterns)
    assert allowed.fixed == fixed
    assert allowed.is_varying == (bool(patterns) and not fixed)


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("https://a.example", True),
        ("https://A.EXAMPLE", True),
        ("http://a.example", False),
        ("https://a.example:8443", False),
        ("https://b.c.other.example", True),
        ("https://other.example", False),
        ("https://x.other.example.evil", False),
        ("https://xother.example", False),
        ("https://a.example\n", False),
        ("null", False),
        ("", False),
        ("https://" + "x" * 1000 + ".other.example", False),
    ],
)
def test_matching(origin: str, is_allowed: bool) -> None:
    allowed = AllowedOrigins(("https://a.example", "https://*.other.example"))
    assert allowed.match(origin) == (origin if is_allowed else "")


def test_a_response_gets_the_header_of_its_request() -> None:
    allowed = AllowedOrigins(("https://a.example", "https://*.other.example"))
    response = Response(200, [(b"etag", b"x")], b"body")
    answered = allowed.adapt(request("https://a.example"), response)
    assert answered.headers == [
        (b"etag", b"x"),
        (b"vary", b"Origin"),
        (b"access-control-allow-origin", b"https://a.example"),
        (b"access-control-allow-credentials", b"true"),
        (b"content-length", b"4"),
    ]
    assert answered.body == b"body"
    assert allowed.adapt(request("https://a.example"), response) is answered, "built once"
    refused = allowed.adapt(request("https://evil.example"), response)
    assert refused.headers == [(b"etag", b"x"), (b"vary", b"Origin"), (b"content-length", b"4")]
    assert allowed.adapt(request(), response) is refused
    assert response.headers == [(b"etag", b"x"), (b"content-length", b"4")]


def test_what_does_not_vary_stays() -> None:
    response = Response(200, [], b"")
    for patterns in ((), ("*",), ("https://a.example",)):
        assert AllowedOrigins(patterns).adapt(request("https://a.example"), response) is response


def test_made_up_origins_take_no_memory() -> None:
    allowed = AllowedOrigins(("https://*.example",))
    response = Response(200, [], b"")
    for number in range(2 * MAXIMUM_VARIANTS):
        allowed.adapt(request(f"https://{number}.example"), response)
    assert response.variants is not None
    assert len(response.variants) == MAXIMUM_VARIANTS


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_streamed_response_stays_one(is_streamed: bool) -> None:
    response = Response(200, [], b"", is_streamed=is_streamed)
    copy = AllowedOrigins(("https://*.example",)).adapt(request(), response)
    assert copy.is_streamed is is_streamed
    assert ((b"content-length", b"0") in copy.headers) is not is_streamed
