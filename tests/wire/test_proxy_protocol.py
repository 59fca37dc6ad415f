"""The header of the PROXY protocol. Its bytes are those of the specification (sections 2.1 and 2.2)."""

from __future__ import annotations

import socket

import pytest

from polycast.errors import RemoteProtocolError
from polycast.wire.proxy_protocol import BODY_LIMIT, ProxyHeader, parse_proxy_header

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
"""As section 2.2 lists it."""


def binary(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes((command, family)) + len(body).to_bytes(2, "big") + body


def addresses(family: socket.AddressFamily, source: str, destination: str, *ports: int) -> bytes:
    packed = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    return packed + b"".join(port.to_bytes(2, "big") for port in ports)


IPV4 = addresses(socket.AF_INET, "192.0.2.7", "198.51.100.1", 56324, 443)
IPV6 = addresses(socket.AF_INET6, "2001:db8::7", "2001:db8::1", 56324, 443)
NO_OPERATION = b"\x04\x00\x03abc"

HEADERS = [
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)),
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", ("192.0.2.7", 56324)),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n", ("2001:db8::7", 56324)),
    (b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n", (":".join(["ffff"] * 8), 65535)),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 1 2\r\n", ("192.0.2.7", 1)),
    (b"PROXY TCP6 192.0.2.7 2001:db8::1 1 2\r\n", ("192.0.2.7", 1)),  # nginx
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    (binary(0x21, 0x11, IPV4), ("192.0.2.7", 56324)),
    (binary(0x21, 0x21, IPV6), ("2001:db8::7", 56324)),
    (binary(0x21, 0x11, IPV4 + NO_OPERATION), ("192.0.2.7", 56324)),
    (binary(0x21, 0x21, addresses(socket.AF_INET6, "::ffff:192.0.2.7", "::1", 5, 6)), ("192.0.2.7", 5)),
    (binary(0x20, 0x00, b""), None),
    (binary(0x20, 0x11, IPV4), None),
    (binary(0x21, 0x00, b""), None),
    (binary(0x21, 0x12, IPV4), None),
    (binary(0x21, 0x31, bytes(216)), None),
]


@pytest.mark.parametrize(("data", "client"), HEADERS)
@pytest.mark.parametrize("rest", [b"", b"OPTIONS rtsp://host/ RTSP/1.0\r\n"])
def test_headers(data: bytes, client: tuple[str, int] | None, rest: bytes) -> None:
    assert parse_proxy_header(data + rest) == ProxyHeader(len(data), client)
    for size in range(len(data)):
        assert parse_proxy_header(data[:size]) is None


@pytest.mark.parametrize(
    "data", [b"OPTIONS rtsp://", b"PLAY rtsp://", b"PROX rtsp://", b"\x03abc", b"\x16\x03\x01", b"\r\n\r\nQUIT"]
)
def test_connections_without_a_header(data: bytes) -> None:
    assert parse_proxy_header(data) == ProxyHeader(0, None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n", "invalid"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 1\r\n", "invalid"),
        (b"PROXY TCP4 192.0.2.7  198.51.100.1 56324 443\r\n", "invalid"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n", "invalid"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 -443\r\n", "invalid"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 \xb2 443\r\n", "invalid"),
        (b"PROXY TCP4 192.0.2.300 198.51.100.1 1 443\r\n", "invalid"),
        (b"PROXY TCP4 2001:db8::7 2001:db8::1 56324 443\r\n", "invalid"),
        (b"PROXY TCP6 fe80::7%1 2001:db8::1 56324 443\r\n", "invalid"),
        (b"PROXY UDP4 192.0.2.7 198.51.100.1 56324 443\r\n", "invalid"),
        (b"PROXY \r\n", "invalid"),
        (b"PROXY TCP4 " + b"1" * 96, "longer than 107 bytes"),
        (binary(0x11, 0x11, IPV4), "unknown version or command 0x11"),
        (binary(0x22, 0x11, IPV4), "unknown version or command 0x22"),
        (binary(0x21, 0x13, IPV4), "unknown address family 0x13"),
        (binary(0x21, 0x41, IPV4), "unknown address family 0x41"),
        (binary(0x21, 0x11, IPV4[:-1]), "without addresses"),
        (binary(0x21, 0x21, IPV4), "without addresses"),
        (binary(0x21, 0x11, IPV4 + bytes(BODY_LIMIT))[:16], f"of {len(IPV4) + BODY_LIMIT} bytes"),
    ],
)
def test_what_is_wrong_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=message):
        parse_proxy_header(data)


def test_the_longest_line_is_accepted() -> None:
    """107 bytes: the worst case of section 2.1, for a family that is unknown."""
    address = b":".join([b"ffff"] * 8)
    line = b"PROXY UNKNOWN " + address + b" " + address + b" 65535 65535\r\n"
    assert len(line) == 107
    assert parse_proxy_header(line) == ProxyHeader(107, None)
