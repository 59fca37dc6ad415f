"""Connections on a UDP socket: their datagrams and their timers."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic, perf_counter
from typing import Final

from polycast.net.udp import Address, UdpSocket
from polycast.net.work import SLICE_SECONDS, Share, work_queue_of
from polycast.wire.srt.connection import Connection, State
from polycast.wire.srt.datagrams import Datagrams
from polycast.wire.srt.packet import MAXIMUM_DATAGRAM

MAXIMUM_BACKLOG: Final = 2048
"""Datagrams of one connection that wait for their turn; others are dropped, as if the network had lost them."""

TICK_SECONDS: Final = 0.005
"""Timers of all connections are rounded up to multiples of this, so that they expire together."""


class Link:
    """A connection, its socket and its peer.

    ``on_received`` gets what is due, ``on_closed`` is called once, with the reason.
    """

    __slots__ = (
        "_backlog",
        "_is_ended",
        "_on_closed",
        "_on_received",
        "_queue",
        "_socket",
        "_timers",
        "address",
        "engine",
        "scheduled",
        "share",
    )

    def __init__(
        self,
        engine: Connection,
        socket: UdpSocket,
        address: Address,
        timers: Timers,
        on_received: Callable[[Sequence[bytes], float], None],
        on_closed: Callable[[str], None],
    ) -> None:
        self.engine = engine
        self.address = address
        self._socket = socket
        self._timers = timers
        self._on_received = on_received
        self._on_closed = on_closed
        self._is_ended = False
        self._queue = work_queue_of(timers.loop)
        self._backlog: deque[bytes] = deque()
        self.share = Share()
        """What it has used of the loop's time."""
        self.scheduled = math.inf
        """When its timer expires; see `Timers`."""

    def receive(self, data: bytes, now: float) -> None:
        """Process a datagram while the socket is read; call `Timers.settle` at the end. ``now``: current time of
        `time.monotonic`.

        Those of a peer that costs too much wait for their turn: see `net.work`.
        """
        backlog, share = self._backlog, self.share
        if backlog:
            if len(backlog) < MAXIMUM_BACKLOG:
                backlog.append(data)
        elif share.is_used_up(now, self._queue.lead):
            backlog.append(data)
            self._queue.add(self)
        else:
            engine, address = self.engine, self.address
            try:
                if engine.receive_data(data, now):
                    self._timers.touch(self)
                else:
                    for packet in engine.data_to_send():
                        self._socket.send_soon(packet, address)
            except Exception:
                self._timers.on_error(self)
            share.use(monotonic() - now, now)

    @property
    def waiting_size(self) -> int:
        """Bytes that were received and wait for their turn, about."""
        return len(self._backlog) * MAXIMUM_DATAGRAM

    def work(self) -> bool:
        """Process what waits, for one slice; called by the work queue."""
        backlog, engine = self._backlog, self.engine
        now = self._timers.loop.time()
        start = perf_counter()
        try:
            while backlog and perf_counter() < start + SLICE_SECONDS:
                engine.receive_data(backlog.popleft(), now)
        except Exception:
            backlog.clear()
            self._timers.on_error(self)
        self.share.use(perf_counter() - start, now)
        self._timers.settle_one(self, now)
        if self._is_ended:
            backlog.clear()
        return bool(backlog)

    def send(self, datagrams: Sequence[Datagrams], now: float) -> None:
        """Send payloads."""
        engine, socket, address = self.engine, self._socket, self.address
        for each in datagrams:
            for data, size in engine.send(each, now):
                socket.send_segments(data, size, address)
        if engine.sender.waiting:
            self._timers.schedule(self, engine.next_timeout())

    def settle(self, now: float) -> None:
        """Do what is due, after datagrams were received or time has passed."""
        engine = self.engine
        start = perf_counter()
        due = engine.next_timeout()
        if now >= due:
            engine.handle_timeout(now)
            due = engine.next_timeout()
        self._flush()
        received = engine.received()
        if received and not self._is_ended:
            self._on_received(received, now)
        self.share.use(perf_counter() - start, now)
        if engine.state is State.CLOSED:
            self._end()
        else:
            self._timers.schedule(self, due)

    def close(self, reason: str, now: float) -> None:
        """Close once the peer has played what was sent."""
        self.engine.close(reason, now)
        self.settle(now)

    def abort(self, reason: str, now: float) -> None:
        """Close at once."""
        self.engine.abort(reason, now)
        self._flush()
        self._end()

    def _flush(self) -> None:
        for packet in self.engine.data_to_send():
            self._socket.send_soon(packet, self.address)

    def _end(self) -> None:
        self._timers.forget(self)
        if not self._is_ended:
            self._is_ended = True
            self._on_closed(self.engine.close_reason)


class Timers:
    """The timers of all connections of a socket: one timer of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_error: Callable[[Link], None]) -> None:
        """``on_error`` is called while an exception is handled, which is a bug."""
        self.loop = loop
        self.on_error = on_error
        self.socket: UdpSocket | None = None
        """Read before timers expire: the packet that a timer waits for may have arrived meanwhile."""
        self._heap: list[tuple[float, int, Link]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._touched: dict[Link, None] = {}

    def touch(self, link: Link) -> None:
        """A connection has received something; see `settle`."""
        self._touched[link] = None

    def settle(self) -> None:
        """The socket was read: let the connections that received something do what is due."""
        touched, self._touched = self._touched, {}
        now = self.loop.time()
        for link in touched:
            self.settle_one(link, now)

    def schedule(self, link: Link, due: float) -> None:
        """Let the timer of a connection expire."""
        if due >= link.scheduled:
            return  # it is looked at before that anyway
        link.scheduled = due
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, link))
        if self._timer is None or self._heap[0][2] is link:
            self._start()

    def forget(self, link: Link) -> None:
        """A connection has ended."""
        link.scheduled = -math.inf
        self._touched.pop(link, None)

    def close(self) -> None:
        """Stop all timers."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = math.ceil(self._heap[0][0] / TICK_SECONDS) * TICK_SECONDS
        self._timer = self.loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self.socket is not None:
            self.socket.read()
        heap = self._heap
        now = self.loop.time() + TICK_SECONDS / 10  # loops round times to milliseconds
        expired: list[Link] = []
        while heap and heap[0][0] <= now:
            due, _, link = heapq.heappop(heap)
            if due == link.scheduled:
                link.scheduled = math.inf
                expired.append(link)
        for link in expired:  # those that have more to do at once get another turn
            self._expire(link, now)
        if heap and self._timer is None:
            self._start()

    def _expire(self, link: Link, now: float) -> None:
        try:
            due = link.engine.next_timeout()
            if due > now:  # the event that it waited for has happened
                self.schedule(link, due)
            else:
                link.settle(now)
        except Exception:
            self.on_error(link)

    def settle_one(self, link: Link, now: float) -> None:
        """Let a connection do what is due."""
        try:
            link.settle(now)
        except Exception:
            self.on_error(link)
