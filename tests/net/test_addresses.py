"""Addresses as people write them, and as sockets give them."""

from __future__ import annotations

import ssl

import pytest

from polycast.net.address import join_host_port, peer_of, plain_host
from polycast.net.close_reason import describe_close


@pytest.mark.parametrize(
    ("sockname", "peer"),
    [
        (("192.0.2.1", 5), ("192.0.2.1", 5)),
        (("::ffff:192.0.2.1", 5, 0, 0), ("192.0.2.1", 5)),
        (("fe80::1%eth0", 5, 0, 2), ("fe80::1", 5)),
        ("/run/socket", ("127.0.0.1", 0)),
        (None, ("127.0.0.1", 0)),
    ],
)
def test_peers(sockname: object, peer: tuple[str, int]) -> None:
    assert peer_of(sockname) == peer


def test_joined() -> None:
    assert join_host_port("192.0.2.1", 80) == "192.0.2.1:80"
    assert join_host_port("::1", 80) == "[::1]:80"
    assert plain_host("2001:db8::ffff:1") == "2001:db8::ffff:1"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (None, "closed by the client"),
        (ConnectionResetError(104, "x"), "connection lost"),
        (BrokenPipeError(), "connection lost"),
        (ssl.SSLError(1, "something"), "TLS error: "),
        (OSError(), "OSError"),
        (OSError(113, "No route to host"), "No route to host"),
    ],
)
def test_reasons_of_losses(error: Exception | None, text: str) -> None:
    assert text in describe_close(error)
