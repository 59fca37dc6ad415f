"""How messages reach a TURN server: over UDP, TCP or TLS."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from typing import ClassVar, Final, Protocol, cast

from polycast.errors import RemoteProtocolError
from polycast.log import Log
from polycast.net.dial import client_context, connect, describe_failure
from polycast.net.listen import open_udp_socket
from polycast.net.udp import Address, UdpSocket
from polycast.protocols.webrtc.names import look_up
from polycast.wire.webrtc.turn_client import RelayDeframer

CONNECT_SECONDS: Final = 10.0
"""Seconds for name resolution, TCP and TLS together."""
BUFFER_SIZE: Final = 4 * 1024 * 1024
"""Bytes of the UDP socket's buffers."""
WRITE_LIMIT: Final = 1024 * 1024
"""Bytes that may be queued for a TCP connection; more are dropped, as in a congested network."""
LOST: Final = "the connection was lost"

_URL: Final = re.compile(r"(turns?):(\[[0-9A-Fa-f:.]+\]|[^:\[\]?]+)(?::(\d+))?(?:\?transport=(udp|tcp))?")
_DEFAULT_PORTS: Final = {"turn": 3478, "turns": 5349}
"""RFC 7065 section 3.1."""


class RelayTransport(Protocol):
    """The way to a TURN server."""

    @property
    def is_stream(self) -> bool:
        """Whether it is TCP or TLS."""
        ...

    lost_reason: str
    """Why it was closed; empty while it is open."""

    def send(self, data: bytes, message_size: int) -> None:
        """Send messages of ``message_size`` bytes; the last one may be shorter."""

    def close(self) -> None:
        """Close it after the queued messages."""


class _Datagrams:
    """UDP."""

    is_stream: ClassVar[bool] = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        bound: socket.socket,
        server: Address,
        on_message: Callable[[bytes], None],
        on_read: Callable[[], None],
    ) -> None:
        self.lost_reason = ""
        self._on_message = on_message
        self._udp = UdpSocket(loop, bound, self._on_datagram, on_read)
        self._server = self._udp.address(str(server[0]), int(server[1]))

    def send(self, data: bytes, message_size: int) -> None:
        self._udp.send_segments(data, message_size, self._server)

    def close(self) -> None:
        self._udp.close()

    def _on_datagram(self, data: bytes, start: int, end: int, address: Address) -> None:
        if address[:2] == self._server[:2]:
            self._on_message(data[start:end])


class _Stream(asyncio.Protocol):
    """TCP or TLS."""

    is_stream: ClassVar[bool] = True

    def __init__(self, on_message: Callable[[bytes], None], on_read: Callable[[], None]) -> None:
        self.lost_reason = ""
        self._on_message = on_message
        self._on_read = on_read
        self._deframer = RelayDeframer()
        self._transport: asyncio.Transport | None = None

    def send(self, data: bytes, message_size: int) -> None:
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size() <= WRITE_LIMIT:
            transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._deframer.receive_data(data):
                self._on_message(message)
        except RemoteProtocolError as error:
            self.lost_reason = str(error)
            self.close()
        self._on_read()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.lost_reason = self.lost_reason or (describe_failure(exc) if exc is not None else LOST)
        self._on_read()


async def open_transport(
    loop: asyncio.AbstractEventLoop,
    url: str,
    on_message: Callable[[bytes], None],
    on_read: Callable[[], None],
    log: Log,
) -> RelayTransport:
    """Connect to the server of a valid ``turn:`` or ``turns:`` URL. Raises OSError.

    ``on_message`` gets its messages; ``on_read`` is called after those that were received at once, and at the end.
    """
    scheme, host, port, transport = parse_turn_url(url)
    if transport == "udp":
        found = await look_up(host, port, "webrtcICEServers2", log)
        family, server = next(iter(found), (None, None))
        if family is None or server is None:
            raise OSError(f"the name '{host}' cannot be resolved")
        any_address = "::" if family == socket.AF_INET6 else "0.0.0.0"
        bound = await asyncio.to_thread(open_udp_socket, any_address, 0, BUFFER_SIZE, BUFFER_SIZE)
        return _Datagrams(loop, bound, server, on_message, on_read)
    tls = await asyncio.to_thread(client_context) if scheme == "turns" else None
    return await connect(lambda: _Stream(on_message, on_read), host, port, tls=tls, timeout=CONNECT_SECONDS)


def parse_turn_url(url: str) -> tuple[str, str, int, str]:
    """Return scheme, host, port and transport (``udp`` or ``tcp``) of a valid URL (RFC 7065).

    TURN over DTLS is not supported: ``turns:`` is always TLS over TCP, as for browsers.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError(f"not a TURN URL: {url}")
    scheme, host, port, transport = match.groups()
    transport = "tcp" if scheme == "turns" else transport or "udp"
    return scheme, host.strip("[]"), int(port) if port else _DEFAULT_PORTS[scheme], transport


def stun_url(url: str) -> str:
    """Return the URL under which a STUN server answers: TURN servers over UDP do, too. Empty if there is none."""
    if url.startswith("stun:"):
        return url
    _, host, port, transport = parse_turn_url(url)
    if transport != "udp":
        return ""
    return f"stun:[{host}]:{port}" if ":" in host else f"stun:{host}:{port}"
