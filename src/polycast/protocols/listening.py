"""The addresses that a configuration listens on."""

from __future__ import annotations

from collections.abc import Iterator

from polycast.config.schema import Configuration
from polycast.config.services import SERVICES
from polycast.protocols.registry import server_kinds
from polycast.security.addresses import parse_address


def listening_addresses(configuration: Configuration) -> Iterator[tuple[str, bool, str]]:
    """Yield the key of each address that would be listened on, whether it is of UDP, and the address."""
    for kind in server_kinds():
        if kind.is_enabled(configuration):
            for listener in sorted(kind.listeners, key=lambda listener: listener.key):
                if listener.is_used(configuration):
                    yield listener.key, listener.is_datagram, listener.address(configuration)
    for name, settings_of in SERVICES.items():
        service = settings_of(configuration)
        if service.is_enabled:
            yield f"{name}Address", False, service.address


def shared_port(configuration: Configuration) -> str:
    """Return which two settings have the same port, as a text for the user; empty if none have."""
    used: dict[tuple[bool, int], list[tuple[str, str]]] = {}
    for key, is_datagram, address in listening_addresses(configuration):
        host, port = parse_address(address) if address else ("", 0)
        if not port:
            continue
        others = used.setdefault((is_datagram, port), [])
        for other, other_host in others:
            if key != other and (host == other_host or not host or not other_host):
                return f"{key}: port {port} is also that of {other}"
        others.append((key, host))
    return ""
