"""Addresses that a stream is sent to: ``udp+mpegts://host:port?pkt_size=...`` and ``udp+rtp://host:port``."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from polycast.config.redact import redact
from polycast.errors import ConfigurationError
from polycast.net.multicast import interface_index
from polycast.net.names import looking_up
from polycast.net.udp import UdpSocket
from polycast.wire.mpegts.constants import PACKET_SIZE

_MAXIMUM_PARAMETERS: Final = 100
_DEFAULT_TTL: Final = 16
"""Routers that a datagram to a multicast group may pass; that of FFmpeg and of the RTSP server."""
_DEFAULT_PACKETS: Final = 7
_SEND_BUFFER: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SendingAddress:
    """An address that a stream is sent to."""

    host: str
    port: int
    packets: int = _DEFAULT_PACKETS
    """Packets of MPEG-TS in a datagram."""
    ttl: int = _DEFAULT_TTL
    """Of datagrams to a multicast group."""
    interface: str = ""
    """Name of the network interface that those are sent over; empty: the one that the group is routed to."""


def parse_destination(url: str) -> SendingAddress:
    """Return the parts of a URL. Raises ConfigurationError."""
    shown = redact(url)
    form = f"write {url.partition('://')[0]}://host:port"
    try:
        parts = urlsplit(url)
        port = parts.port
        parameters = dict(parse_qsl(parts.query, max_num_fields=_MAXIMUM_PARAMETERS))
    except ValueError:
        raise ConfigurationError(f"'{shown}' is not a valid URL ({form})") from None
    host, _, scope = (parts.hostname or "").partition("%")
    if not host or not port or parts.path.strip("/") or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(f"'{shown}' is not a valid URL ({form})")
    size = _number(parameters, "pkt_size", _DEFAULT_PACKETS * PACKET_SIZE, PACKET_SIZE, 1472)
    return SendingAddress(
        host,
        port,
        size // PACKET_SIZE,
        _number(parameters, "ttl", _DEFAULT_TTL, 0, 255),
        parameters.get("interface", "") or scope,
    )


def _number(parameters: dict[str, str], name: str, default: int, smallest: int, largest: int) -> int:
    text = parameters.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not smallest <= int(text[:9]) <= largest:
        raise ConfigurationError(f"the parameter '{name}' must be a number from {smallest} to {largest}")
    return int(text)


class Output:
    """A socket that sends to one address, and to the port after it."""

    def __init__(self, udp: UdpSocket, host: str, port: int, scope: int) -> None:
        self.socket = udp
        self.address = udp.address(host, port, scope)
        self.next_address = udp.address(host, min(port + 1, 65_535), scope)

    @classmethod
    async def open(cls, address: SendingAddress) -> Output:
        """Look up the host, and open a socket. Raises OSError."""
        loop = asyncio.get_running_loop()
        with looking_up():
            infos = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
        if not infos:
            raise OSError(f"'{address.host}' has no address")
        family, _, _, _, found = infos[0]
        host = str(found[0])
        index = interface_index(address.interface)
        opened = socket.socket(family, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            with contextlib.suppress(OSError):
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            if ipaddress.ip_address(host).is_multicast:
                _prepare_multicast(opened, address.ttl, index)
            opened.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
        except BaseException:
            opened.close()
            raise
        return cls(UdpSocket(loop, opened, lambda data, start, end, sender: None), host, address.port, index)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def _prepare_multicast(opened: socket.socket, ttl: int, index: int) -> None:
    if opened.family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
        if index:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        return
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
    if index:  # struct ip_mreqn
        membership = struct.pack("=4s4si", bytes(4), bytes(4), index)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, membership)
