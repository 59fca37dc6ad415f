"""The IP addresses of this machine."""

from __future__ import annotations

from collections.abc import Collection

import ifaddr


def interface_addresses(names: Collection[str] = ()) -> list[str]:
    """Return the addresses of the network interfaces, or of those with these names; loopback comes last.

    Link-local IPv6 addresses are omitted, because they mean nothing without their interface.
    """
    found: list[str] = []
    loopback: list[str] = []
    for adapter in ifaddr.get_adapters():
        if names and adapter.name not in names and adapter.nice_name not in names:
            continue
        for item in adapter.ips:
            address = item.ip if isinstance(item.ip, str) else item.ip[0]
            if address.lower().startswith("fe80:"):
                continue
            (loopback if address == "::1" or address.startswith("127.") else found).append(address)
    return [*found, *loopback]
