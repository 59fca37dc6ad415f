"""The server's two UDP ports for RTP and RTCP, shared by all sessions, and the allocation of multicast groups."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence

from polycast.log import Log
from polycast.net.listen import open_udp_socket
from polycast.net.udp import Address, UdpSocket
from polycast.protocols.rtsp.readers import MulticastGroup

# Bytes of SO_SNDBUF: a burst of key frames for many readers.
SEND_BUFFER_SIZE = 4 * 1024 * 1024

# Time to live of multicast packets: they stay within the site. rtsp-simple-server sends 16, too.
MULTICAST_TTL = 16

PacketHandler = Callable[[bytes, int, int], None]
"""Called with (data, start, end) for each datagram of a registered client."""


class MediaPorts:
    """RTP and RTCP sockets; clients are told apart by IP address and port."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rtp_address: tuple[str, int],
        rtcp_address: tuple[str, int],
        receive_buffer_size: int,
    ) -> None:
        self._rtp_clients: dict[Address, PacketHandler] = {}
        self._rtcp_clients: dict[Address, PacketHandler] = {}
        self._touched: dict[Callable[[], None], None] = {}
        """What to call once all datagrams of a wake-up were handed out: the streams' `end_of_read`."""
        rtp = open_udp_socket(*rtp_address, receive_buffer_size, SEND_BUFFER_SIZE)
        try:
            if rtcp_address[1] == 0:
                rtcp_address = (rtcp_address[0], 0)
            rtcp = open_udp_socket(*rtcp_address, receive_buffer_size, SEND_BUFFER_SIZE)
        except OSError:
            rtp.close()
            raise
        self.rtp = UdpSocket(loop, rtp, self._on_rtp, self._on_drained)
        self.rtcp = UdpSocket(loop, rtcp, self._on_rtcp, self._on_drained)

    @property
    def numbers(self) -> tuple[int, int]:
        """The port numbers for RTP and RTCP."""
        return self.rtp.port, self.rtcp.port

    def is_taken(self, rtp_client: Address, rtcp_client: Address) -> bool:
        """Whether a session already uses one of these client addresses."""
        return rtp_client in self._rtp_clients or rtcp_client in self._rtcp_clients

    def register(
        self, rtp_client: Address, on_rtp: PacketHandler, rtcp_client: Address, on_rtcp: PacketHandler
    ) -> None:
        """Hand the datagrams of a client to a session from now on."""
        self._rtp_clients[rtp_client] = on_rtp
        self._rtcp_clients[rtcp_client] = on_rtcp

    def unregister(self, rtp_client: Address, rtcp_client: Address) -> None:
        """Drop the datagrams of a client from now on."""
        self._rtp_clients.pop(rtp_client, None)
        self._rtcp_clients.pop(rtcp_client, None)

    def call_when_drained(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once after the datagrams of this wake-up; for use by packet handlers."""
        self._touched[callback] = None

    def close(self) -> None:
        """Close both sockets."""
        self.rtp.close()
        self.rtcp.close()

    def _on_rtp(self, data: bytes, start: int, end: int, address: Address) -> None:
        handler = self._rtp_clients.get(address)
        if handler is not None:
            handler(data, start, end)

    def _on_rtcp(self, data: bytes, start: int, end: int, address: Address) -> None:
        handler = self._rtcp_clients.get(address)
        if handler is not None:
            handler(data, start, end)

    def _on_drained(self) -> None:
        if self._touched:
            touched, self._touched = self._touched, {}
            for callback in touched:
                callback()


class MulticastAllocator:
    """Gives each multicast stream addresses of the configured range."""

    def __init__(self, loop: asyncio.AbstractEventLoop, network: str, ports: tuple[int, int], log: Log) -> None:
        self._loop = loop
        self._network = ipaddress.ip_network(network, strict=False)
        self._ports = ports
        self._log = log
        self._used: set[str] = set()
        self._next = 1

    def open(self, track_indexes: Sequence[int], local_host: str) -> MulticastGroup:
        """Return a group with an address for each track, sending from the interface of ``local_host``.

        Raises OSError when the range is used up or the sockets cannot be opened.
        """
        hosts: dict[int, str] = {}
        try:
            for index in track_indexes:
                hosts[index] = self._allocate()
            rtp = self._open_socket(local_host)
            try:
                rtcp = self._open_socket(local_host)
            except OSError:
                rtp.close()
                raise
        except OSError:
            self._used.difference_update(hosts.values())
            raise
        # Group members answer to the group, so nothing of interest comes back to these sockets.
        return MulticastGroup(
            self._loop,
            UdpSocket(self._loop, rtp, _ignore),
            UdpSocket(self._loop, rtcp, _ignore),
            hosts,
            self._ports,
        )

    def close(self, group: MulticastGroup) -> None:
        """Close a group and free its addresses."""
        group.close()
        self._used.difference_update(group.addresses.values())

    def _allocate(self) -> str:
        for _ in range(min(self._network.num_addresses, 65_536)):
            host = str(self._network[self._next % self._network.num_addresses])
            self._next += 1
            if host not in self._used and ipaddress.ip_address(host).is_multicast:
                self._used.add(host)
                return host
        raise OSError(f"no free multicast address in {self._network}")

    def _open_socket(self, local_host: str) -> socket.socket:
        udp = open_udp_socket("0.0.0.0", 0, 0, SEND_BUFFER_SIZE)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, MULTICAST_TTL)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        interface = self._interface(local_host)
        if interface is not None:
            with contextlib.suppress(OSError):
                udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        return udp

    def _interface(self, local_host: str) -> bytes | None:
        """The interface of the reader's connection; for a reader on this machine the one that the kernel routes to."""
        try:
            address = ipaddress.IPv4Address(local_host)
        except ValueError:
            return None
        if not address.is_loopback:
            return address.packed
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((str(self._network[1]), 9))
            except OSError:  # no multicast route: at least programs on this machine that ask for loopback get it
                return struct.pack("!I", 0x7F000001)
        return None


def _ignore(data: bytes, start: int, end: int, address: Address) -> None:
    """Drop a datagram."""
