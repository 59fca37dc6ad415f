"""The TCP port that all WebRTC connections share, for clients that cannot send UDP (RFC 6544, passive candidates)."""

from __future__ import annotations

import socket
from typing import ClassVar, Final

from polycast.errors import RemoteProtocolError
from polycast.net.address import join_host_port
from polycast.net.listener import Listener
from polycast.net.udp import Address
from polycast.protocols.tcp_server import ServerConnection, TcpServer
from polycast.protocols.webrtc.peer import LitePeer
from polycast.protocols.webrtc.peers import Peers
from polycast.wire.webrtc.framing import Deframer, frame
from polycast.wire.webrtc.stun import is_stun

CHECK_SECONDS: Final = 10.0
"""Seconds in which a client must have sent a valid connectivity check; the first one is sent at once."""

MAXIMUM_UNCHECKED_PACKETS: Final = 32
"""Packets before the first valid check: retransmissions of one check."""

MAXIMUM_CONNECTIONS: Final = 4
"""TCP connections per peer: one for each of its addresses."""


class MediaConnection(ServerConnection):
    """A TCP connection of a peer, which the first valid check names."""

    relayed: ClassVar[str] = ""
    unread_reason: ClassVar[str] = "the client does not read what is sent to it"

    def __init__(self, server: TcpServer, port: StreamPort) -> None:
        super().__init__(server)
        self._port = port
        self._deframer = Deframer()
        self._unchecked = 0
        """Packets received before a valid check."""
        self._peer: LitePeer | None = None
        self._is_fed = False
        """Whether the peer received media in this slice."""

    # MediaSocket

    def send(self, data: bytes, address: Address) -> None:
        """Send a control packet; see `MediaSocket`."""
        self.answer(frame(data))

    def send_segments(self, data: bytes | memoryview, segment_size: int, address: Address) -> None:
        """Send frames with media; see `MediaSocket`."""
        self.outbox.write(bytes(data))

    # ServerConnection

    @property
    def held_size(self) -> int:
        return self._deframer.held_size

    def on_connected(self) -> None:
        self.log = self.server.log.child(f"media {join_host_port(*self.peer)}")
        self.server.add_connection(self)
        self.log.debug("opened")

    def on_closing(self, reason: str) -> None:
        if self._peer is not None:
            self._port.leave(self._peer, self)
            self._peer.lose(self, reason, self.clock())

    def on_lost(self, reason: str) -> None:
        self.server.remove_connection(self)
        self.log.debug("closed (%s)", reason)

    def on_dropped(self, count: int) -> None:
        self.log.warning("the client is too slow to read the stream: %d packets dropped", count)

    def on_tick(self, now: float) -> None:
        if self._peer is not None:
            self.weight = self._peer.weight
        elif now - self.opened_at >= CHECK_SECONDS:
            self.abort(f"no valid connectivity check within {CHECK_SECONDS:g} s")

    def receive(self, data: bytes, now: float) -> bool:
        self._deframer.receive_data(data)
        return self.continue_receiving(now)

    def continue_receiving(self, now: float) -> bool:
        while self.is_open and (packet := self._deframer.next_packet()) is not None:
            self._on_packet(packet, now)
            if self.is_slice_over():
                return True
        return False

    def end_slice(self, now: float) -> None:
        if self._is_fed and self._peer is not None:
            self._is_fed = False
            self._peer.end_of_read()

    def _on_packet(self, packet: bytes, now: float) -> None:
        if is_stun(packet):
            self._on_check(packet, now)
        elif self._peer is not None:
            self._is_fed = True
            self._peer.receive(packet, now)
        elif packet:
            raise RemoteProtocolError("the first packet is no connectivity check")
        if self._peer is None:
            self._unchecked += 1
            if self._unchecked > MAXIMUM_UNCHECKED_PACKETS:
                raise RemoteProtocolError(f"{MAXIMUM_UNCHECKED_PACKETS} packets without a valid connectivity check")

    def _on_check(self, packet: bytes, now: float) -> None:
        found = self._port.peers.find(packet)
        if found is None or self._peer not in (None, found[0]):
            return
        peer, message = found
        if peer.receive_check(message, self.peer, self.peer, self, now) and self._peer is None:
            self.silent_since = None
            self._peer = peer
            self._port.join(peer, self)


class StreamPort:
    """Accepts the TCP connections of peers."""

    def __init__(self, server: TcpServer, peers: Peers, bound: socket.socket) -> None:
        """Start accepting on a listening socket."""
        self.peers = peers
        self.port = int(bound.getsockname()[1])
        """The local port."""
        self._connections: dict[LitePeer, list[MediaConnection]] = {}
        self._listener = Listener(bound, lambda: MediaConnection(server, self))

    def join(self, peer: LitePeer, connection: MediaConnection) -> None:
        """A connection belongs to a peer from now on."""
        connections = self._connections.setdefault(peer, [])
        connections.append(connection)
        if len(connections) > MAXIMUM_CONNECTIONS:
            unused = (known for known in connections if known is not peer.socket)
            next(unused).abort("the peer has other connections")

    def leave(self, peer: LitePeer, connection: MediaConnection) -> None:
        """A connection of a peer is closing."""
        connections = self._connections.get(peer, [])
        if connection in connections:
            connections.remove(connection)
            if not connections:
                del self._connections[peer]

    def remove(self, peer: LitePeer) -> None:
        """Close the connections of a peer after the last bytes."""
        for connection in self._connections.pop(peer, ()):
            connection.close("the session has ended")

    def close(self) -> None:
        """Stop accepting. The server closes the connections."""
        self._listener.close()
