"""Finds the WebRTC connection that a datagram belongs to, on one socket or relay that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from polycast.net.address import plain_host
from polycast.net.udp import Address
from polycast.protocols.webrtc.media_socket import MediaSocket
from polycast.protocols.webrtc.peer import LitePeer
from polycast.protocols.webrtc.peers import Peers

MAXIMUM_ADDRESSES: Final = 4
"""Addresses stored per connection: a peer may move between networks while packets are in flight."""

StunHandler = Callable[[bytes, tuple[str, int]], None]

_ANSWER: Final = 1
"""First byte of a response of the method Binding, a success or an error (RFC 8489 section 5)."""


class Demultiplexer:
    """Demultiplexes by the first byte (RFC 7983), then by username fragment or address.

    A connection is found by its fragment until a valid check has come from an address, then by that.
    """

    def __init__(
        self,
        peers: Peers,
        on_stun_answer: StunHandler,
        *,
        on_address: Callable[[Address], None] = lambda _: None,
        on_unused: Callable[[Address], None] = lambda _: None,
    ) -> None:
        """``on_stun_answer`` gets STUN messages that are not requests, with their source addresses; ``on_address`` the
        addresses that belong to a connection from now on, and ``on_unused`` those that no longer do."""
        self._peers = peers
        self._on_stun_answer = on_stun_answer
        self._on_address = on_address
        self._on_unused = on_unused
        self._fed: set[LitePeer] = set()
        """Connections that received media since the socket was last drained."""
        self._by_address: dict[Address, LitePeer] = {}
        self._addresses: dict[LitePeer, list[Address]] = {}

    def receive(self, datagram: bytes, address: Address, socket: MediaSocket, now: float) -> None:
        """Process a datagram that ``socket`` has received from ``address``."""
        first = datagram[0] if datagram else 0xFF
        if first < 4:
            if first == _ANSWER:
                self._on_stun_answer(datagram, (plain_host(address[0]), int(address[1])))
            else:
                self._on_check(datagram, address, socket, now)
            return
        peer = self._by_address.get(address)
        if peer is None:
            return  # does not belong to a connection
        self._fed.add(peer)
        peer.receive(datagram, now)

    def end_of_read(self) -> None:
        """Called after all datagrams of one wake-up of the socket."""
        if self._fed:
            fed, self._fed = self._fed, set()
            for peer in fed:
                peer.end_of_read()

    def remove(self, peer: LitePeer) -> None:
        """Remove a connection."""
        for address in self._addresses.pop(peer, ()):
            self._forget(peer, address)

    def _on_check(self, datagram: bytes, address: Address, socket: MediaSocket, now: float) -> None:
        found = self._peers.find(datagram)
        if found is None:
            return
        peer, message = found
        source = plain_host(address[0]), int(address[1])
        is_valid = peer.receive_check(message, source, address, socket, now)
        if is_valid and peer.ice.selected == source:
            self._add_address(peer, address)

    def _add_address(self, peer: LitePeer, address: Address) -> None:
        if self._by_address.get(address) is peer:
            return
        known = self._addresses.setdefault(peer, [])
        known.append(address)
        self._by_address[address] = peer
        self._on_address(address)
        if len(known) > MAXIMUM_ADDRESSES:
            self._forget(peer, known.pop(0))

    def _forget(self, peer: LitePeer, address: Address) -> None:
        if self._by_address.get(address) is peer:
            del self._by_address[address]
            self._on_unused(address)
