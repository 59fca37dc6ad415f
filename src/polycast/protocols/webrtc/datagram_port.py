"""The UDP port that all WebRTC connections share: finds the connection that a datagram belongs to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from polycast.net.address import plain_host
from polycast.net.udp import Address
from polycast.protocols.webrtc.media_socket import DatagramSocket
from polycast.protocols.webrtc.peer import LitePeer
from polycast.protocols.webrtc.peers import Peers

MAXIMUM_ADDRESSES: Final = 4
"""Addresses stored per connection: a peer may move between networks while packets are in flight."""

StunHandler = Callable[[bytes, tuple[str, int]], None]

_ANSWER: Final = 1
"""First byte of a response of the method Binding, a success or an error (RFC 8489 section 5)."""


class DatagramPort:
    """Demultiplexes by the first byte (RFC 7983), then by username fragment or address.

    A connection is found by its fragment until a valid check has come from an address, then by that.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, peers: Peers, bound: socket.socket, on_stun_answer: StunHandler
    ) -> None:
        """``on_stun_answer`` gets STUN messages that are no requests, and where they come from."""
        self._loop = loop
        self._peers = peers
        self._socket = DatagramSocket(loop, bound, self._on_datagram, self._on_drained)
        self._fed: set[LitePeer] = set()
        """Connections that received media since the socket was last drained."""
        self._on_stun_answer = on_stun_answer
        self._by_address: dict[Address, LitePeer] = {}
        self._addresses: dict[LitePeer, list[Address]] = {}

    @property
    def port(self) -> int:
        """The local port."""
        return self._socket.port

    def send(self, data: bytes, host: str, port: int) -> None:
        """Send a datagram to an IP address that is not a peer's."""
        self._socket.send(data, self._socket.address(host, port))

    def remove(self, peer: LitePeer) -> None:
        """Remove a connection."""
        for address in self._addresses.pop(peer, ()):
            if self._by_address.get(address) is peer:
                del self._by_address[address]

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _on_datagram(self, data: bytes, start: int, end: int, address: Address) -> None:
        first = data[start] if end > start else 0xFF
        if first < 4:
            if first == _ANSWER:
                self._on_stun_answer(data[start:end], (plain_host(address[0]), int(address[1])))
            else:
                self._on_check(data[start:end], address)
            return
        peer = self._by_address.get(address)
        if peer is None:
            return  # does not belong to a connection
        self._fed.add(peer)
        peer.receive(data[start:end], self._loop.time())

    def _on_drained(self) -> None:
        if self._fed:
            fed, self._fed = self._fed, set()
            for peer in fed:
                peer.end_of_read()

    def _on_check(self, data: bytes, address: Address) -> None:
        found = self._peers.find(data)
        if found is None:
            return
        peer, message = found
        source = plain_host(address[0]), int(address[1])
        is_valid = peer.receive_check(message, source, address, self._socket, self._loop.time())
        if is_valid and peer.ice.selected == source:
            self._add_address(peer, address)

    def _add_address(self, peer: LitePeer, address: Address) -> None:
        if self._by_address.get(address) is peer:
            return
        known = self._addresses.setdefault(peer, [])
        known.append(address)
        self._by_address[address] = peer
        if len(known) > MAXIMUM_ADDRESSES:
            oldest = known.pop(0)
            if self._by_address.get(oldest) is peer:
                del self._by_address[oldest]
