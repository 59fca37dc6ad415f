"""Whether a stream that is forwarded comes back to this server, and is forwarded again and again."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Final
from urllib.parse import parse_qsl, unquote

from polycast.config.urls import split_url
from polycast.errors import RemoteProtocolError
from polycast.hub.errors import PathError
from polycast.hub.hub import Hub
from polycast.wire.srt.stream_id import parse_stream_id

Ports = Callable[[], Collection[int]]
"""Returns the ports that the servers of this process listen on."""

_DEFAULT_PORTS: Final[Mapping[str, int]] = {
    "rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "whip": 80, "whips": 443,
}  # fmt: skip
_MAXIMUM_PARAMETERS: Final = 100


class LoopCheck:
    """Knows the addresses of this server."""

    def __init__(self, hub: Hub, ports: Ports) -> None:
        self._hub = hub
        self._ports = ports

    def forwarded_again(self, address: str) -> str:
        """Return the name of the path that an address belongs to, if it is one of this server that is forwarded, too;
        otherwise an empty text. Names of hosts are not looked up."""
        parts = split_url(address)
        if parts is None or not _is_local(parts.hostname or ""):
            return ""
        if (parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)) not in self._ports():
            return ""
        name = path_of(address)
        try:
            entry, _ = self._hub.find_entry(name)
        except PathError:
            return ""
        return name if entry.configuration.forward else ""


def path_of(address: str) -> str:
    """Return the path that is published to at an address of a server like this one; empty if it is none."""
    parts = split_url(address)
    if parts is None:
        return ""
    if parts.scheme == "srt":
        parameters = dict(parse_qsl(address.partition("?")[2], max_num_fields=_MAXIMUM_PARAMETERS))
        try:
            return parse_stream_id(parameters.get("streamid", "")).path
        except RemoteProtocolError:
            return ""
    path = unquote(parts.path).strip("/")
    if parts.scheme.startswith("whip"):
        return path.removesuffix("/whip")
    return f"{path}/{parts.fragment}".strip("/")


def _is_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower() in _names()
    return address.is_loopback or address.is_unspecified


@cache
def _names() -> frozenset[str]:
    return frozenset({"localhost", socket.gethostname().lower()})
