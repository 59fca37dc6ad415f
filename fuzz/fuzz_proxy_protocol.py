"""Headers of the PROXY protocol, as a proxy sends them."""

from __future__ import annotations

import ipaddress

from polycast.errors import RemoteProtocolError
from polycast.wire.proxy_protocol import BODY_LIMIT, parse_proxy_header

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"

SEEDS: list[bytes] = [
    b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nOPTIONS",
    b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n",
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
    _SIGNATURE + b"\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb",
    _SIGNATURE + b"\x21\x21\x00\x24" + bytes(36) + b"OPTIONS",
    _SIGNATURE + b"\x20\x00\x00\x00",
]
DICTIONARY: list[bytes] = [b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"::ffff:192.0.2.7", _SIGNATURE]


def fuzz_one(data: bytes) -> None:
    """Only RemoteProtocolError comes out; a client has an address; what follows the header changes nothing."""
    try:
        header = parse_proxy_header(data)
    except RemoteProtocolError:
        return
    if header is None:
        if len(data) >= BODY_LIMIT + 16:
            raise ValueError("too many bytes are awaited")
        return
    if header.client is not None:
        ipaddress.ip_address(header.client[0])
    if header.size and parse_proxy_header(data[: header.size]) != header:
        raise ValueError("the header depends on what follows it")
