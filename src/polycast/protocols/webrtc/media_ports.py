"""The ports for media: one for UDP and one for TCP, either of which may be missing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from polycast.net.listen import open_tcp_listener, open_udp_socket
from polycast.protocols.tcp_server import TcpServer
from polycast.protocols.webrtc.configuration import WebRtcConfiguration
from polycast.protocols.webrtc.datagram_port import DatagramPort
from polycast.protocols.webrtc.ice_servers import IceServer
from polycast.protocols.webrtc.peer import LitePeer
from polycast.protocols.webrtc.peers import Peers
from polycast.protocols.webrtc.public_address import PublicAddress
from polycast.protocols.webrtc.relay import Relay
from polycast.protocols.webrtc.relay_transport import stun_url
from polycast.protocols.webrtc.stream_port import StreamPort
from polycast.security.addresses import parse_address
from polycast.wire.webrtc.candidates import (
    PASSIVE,
    REFLEXIVE,
    RELAYED,
    TCP,
    UDP,
    Candidate,
    host_priority,
    reflexive_priority,
    relayed_priority,
)

BUFFER_SIZE: Final = 4 * 1024 * 1024
"""Bytes of the UDP socket's buffers: key frames for some hundred viewers at once."""

ANY_PORT: Final = ":0"
"""The address of a UDP port that the system chooses."""

_TCP_FOUNDATION: Final = "2"
_REFLEXIVE_FOUNDATION: Final = "3"
_RELAYED_FOUNDATION: Final = "4"
"""Candidates of different transports and types have different foundations (RFC 8445 section 5.1.1.3)."""


class MediaPorts:
    """What the sessions of a server receive media on."""

    def __init__(self, server: TcpServer) -> None:
        self._server = server
        self._peers = Peers()
        self._datagrams: DatagramPort | None = None
        self._streams: StreamPort | None = None
        self.texts: list[str] = []
        """The ports, for the log."""
        self.hosts: list[str] = []
        """The addresses that are listened on; an empty one is every interface."""
        self._public: PublicAddress | None = None
        self._relays: dict[IceServer, Relay] = {}

    async def open(self, settings: WebRtcConfiguration) -> None:
        """Open the ports. Raises OSError."""
        # Without any address, clients find the server with the help of STUN servers, whatever its port is.
        address = settings.webrtc_local_udp_address or ("" if settings.webrtc_local_tcp_address else ANY_PORT)
        if address:
            host, port = parse_address(address)
            bound = await asyncio.to_thread(open_udp_socket, host, port, BUFFER_SIZE, BUFFER_SIZE)
            self._datagrams = DatagramPort(self._server.loop, self._peers, bound, self._on_stun_answer)
            self._public = PublicAddress(self._server.loop, self._server.log, self._datagrams)
            self._add_text(host, self._datagrams.port, "UDP")
        if settings.webrtc_local_tcp_address:
            host, port = parse_address(settings.webrtc_local_tcp_address)
            try:
                listener = await asyncio.to_thread(open_tcp_listener, host, port)
            except OSError:
                self.close()
                raise
            self._streams = StreamPort(self._server, self._peers, listener)
            self._add_text(host, self._streams.port, "TCP")

    def _add_text(self, host: str, port: int, kind: str) -> None:
        self.texts.append(f"{host}:{port} (ICE/{kind})")
        self.hosts.append(host)

    @property
    def ports(self) -> dict[str, int]:
        """The ports by configuration key; 0 for those that are not used."""
        return {
            "webrtcLocalUDPAddress": self._datagrams.port if self._datagrams is not None else 0,
            "webrtcLocalTCPAddress": self._streams.port if self._streams is not None else 0,
        }

    def candidates(self, hosts: Sequence[str]) -> list[Candidate]:
        """Return the candidates of a server with these IP addresses, the best first."""
        candidates = []
        if self._datagrams is not None:
            port = self._datagrams.port
            candidates += [Candidate(host, port, priority=host_priority(order)) for order, host in enumerate(hosts)]
            candidates += self._reflexive_candidates(hosts, port)
        if self._streams is not None:
            port = self._streams.port
            candidates += [
                Candidate(
                    host,
                    port,
                    TCP,
                    priority=host_priority(order, TCP),
                    foundation=_TCP_FOUNDATION,
                    tcp_type=PASSIVE,
                )
                for order, host in enumerate(hosts)
            ]
        return candidates + self._relayed_candidates()

    def local_candidate(self, hosts: Sequence[str], transport: str) -> str:
        """Return the best candidate of a transport, as in logs and the API; empty if there is none."""
        port = self._datagrams if transport == UDP else self._streams
        return f"host/{transport}/{hosts[0]}/{port.port}" if hosts and port is not None else ""

    def _reflexive_candidates(self, hosts: Sequence[str], port: int) -> list[Candidate]:
        """Return the candidates for public addresses: with the port that the router has assigned, and with the local
        one, in case that the router forwards it."""
        known = self._public.addresses if self._public is not None else ()
        pairs = [pair for host, mapped in known for pair in ((host, mapped), (host, port))]
        unknown = [pair for pair in dict.fromkeys(pairs) if pair != (pair[0], port) or pair[0] not in hosts]
        return [
            Candidate(
                host,
                number,
                type=REFLEXIVE,
                priority=reflexive_priority(order),
                foundation=_REFLEXIVE_FOUNDATION,
                hides_base=True,
            )
            for order, (host, number) in enumerate(unknown)
        ]

    def _relayed_candidates(self) -> list[Candidate]:
        addresses = [relay.address for relay in self._relays.values()]
        return [
            Candidate(
                *address,
                type=RELAYED,
                priority=relayed_priority(order),
                foundation=_RELAYED_FOUNDATION,
                hides_base=True,
            )
            for order, address in enumerate(addresses)
            if address is not None
        ]

    def use_servers(self, servers: Sequence[IceServer]) -> None:
        """Use those servers that are not only for clients: ask all of them for the public address, and allocate an
        address on the TURN servers."""
        own = [item for item in servers if not item.client_only]
        if self._public is not None:
            self._public.ask(list(dict.fromkeys(url for item in own if (url := stun_url(item.url)))))
        relays = [item for item in own if item.url.startswith("turn")]
        for server in [server for server in self._relays if server not in relays]:
            self._relays.pop(server).close()
        for server in relays:
            if server not in self._relays:
                self._relays[server] = Relay(self._server.loop, self._server.log, self._peers, server)

    async def gather(self, timeout: float) -> None:
        """Wait for the addresses from the servers, if these were first asked less than ``timeout`` seconds ago."""
        if self._public is not None:
            await self._public.wait(timeout)
        for relay in list(self._relays.values()):
            await relay.wait(timeout)

    def permit(self, peer: LitePeer, hosts: Iterable[str]) -> None:
        """Let a connection use the relays from these IP addresses, by which they permit datagrams."""
        hosts = tuple(hosts)
        for relay in self._relays.values():
            relay.permit(peer, hosts)

    def _on_stun_answer(self, datagram: bytes, source: tuple[str, int]) -> None:
        if self._public is not None:
            self._public.receive(datagram, source)

    def add(self, peer: LitePeer) -> None:
        """Start receiving for a connection."""
        self._peers.add(peer)

    def rename(self, peer: LitePeer, old_ufrag: str) -> None:
        """Set the new username fragment of a connection after an ICE restart."""
        self._peers.rename(peer, old_ufrag)

    def remove(self, peer: LitePeer) -> None:
        """Remove a connection."""
        self._peers.remove(peer)
        if self._datagrams is not None:
            self._datagrams.remove(peer)
        if self._streams is not None:
            self._streams.remove(peer)
        for relay in self._relays.values():
            relay.remove(peer)

    def stop_accepting(self) -> None:
        """Accept no further TCP connections."""
        if self._streams is not None:
            self._streams.close()

    def close(self) -> None:
        """Close the ports."""
        self.stop_accepting()
        if self._public is not None:
            self._public.close()
        for relay in self._relays.values():
            relay.close()
        if self._datagrams is not None:
            self._datagrams.close()
