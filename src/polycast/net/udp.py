"""UDP sockets for media: many datagrams received per wake-up, many sent per system call.

asyncio's datagram endpoints cost about ten times as much per packet.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from polycast.net.address import Address as Address
from polycast.net.datagram_batches import SENT_MESSAGES, SMALL_SIZE
from polycast.net.dumped import DumpedSocket
from polycast.net.loop_local import LoopLocal
from polycast.net.udp_reading import DatagramHandler, UdpReading

# Bytes of datagrams that are queued while the socket buffer is full, before new ones are dropped. A burst of key frames
# for some hundred readers fits.
QUEUE_LIMIT = 64 * 1024 * 1024

# Linux: udp(7). Segments of one system call: UDP_MAX_SEGMENTS of kernels before 6.9.
UDP_SEGMENT = 103
MAXIMUM_SEGMENTS = 64
MAXIMUM_GSO_SIZE = 65_000

_CANNOT_SEGMENT = frozenset({errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.EMSGSIZE})


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
        self._reading = UdpReading(loop, bound, on_datagram)
        self._on_drained = on_drained
        self._queue: deque[tuple[bytes | memoryview, int, Address]] = deque()
        self._queued_bytes = 0
        self._answers: list[tuple[bytes, Address]] | None = None
        """While the socket is being read: datagrams to send afterwards, together; else None."""
        self._segments = _supports_segmentation(bound)
        """Whether the kernel can segment what is sent (UDP_SEGMENT)."""
        self._segment_size = 0
        """Segment size that is set on the socket; 0 for none. Setting it on the socket rather than in each call makes
        a call 5 % shorter."""
        self._is_ipv6 = bound.family == socket.AF_INET6
        self.dropped = 0
        """Datagrams that could not be sent because the queue was full."""
        loop.add_reader(bound.fileno(), self.read)

    @property
    def port(self) -> int:
        """The local port; 0 once it is closed."""
        return int(self._socket.getsockname()[1]) if self._socket.fileno() >= 0 else 0

    def dump(self, prefix: str) -> None:
        """Write the datagrams to a file from now on; an empty ``prefix`` ends that."""
        current = self._socket
        if isinstance(current, DumpedSocket) is bool(prefix):
            return
        if isinstance(current, DumpedSocket):
            self._socket = current.plain()
        else:
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
        """Send like `send`; while the socket is being read, only afterwards, so that small answers to many peers are
        sent together."""
        if self._answers is not None and len(data) <= SMALL_SIZE:
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
            self._set_segment_size(0)
            # An address to which nothing can be sent, such as one with port 0, gives the same errors, and raises here.
            self._send_one_by_one(data, segment_size, address)
            # Segmentation does not work on this route (no checksum offload, a smaller MTU): one by one from now on.
            self._segments = error.errno == errno.EMSGSIZE

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

    def read(self) -> None:
        """Process what has arrived, as when the loop finds the socket readable."""
        bound = self._socket
        if bound.fileno() < 0:
            return
        answers = self._answers = []
        try:
            if self._reading.drain(bound):
                self._loop.call_soon(self.read)
            if self._on_drained is not None:
                self._on_drained()
        finally:
            self._answers = None
            if answers:
                self._send_together(answers)

    def _send_together(self, datagrams: list[tuple[bytes, Address]]) -> None:
        batches, position = self._reading.batches(self._socket), 0
        if batches is not None and not self._queue and not 0 < self._segment_size < SMALL_SIZE:
            descriptor = self._socket.fileno()
            with contextlib.suppress(OSError):
                while position < len(datagrams):
                    position += batches.send(descriptor, datagrams[position : position + SENT_MESSAGES])
        for data, address in datagrams[position:]:
            self.send(data, address)


def _supports_segmentation(bound: socket.socket) -> bool:
    if not hasattr(socket, "SOL_UDP"):
        return False
    with contextlib.suppress(OSError):
        bound.getsockopt(socket.SOL_UDP, UDP_SEGMENT)
        return True
    return False
