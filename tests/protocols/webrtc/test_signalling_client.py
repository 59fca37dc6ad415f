"""The address of a session that a WHEP server names: what lies elsewhere gets no password."""

from __future__ import annotations

import pytest

from polycast.protocols.webrtc.signalling_client import SignallingClient


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("", ""),
        ("/session/1?x", "http://host:8889/session/1?x"),
        ("session/1", "http://host:8889/cam/session/1"),
        ("http://HOST:8889/session/1", "http://HOST:8889/session/1"),
        ("//host:8889/session/1", "http://host:8889/session/1"),
        ("http://host/session/1", ""),
        ("https://host:8889/session/1", ""),
        ("http://other:8889/session/1", ""),
        ("//other/session/1", ""),
        ("http://host:8889@other/session/1", ""),
        ("ftp://host:8889/session/1", ""),
        ("http://[::1/session/1", ""),
        ("http://host:99999/session/1", ""),
    ],
)
async def test_the_address_of_a_session(location: str, expected: str) -> None:
    client = SignallingClient("whep://user:pass@host:8889/cam/whep", "", "", 1.0)
    try:
        assert client._own_address(location) == expected
    finally:
        await client.close()
