"""Connections and UDP sockets whose packets are written to files: they stand in for the real ones."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from polycast.net.address import peer_of
from polycast.net.key_log import KeyLog, client_random
from polycast.net.packet_dump import packet_dumps_of
from polycast.wire.pcapng import MAXIMUM_PAYLOAD, Endpoint, TcpConversation, secrets_block, udp_packet

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

MAXIMUM_HANDSHAKE: Final = 256 * 1024
"""Bytes of a TLS connection that wait for its keys, which must be in front of them."""

_BEFORE_HELLO: Final = (b"\x16", b"PROXY ", b"\r\n\r\n\x00")
"""How connections begin that may have TLS: with its hello, or the header of a proxy."""

_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_GRO_SIZE: Final = struct.Struct("=i")


class TcpDump:
    """The file of one connection."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        prefix: str,
        local: Endpoint,
        remote: Endpoint,
        *,
        is_server: bool,
    ) -> None:
        """``is_server``: whether the other side has connected to us."""
        dumps = packet_dumps_of(loop)
        self._file = dumps.open(prefix)
        self._conversation = TcpConversation(local, remote, is_server=is_server)
        self._is_server = is_server
        self._key_log: KeyLog | None = dumps.key_log
        """None once it is known that there is no TLS, or the keys are in the file."""
        self._random: bytes | None = None
        self._first_bytes = b""
        """What the client sent, until it has said hello."""
        self._waiting: list[tuple[bytes, int, bool]] = []
        self._waiting_size = 0
        now = time.time_ns()
        self._file.write(lambda: self._conversation.opening(now), 0)

    def add(self, data: bytes, *, is_received: bool) -> None:
        """Add what was received or sent."""
        now = time.time_ns()
        if self._key_log is None:
            self._write(data, now, is_received)
            return
        self._waiting.append((data, now, is_received))
        self._waiting_size += len(data)
        if self._random is None and is_received is self._is_server:
            self._first_bytes += data
            self._random = client_random(self._first_bytes)
            if self._random is None and not self._first_bytes.startswith(_BEFORE_HELLO):
                self._release(b"")
                return
        keys = self._key_log.find(self._random) if self._random is not None else b""
        if keys or self._waiting_size > MAXIMUM_HANDSHAKE:
            self._release(keys)

    def close(self) -> None:
        """The connection has ended."""
        if self._key_log is not None:
            self._release(self._key_log.find(self._random) if self._random is not None else b"")
        now = time.time_ns()
        self._file.write(lambda: self._conversation.closing(now), 0)
        self._file.close()

    def _release(self, keys: bytes) -> None:
        self._key_log = None
        if keys:
            self._file.write(lambda: secrets_block(keys), len(keys))
        waiting, self._waiting = self._waiting, []
        for data, now, is_received in waiting:
            self._write(data, now, is_received)

    def _write(self, data: bytes, now: int, is_received: bool) -> None:
        conversation = self._conversation
        if not self._file.write(lambda: conversation.data(data, now, is_received=is_received), len(data)):
            self._file.write(partial(_skip, conversation, len(data), is_received), 0)


def _skip(conversation: TcpConversation, size: int, is_received: bool) -> bytes:
    conversation.skip(size, is_received=is_received)
    return b""


class DumpedConnection(asyncio.Transport, asyncio.Protocol):
    """Between a transport and its protocol: the protocol of the one, and the transport of the other."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        prefix: str,
        *,
        is_server: bool,
    ) -> None:
        """``prefix`` and ``is_server`` are those of `TcpDump`."""
        super().__init__()
        self._loop = loop
        self._protocol = cast("asyncio.Protocol", protocol)
        self._prefix = prefix
        self._is_server = is_server
        self._dump: TcpDump | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._below = cast("asyncio.Transport", transport)
        self._dump = TcpDump(
            self._loop,
            self._prefix,
            peer_of(transport.get_extra_info("sockname")),
            peer_of(transport.get_extra_info("peername")),
            is_server=self._is_server,
        )
        self._protocol.connection_made(self)

    def data_received(self, data: bytes) -> None:
        if self._dump is not None:
            self._dump.add(bytes(data), is_received=True)
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._dump is not None:
            self._dump.close()
            self._dump = None
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    # asyncio.Transport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._dump is not None and not self._below.is_closing():
            self._dump.add(bytes(data), is_received=False)
        self._below.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return self._below.can_write_eof()

    def write_eof(self) -> None:
        self._below.write_eof()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._below.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        return self._below.get_write_buffer_size()

    def is_reading(self) -> bool:
        return self._below.is_reading()

    def pause_reading(self) -> None:
        self._below.pause_reading()

    def resume_reading(self) -> None:
        self._below.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._below.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._below.is_closing()

    def close(self) -> None:
        self._below.close()

    def abort(self) -> None:
        self._below.abort()


def dumped_connection(
    loop: asyncio.AbstractEventLoop,
    protocol: asyncio.BaseProtocol,
    prefix: str,
    *,
    is_server: bool,
    tls: ssl.SSLContext | None = None,
) -> DumpedConnection:
    """Return what writes a connection's packets to a file in front of its protocol. Raises OSError.

    ``tls``: the context of its TLS, whose keys get into the file.
    """
    if tls is not None:
        packet_dumps_of(loop).key_log.attach(tls)
    return DumpedConnection(loop, protocol, prefix, is_server=is_server)


class DumpedSocket(socket.socket):
    """A UDP socket, whose datagrams are written to a file as well."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bound: socket.socket, prefix: str, segment_size: int) -> None:
        """``bound`` is used up. ``segment_size``: that of UDP_SEGMENT, 0 for none."""
        family, kind, protocol = bound.family, bound.type, bound.proto
        super().__init__(family, kind, protocol, fileno=bound.detach())
        self.setblocking(False)
        self._segment_size = segment_size
        self._local = peer_of(self.getsockname())
        self._file = packet_dumps_of(loop).open(prefix)

    def plain(self) -> socket.socket:
        """End the file, and return a socket without one; this one is used up."""
        self._file.close()
        family, kind, protocol = self.family, self.type, self.proto
        plain = socket.socket(family, kind, protocol, fileno=self.detach())
        plain.setblocking(False)
        return plain

    def close(self) -> None:
        if self.fileno() >= 0:
            self._file.close()
        super().close()

    def setsockopt(self, level: int, option: int, value: Any, *length: Any) -> None:
        super().setsockopt(level, option, value, *length)
        if level == getattr(socket, "SOL_UDP", -1) and option == _UDP_SEGMENT:
            self._segment_size = value

    def sendto(self, data: ReadableBuffer, address: Any) -> int:  # type: ignore[override]
        sent = super().sendto(data, address)
        self._add(bytes(data), self._segment_size, address, is_received=False)
        return sent

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, Any]:
        data, address = super().recvfrom(size, flags)
        self._add(data, 0, address, is_received=True)
        return data, address

    def recvmsg_into(
        self, buffers: Iterable[WriteableBuffer], ancillary_size: int = 0, flags: int = 0
    ) -> tuple[int, list[tuple[int, int, bytes]], int, Any]:
        (buffer,) = buffers
        size, ancillary, flags, address = super().recvmsg_into((buffer,), ancillary_size, flags)
        segment_size = 0
        for level, kind, value in ancillary:
            if level == socket.SOL_UDP and kind == _UDP_GRO:
                segment_size = _GRO_SIZE.unpack_from(value)[0]
        self._add(bytes(memoryview(buffer)[:size]), segment_size, address, is_received=True)
        return size, ancillary, flags, address

    def _add(self, data: bytes, segment_size: int, address: Any, *, is_received: bool) -> None:
        now = time.time_ns()
        remote = peer_of(address)
        sender, receiver = (remote, self._local) if is_received else (self._local, remote)
        step = min(segment_size or len(data), MAXIMUM_PAYLOAD) or 1
        self._file.write(
            lambda: b"".join(
                udp_packet(sender, receiver, data[start : start + step], now) for start in range(0, len(data), step)
            ),
            len(data),
        )
