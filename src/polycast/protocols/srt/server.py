"""The SRT server: all clients over one UDP port."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping
from typing import Final
from uuid import uuid4

from polycast.config.schema import Configuration
from polycast.errors import RemoteProtocolError
from polycast.hub.stream import Stream
from polycast.media.track import Track
from polycast.net.address import plain_host
from polycast.net.connection_slots import SlotHolder, connection_slots_of
from polycast.net.listen import open_udp_socket
from polycast.net.loop import LateTimer
from polycast.net.memory import held_memory_of
from polycast.net.udp import Address, UdpSocket
from polycast.protocols.base import ServerContext, ServerKind, Workers
from polycast.protocols.shared_muxers import SharedMuxers
from polycast.protocols.srt.connection import CONNECTION_TYPE, Connection, Host
from polycast.protocols.srt.handshakes import Handshakes, LogLines
from polycast.protocols.srt.item import SrtConnectionItem
from polycast.protocols.srt.link import Link, Timers
from polycast.protocols.srt.reader import SharedDatagrams
from polycast.security.addresses import parse_address
from polycast.wire.srt.conclusion import Terms
from polycast.wire.srt.connection import Connection as Engine
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.listener import ConnectionRequest, Listener
from polycast.wire.srt.packet import HEADER, HEADER_SIZE, largest_payload
from polycast.wire.srt.rejection import Rejection
from polycast.wire.srt.stream_id import parse_stream_id

RECEIVE_BUFFER: Final = 4 * 1024 * 1024
"""Bytes of the socket's buffer, as far as the kernel allows: 100 publishers of 4 Mbit/s for 80 ms."""

HOUSEKEEPING_SECONDS: Final = 1.0

_STOP_SECONDS: Final = 1.0
"""Seconds for readers to get the last packets when the server stops."""

_Caller = tuple[Address, int]
"""Address and socket id of a client."""


class SrtServer(Host):
    """Publishers and readers."""

    def __init__(self, kind: ServerKind, context: ServerContext, configuration: Configuration) -> None:
        self.kind = kind
        self.context = context
        self.configuration = configuration
        self.log = context.log.child(self.name)
        # A worker passes some requests on to others, which must accept its cookies.
        self._listener = Listener(secrets.token_bytes(32) if context.workers is None else context.workers.secret)
        self._timers = Timers(context.loop, self._on_link_failed)
        self._socket: UdpSocket | None = None
        self._clients = _Clients(context.workers)
        self._handshakes = Handshakes(context.loop, self._on_handshake)
        self.lines = LogLines(self.log)
        self._transports: SharedMuxers[SharedDatagrams] = SharedMuxers()
        self._housekeeping: LateTimer | None = None

    # Server

    async def start(self) -> None:
        listener = self.kind.listeners[0]
        address = listener.address(self.configuration)
        host, port = parse_address(address)
        workers = self.context.workers
        if workers is not None:
            bound = await workers.take_socket(listener.key, address)
        else:
            bound = await asyncio.to_thread(open_udp_socket, host, port, RECEIVE_BUFFER, RECEIVE_BUFFER)
        self._socket = UdpSocket(self.context.loop, bound, self._on_datagram, self._timers.settle)
        self._timers.socket = self._socket
        self._schedule()
        self.log.info("listener opened on %s:%d (UDP/SRT)", host, self._socket.port)

    async def stop(self, reason: str) -> None:
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        for client in self._clients.all():
            client.close(reason)
        await self._clients.wait_until_gone(_STOP_SECONDS)
        for client in self._clients.all():
            client.abort(reason)
        self._handshakes.close()
        self._timers.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self.log.info("listener closed")

    def items(self) -> Mapping[str, SrtConnectionItem]:
        items = ((client.id, client.item()) for client in self._clients.all())
        return {key: item for key, item in items if item is not None}

    def kick(self, session_id: str) -> bool:
        client = next((client for client in self._clients.all() if client.id == session_id), None)
        if client is None:
            return False
        client.abort("kicked")
        return True

    def apply(self, configuration: Configuration) -> None:
        self.configuration = configuration

    @property
    def ports(self) -> dict[str, int]:
        return {self.kind.listeners[0].key: self._socket.port if self._socket is not None else 0}

    # Datagrams

    def receive_datagram(self, data: bytes, address: Address) -> None:
        if self._socket is not None and len(data) >= HEADER_SIZE:
            self._handshakes.add(data, address, is_passed=True)

    def _on_datagram(self, data: bytes, start: int, end: int, address: Address) -> None:
        if end - start < HEADER_SIZE:
            return
        packet = data[start:end]
        destination = HEADER.unpack_from(packet)[3]
        if not destination:
            self._handshakes.add(packet, address)
            return
        link = self._clients.links.get(destination)
        if link is not None and (link.address is address or link.address == address):
            link.receive(packet, time.monotonic())

    def _on_handshake(self, packet: bytes, address: Address, is_passed: bool) -> None:
        host, port = plain_host(str(address[0])), int(address[1])
        try:
            answer = self._listener.receive_data(packet, host, port, self.now())
            if isinstance(answer, ConnectionRequest):
                # While the configuration changes, each of two workers may take the other one for the home.
                home = self._home_of(answer) if not is_passed else None
                if home is None or self.context.workers is None:
                    self._on_request(answer, address, port)
                else:  # all further datagrams reach that worker by the socket id in its answer
                    self.context.workers.pass_datagram(home, self.name, packet, address)
            elif answer is not None:
                self._send(answer, address)
        except Exception:
            self.log.exception("internal error")
            self.internal_errors += 1

    def _home_of(self, request: ConnectionRequest) -> int | None:
        """Return the index of the worker that must serve a publisher, if it is another one."""
        if self.context.workers is None:
            return None
        try:
            wish = parse_stream_id(request.stream_id)
        except RemoteProtocolError:
            return None
        return self.context.workers.home_of(wish.path) if wish.publishes else None

    def _on_request(self, request: ConnectionRequest, address: Address, port: int) -> None:
        known = self._clients.of((address, request.socket_id))
        if known is not None:
            link = known.media.link
            if link is not None:  # the answer was lost
                self._send(known.request.answer(link.engine, self.now()), address)
            return
        client = Connection(self, str(uuid4()), request, address, port)
        self._clients.add(client)
        client.tell_opened()
        if not self._find_slot(client):
            return
        observer = self.context.connections
        if observer is not None:
            client.is_told = True
            observer.on_connected(client, CONNECTION_TYPE, client.id, client.log)
        client.decide(self.context.loop)

    def _find_slot(self, client: Connection) -> bool:
        """Make room for a client; return False if it was refused."""
        slots = connection_slots_of(self.context.loop)
        slots.acquire(client, client.peer[0])
        if slots.is_exceeded(client.peer[0]):
            oldest: SlotHolder | None = slots.oldest_silent(client.peer[0], self.now())
            (oldest or client).evict()
        return self._clients.of((client.address, client.request.socket_id)) is client

    def _send(self, packet: bytes, address: Address) -> None:
        if self._socket is not None:
            self._socket.send(packet, address)

    # Host

    def now(self) -> float:
        return time.monotonic()

    @property
    def failure_pause(self) -> float:
        return float(self.configuration.authentication_failure_pause)

    def open_link(self, client: Connection, keys: ConnectionKeys | None) -> Link:
        if self._socket is None:
            raise OSError("the server is stopping")
        now = self.now()
        terms = Terms(idle_seconds=float(self.configuration.read_timeout))
        engine: Engine = client.request.accept(self._clients.new_id(), terms, keys, now)
        link = Link(engine, self._socket, client.address, self._timers, client.on_received, client.on_closed)
        self._clients.accept(client, link)
        self._send(client.request.answer(engine, now), client.address)
        self._timers.schedule(link, engine.next_timeout())
        return link

    def refuse(self, client: Connection, reason: Rejection) -> None:
        self._send(client.request.reject(reason), client.address)

    def remove_client(self, client: Connection) -> None:
        if self._clients.remove(client):
            connection_slots_of(self.context.loop).release(client)
            held_memory_of(self.context.loop).forget(client)
            if self.context.connections is not None and client.is_told:
                self.context.connections.on_disconnected(client, CONNECTION_TYPE, client.id, client.log)

    def shared_transport(self, stream: Stream, tracks: tuple[Track, ...], overhead: int) -> SharedDatagrams:
        size = largest_payload(self.configuration.udp_max_payload_size - overhead)
        return self._transports.get(stream, tracks, lambda: SharedDatagrams(tracks, size), kind=size)

    # Housekeeping

    def _schedule(self) -> None:
        self._housekeeping = LateTimer(self.context.loop, HOUSEKEEPING_SECONDS, self._on_housekeeping)

    def _on_housekeeping(self) -> None:
        now = self.now()
        self.lines.summarise(now)
        memory = held_memory_of(self.context.loop)
        for client in self._clients.all():
            try:
                client.tick(now)
            except Exception:
                client.on_internal_error()
            link = client.media.link
            if link is not None and self._clients.of((client.address, client.request.socket_id)) is client:
                sender = link.engine.sender
                memory.update(
                    client,
                    client.peer[0],
                    link.engine.receiver.held_size + link.waiting_size,
                    (sender.flight + sender.waiting) * sender.payload_size,
                )
        self._schedule()

    def _on_link_failed(self, link: Link) -> None:
        client = next((client for client in self._clients.all() if client.media.link is link), None)
        if client is not None:
            client.on_internal_error()


class _Clients:
    """The clients of a server, by what identifies them in datagrams."""

    def __init__(self, workers: Workers | None) -> None:
        self._workers = workers
        self._gone: asyncio.Event | None = None
        """Set when the last client has gone; exists while the server stops."""
        self._by_caller: dict[_Caller, Connection] = {}
        self.links: dict[int, Link] = {}
        """By our socket id."""

    def all(self) -> list[Connection]:
        """Return all clients, including those that are not accepted yet."""
        return list(self._by_caller.values())

    async def wait_until_gone(self, seconds: float) -> None:
        """Wait until there is no client, but not for longer than this."""
        if self._by_caller:
            self._gone = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), seconds)

    def of(self, caller: _Caller) -> Connection | None:
        """Return the client with an address and a socket id of its own."""
        return self._by_caller.get(caller)

    def new_id(self) -> int:
        """Return a socket id that is not in use."""
        while True:
            own_id = secrets.randbits(30)
            if self._workers is not None:
                # By this remainder, the system chooses the worker that gets the datagrams of the connection.
                own_id += self._workers.index - own_id % self._workers.count
            if own_id > 0 and own_id not in self.links:
                return own_id

    def add(self, client: Connection) -> None:
        """Add a client that asks for something."""
        self._by_caller[client.address, client.request.socket_id] = client

    def accept(self, client: Connection, link: Link) -> None:
        """A client was accepted."""
        self.links[link.engine.parameters.own_id] = link

    def remove(self, client: Connection) -> bool:
        """Remove a client; return whether it was there."""
        link = client.media.link
        if link is not None:
            self.links.pop(link.engine.parameters.own_id, None)
        was_there = self._by_caller.pop((client.address, client.request.socket_id), None) is not None
        if not self._by_caller and self._gone is not None:
            self._gone.set()
        return was_there
