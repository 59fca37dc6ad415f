"""Addresses to listen on, and networks that clients may come from."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from polycast.security.addresses import is_in_networks, parse_address

ADDRESSES = [
    (":8554", ("", 8554)),
    ("127.0.0.1:0", ("127.0.0.1", 0)),
    ("[::1]:65535", ("::1", 65535)),
    ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ("localhost:80", ("localhost", 80)),
    ("my-host.example:00080", ("my-host.example", 80)),
]

NOT_ADDRESSES = [
    *("", "8554", "host", "host:", "host:x", ":65536", ":-1", "host:-1", "host:\u00b2", ":\u0661", ":123456"),
    *("::1:80", "h:1:2", "a b:1", " :1", ":1\n", "http://a:1", "a/b:1", "[::1:80", "::1]:80", "[]:80", "[[::1]]:80"),
]


@pytest.mark.parametrize(("text", "expected"), ADDRESSES)
def test_address(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", NOT_ADDRESSES)
def test_not_an_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "networks", "expected"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8"], False),
        ("11.1.2.3", ["10.0.0.0/8", "11.1.2.3"], True),
        ("10.1.2.3", [], False),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("::ffff:a01:203", ["10.0.0.0/8"], True),
        ("::ffff:10.1.2.3", ["::/0"], False),
        ("10.1.2.3", ["::/0"], False),
        ("fe80::1%eth0", ["fe80::/10"], True),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("localhost", ["0.0.0.0/0", "::/0"], False),
        ("", ["0.0.0.0/0", "::/0"], False),
        ("10.1.2.3 ", ["0.0.0.0/0"], False),
        ("010.1.2.3", ["0.0.0.0/0"], False),
    ],
)
def test_networks(host: str, networks: list[str], expected: bool) -> None:
    assert is_in_networks(host, [ip_network(network) for network in networks]) is expected
