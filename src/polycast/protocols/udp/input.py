"""What a program sends to an address of the server: datagrams, or the bytes of a connection to a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from typing import Final, cast

from polycast.errors import PolycastError
from polycast.net.address import plain_host
from polycast.net.dumped import dumped_connection
from polycast.net.listen import open_udp_socket
from polycast.net.multicast import open_group
from polycast.net.udp import Address, UdpSocket
from polycast.protocols.pull import PullContext, PullError
from polycast.protocols.udp.address import ReceivingAddress

TICK_SECONDS: Final = 0.5
"""Seconds between two checks."""


class Input(asyncio.Protocol):
    """Receives from one address, for one attempt of a source."""

    def __init__(
        self,
        context: PullContext,
        name: str,
        on_data: Callable[[bytes, int, int], None],
        on_read: Callable[[], None],
    ) -> None:
        """``name``: what files with its packets call the protocol.

        ``on_data`` is called with (data, start, end): a datagram, or what one read of a connection returned, is
        ``data[start:end]``. ``on_read`` is called after each wake-up that received any. What they raise ends `wait`.
        """
        self._context = context
        self._name = name
        self._on_data = on_data
        self._on_read = on_read
        self._source = ""
        self._last = context.loop.time()
        """When anything was last received; at first, when it was opened."""
        self._ended: asyncio.Future[None] = context.loop.create_future()
        """Has the exception that ends the attempt."""
        self._socket: UdpSocket | None = None
        self._transport: asyncio.Transport | None = None

    async def open(self, address: ReceivingAddress, buffer_size: int) -> None:
        """Open the address; for a Unix socket, wait for a program that connects.

        ``buffer_size``: bytes of a UDP socket's buffer in the system; 0 for its default. Raises OSError, PullError.
        """
        if address.socket_path:
            await self._accept(address.socket_path)
        else:
            self._source = plain_host(address.source)
            opened = await self._open_udp(address, buffer_size)
            self._socket = UdpSocket(self._context.loop, opened, self._on_datagram, self._on_drained)
            self._socket.dump(self._context.dump_prefix(f"{self._name}_source_packet_conn"))
        self._last = self._context.loop.time()

    async def wait(self, tick: Callable[[float], None]) -> None:
        """Receive until the sender ends or is silent; always ends with an exception.

        ``tick`` is called about twice a second with the time; what it raises ends the attempt.
        """
        loop, timeout = self._context.loop, self._context.read_timeout
        while not self._ended.done():
            await asyncio.wait((self._ended,), timeout=TICK_SECONDS)
            now = loop.time()
            tick(now)
            if now - self._last >= timeout:
                raise PullError(f"no data received for {timeout:g} s")
        self._ended.result()

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
        if self._transport is not None:
            self._transport.abort()
        if self._ended.done():
            self._ended.exception()  # it was not waited for
        else:
            self._ended.cancel()

    # UDP

    async def _open_udp(self, address: ReceivingAddress, buffer_size: int) -> socket.socket:
        host, port = address.host, address.port
        if address.is_multicast:
            return open_group(host, port, buffer_size, interface=address.interface, source=address.source)
        if host:
            try:
                (found, *_) = await self._context.loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            except (socket.gaierror, UnicodeError) as error:
                raise PullError(f"'{host}' is no host: {error}") from error
            host = str(found[4][0])
        return open_udp_socket(host, port, buffer_size)

    def _on_datagram(self, data: bytes, start: int, end: int, address: Address) -> None:
        if self._source and plain_host(address[0]) != self._source:
            return
        self._receive(data, start, end)

    # A connection to a Unix socket

    async def _accept(self, path: str) -> None:
        loop, timeout = self._context.loop, self._context.read_timeout
        listener, identity = await asyncio.to_thread(_listen, path)
        try:
            async with asyncio.timeout(timeout):
                accepted, _ = await loop.sock_accept(listener)
        except TimeoutError:
            raise PullError(f"no program has connected to {path} within {timeout:g} s") from None
        finally:
            # Others are refused while this one sends, rather than left waiting.
            listener.close()
            loop.run_in_executor(None, _remove, path, identity)
        try:
            protocol: asyncio.Protocol = self
            if prefix := self._context.dump_prefix(f"{self._name}_source_unix_conn"):
                protocol = dumped_connection(loop, self, prefix, is_server=True)
            await loop.connect_accepted_socket(lambda: protocol, accepted)
        except BaseException:
            accepted.close()
            raise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._receive(data, 0, len(data))
        self._on_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(PullError("the sender has closed the connection"))

    # Both

    def _receive(self, data: bytes, start: int, end: int) -> None:
        self._last = self._context.loop.time()
        self._guard(lambda: self._on_data(data, start, end))

    def _on_drained(self) -> None:
        self._guard(self._on_read)

    def _guard(self, handler: Callable[[], None]) -> None:
        """Call a handler, unless the attempt has ended; an error ends it, and disturbs nothing else."""
        if self._ended.done():
            return
        try:
            handler()
        except PolycastError as error:
            self._fail(error)
        except Exception:
            self._context.log.exception("internal error")
            self._fail(PullError("internal error"))

    def _fail(self, error: PolycastError) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)


def _listen(path: str) -> tuple[socket.socket, int]:
    """Return a listening Unix socket and the number of its file, in the place of one that an earlier run has left.

    Raises OSError. To be called in a thread.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode):
            raise OSError(errno.EEXIST, f"{path} exists, and is not a socket")
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.bind(path)
        listener.listen(1)
        return listener, os.stat(path).st_ino
    except OSError as error:
        listener.close()
        raise OSError(error.errno or errno.EINVAL, f"listen on {path}: {error.strerror or error}") from error


def _remove(path: str, identity: int) -> None:
    """Remove the file of a socket, unless another one has taken its place. To be called in a thread."""
    with contextlib.suppress(OSError):
        if os.stat(path, follow_symlinks=False).st_ino == identity:
            os.unlink(path)
