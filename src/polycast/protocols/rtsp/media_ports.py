"""The server's two UDP ports for RTP and RTCP, shared by all sessions, and the client addresses of one session."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from polycast.errors import RemoteProtocolError
from polycast.net.listen import open_udp_socket
from polycast.net.udp import Address, UdpSocket
from polycast.wire.rtsp.headers.transport import Pair

# Bytes of SO_SNDBUF: a burst of key frames for many readers.
SEND_BUFFER_SIZE = 4 * 1024 * 1024

PacketHandler = Callable[[bytes, int, int], None]
"""Called with (data, start, end) for each datagram of a registered client."""


def open_media_sockets(
    rtp_address: tuple[str, int], rtcp_address: tuple[str, int], receive_buffer_size: int
) -> tuple[socket.socket, socket.socket]:
    """Return bound sockets for RTP and RTCP. Resolves names, so it may block. Raises OSError."""
    rtp = open_udp_socket(*rtp_address, receive_buffer_size, SEND_BUFFER_SIZE)
    try:
        return rtp, open_udp_socket(*rtcp_address, receive_buffer_size, SEND_BUFFER_SIZE)
    except OSError:
        rtp.close()
        raise


class MediaPorts:
    """RTP and RTCP sockets; clients are identified by IP address and port."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rtp: socket.socket, rtcp: socket.socket) -> None:
        self._rtp_clients: dict[Address, PacketHandler] = {}
        self._rtcp_clients: dict[Address, PacketHandler] = {}
        self._touched: dict[Callable[[], None], None] = {}
        """Called after all datagrams of a wake-up were delivered: the streams' `end_of_read`."""
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
        """Deliver the datagrams of a client to a session from now on."""
        self._rtp_clients[rtp_client] = on_rtp
        self._rtcp_clients[rtcp_client] = on_rtcp

    def unregister(self, rtp_client: Address, rtcp_client: Address) -> None:
        """Drop the datagrams of a client from now on."""
        self._rtp_clients.pop(rtp_client, None)
        self._rtcp_clients.pop(rtcp_client, None)

    def call_when_drained(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once after the datagrams of this wake-up; for use by packet handlers."""
        self._touched[callback] = None

    def dump(self, prefix: str) -> None:
        """Write the datagrams to files from now on; an empty ``prefix`` ends that."""
        self.rtp.dump(prefix)
        self.rtcp.dump(prefix)

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


class ClientPorts:
    """The UDP ports of one session's client."""

    def __init__(self, ports: MediaPorts) -> None:
        self.server = ports
        self.addresses: dict[int, tuple[Address, Address]] = {}
        """The client's addresses for RTP and RTCP, by index of the track."""
        self._registered: list[tuple[Address, Address]] = []

    def add(self, track: int, host: str, scope: int, client_port: Pair) -> None:
        """Store the ports of a track from SETUP. Raises RemoteProtocolError if they are in use."""
        rtp, rtcp = (self.server.rtp.address(host, port, scope) for port in client_port)
        self._check_free((rtp, rtcp))
        self.addresses[track] = rtp, rtcp

    def register(self, track: int, on_rtp: PacketHandler, on_rtcp: PacketHandler) -> None:
        """Receive the datagrams of a track from now on. Raises RemoteProtocolError if its ports are in use
        meanwhile."""
        rtp, rtcp = self.addresses[track]
        self._check_free((rtp, rtcp))
        self.server.register(rtp, on_rtp, rtcp, on_rtcp)
        self._registered.append((rtp, rtcp))

    def unregister(self) -> None:
        """Stop receiving datagrams."""
        registered, self._registered = self._registered, []
        for addresses in registered:
            self.server.unregister(*addresses)

    def _check_free(self, addresses: tuple[Address, Address]) -> None:
        if self.server.is_taken(*addresses):
            first, second = addresses[0][1], addresses[1][1]
            raise RemoteProtocolError(f"UDP ports {first} and {second} are already in use by another reader")
