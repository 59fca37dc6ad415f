"""Addresses that a server listens on, and address ranges that clients are allowed from."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

_MAXIMUM_PORT: Final = 65_535

_NETWORK_LENGTH: Final = 64
"""Bits of an IPv6 address that are compared: one customer has all addresses of such a network."""

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_ADDRESS: Final = re.compile(r"(?:\[([^\[\]\s]+)\]|([^\[\]:\s/]*)):([0-9]{1,5})", re.ASCII)


def parse_address(text: str) -> tuple[str, int]:
    """Split ``host:port``, ``:port`` or ``[IPv6]:port``; an empty host means every interface.

    Raises ValueError.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > _MAXIMUM_PORT:
        raise ValueError(f"'{text}' is not an address (write host:port, or :port for every interface)")
    return match[1] or match[2] or "", int(match[3])


def network_of(host: str) -> str:
    """Return what counts as one address for limits: an IPv4 address, or the network of an IPv6 address."""
    if ":" not in host:
        return host
    try:
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
        return str(mapped or ipaddress.IPv6Network((host, _NETWORK_LENGTH), strict=False))
    except ValueError:
        return host


def is_in_networks(host: str, networks: Iterable[IPNetwork]) -> bool:
    """Return whether an IP address is in one of several networks; false for other text.

    IPv4-mapped IPv6 addresses count as IPv4.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
