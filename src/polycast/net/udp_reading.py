"""How a UDP socket is read: many datagrams per wake-up, but no more than other sockets can wait for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from polycast.net.address import Address
from polycast.net.coalescing import coalescing_of
from polycast.net.datagram_batches import (
    IS_SUPPORTED,
    RECEIVED_MESSAGES,
    UDP_GRO,
    DatagramBatches,
    Received,
    datagram_batches_of,
)
from polycast.net.dumped import DumpedSocket

DatagramHandler = Callable[[bytes, int, int, Address], None]
"""Called with (data, start, end, address): one datagram is ``data[start:end]``."""

# Reads per wake-up before other sockets are served. One read returns one datagram, or up to 64 that arrived together.
# Some hundred peers answer each frame: if they were read in several turns, the answers would be out of date.
DRAIN_LIMIT = 256

# Seconds after which other sockets are served anyway: some datagrams take long to process.
DRAIN_SECONDS = 0.005

# Largest UDP payload over IPv4; also the largest coalesced read.
MAXIMUM_READ = 65_535

_GRO_SIZE: Final = struct.Struct("=i")
_ANCILLARY_SIZE: Final = 64


class UdpReading:
    """Reads a socket. After each call of `drain` that returns True, call it again soon."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bound: socket.socket, on_datagram: DatagramHandler) -> None:
        self._loop = loop
        self._on_datagram = on_datagram
        self._coalesces = _enable_coalescing(bound)
        self._coalescing = coalescing_of(loop)
        self._unread: Iterator[Received] = iter(())
        """Received datagrams that are not processed yet."""

    def batches(self, bound: socket.socket) -> DatagramBatches | None:
        """Return the batches in which a socket is read and written; None if that is not possible."""
        if not IS_SUPPORTED or isinstance(bound, DumpedSocket):  # its file must have all datagrams
            return None
        return datagram_batches_of(self._loop)

    def drain(self, bound: socket.socket) -> bool:
        """Process the datagrams that have arrived; return whether some are left that will not make it readable."""
        end = time.perf_counter() + DRAIN_SECONDS
        if not self._process_unread(bound, end):
            return bound.fileno() >= 0
        batches = self.batches(bound)
        step = 1 if batches is None else RECEIVED_MESSAGES
        for _ in range(0, DRAIN_LIMIT, step):
            try:
                received = self._receive(bound) if batches is None else batches.receive(bound.fileno())
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                continue  # an ICMP error of an earlier send; the socket remains usable
            self._unread = iter(received)
            if not self._process_unread(bound, end):
                return bound.fileno() >= 0
            if len(received) < step:
                return False
        self._coalescing.poll_now()
        return False

    def _process_unread(self, bound: socket.socket, end: float) -> bool:
        """Return False if the socket is closed, or if it is ``end``."""
        on_datagram = self._on_datagram
        for data, segment_size, address in self._unread:
            size = len(data)
            if segment_size >= size:
                on_datagram(data, 0, size, address)
            else:
                for start in range(0, size, segment_size):
                    on_datagram(data, start, min(start + segment_size, size), address)
            if bound.fileno() < 0:
                return False
            if time.perf_counter() >= end:
                self._coalescing.poll_now()
                return False
        return True

    def _receive(self, bound: socket.socket) -> Sequence[Received]:
        if not self._coalesces:
            data, address = bound.recvfrom(MAXIMUM_READ)
            return ((data, len(data), address),)
        buffer = bytearray(MAXIMUM_READ)
        size, ancillary, _, address = bound.recvmsg_into((buffer,), _ANCILLARY_SIZE)
        segment_size = size
        for level, kind, value in ancillary:
            if level == socket.SOL_UDP and kind == UDP_GRO:
                segment_size = _GRO_SIZE.unpack_from(value)[0]
        return ((bytes(memoryview(buffer)[:size]), segment_size, address),)


def _enable_coalescing(bound: socket.socket) -> bool:
    if not hasattr(socket, "SOL_UDP"):
        return False
    with contextlib.suppress(OSError):
        bound.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
        return True
    return False
