"""The UDP port that all WebRTC connections share."""

from __future__ import annotations

import asyncio
import socket

from polycast.net.udp import Address
from polycast.protocols.webrtc.demultiplexer import Demultiplexer, StunHandler
from polycast.protocols.webrtc.media_socket import DatagramSocket
from polycast.protocols.webrtc.peer import LitePeer
from polycast.protocols.webrtc.peers import Peers


class DatagramPort:
    """A UDP socket whose datagrams are given to the connections."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, peers: Peers, bound: socket.socket, on_stun_answer: StunHandler
    ) -> None:
        """``on_stun_answer`` gets STUN messages that are no requests, and where they come from."""
        self._loop = loop
        self._connections = Demultiplexer(peers, on_stun_answer)
        self._socket = DatagramSocket(loop, bound, self._on_datagram, self._connections.end_of_read)

    @property
    def port(self) -> int:
        """The local port."""
        return self._socket.port

    def send(self, data: bytes, host: str, port: int) -> None:
        """Send a datagram to an IP address that is not a peer's."""
        self._socket.send(data, self._socket.address(host, port))

    def remove(self, peer: LitePeer) -> None:
        """Remove a connection."""
        self._connections.remove(peer)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _on_datagram(self, data: bytes, start: int, end: int, address: Address) -> None:
        self._connections.receive(data[start:end], address, self._socket, self._loop.time())
