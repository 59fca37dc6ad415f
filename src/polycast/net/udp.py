"""UDP sockets for media: many datagrams received per wake-up, many sent per system call.

asyncio's datagram endpoints cost about ten times as much per packet.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from polycast.net.coalescing import coalescing_of
from polycast.net.datagram_batches import (
    IS_SUPPORTED,
    RECEIVED_MESSAGES,
    SENT_MESSAGES,
    SMALL_SIZE,
    Address,
    Received,
    datagram_batches_of,
)
from polycast.net.dumped import DumpedSocket
from polycast.net.loop_local import LoopLocal

DatagramHandler = Callable[[bytes, int, int, Address], None]
"""Called with (data, start, end, address): one datagram is ``data[start:end]``."""

# Datagrams read per wake-up before other sockets are served.
DRAIN_LIMIT = 64

# Seconds after which they are served anyway: one read returns up to 64 datagrams, and some cost much.
DRAIN_SECONDS = 0.005

# Largest UDP payload over IPv4; also the largest coalesced read.
MAXIMUM_READ = 65_535

# Bytes of datagrams that are queued while the socket buffer is full, before new ones are dropped. A burst of key frames
# for some hundred readers fits.
QUEUE_LIMIT = 64 * 1024 * 1024

# Linux: udp(7). Segments of one system call: UDP_MAX_SEGMENTS of kernels before 6.9.
UDP_SEGMENT = 103
UDP_GRO = 104
MAXIMUM_SEGMENTS = 64
MAXIMUM_GSO_SIZE = 65_000

_CANNOT_SEGMENT = frozenset({errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.EMSGSIZE})

_GRO_SIZE = struct.Struct("=i")
_ANCILLARY_SIZE = 64


class Drops:
    """What all sockets of a loop could not send."""

    __slots__ = ("datagrams",)

    def __init__(self, _: asyncio.AbstractEventLoop) -> None:
        self.datagrams = 0


_DROPS: Final = LoopLocal("udp_drops", Drops)


def drops_of(loop: asyncio.AbstractEventLoop) -> Drops:
    """Return what all sockets of a loop could not send."""
    return _DROPS.get(loop)


class UdpSocket:
    """A bound UDP socket on the event loop.

    ``on_datagram`` is called for each datagram, ``on_drained`` once after each wake-up that received any.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        bound: socket.socket,
        on_datagram: DatagramHandler,
        on_drained: Callable[[], None] | None = None,
    ) -> None:
        self._loop = loop
        self._socket = bound
        self._on_datagram = on_datagram
        self._on_drained = on_drained
        self._queue: deque[tuple[bytes | memoryview, int, Address]] = deque()
        self._queued_bytes = 0
        self._coalesces = _enable(bound, UDP_GRO)
        self._batches = datagram_batches_of(loop) if IS_SUPPORTED else None
        self._segments = _supports_segmentation(bound)
        """Whether the kernel can segment what is sent (UDP_SEGMENT)."""
        self._segment_size = 0
        """Segment size that is set on the socket; 0 for none. Setting it on the socket rather than in each call makes
        a call 5 % shorter."""
        self._coalescing = coalescing_of(loop)
        self._is_ipv6 = bound.family == socket.AF_INET6
        self._answers: list[tuple[bytes, Address]] = []
        """What is sent at the end of the current read."""
        self._is_reading = False
        self.dropped = 0
        """Datagrams that could not be sent because the queue was full."""
        loop.add_reader(bound.fileno(), self._on_readable)

    @property
    def port(self) -> int:
        """The local port."""
        return int(self._socket.getsockname()[1])

    def dump(self, prefix: str) -> None:
        """Write the datagrams to a file from now on; an empty ``prefix`` ends that."""
        current = self._socket
        if isinstance(current, DumpedSocket) is bool(prefix):
            return
        if isinstance(current, DumpedSocket):
            self._socket = current.plain()
            self._batches = datagram_batches_of(self._loop) if IS_SUPPORTED else None
        else:
            self._batches = None  # what goes past the socket is not in the file
            self._socket = DumpedSocket(self._loop, current, prefix, self._segment_size)

    @property
    def socket(self) -> socket.socket:
        """The socket, for options such as multicast membership. Not to be read or written."""
        return self._socket

    def address(self, host: str, port: int, scope: int = 0) -> Address:
        """Return an IP address and port in the form that this socket uses.

        IPv4 is mapped into IPv6 on a dual-stack socket; ``scope`` is the interface of a link-local IPv6 address.
        """
        if not self._is_ipv6:
            return (host.removeprefix("::ffff:"), port)
        return (host if ":" in host else f"::ffff:{host}", port, 0, scope)

    def send(self, data: bytes, address: Address) -> None:
        """Send one datagram, or queue it while the socket buffer is full. Network errors are ignored, as usual with
        UDP."""
        self.send_segments(data, len(data), address)

    def send_soon(self, data: bytes, address: Address) -> None:
        """Do the same, but while datagrams are read, wait until the end of the read: small answers to many peers are
        sent together."""
        if self._is_reading and len(data) <= SMALL_SIZE:
            self._answers.append((data, address))
        else:
            self.send(data, address)

    def send_segments(self, data: bytes | memoryview, segment_size: int, address: Address) -> None:
        """Send ``data`` split into datagrams of ``segment_size`` bytes; the last one may be shorter.

        ``data`` must be at most `MAXIMUM_GSO_SIZE` bytes and `MAXIMUM_SEGMENTS` segments. The caller may overwrite it
        afterwards: queued data is copied.
        """
        if self._queue:
            self._enqueue(data, segment_size, address)
            return
        if segment_size == self._segment_size:
            # The usual case for media, without a further call. An error here occurs again below.
            try:
                self._socket.sendto(data, address)
            except OSError:
                pass
            else:
                return
        try:
            self._send_now(data, segment_size, address)
        except BlockingIOError:
            self._enqueue(data, segment_size, address)
        except OSError:
            pass  # unreachable port or network: the session's timeout handles it

    def close(self) -> None:
        """Close the socket; what is queued is lost."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket.fileno())
        if self._queue:
            self._loop.remove_writer(self._socket.fileno())
            self._queue.clear()
        self._socket.close()

    def _send_now(self, data: bytes | memoryview, segment_size: int, address: Address) -> None:
        size = len(data)
        if size > segment_size and not self._segments:
            self._send_one_by_one(data, segment_size, address)
            return
        if size > segment_size != self._segment_size:
            self._set_segment_size(segment_size)
        elif size <= segment_size and 0 < self._segment_size < size:
            self._set_segment_size(0)
        try:
            self._socket.sendto(data, address)
        except OSError as error:
            if not self._segment_size or error.errno not in _CANNOT_SEGMENT:
                raise
            # Segmentation does not work on this route (no checksum offload, a smaller MTU): one by one from now on.
            self._segments = error.errno == errno.EMSGSIZE
            self._set_segment_size(0)
            self._send_one_by_one(data, segment_size, address)

    def _set_segment_size(self, size: int) -> None:
        self._socket.setsockopt(socket.SOL_UDP, UDP_SEGMENT, size)
        self._segment_size = size

    def _send_one_by_one(self, data: bytes | memoryview, segment_size: int, address: Address) -> None:
        view = memoryview(data)
        for offset in range(0, len(data), max(segment_size, 1)):
            try:
                self._socket.sendto(view[offset : offset + segment_size], address)
            except BlockingIOError:
                self._enqueue(data[offset:], segment_size, address)
                return

    def _enqueue(self, data: bytes | memoryview, segment_size: int, address: Address) -> None:
        if self._queued_bytes + len(data) > QUEUE_LIMIT:
            count = -(-len(data) // segment_size)
            self.dropped += count
            drops_of(self._loop).datagrams += count
            return
        if not self._queue:
            self._loop.add_writer(self._socket.fileno(), self._on_writable)
        self._queue.append((bytes(data), segment_size, address))
        self._queued_bytes += len(data)

    def _on_writable(self) -> None:
        queue = self._queue
        while queue:
            data, segment_size, address = queue.popleft()
            self._queued_bytes -= len(data)
            try:
                self._send_now(data, segment_size, address)
            except BlockingIOError:
                queue.appendleft((data, segment_size, address))
                self._queued_bytes += len(data)
                return
            except OSError:
                continue
        self._loop.remove_writer(self._socket.fileno())

    def _send_answers(self) -> None:
        answers, self._answers = self._answers, []
        batches, position = self._batches, 0
        if batches is not None and not self._queue and (not self._segment_size or self._segment_size >= SMALL_SIZE):
            descriptor = self._socket.fileno()
            with contextlib.suppress(OSError):
                while position < len(answers):
                    position += batches.send(descriptor, answers[position : position + SENT_MESSAGES])
        for data, address in answers[position:]:
            self.send(data, address)

    def _on_readable(self) -> None:
        self._is_reading = True
        try:
            self._drain()
            if self._on_drained is not None:
                self._on_drained()
        finally:
            self._is_reading = False
            if self._answers:
                self._send_answers()

    def _drain(self) -> None:
        end = time.perf_counter() + DRAIN_SECONDS
        for _ in range(DRAIN_LIMIT if self._batches is None else DRAIN_LIMIT // RECEIVED_MESSAGES):
            try:
                if not self._read():
                    return
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP error of an earlier send; the socket remains usable
            if time.perf_counter() >= end:
                break
        self._coalescing.poll_now()

    def _read(self) -> bool:
        """Process what one system call returns. Return whether there may be more. Raises OSError."""
        if self._batches is None:
            self._process(*(self._receive_coalesced() if self._coalesces else self._receive_plain()))
            return self._socket.fileno() >= 0
        received = self._batches.receive(self._socket.fileno())
        for data, segment_size, address in received:
            self._process(data, segment_size, address)
            if self._socket.fileno() < 0:
                return False
        return len(received) == RECEIVED_MESSAGES

    def _receive_plain(self) -> Received:
        data, address = self._socket.recvfrom(MAXIMUM_READ)
        return data, len(data), address

    def _receive_coalesced(self) -> Received:
        buffer = bytearray(MAXIMUM_READ)
        size, ancillary, _, address = self._socket.recvmsg_into((buffer,), _ANCILLARY_SIZE)
        segment_size = size
        for level, kind, value in ancillary:
            if level == socket.SOL_UDP and kind == UDP_GRO:
                segment_size = _GRO_SIZE.unpack_from(value)[0]
        return bytes(memoryview(buffer)[:size]), segment_size, address

    def _process(self, data: bytes, segment_size: int, address: Address) -> None:
        size = len(data)
        if segment_size >= size:
            self._on_datagram(data, 0, size, address)
            return
        for start in range(0, size, segment_size):
            self._on_datagram(data, start, min(start + segment_size, size), address)


def _enable(bound: socket.socket, option: int) -> bool:
    if not hasattr(socket, "SOL_UDP"):
        return False
    with contextlib.suppress(OSError):
        bound.setsockopt(socket.SOL_UDP, option, 1)
        return True
    return False


def _supports_segmentation(bound: socket.socket) -> bool:
    if not hasattr(socket, "SOL_UDP"):
        return False
    with contextlib.suppress(OSError):
        bound.getsockopt(socket.SOL_UDP, UDP_SEGMENT)
        return True
    return False
