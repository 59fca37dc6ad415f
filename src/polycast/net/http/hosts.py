"""Which host names requests may be for.

A web page whose name is made to resolve to an address of this machine or of its network (DNS rebinding) sends requests
that browsers take for its own. Only the name betrays it: it is one that others can register. So names are refused that
a stranger can have in public, unless they are this machine's or were configured.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from functools import cache
from typing import Final

from polycast.wire.http.message import Request

# Ends of names that exist in local networks only: RFC 6761 (localhost), RFC 6762 (local, and appendix G: those that are
# in use), RFC 8375 (home.arpa), and internal, which ICANN has reserved.
_LOCAL_ENDS: Final = (
    *(".localhost", ".local", ".internal", ".home.arpa", ".lan", ".home", ".corp", ".intranet", ".private"),
    ".localdomain",
)

# Bytes of the part of an http URL before its path that is examined.
_MAXIMUM_AUTHORITY: Final = 512

ANY: Final = "*"


def authority_of(request: Request) -> str:
    """Return host and port that a request is for: of its target where that has them (RFC 9112 section 3.2.2)."""
    scheme, separator, rest = request.target[:_MAXIMUM_AUTHORITY].partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        return rest.partition(b"/")[0].partition(b"?")[0].decode("latin-1")
    return request.fields.get(b"host", b"").decode("latin-1")


def host_of(authority: str) -> str:
    """Return the host of ``host:port`` in lower case, an IPv6 address without brackets, a name without a last dot."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].rstrip(".").lower()


def is_host_allowed(request: Request, allowed: Collection[str]) -> bool:
    """Return whether the host that a request names is one of ours.

    ``allowed`` are names besides those of the machine; ``*.example.com`` is every name below, ``*`` every name.
    """
    host = host_of(authority_of(request))
    if not host or "." not in host or host.endswith(_LOCAL_ENDS) or _is_address(host) or host in _machine_names():
        return True
    return any(_matches(host, name.lower()) for name in allowed)


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
