"""A STUN client (RFC 8489): asks servers for the public address of a UDP socket behind a router, again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from polycast.wire.webrtc import stun
from polycast.wire.webrtc.stun import Message, MessageType, SocketAddress

REQUEST_INTERVAL: Final = 25.0
"""Seconds between two requests to a server. Most routers keep the mapping of an unused port for at least 30 seconds
(RFC 8445 section 11)."""
RETRANSMISSION_SECONDS: Final = 0.5
"""Seconds before the first retransmission; doubled each time (RFC 8489 section 6.2.1)."""
MAXIMUM_TRANSMISSIONS: Final = 5
"""How often one request is sent: for 15 seconds."""


class _Server:
    """What is known of one server."""

    __slots__ = ("address", "due", "mapped", "transaction_id", "transmissions")

    def __init__(self, address: SocketAddress, now: float) -> None:
        self.address = address
        self.due = now
        """When something is to be sent."""
        self.transaction_id = b""
        """Empty while no answer is expected."""
        self.transmissions = 0
        self.mapped: SocketAddress | None = None
        """The public address, by its last answer; None after a request that was not answered."""


class StunClient:
    """Asks some servers from one socket. Send what `data_to_send` returns, and call `handle_timeout` at
    `next_timeout`."""

    def __init__(self, servers: Iterable[SocketAddress], now: float, random_bytes: Callable[[int], bytes]) -> None:
        self._servers = [_Server(address, now) for address in dict.fromkeys(servers)]
        self._random_bytes = random_bytes
        self._outgoing: list[tuple[bytes, SocketAddress]] = []

    @property
    def addresses(self) -> tuple[SocketAddress, ...]:
        """The public addresses, in the order of the servers."""
        return tuple(dict.fromkeys(server.mapped for server in self._servers if server.mapped is not None))

    def receive(self, message: Message, source: SocketAddress, now: float) -> None:
        """Process a message. One that answers no request of this client is ignored."""
        server = next((server for server in self._servers if server.address == source and server.transaction_id), None)
        if server is None or server.transaction_id != message.transaction_id:
            return
        if message.type in (MessageType.SUCCESS, MessageType.ERROR):
            server.mapped = message.address() if message.type is MessageType.SUCCESS else None
            server.transaction_id = b""
            server.due = now + REQUEST_INTERVAL

    def data_to_send(self) -> list[tuple[bytes, SocketAddress]]:
        """Return the datagrams to send, with their destinations."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`; None without servers."""
        return min((server.due for server in self._servers), default=None)

    def handle_timeout(self, now: float) -> None:
        """Send the requests that are due."""
        for server in self._servers:
            if now < server.due:
                continue
            if server.transaction_id and server.transmissions >= MAXIMUM_TRANSMISSIONS:
                server.mapped = None
                server.transaction_id = b""
                server.due = now + REQUEST_INTERVAL
                continue
            if not server.transaction_id:
                server.transaction_id = self._random_bytes(stun.TRANSACTION_ID_SIZE)
                server.transmissions = 0
            server.due = now + RETRANSMISSION_SECONDS * (1 << server.transmissions)
            server.transmissions += 1
            self._outgoing.append((Message(MessageType.REQUEST, server.transaction_id).serialize(), server.address))
