"""The server's public addresses behind a router, which STUN servers tell it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from typing import Final, Protocol

from polycast.errors import RemoteProtocolError
from polycast.log import Log
from polycast.net.address import join_host_port
from polycast.protocols.webrtc.names import look_up
from polycast.wire.webrtc.stun import SocketAddress, parse_message
from polycast.wire.webrtc.stun_client import StunClient

DEFAULT_PORT: Final = 3478
"""RFC 8489 section 7."""
RETRY_SECONDS: Final = 30.0
"""Seconds until names are looked up again if no server is known."""


class Port(Protocol):
    """The UDP port whose address is asked for."""

    def send(self, data: bytes, host: str, port: int) -> None:
        """Send a datagram."""


class PublicAddress:
    """Keeps asking STUN servers, in the background, as long as there are any."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log, port: Port) -> None:
        self._loop = loop
        self._log = log
        self._port = port
        self._urls: tuple[str, ...] = ()
        self._client: StunClient | None = None
        self._known: tuple[SocketAddress, ...] = ()
        """What was logged last."""
        self._task: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._answered = asyncio.Event()
        """Whether the servers have told an address."""

    @property
    def addresses(self) -> tuple[SocketAddress, ...]:
        """The public addresses that are known now."""
        return self._client.addresses if self._client is not None else ()

    def ask(self, urls: Sequence[str]) -> None:
        """Ask the servers with these ``stun:`` URLs from now on."""
        if tuple(urls) == self._urls:
            return
        self.close()
        self._urls = tuple(urls)
        self._asked_at = self._loop.time()
        self._answered.clear()
        if self._urls:
            self._task = self._loop.create_task(self._run())

    async def wait(self, timeout: float) -> None:
        """Wait for the first answer, until ``timeout`` seconds after the servers were first asked."""
        remaining = self._asked_at + timeout - self._loop.time()
        if self._urls and remaining > 0 and not self._answered.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._answered.wait(), remaining)

    def receive(self, datagram: bytes, source: SocketAddress) -> None:
        """Process a STUN message that is no request."""
        if self._client is None:
            return
        try:
            self._client.receive(parse_message(datagram), source, self._loop.time())
        except RemoteProtocolError:
            return
        self._tell()

    def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._client = None

    async def _run(self) -> None:
        servers: list[SocketAddress] = []
        while not servers:
            for url in self._urls:
                servers += await self._resolve(url)
            if not servers:
                await asyncio.sleep(RETRY_SECONDS)
        client = self._client = StunClient(servers, self._loop.time(), secrets.token_bytes)
        while (due := client.next_timeout()) is not None:
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            client.handle_timeout(self._loop.time())
            for data, (host, port) in client.data_to_send():
                self._port.send(data, host, port)
            self._tell()

    async def _resolve(self, url: str) -> list[SocketAddress]:
        """Return an IPv4 and an IPv6 address of a server, if it has them."""
        host, port = parse_stun_url(url)
        found = await look_up(host, port, "webrtcICEServers2", self._log)
        return list(dict(reversed(found)).values())

    def _tell(self) -> None:
        if self.addresses:
            self._answered.set()
        if self.addresses != self._known:
            self._known = self.addresses
            text = ", ".join(join_host_port(*address) for address in self._known)
            self._log.info("public address: %s", text or "unknown, since no STUN server answers")


def parse_stun_url(url: str) -> tuple[str, int]:
    """Return host and port of a valid ``stun:`` URL."""
    rest = url.removeprefix("stun:")
    host, separator, port = rest.rpartition(":")
    if not separator or "]" in port:
        return rest.strip("[]"), DEFAULT_PORT
    return host.strip("[]"), int(port)
