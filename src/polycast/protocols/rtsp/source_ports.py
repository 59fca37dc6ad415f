"""The UDP sockets on which a source receives one track: its own pair of ports, or those of a multicast group."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import random
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from polycast.net.address import plain_host
from polycast.net.listen import open_udp_socket
from polycast.net.multicast import bind_to_group
from polycast.net.udp import Address, UdpSocket
from polycast.rtp.header import EMPTY_PACKET

if TYPE_CHECKING:
    from polycast.protocols.rtsp.secure import SecureStream

# Random pairs that are tried before giving up.
PAIR_ATTEMPTS: Final = 200

PacketHandler = Callable[[bytes, int, int], None]


class TrackPorts:
    """Receives RTP and RTCP of one track, only from its server."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: tuple[socket.socket, socket.socket],
        on_rtp: PacketHandler,
        on_rtcp: PacketHandler,
        on_drained: Callable[[], None],
    ) -> None:
        self._on_rtp = on_rtp
        self._on_rtcp = on_rtcp
        self._host: str | None = None
        self._accepts_any = False
        self._expected: tuple[Address | None, Address | None] = (None, None)
        self._keys: SecureStream | None = None
        """Ours, with SRTP."""
        self._rtp = UdpSocket(loop, sockets[0], self._receive_rtp, on_drained)
        self._rtcp = UdpSocket(loop, sockets[1], self._receive_rtcp, on_drained)

    @property
    def numbers(self) -> tuple[int, int]:
        """The local ports."""
        return self._rtp.port, self._rtcp.port

    def dump(self, prefix: str) -> None:
        """Write the datagrams to files from now on, if ``prefix`` is not empty."""
        self._rtp.dump(prefix)
        self._rtcp.dump(prefix)

    def expect(self, host: str | None, ports: tuple[int, int] | None) -> None:
        """Accept packets only from this IP address (None: any) and, if ``ports`` are given, from these ports."""
        self._host = plain_host(host) if host is not None else None
        self._accepts_any = host is None
        if host is not None and ports is not None:
            self._expected = self._rtp.address(host, ports[0]), self._rtcp.address(host, ports[1])

    def secure(self, keys: SecureStream, server_key: str) -> None:
        """From now on, the packets are SRTP.

        ``keys``: ours, of one track. ``server_key``: a MIKEY message in base64. Raises RemoteProtocolError (466).
        """
        opened = keys.open_input(0, server_key, self._on_rtp, self._on_rtcp)
        self._keys = keys
        self._on_rtp, self._on_rtcp = opened.receive_rtp, opened.receive_rtcp

    def punch(self, receiver_report: bytes) -> None:
        """Open the NATs in between: send an empty RTP packet and a receiver report to the server."""
        rtp = self._expected[0]
        if rtp is not None and rtp[1]:
            self._rtp.send(EMPTY_PACKET if self._keys is None else self._keys.tracks[0].protect_opening(), rtp)
        self.send_report(receiver_report)

    def send_report(self, report: bytes) -> None:
        """Send an RTCP packet to the server, if its port is known."""
        rtcp = self._expected[1]
        if rtcp is not None and rtcp[1]:
            self._rtcp.send(report if self._keys is None else self._keys.tracks[0].protect_report(report), rtcp)

    def close(self) -> None:
        """Close both sockets."""
        self._rtp.close()
        self._rtcp.close()

    def _receive_rtp(self, data: bytes, start: int, end: int, address: Address) -> None:
        if self._is_expected(address, self._expected[0]):
            self._on_rtp(data, start, end)

    def _receive_rtcp(self, data: bytes, start: int, end: int, address: Address) -> None:
        if self._is_expected(address, self._expected[1]):
            self._on_rtcp(data, start, end)

    def _is_expected(self, address: Address, expected: Address | None) -> bool:
        if expected is not None:
            return bool(address[:2] == expected[:2])
        return self._accepts_any or (self._host is not None and plain_host(address[0]) == self._host)


def open_pair(first: int, last: int, receive_buffer_size: int) -> tuple[socket.socket, socket.socket]:
    """Return a pair of UDP sockets on an even port (RFC 3550 section 11) and the next one, from ``first`` to ``last``.

    Raises OSError if none is free.
    """
    ports = range(first + first % 2, last, 2)
    for port in random.sample(ports, min(PAIR_ATTEMPTS, len(ports))):
        with contextlib.suppress(OSError):
            return open_pair_at((port, port + 1), receive_buffer_size)
    raise OSError(errno.EADDRINUSE, f"no pair of free UDP ports from {first} to {last}")


def open_pair_at(numbers: tuple[int, int], receive_buffer_size: int) -> tuple[socket.socket, socket.socket]:
    first = open_udp_socket("", numbers[0], receive_buffer_size)
    try:
        return first, open_udp_socket("", numbers[1])
    except OSError:
        first.close()
        raise


def open_group_pair(
    group: str, ports: tuple[int, int], local_host: str, receive_buffer_size: int
) -> tuple[socket.socket, socket.socket]:
    """Return sockets that have joined a multicast group. Raises OSError."""
    try:
        if not ipaddress.IPv4Address(group).is_multicast:
            raise ValueError
    except ValueError:
        raise OSError(errno.EINVAL, f"'{group}' is not an IPv4 multicast address") from None
    first = _join(group, ports[0], local_host, receive_buffer_size)
    try:
        return first, _join(group, ports[1], local_host, 0)
    except OSError:
        first.close()
        raise


def _join(group: str, port: int, local_host: str, receive_buffer_size: int) -> socket.socket:
    joined = bind_to_group(group, port, receive_buffer_size)
    try:
        joins = 0
        # The interface of the RTSP connection, and the default one of the system.
        for interface in dict.fromkeys((plain_host(local_host), "0.0.0.0")):
            with contextlib.suppress(OSError):
                membership = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton(interface))
                joined.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
                joins += 1
        if not joins:
            raise OSError(errno.ENODEV, f"the multicast group {group} cannot be joined")
    except BaseException:
        joined.close()
        raise
    return joined
