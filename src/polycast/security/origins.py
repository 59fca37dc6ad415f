"""Which URLs may receive credentials when a server names another address: in a redirection, a Location or a
playlist."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import urlsplit

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_ENCRYPTED: Final = frozenset({"https", "rtsps"})


class Origin(NamedTuple):
    """The origin of a URL (RFC 6454 section 4)."""

    scheme: str
    host: str
    port: int


def origin_of(url: str) -> Origin:
    """Return the origin of an HTTP URL. Raises ValueError if it is not one."""
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"not an HTTP URL: {url[:200]!r}")
    port = parts.port if parts.port is not None else _DEFAULT_PORTS[parts.scheme]
    return Origin(parts.scheme, parts.hostname, port)


def may_send_credentials(origin: Origin, target: Origin, *, remote_host: str = "", any_port: bool = False) -> bool:
    """Return whether the user's credentials for ``origin`` may be sent to ``target``.

    Only to the same origin. With ``any_port`` the port may be another one, and the target may be encrypted where the
    origin is not, but not the other way round: RTSP servers redirect to other ports of themselves, and from rtsp to
    rtsps. A host is known by its name, or by the IP address ``remote_host`` that the name led to.
    """
    if _plain(target.host) not in {_plain(origin.host), _plain(remote_host)} - {""}:
        return False
    if any_port:
        return target.scheme in _ENCRYPTED or origin.scheme not in _ENCRYPTED
    return (target.scheme, target.port) == (origin.scheme, origin.port)


def _plain(host: str) -> str:
    return host.lower().removesuffix(".")
