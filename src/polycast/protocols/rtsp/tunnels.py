"""RTSP tunnelled over HTTP and WebSocket, on the port of plain RTSP.

A tunnel is a transport: the RTSP connection, its engine and its readers are those of plain RTSP. Over HTTP, the RTSP
connection is that of the GET request; what arrives on that of the POST request is passed to it.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import ClassVar, Final, Literal, Protocol

from polycast.errors import RemoteProtocolError
from polycast.log import Log
from polycast.net.budget import BudgetedProtocol
from polycast.net.layered import LayeredTransport
from polycast.net.lingering import LingeringClose
from polycast.net.tcp import CLOSE_GRACE_SECONDS
from polycast.protocols.base import Workers
from polycast.wire.http.head import HeadReader
from polycast.wire.http.websocket import WebSocketConnection
from polycast.wire.rtsp.tunnel import Base64Stream, Download, Upload, WebSocket, read_request, refusal

UNPAIRED_LIMIT: Final = 16
"""GET or POST connections from one address that wait for the other one; a player opens both within a round trip."""


class TunnelledConnection(Protocol):
    """An RTSP connection that began with an HTTP request."""

    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    transport: asyncio.Transport
    log: Log
    peer: tuple[str, int]
    silent_since: float | None

    def layer(self, transport: asyncio.Transport, *, encodes: bool) -> None:
        """Use a transport that passes through the old one from now on."""

    def retire(self) -> None:
        """It will carry no RTSP of its own."""

    def check_unread(self) -> None:
        """Close it if the client does not read the answers that it causes."""

    async def hand_over(self, index: int, path: str = "", received: bytes | None = None) -> bool:
        """Hand the client over to another worker; return whether it accepted."""

    def close(self, reason: str) -> None: ...
    def on_protocol_error(self, error: RemoteProtocolError) -> None: ...
    def on_internal_error(self) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Role(Protocol):
    """What a connection is for, once its HTTP request is complete."""

    name: Literal["http", "websocket"]

    def receive(self, data: bytes) -> None:
        """Take what follows the request. Raises RemoteProtocolError."""

    def tick(self, now: float) -> None:
        """Called about once a second."""

    def leave(self) -> None:
        """The connection is closing."""

    @property
    def held_size(self) -> int:
        """Number of received bytes that wait."""


class TunnelEnd(BudgetedProtocol):
    """Between the socket of a connection and its RTSP: reads the HTTP request, then what the tunnel carries."""

    is_divisible: ClassVar[bool] = True

    def __init__(self, connection: TunnelledConnection, tunnels: Tunnels) -> None:
        super().__init__(connection.loop, connection.clock)
        self.connection = connection
        self.transport = connection.transport
        self.is_open = True
        self.role: Role | None = None
        self._tunnels = tunnels
        self._reader = HeadReader()
        self._received = bytearray()
        """Bytes received before the purpose of the connection is known."""
        self._moving: asyncio.Task[None] | None = None
        """Hands the client over to another worker."""

    # For the connection

    def start(self, data: bytes) -> None:
        """Read from the socket from now on; ``data`` was received. It is processed in the next iteration of the event
        loop, since the connection is still processing a read."""
        self.transport.set_protocol(self)
        self._held = data
        self._enqueue()

    @property
    def held_size(self) -> int:
        """Number of received bytes that wait."""
        return self.waiting_size + (self.role.held_size if self.role is not None else self._reader.held_size)

    def tick(self, now: float) -> None:
        """Called about once a second."""
        if self.role is not None:
            self.role.tick(now)

    def leave(self) -> None:
        """The connection is closing."""
        self.is_open = False
        if self.role is not None:
            self.role.leave()

    def close_socket(self) -> None:
        """Close after the last bytes, so that the client can read them."""
        if self.transport.can_write_eof() and not self.transport.is_closing():
            LingeringClose(self.transport, self, self.loop, CLOSE_GRACE_SECONDS)
        else:
            self.transport.close()

    # BudgetedProtocol

    def receive(self, data: bytes, now: float) -> bool:
        if self.role is None:
            self._received += data
            found = self._reader.receive_data(data) if self._moving is None else None
            if found is None:
                return False
            head, data = found
            request = read_request(head)
            elsewhere = self._tunnels.other_worker(self, request)
            if elsewhere is not None:
                self.hold_reading()
                self._moving = self.loop.create_task(self._move(elsewhere))
                return False
            self.role = self._tunnels.open(self, request)
            self._received.clear()
        if data and self.is_open:
            self.role.receive(data)
        return False

    async def _move(self, index: int) -> None:
        received = bytes(self._received) + self._held[self._offset :]
        self.drop()
        if self.is_open and not await self.connection.hand_over(index, received=received) and self.is_open:
            text = "the worker that serves this tunnel does not accept the connection"
            self.on_protocol_error(RemoteProtocolError(text, 503))

    def on_protocol_error(self, error: RemoteProtocolError) -> None:
        if self.role is None and not self.transport.is_closing():
            self.transport.write(refusal(error.status))
        self.connection.on_protocol_error(error)

    def on_internal_error(self) -> None:
        self.connection.on_internal_error()

    # asyncio.Protocol

    def eof_received(self) -> bool:
        return self.connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.drop()
        self.connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self.connection.pause_writing()

    def resume_writing(self) -> None:
        self.connection.resume_writing()


class Tunnels:
    """The tunnels of a server: finds the POST connection that goes with a GET connection."""

    def __init__(self, timeout: Callable[[], float], workers: Workers | None = None) -> None:
        """``timeout`` returns how many seconds a tunnel may be without a POST connection."""
        self._timeout = timeout
        self._workers = workers
        self._by_cookie: dict[tuple[str, str], HttpTunnel] = {}
        """By address of the client, and cookie."""

    def __len__(self) -> int:
        return len(self._by_cookie)

    def begin(self, connection: TunnelledConnection, data: bytes) -> TunnelEnd:
        """A connection begins with an HTTP request, of which ``data`` was received."""
        end = TunnelEnd(connection, self)
        end.start(data)
        return end

    def other_worker(self, end: TunnelEnd, request: Download | Upload | WebSocket) -> int | None:
        """Return the index of the worker where both connections of a tunnel over HTTP meet, if it is another one."""
        workers = self._workers
        if workers is None or isinstance(request, WebSocket):
            return None
        meeting = zlib.crc32(f"{end.connection.peer[0]} {request.cookie}".encode()) % workers.count
        return None if meeting == workers.index else meeting

    def open(self, end: TunnelEnd, request: Download | Upload | WebSocket) -> Role:
        """Answer the request; return what the connection is for. Raises RemoteProtocolError (503)."""
        if isinstance(request, WebSocket):
            end.transport.write(request.response)
            end.connection.log.info("is tunnelled over WebSocket")
            return WebSocketRole(end)
        host = end.connection.peer[0]
        key = host, request.cookie
        tunnel = self._by_cookie.get(key)
        if isinstance(request, Download) and tunnel is not None and tunnel.download is not None:
            tunnel.download.connection.close("replaced by another GET connection of the tunnel")
            tunnel = self._by_cookie.get(key)
        if tunnel is None:
            unpaired = sum(known[0] == host and not each.is_paired for known, each in self._by_cookie.items())
            if unpaired >= UNPAIRED_LIMIT:
                raise RemoteProtocolError("too many tunnels wait for their other connection", 503)
            tunnel = self._by_cookie[key] = HttpTunnel(self._timeout, lambda: self._by_cookie.pop(key, None))
        end.transport.write(request.response)
        if isinstance(request, Download):
            end.connection.log.info("is tunnelled over HTTP")
            return DownloadRole(end, tunnel)
        return UploadRole(end, tunnel)


class HttpTunnel:
    """The two connections of a tunnel over HTTP; the one for sending may be replaced."""

    def __init__(self, timeout: Callable[[], float], on_end: Callable[[], object]) -> None:
        self.download: TunnelEnd | None = None
        self._upload: TunnelEnd | None = None
        self._timeout = timeout
        self._on_end = on_end
        self._transport: LayeredTransport | None = None
        """That of the RTSP connection."""
        self._early = bytearray()
        """What was received before there was a GET connection; at most one read."""
        self._left_at: float | None = None
        """When the POST connection left."""

    @property
    def is_paired(self) -> bool:
        """Whether it has had both connections."""
        return self.download is not None and (self._upload is not None or self._left_at is not None)

    @property
    def held_size(self) -> int:
        """Number of received bytes that wait for a GET connection."""
        return len(self._early)

    def add_download(self, end: TunnelEnd) -> None:
        """The GET connection is there: RTSP is spoken over it from now on."""
        self.download = end
        self._transport = LayeredTransport(end.transport, end.close_socket)
        end.connection.layer(self._transport, encodes=False)
        self._pair()

    def add_upload(self, end: TunnelEnd) -> None:
        """The POST connection is there, or another one."""
        old, self._upload = self._upload, end
        if old is not None:
            old.connection.close("replaced by another POST connection of the tunnel")
        self._left_at = None
        self._pair()
        if self.download is None:
            self._early.clear()  # of the old one: each could bring another read
            end.hold_reading()

    def receive(self, end: TunnelEnd, data: bytes) -> None:
        """Pass on what a POST connection has received."""
        if end is not self._upload:
            return
        if self.download is None:
            self._early += data
        else:
            self.download.connection.data_received(data)

    def remove_upload(self, end: TunnelEnd) -> None:
        """The POST connection leaves."""
        if end is not self._upload:
            return
        self._upload = None
        if self._transport is not None:
            self._transport.set_input(None)
        self._left_at = end.clock()
        if self.download is None:
            self._on_end()

    def remove_download(self) -> None:
        """The GET connection leaves, and so the tunnel ends."""
        self._on_end()
        if self._upload is not None:
            self._upload.connection.close("the tunnel has ended")

    def tick(self, now: float) -> None:
        """Called about once a second while there is a GET connection."""
        if self._left_at is not None and self.download is not None and now - self._left_at >= self._timeout():
            self.download.connection.close("the client has closed the POST connection of the tunnel")

    def _pair(self) -> None:
        download, upload = self.download, self._upload
        if download is None or upload is None or self._transport is None:
            return
        upload.connection.retire()
        upload.release_reading()
        self._transport.set_input(upload)
        if self._early:
            early, self._early = bytes(self._early), bytearray()
            download.connection.data_received(early)


class DownloadRole:
    """The GET connection of a tunnel over HTTP. What the client sends on it has no meaning."""

    name: Literal["http", "websocket"] = "http"
    held_size = 0

    def __init__(self, end: TunnelEnd, tunnel: HttpTunnel) -> None:
        self._tunnel = tunnel
        tunnel.add_download(end)

    def receive(self, data: bytes) -> None:
        """Discard it."""

    def tick(self, now: float) -> None:
        self._tunnel.tick(now)

    def leave(self) -> None:
        self._tunnel.remove_download()


class UploadRole:
    """The POST connection of a tunnel over HTTP."""

    name: Literal["http", "websocket"] = "http"

    def __init__(self, end: TunnelEnd, tunnel: HttpTunnel) -> None:
        self._end = end
        self._tunnel = tunnel
        self._decoder = Base64Stream()
        tunnel.add_upload(end)

    @property
    def held_size(self) -> int:
        return self._decoder.held_size + self._tunnel.held_size

    def receive(self, data: bytes) -> None:
        decoded = self._decoder.receive_data(data)
        if decoded:
            self._tunnel.receive(self._end, decoded)

    def tick(self, now: float) -> None:
        """The GET connection looks after the tunnel."""

    def leave(self) -> None:
        self._tunnel.remove_upload(self._end)


class WebSocketRole:
    """A connection that is tunnelled over WebSocket."""

    name: Literal["http", "websocket"] = "websocket"

    def __init__(self, end: TunnelEnd) -> None:
        self._end = end
        self._engine = WebSocketConnection(is_client=False)
        transport = LayeredTransport(end.transport, self._close, self._engine.send)
        transport.set_input(end)
        end.connection.layer(transport, encodes=True)

    @property
    def held_size(self) -> int:
        return self._engine.held_size

    def receive(self, data: bytes) -> None:
        engine, connection = self._engine, self._end.connection
        try:
            decoded = engine.receive_data(data)
        finally:
            self._flush()
        connection.check_unread()  # the pongs, which the client may cause without limit
        if decoded:
            connection.data_received(decoded)
        if engine.is_closed:
            connection.close("closed by the client")

    def tick(self, now: float) -> None:
        """Nothing is due."""

    def leave(self) -> None:
        """Nothing else is to be closed."""

    def _flush(self) -> None:
        data = self._engine.data_to_send()
        if data and not self._end.transport.is_closing():
            self._end.transport.write(data)

    def _close(self) -> None:
        self._engine.close()
        self._flush()
        self._end.close_socket()
