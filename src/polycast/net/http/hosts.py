"""Checks the host name and the origin of requests.

A web page whose host name resolves to an address of this machine or its network (DNS rebinding) can send requests that
browsers treat as same-origin. Only the host name reveals it. So names that anybody can register are refused, unless
they are this machine's own or were configured.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from functools import cache
from typing import Final
from urllib.parse import urlsplit

from polycast.net.http.origins import ANY, AllowedOrigins, origin_of
from polycast.wire.http.message import Request

# Suffixes of names that exist only in local networks: RFC 6761 (localhost), RFC 6762 (local, and appendix G: those
# in use), RFC 8375 (home.arpa), and internal, which ICANN has reserved.
_LOCAL_SUFFIXES: Final = (
    *(".localhost", ".local", ".internal", ".home.arpa", ".lan", ".home", ".corp", ".intranet", ".private"),
    ".localdomain",
)

# Bytes of the part of an http URL before its path that is examined.
_MAXIMUM_AUTHORITY: Final = 512


def authority_of(request: Request) -> str:
    """Return the host and port of a request: from its target if that contains them (RFC 9112 section 3.2.2)."""
    scheme, separator, rest = request.target[:_MAXIMUM_AUTHORITY].partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        return rest.partition(b"/")[0].partition(b"?")[0].decode("latin-1")
    return request.fields.get(b"host", b"").decode("latin-1")


def host_of(authority: str) -> str:
    """Return the host of ``host:port`` in lower case, IPv6 addresses without brackets, names without a trailing dot."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].rstrip(".").lower()


def is_host_allowed(request: Request, allowed: Collection[str]) -> bool:
    """Return whether the host of a request is this machine or was configured.

    ``allowed`` contains names in addition to those of the machine; ``*.example.com`` is every subdomain, ``*`` every
    name.
    """
    host = host_of(authority_of(request))
    if not host or "." not in host or host.endswith(_LOCAL_SUFFIXES) or _is_address(host) or host in _machine_names():
        return True
    return any(_matches(host, name.lower()) for name in allowed)


def host_refusal(request: Request) -> str:
    """Return why a request is refused whose host is not allowed, for the client and the log."""
    host = host_of(authority_of(request))
    return f"'{host}' is not a name of this server; the setting allowedHosts adds names"


def is_origin_allowed(request: Request, allowed: AllowedOrigins) -> bool:
    """Return whether a request comes from no web page, from one of this server, or from one of an allowed origin.

    For requests that may change something: without this, every web page that somebody opens on
    this machine could make them.
    """
    origin = origin_of(request)
    if not origin or allowed.fixed == ANY or allowed.match(origin):
        return True
    own = authority_of(request)
    try:
        return bool(own) and urlsplit(origin).netloc.lower() == own.lower()
    except ValueError:  # half an IPv6 address
        return False


def _matches(host: str, name: str) -> bool:
    return name in (ANY, host) or (name.startswith("*.") and host.endswith(name[1:]))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


@cache
def _machine_names() -> frozenset[str]:
    name = socket.gethostname().lower()
    return frozenset({name, f"{name}.local"})
