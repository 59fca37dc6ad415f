"""The UDP port that all WebRTC connections share: finds the connection that a datagram belongs to."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.net.address import plain_host
from polycast.net.udp import Address, UdpSocket
from polycast.protocols.webrtc.peer import LitePeer
from polycast.wire.webrtc.ice import local_ufrag
from polycast.wire.webrtc.stun import Message, parse_message

MAXIMUM_ADDRESSES: Final = 4
"""Addresses stored per connection: a peer may move between networks while packets are in flight."""


class MediaPort:
    """Demultiplexes by the first byte (RFC 7983), then by username fragment or address.

    A connection is found by its fragment until a valid check has come from an address, then by that.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, bound: socket.socket) -> None:
        self._loop = loop
        self._socket = UdpSocket(loop, bound, self._on_datagram, self._on_drained)
        self._fed: set[LitePeer] = set()
        """Connections that received media since the socket was last drained."""
        self._by_ufrag: dict[str, LitePeer] = {}
        self._by_address: dict[Address, LitePeer] = {}
        self._addresses: dict[LitePeer, list[Address]] = {}

    @property
    def port(self) -> int:
        """The local port."""
        return self._socket.port

    def add(self, peer: LitePeer) -> None:
        """Start receiving datagrams for a connection."""
        self._by_ufrag[peer.ice.credentials.ufrag] = peer
        self._addresses[peer] = []

    def rename(self, peer: LitePeer, old_ufrag: str) -> None:
        """Set the new username fragment of a connection after an ICE restart."""
        self._by_ufrag.pop(old_ufrag, None)
        self._by_ufrag[peer.ice.credentials.ufrag] = peer

    def remove(self, peer: LitePeer) -> None:
        """Remove a connection."""
        self._by_ufrag.pop(peer.ice.credentials.ufrag, None)
        for address in self._addresses.pop(peer, ()):
            if self._by_address.get(address) is peer:
                del self._by_address[address]

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _on_datagram(self, data: bytes, start: int, end: int, address: Address) -> None:
        first = data[start] if end > start else 0xFF
        if first < 4:
            self._on_check(data[start:end], address)
            return
        peer = self._by_address.get(address)
        if peer is None:
            return  # does not belong to a connection
        if 128 <= first <= 191:
            self._fed.add(peer)
            peer.receive_media(data[start:end], self._loop.time())
        elif 20 <= first <= 63:
            peer.receive_dtls(data[start:end], self._loop.time())

    def _on_drained(self) -> None:
        if self._fed:
            fed, self._fed = self._fed, set()
            for peer in fed:
                peer.end_of_read()

    def _on_check(self, data: bytes, address: Address) -> None:
        try:
            message: Message = parse_message(data)
        except RemoteProtocolError:
            return
        peer = self._by_ufrag.get(local_ufrag(message))
        if peer is None:
            return
        source = plain_host(address[0]), int(address[1])
        if peer.receive_check(message, source, address, self._socket, self._loop.time()):
            self._add_address(peer, address)

    def _add_address(self, peer: LitePeer, address: Address) -> None:
        if self._by_address.get(address) is peer or peer not in self._addresses:
            return
        known = self._addresses[peer]
        known.append(address)
        self._by_address[address] = peer
        if len(known) > MAXIMUM_ADDRESSES:
            oldest = known.pop(0)
            if self._by_address.get(oldest) is peer:
                del self._by_address[oldest]
