"""The header of the PROXY protocol, in which a proxy says whose connection it passes on.

Specification: "The PROXY protocol, versions 1 & 2" of HAProxy, sections 2.1 (a line of text) and 2.2 (binary).
"""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple

from polycast.errors import RemoteProtocolError

LINE_LIMIT: Final = 107
"""Maximum bytes of a header in version 1, with its end of line (section 2.1)."""

BODY_LIMIT: Final = 16 * 1024
"""Maximum bytes that follow the fixed part of a header in version 2: addresses, and values such as the client's
certificate. The length field allows 64 KiB."""

_LINE_BEGINNING: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED_SIZE: Final = 16

_LOCAL: Final = 0x20
_PROXY: Final = 0x21

_TCP_OVER_IPV4: Final = 0x11
_TCP_OVER_IPV6: Final = 0x21
_OTHER_FAMILIES: Final = frozenset({0x00, 0x12, 0x22, 0x31, 0x32})
"""Unspecified, datagrams and Unix sockets: valid, but without an address that is of use."""


class ProxyHeader(NamedTuple):
    """What a connection begins with."""

    size: int
    """Bytes of the header; 0 if there is none."""
    client: tuple[str, int] | None
    """IP address and port of the client; None if the proxy speaks for itself, or does not say."""


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """Parse the beginning of a connection; None if more bytes are needed.

    Raises RemoteProtocolError.
    """
    for beginning, parse in ((_LINE_BEGINNING, _parse_line), (_SIGNATURE, _parse_binary)):
        if data.startswith(beginning):
            return parse(data)
        if beginning.startswith(data):
            return None
    return ProxyHeader(0, None)


def _parse_line(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, LINE_LIMIT)
    if end < 0:
        if len(data) >= LINE_LIMIT:
            raise RemoteProtocolError(f"the PROXY header is longer than {LINE_LIMIT} bytes")
        return None
    size = end + 2
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":  # what follows has no meaning
        return ProxyHeader(size, None)
    try:
        _, protocol, source, destination, port, destination_port = (word.decode("ascii") for word in words)
        address = _address(source)
        is_ipv4 = isinstance(address, ipaddress.IPv4Address)
        # nginx writes IPv4 addresses after TCP6 if only one of its two connections is IPv6.
        if protocol not in ("TCP4", "TCP6") or (protocol == "TCP4" and not is_ipv4):
            raise ValueError
        _address(destination)
        _port(destination_port)
        return ProxyHeader(size, (str(address), _port(port)))
    except ValueError:
        raise RemoteProtocolError("invalid PROXY header") from None


def _parse_binary(data: bytes) -> ProxyHeader | None:
    if len(data) < _FIXED_SIZE:
        return None
    command, family = data[12], data[13]
    body_size = int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise RemoteProtocolError(f"unknown version or command 0x{command:02x} of a PROXY header")
    if body_size > BODY_LIMIT:
        raise RemoteProtocolError(f"a PROXY header of {body_size} bytes")
    size = _FIXED_SIZE + body_size
    if len(data) < size:
        return None
    if command == _LOCAL or family in _OTHER_FAMILIES:
        return ProxyHeader(size, None)
    if family not in (_TCP_OVER_IPV4, _TCP_OVER_IPV6):
        raise RemoteProtocolError(f"unknown address family 0x{family:02x} of a PROXY header")
    length = 4 if family == _TCP_OVER_IPV4 else 16
    if body_size < 2 * length + 4:
        raise RemoteProtocolError("a PROXY header without addresses")
    address = _plain(ipaddress.ip_address(data[_FIXED_SIZE : _FIXED_SIZE + length]))
    port = _FIXED_SIZE + 2 * length
    return ProxyHeader(size, (str(address), int.from_bytes(data[port : port + 2], "big")))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if "%" in text:
        raise ValueError(text)
    return _plain(ipaddress.ip_address(text))


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an IPv4-mapped IPv6 address as IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _port(text: str) -> int:
    if not text.isdigit() or len(text) > 5 or int(text) > 65_535:
        raise ValueError(text)
    return int(text)
