"""Connections that know when the kernel had what they return: the load generator's own queue is no server's delay."""

import socket
import ssl
import struct
import time

SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("qq")
_ANCILLARY_SIZE = 128


def enable_stamps(connected: socket.socket) -> None:
    """Ask the kernel for the arrival times of what is received."""
    connected.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def arrival_time(ancillary: list[tuple[int, int, bytes]], now: int) -> int:
    """Return when the last bytes of a `recvmsg` arrived (monotonic ns); ``now`` if the kernel did not report it."""
    for _level, kind, value in ancillary:
        if kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            if seconds:
                return now - (time.time_ns() - seconds * 1_000_000_000 - nanoseconds)
    return now


def shake_hands(connected: socket.socket, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
    """Perform a handshake over a blocking connection, as client or server."""
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            connected.sendall(outgoing.read())
            incoming.write(connected.recv(1 << 16))
        else:
            connected.sendall(outgoing.read())
            return


class StampedSocket:
    """A connection, with TLS or without, that is read and written like a non-blocking socket."""

    def __init__(self, connected: socket.socket, context: ssl.SSLContext | None) -> None:
        """Perform a TLS handshake, if there is a context; ``connected`` is still blocking."""
        self._socket = connected
        self.arrival = 0
        """When the kernel had the last bytes of the last `recv` (monotonic ns)."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing) if context is not None else None
        if self._tls is not None:
            shake_hands(connected, self._tls, self._incoming, self._outgoing)
        connected.setblocking(False)
        enable_stamps(connected)

    def fileno(self) -> int:
        return self._socket.fileno()

    def recv(self, size: int) -> bytes:
        """Raises BlockingIOError or ssl.SSLWantReadError if there is no data."""
        if self._tls is None:
            return self._receive(size)
        try:
            return self._tls.read(size)
        except ssl.SSLWantReadError:
            data = self._receive(size)
            if not data:
                return b""
            self._incoming.write(data)
            return self._tls.read(size)

    def _receive(self, size: int) -> bytes:
        data, ancillary, _flags, _address = self._socket.recvmsg(size, _ANCILLARY_SIZE)
        self.arrival = arrival_time(ancillary, time.monotonic_ns())
        return data

    def send(self, data: bytes) -> int:
        if self._tls is None:
            return self._socket.send(data)
        self._tls.write(data)
        return self._socket.send(self._outgoing.read())
