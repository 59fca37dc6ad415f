"""A connection to another SRT server, or one that another program opens to us: for sources and pushes."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

from polycast.errors import PolycastError
from polycast.log import Log
from polycast.net.address import join_host_port, plain_host
from polycast.net.listen import open_udp_socket
from polycast.net.names import looking_up
from polycast.net.udp import Address, UdpSocket
from polycast.protocols.srt.address import Mode, SrtAddress
from polycast.protocols.srt.keys import generate_keys, keys_for
from polycast.protocols.srt.link import Link, Timers
from polycast.wire.srt.caller import Caller, CallerOptions
from polycast.wire.srt.connection import Connection as Engine
from polycast.wire.srt.key_material import KeyMaterial, PayloadMode
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.listener import ConnectionRequest, Listener
from polycast.wire.srt.packet import HANDSHAKE_PACKET, HEADER, HEADER_SIZE
from polycast.wire.srt.rejection import RejectedError, Rejection
from polycast.wire.srt.rendezvous import Rendezvous, RendezvousRequest

RECEIVE_BUFFER: Final = 2 * 1024 * 1024
"""Bytes of the socket's buffer, as far as the kernel allows: 200 ms of 80 Mbit/s."""

_RENDEZVOUS_PATIENCE: Final = 10
"""How many times longer a rendezvous may take, as in libsrt: the other side may start later."""

_CHECK_SECONDS: Final = 0.05
"""Seconds between two looks at a handshake that is not answered."""

OnReceived = Callable[[Sequence[bytes], float], None]


class ConnectionLost(PolycastError):
    """The connection was refused, or has ended."""


class Client:
    """One connection, for its whole life. Used as follows: `connect`, then `lost` fails; in the end `close`."""

    def __init__(self, address: SrtAddress, log: Log, on_received: OnReceived) -> None:
        loop = asyncio.get_running_loop()
        self._address = address
        self._log = log
        self._loop = loop
        self._on_received = on_received
        self._timers = Timers(loop, self._on_error)
        self._socket: UdpSocket | None = None
        self._link: Link | None = None
        self._handshake: _Calling | _Meeting | _Listening | None = None
        self.connected: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        """Fails when the connection ends."""
        for future in (self.connected, self.lost):
            future.add_done_callback(lambda done: done.exception() if not done.cancelled() else None)

    @property
    def link(self) -> Link | None:
        """The connection; None until there is one."""
        return self._link

    async def connect(self) -> Link:
        """Connect, or wait for the other program to connect. Raises OSError, TimeoutError or PolycastError."""
        address = self._address
        if address.mode is Mode.LISTENER:
            bound = await asyncio.to_thread(open_udp_socket, address.host, address.port, RECEIVE_BUFFER)
            self._open(bound)
            self._handshake = _Listening(self, address)
            self._log.info("waits for a connection on port %d", bound.getsockname()[1])
            await asyncio.shield(self.connected)
        else:
            await self._call(address)
        assert self._link is not None
        return self._link

    async def _call(self, address: SrtAddress) -> None:
        family, peer = await _resolve(address.host, address.port)
        keys, message = None, b""
        if address.passphrase:
            mode = address.payload_mode or PayloadMode.CTR
            keys, message = await generate_keys(address.passphrase, address.key_size, mode)
        local, port, seconds = "::" if family == socket.AF_INET6 else "0.0.0.0", 0, address.connect_seconds
        if address.mode is Mode.RENDEZVOUS:
            local, port, seconds = address.local_host or local, address.local_port, seconds * _RENDEZVOUS_PATIENCE
        opened = self._open(await asyncio.to_thread(open_udp_socket, local, port, RECEIVE_BUFFER))
        calling: _Calling | _Meeting
        if address.mode is Mode.RENDEZVOUS:
            calling = self._handshake = _Meeting(self, address, opened.address(*peer), keys, message)
        else:
            calling = self._handshake = _Calling(self, address, opened.address(*peer), keys, message)
        try:
            async with asyncio.timeout(seconds):
                while not self.connected.done():
                    calling.send()
                    await asyncio.wait((self.connected,), timeout=_CHECK_SECONDS)
        except TimeoutError:
            where = join_host_port(address.host, address.port)
            raise TimeoutError(f"{where} did not answer within {seconds:g} s") from None
        self.connected.result()

    def _open(self, bound: socket.socket) -> UdpSocket:
        self._socket = UdpSocket(self._loop, bound, self._on_datagram, self._timers.settle)
        self._timers.socket = self._socket
        return self._socket

    async def close(self, seconds: float) -> None:
        """Close the connection; the peer gets what was sent, within so many seconds."""
        link = self._link
        if link is not None and not self.lost.done():
            link.close("closed by us", self.now())
            await asyncio.wait((self.lost,), timeout=seconds)
            link.abort("closed by us", self.now())
        self._timers.close()
        opened, self._socket = self._socket, None  # a handshake may still wait for its keys
        if opened is not None:
            opened.close()
        self.connected.cancel()
        self.lost.cancel()

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        return time.monotonic()

    # For the handshakes

    def send(self, packet: bytes, address: Address) -> None:
        """Send a datagram."""
        if self._socket is not None:
            self._socket.send(packet, address)

    def accept(self, engine: Engine, address: Address) -> None:
        """The handshake has succeeded."""
        if self._socket is None or self._link is not None:
            return
        self._link = Link(engine, self._socket, address, self._timers, self._on_received, self._on_closed)
        self._timers.schedule(self._link, engine.next_timeout())
        if not self.connected.done():
            self.connected.set_result(None)

    def fail(self, error: Exception) -> None:
        """The connection cannot be used any more."""
        for future in (self.connected, self.lost):
            if not future.done():
                future.set_exception(error)

    # Events

    def _on_datagram(self, data: bytes, start: int, end: int, address: Address) -> None:
        if end - start < HEADER_SIZE:
            return
        packet, link = data[start:end], self._link
        destination = HEADER.unpack_from(packet)[3]
        is_repeated = isinstance(self._handshake, _Meeting) and packet.startswith(HANDSHAKE_PACKET)
        if link is not None and destination == link.engine.parameters.own_id and not is_repeated:
            if address == link.address:
                link.receive(packet, self.now())
        elif self._handshake is not None:
            self._handshake.receive(packet, address)

    def _on_closed(self, reason: str) -> None:
        self.fail(ConnectionLost("closed by the peer" if reason == "EOF" else reason))

    def _on_error(self, link: Link) -> None:
        self._log.exception("internal error")
        self.fail(ConnectionLost("internal error"))


class _Calling:
    """The handshake of a caller."""

    def __init__(
        self, client: Client, address: SrtAddress, peer: Address, keys: ConnectionKeys | None, message: bytes
    ) -> None:
        self._client = client
        self._peer = peer
        own_id, sequence = secrets.randbits(30) | 1, secrets.randbits(31)
        self._caller = Caller(_options_of(address), own_id, sequence, client.now(), keys, message, address.key_size)

    def send(self) -> None:
        """Send the handshake, if it is due."""
        packet = self._caller.data_to_send(self._client.now())
        if packet is not None:
            self._client.send(packet, self._peer)

    def receive(self, packet: bytes, address: Address) -> None:
        """Process a datagram."""
        if address[:2] != self._peer[:2]:
            return
        try:
            engine = self._caller.receive_data(packet, self._client.now())
        except RejectedError as error:
            self._client.fail(ConnectionLost(str(error)))
            return
        if engine is not None:
            self._client.accept(engine, address)
        else:
            self.send()


class _Meeting:
    """The handshake of two sides that call each other."""

    def __init__(
        self, client: Client, address: SrtAddress, peer: Address, keys: ConnectionKeys | None, message: bytes
    ) -> None:
        self._client = client
        self._address = address
        self._peer = peer
        self._task: asyncio.Task[None] | None = None
        self._is_refused = False
        own_id, sequence, cookie = secrets.randbits(30) | 1, secrets.randbits(31), secrets.randbits(32)
        self._engine = Rendezvous(
            _options_of(address), own_id, sequence, cookie, client.now(), keys, message, address.key_size
        )

    def send(self) -> None:
        """Send the handshake, if it is due."""
        packet = self._engine.data_to_send(self._client.now())
        if packet is not None:
            self._client.send(packet, self._peer)

    def receive(self, packet: bytes, address: Address) -> None:
        """Process a datagram."""
        client, now = self._client, self._client.now()
        if self._is_refused or address[:2] != self._peer[:2]:
            return
        try:
            answer = self._engine.receive_data(packet, now)
        except RejectedError as error:
            self._refuse(error)
            return
        if isinstance(answer, RendezvousRequest):
            if self._task is not None:
                self._task.cancel()  # the peer has started again, with other keys
            self._task = asyncio.ensure_future(self._accept(answer))
        elif isinstance(answer, Engine):
            agreement = self._engine.agreement(now)
            if agreement is not None:
                client.send(agreement, self._peer)
            client.accept(answer, address)
        elif answer is not None:
            client.send(answer, self._peer)
        self.send()

    async def _accept(self, request: RendezvousRequest) -> None:
        try:
            keys = await _keys_of_caller(self._address, request.key_material)
        except RejectedError as error:
            self._refuse(error)
            return
        self._engine.accept(keys, self._client.now())
        self.send()

    def _refuse(self, error: RejectedError) -> None:
        client = self._client
        self._is_refused = True  # a refusal that answers this one is not answered
        client.send(self._engine.reject(error.reason, client.now()), self._peer)
        client.fail(ConnectionLost(str(error)))


class _Listening:
    """The handshake of a listener: the first caller that has the passphrase is accepted."""

    def __init__(self, client: Client, address: SrtAddress) -> None:
        self._client = client
        self._address = address
        self._listener = Listener(secrets.token_bytes(32))
        self._accepted: tuple[Address, ConnectionRequest, Engine] | None = None
        self._tasks: dict[tuple[Address, int], asyncio.Task[None]] = {}

    def receive(self, packet: bytes, address: Address) -> None:
        """Process a datagram."""
        client = self._client
        host, port = plain_host(str(address[0])), int(address[1])
        answer = self._listener.receive_data(packet, host, port, client.now())
        if isinstance(answer, ConnectionRequest):
            self._decide(answer, address)
        elif answer is not None:
            client.send(answer, address)

    def _decide(self, request: ConnectionRequest, address: Address) -> None:
        if self._accepted is not None:
            accepted, first, engine = self._accepted
            if address == accepted and request.socket_id == first.socket_id:
                self._client.send(first.answer(engine, self._client.now()), address)
            else:
                self._client.send(request.reject(Rejection.BACKLOG), address)
            return
        key = address, request.socket_id
        if key in self._tasks:
            return
        if len(self._tasks) >= _MAXIMUM_UNDECIDED:
            self._client.send(request.reject(Rejection.BACKLOG), address)
            return
        task = self._tasks[key] = asyncio.ensure_future(self._accept(request, address))
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def _accept(self, request: ConnectionRequest, address: Address) -> None:
        client, settings = self._client, self._address
        try:
            keys = await _keys_of_caller(settings, request.key_material)
        except RejectedError as error:
            client.send(request.reject(error.reason), address)
            return
        if self._accepted is not None:
            return
        now = client.now()
        engine = request.accept(secrets.randbits(30) | 1, _options_of(settings), keys, now)
        self._accepted = address, request, engine
        client.send(request.answer(engine, now), address)
        client.accept(engine, address)


_MAXIMUM_UNDECIDED: Final = 16
"""Callers whose passphrase is being checked at the same time."""


async def _keys_of_caller(settings: SrtAddress, material: KeyMaterial | None) -> ConnectionKeys | None:
    """Return the keys that a caller has sent; None if neither side encrypts. Raises RejectedError."""
    if bool(settings.passphrase) != (material is not None):
        raise RejectedError(Rejection.UNSECURE, "only one side has a passphrase")
    if material is None:
        return None
    if settings.payload_mode not in (None, material.mode):
        raise RejectedError(Rejection.CRYPTO, "the caller uses another cipher")
    return await keys_for(settings.passphrase, material)


def _options_of(address: SrtAddress) -> CallerOptions:
    return CallerOptions(
        stream_id=address.stream_id,
        receive_delay=address.receive_delay,
        send_delay=address.send_delay,
        bandwidth=address.bandwidth,
        idle_seconds=address.idle_seconds,
    )


async def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Return the family and the address of a host. Raises OSError."""
    with looking_up():
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    if not infos:
        raise OSError(f"'{host}' has no address")
    family, _, _, _, address = infos[0]
    return family, (str(address[0]), int(address[1]))
