"""Opens connections to RTSP servers through HTTP and WebSocket: ``rtsp+http://``, ``rtsp+ws://`` and with TLS."""

from __future__ import annotations

import asyncio
import base64
import secrets
import ssl
from collections.abc import Callable
from typing import ClassVar, Final, TypeVar, cast

from polycast.errors import RemoteProtocolError
from polycast.net.budget import BudgetedProtocol
from polycast.net.dial import connect
from polycast.net.layered import LayeredTransport
from polycast.protocols.outgoing import OutgoingConnection
from polycast.protocols.pull import PullError
from polycast.wire.http.head import Head, HeadReader
from polycast.wire.http.websocket import KEY_SIZE, MASK_SIZE, WebSocketConnection
from polycast.wire.rtsp.authentication import ClientAuthenticator
from polycast.wire.rtsp.tunnel import check_upgraded, download_request, encode, upgrade_request, upload_request
from polycast.wire.rtsp.url import RtspUrl

COOKIE_BYTES: Final = 16

_Connection = TypeVar("_Connection", bound=OutgoingConnection)


async def open_connection(
    factory: Callable[[], _Connection],
    url: RtspUrl,
    *,
    tls: ssl.SSLContext | None,
    timeout: float,
    dump_prefix: str = "",
) -> _Connection:
    """Connect to the server of ``url``, directly or through the tunnel that its scheme names.

    ``timeout`` (seconds) covers everything. Raises PullError if the server refuses the tunnel, or the errors of
    `net.dial.connect`.
    """
    if not url.tunnel:
        return await connect(factory, url.host, url.effective_port, tls=tls, timeout=timeout, dump_prefix=dump_prefix)
    opening = _Opening(url, tls, timeout, dump_prefix)
    try:
        async with asyncio.timeout(timeout):
            open_tunnel = opening.open_websocket if url.tunnel == "ws" else opening.open_http
            return await open_tunnel(factory)
    except RemoteProtocolError as error:
        raise PullError(f"the tunnel cannot be opened: {error}") from error
    except TimeoutError:
        raise TimeoutError(f"{url.host}:{url.effective_port} did not open the tunnel within {timeout:g} s") from None
    finally:
        opening.close_unused()


class _End(BudgetedProtocol):
    """A connection of a tunnel: sends a request and reads the head of the response, then what the tunnel carries."""

    is_divisible: ClassVar[bool] = True

    def __init__(self, request: bytes) -> None:
        super().__init__(asyncio.get_running_loop())
        self.head: asyncio.Future[Head] = self.loop.create_future()
        """The response; fails if there is none."""
        self.head.add_done_callback(lambda future: future.exception() if not future.cancelled() else None)
        self.decode: Callable[[bytes], bytes] | None = None
        """How the data of the tunnel is read, once there is a connection."""
        self._request = request
        self._reader = HeadReader(is_response=True)
        self._early = bytearray()
        self._tunnel: _Tunnel | None = None

    def join(self, tunnel: _Tunnel) -> None:
        """Pass on what is received from now on, and what was received before."""
        self._tunnel = tunnel
        early, self._early = bytes(self._early), bytearray()
        if early:
            tunnel.receive(self, early)

    # BudgetedProtocol

    def receive(self, data: bytes, now: float) -> bool:
        if not self.head.done():
            found = self._reader.receive_data(data)
            if found is None:
                return False
            self.head.set_result(found[0])
            data = found[1]
        if self._tunnel is None:
            self._early += data
            self.hold_reading()
        elif data:
            self._tunnel.receive(self, data)
        return False

    def on_protocol_error(self, error: RemoteProtocolError) -> None:
        self._fail(PullError(f"invalid data: {error}"))

    def on_internal_error(self) -> None:
        if self._tunnel is not None:
            self._tunnel.connection.on_internal_error()
        else:
            self._fail(PullError("internal error"))

    def _fail(self, error: Exception) -> None:
        if not self.head.done():
            self.head.set_exception(error)
        if self._tunnel is not None:
            self._tunnel.fail(error)
        self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.is_open = True
        self.transport.write(self._request)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.drop()
        if not self.head.done():
            self.head.set_exception(exc or PullError("the server closed the connection of the tunnel"))
        if self._tunnel is not None:
            self._tunnel.on_lost(exc)

    def pause_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.connection.pause_writing()

    def resume_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.connection.resume_writing()


class _Tunnel:
    """An open tunnel: carries the bytes of an RTSP connection over one or two others."""

    def __init__(
        self,
        connection: OutgoingConnection,
        reading: _End,
        writing: _End,
        websocket: WebSocketConnection | None = None,
    ) -> None:
        self.connection = connection
        self._reading = reading
        self._writing = writing
        self._websocket = websocket
        self._is_lost = False
        transport = LayeredTransport(writing.transport, self._close, encode if websocket is None else websocket.send)
        transport.set_input(reading)
        connection.connection_made(transport)
        for end in {reading, writing}:
            end.release_reading()
            end.join(self)

    def receive(self, end: _End, data: bytes) -> None:
        """Take bytes of a connection. Raises RemoteProtocolError."""
        if end is not self._reading:
            return  # the response to POST, of which only an error matters
        websocket = self._websocket
        if websocket is None:
            self.connection.data_received(data)
            return
        try:
            decoded = websocket.receive_data(data)
        finally:
            self._flush(websocket)
        self.connection.check_unread()  # the pongs, which the server may cause without limit
        if decoded:
            self.connection.data_received(decoded)
        if websocket.is_closed:
            self._writing.transport.close()

    def check_upload(self, head: asyncio.Future[Head]) -> None:
        """A response to POST has arrived; most servers send none."""
        if head.cancelled() or head.exception() is not None:
            return
        status = head.result().status
        if status != 200:
            self.fail(PullError(f"the tunnel cannot be opened: POST was answered with {status}"))

    def fail(self, error: Exception) -> None:
        """The tunnel has become unusable."""
        self.connection.fail(error)

    def on_lost(self, exc: Exception | None) -> None:
        """One of the connections is lost: the tunnel ends."""
        if not self._is_lost:
            self._is_lost = True
            self._reading.transport.abort()
            self._writing.transport.abort()
            self.connection.connection_lost(exc)

    def _flush(self, websocket: WebSocketConnection) -> None:
        data = websocket.data_to_send()
        if data and not self._writing.transport.is_closing():
            self._writing.transport.write(data)

    def _close(self) -> None:
        if self._websocket is not None:
            self._websocket.close()
            self._flush(self._websocket)
        self._writing.transport.close()  # `on_lost` then closes the other one


class _Opening:
    """Opens a tunnel, with credentials if the server asks for them."""

    def __init__(self, url: RtspUrl, tls: ssl.SSLContext | None, timeout: float, dump_prefix: str) -> None:
        self._url = url
        self._tls = tls
        self._timeout = timeout
        self._dump_prefix = dump_prefix
        self._authenticator = ClientAuthenticator(url.user, url.password or "") if url.user is not None else None
        self._challenges: list[str] = []
        self._unused: set[_End] = set()
        """Connections that are not part of a tunnel."""

    def close_unused(self) -> None:
        """Close what did not become part of a tunnel."""
        for end in self._unused:
            end.transport.abort()

    async def open_http(self, factory: Callable[[], _Connection]) -> _Connection:
        """Open the GET connection, then the POST connection."""
        cookie = secrets.token_hex(COOKIE_BYTES)
        reading, head = await self._ask(
            lambda proof: download_request(self._url.target, self._url.authority, cookie, proof)
        )
        _check_status(head, 200)
        writing = await self._connect(
            upload_request(self._url.target, self._url.authority, cookie, self._prove("POST"))
        )
        connection = factory()
        tunnel = _Tunnel(connection, reading, writing)
        writing.head.add_done_callback(tunnel.check_upload)
        self._unused.clear()
        return connection

    async def open_websocket(self, factory: Callable[[], _Connection]) -> _Connection:
        """Open the one connection of a tunnel over WebSocket."""
        key = base64.b64encode(secrets.token_bytes(KEY_SIZE)).decode()
        end, head = await self._ask(lambda proof: upgrade_request(self._url.target, self._url.authority, key, proof))
        _check_status(head, 101)
        check_upgraded(head, key)
        connection = factory()
        websocket = WebSocketConnection(is_client=True, new_mask=lambda: secrets.token_bytes(MASK_SIZE))
        _Tunnel(connection, end, end, websocket)
        self._unused.clear()
        return connection

    async def _ask(self, request: Callable[[str | None], bytes]) -> tuple[_End, Head]:
        """Send a GET request, again with credentials if they are asked for; return its connection and the response."""
        end = await self._connect(request(None))
        head = await end.head
        challenges = head.values("www-authenticate")
        if head.status != 401 or not challenges or self._authenticator is None:
            return end, head
        self._challenges = challenges
        end.transport.abort()
        end = await self._connect(request(self._prove("GET")))
        return end, await end.head

    async def _connect(self, request: bytes) -> _End:
        end = await connect(
            lambda: _End(request),
            self._url.host,
            self._url.effective_port,
            tls=self._tls,
            timeout=self._timeout,
            dump_prefix=self._dump_prefix,
        )
        self._unused.add(end)
        return end

    def _prove(self, method: str) -> str | None:
        if self._authenticator is None or not self._challenges:
            return None
        return self._authenticator.authorize(self._challenges, method, self._url.target, secrets.token_hex(8))


def _check_status(head: Head, status: int) -> None:
    if head.status != status:
        raise PullError(f"the tunnel cannot be opened: HTTP status {head.status}")
