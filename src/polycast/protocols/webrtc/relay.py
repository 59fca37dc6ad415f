"""An address on a TURN server (RFC 8656): clients that cannot reach the server's ports reach it there."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Iterable
from typing import ClassVar, Final

from polycast.log import Log
from polycast.net.address import join_host_port
from polycast.net.dial import describe_failure
from polycast.net.udp import MAXIMUM_GSO_SIZE, Address
from polycast.protocols.webrtc.demultiplexer import Demultiplexer
from polycast.protocols.webrtc.ice_servers import IceServer
from polycast.protocols.webrtc.peer import LitePeer
from polycast.protocols.webrtc.peers import Peers
from polycast.protocols.webrtc.relay_hosts import RelayHosts
from polycast.protocols.webrtc.relay_transport import RelayTransport, open_transport
from polycast.wire.webrtc.stun import SocketAddress
from polycast.wire.webrtc.turn_client import TurnClient, TurnState

RETRY_SECONDS: Final = 30.0
"""Seconds until a server that has failed is asked again."""


class Relay:
    """Keeps an address on one TURN server, in the background. It is the `MediaSocket` of the peers behind it."""

    outbox: ClassVar[None] = None

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log, peers: Peers, server: IceServer) -> None:
        self._loop = loop
        self._log = log
        self._server = server
        self._connections = Demultiplexer(
            peers, lambda *_: None, on_address=self._on_address, on_unused=self._on_unused
        )
        self._hosts = RelayHosts()
        self._client: TurnClient | None = None
        self._transport: RelayTransport | None = None
        self._changed = asyncio.Event()
        """Whether the client may have another time-out."""
        self._settled = asyncio.Event()
        """Set once the server has allocated an address, or has failed to."""
        self._task = loop.create_task(self._run())

    @property
    def address(self) -> SocketAddress | None:
        """The address on the server; None if there is none now."""
        client = self._client
        return client.relayed if client is not None and client.state is TurnState.ALLOCATED else None

    @property
    def relayed(self) -> str:
        """The candidate, as in logs and the API."""
        address = self.address
        return f"relay/udp/{address[0]}/{address[1]}" if address is not None else ""

    async def wait(self, timeout: float) -> None:
        """Wait until there is an address, or the server has failed once, but at most ``timeout`` seconds."""
        if not self._settled.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), timeout)

    def close(self) -> None:
        """Release the address."""
        self._task.cancel()

    # Peers

    def permit(self, peer: LitePeer, hosts: Iterable[str]) -> None:
        """Let a peer send from these IP addresses; the first one that is told is the address of its offer."""
        for host in self._hosts.add(peer, hosts):
            if self._client is not None:
                self._client.permit(host, self._loop.time())
        self._flush()

    def remove(self, peer: LitePeer) -> None:
        """Remove a connection."""
        self._connections.remove(peer)
        for host in self._hosts.remove(peer):
            if self._client is not None:
                self._client.forbid(host, self._loop.time())
        self._flush()

    def _on_address(self, address: Address) -> None:
        if self._client is not None:
            self._client.bind((address[0], address[1]), self._loop.time())
            self._flush()

    def _on_unused(self, address: Address) -> None:
        if self._client is not None:
            self._client.unbind((address[0], address[1]), self._loop.time())

    # MediaSocket

    def send(self, data: bytes, address: Address) -> None:
        """Send one packet; see `MediaSocket`."""
        self.send_segments(data, len(data), address)

    def send_segments(self, data: bytes | memoryview, segment_size: int, address: Address) -> None:
        """Send packets; see `MediaSocket`."""
        client, transport = self._client, self._transport
        if client is None or transport is None or not data:
            return
        peer = address[0], address[1]
        wrapped = [client.wrap(data[start : start + segment_size], peer) for start in range(0, len(data), segment_size)]
        size = len(wrapped[0])
        count = max(1, MAXIMUM_GSO_SIZE // size)
        for start in range(0, len(wrapped), count):
            transport.send(b"".join(wrapped[start : start + count]), size)

    # Connection

    async def _run(self) -> None:
        last = ""
        while True:
            reason = await self._hold()
            self._settled.set()
            if reason != last:
                self._log.warning("TURN server '%s': %s", self._server.url, reason)
            last = reason
            await asyncio.sleep(RETRY_SECONDS)

    async def _hold(self) -> str:
        """Keep an address until it is lost; return why."""
        try:
            transport = await open_transport(self._loop, self._server.url, self._on_message, self._on_read, self._log)
        except (OSError, ValueError) as error:
            return describe_failure(error)
        user, password = self._server.credentials(time.time())
        client = TurnClient(user, password, self._loop.time(), secrets.token_bytes, is_stream=transport.is_stream)
        self._client, self._transport = client, transport
        for host in self._hosts:
            client.permit(host, self._loop.time())
        try:
            while (due := client.next_timeout()) is not None and not transport.lost_reason:
                self._flush()
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), max(0.0, due - self._loop.time()))
                client.handle_timeout(self._loop.time())
        finally:
            client.close(self._loop.time())
            self._flush()
            self._client = self._transport = None
            transport.close()
        return client.failure or transport.lost_reason

    def _flush(self) -> None:
        if self._client is None or self._transport is None:
            return
        for data in self._client.data_to_send():
            self._transport.send(data, len(data))
            self._changed.set()  # a request may have to be repeated before the next timeout so far

    def _on_message(self, message: bytes) -> None:
        client = self._client
        if client is None:
            return
        now = self._loop.time()
        received = client.receive_datagram(message, now)
        if received is not None:
            peer, datagram = received
            self._connections.receive(datagram, peer, self, now)
            return
        if client.state is TurnState.ALLOCATED and not self._settled.is_set():
            self._settled.set()
            self._log.info(
                "TURN server '%s': relayed address %s", self._server.url, join_host_port(*client.relayed or ("", 0))
            )
        self._flush()
        self._changed.set()

    def _on_read(self) -> None:
        """All that was received at once has been processed, or the connection was lost."""
        self._connections.end_of_read()
        if self._transport is not None and self._transport.lost_reason:
            self._changed.set()
