"""Network addresses as written in configurations, logs and URLs."""

from __future__ import annotations

from typing import Any

Address = tuple[Any, ...]
"""A socket address: (host, port) or (host, port, flow, scope)."""


def join_host_port(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def peer_of(sockname: Any) -> tuple[str, int]:
    """Return (IP address, port) of a socket address; an IPv4-mapped IPv6 address is returned as IPv4."""
    if not isinstance(sockname, tuple) or len(sockname) < 2:
        return ("127.0.0.1", 0)  # a Unix socket: local by nature
    return (plain_host(str(sockname[0])), int(sockname[1]))


def plain_host(host: str) -> str:
    """Return an IP address without scope, and without the ``::ffff:`` of IPv4 on a dual-stack socket."""
    if host.startswith("::ffff:") and "." in host:
        return host[7:]
    return host.partition("%")[0]
