"""The reading side: one process with all readers, cheap enough that a thousand of them fit on one core.

Most readers only count: `MSG_TRUNC` lets the kernel drop TCP bytes without a copy and return a datagram's true size.
Sampled readers, spread evenly, parse everything; their arrival times are the kernel's, so that this process's own queue
does not count as delay.
"""

import contextlib
import math
import random
import select
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

from bench.samples import DatagramSample
from bench.stamped import arrival_time, enable_stamps

SAMPLE_COUNT = 25
STREAM_REST = (
    0.002  # seconds between two rounds of TCP readers: far below a frame, and far fewer wake-ups of this process
)
QUIET = 0.4  # seconds without a byte after which everything counts as arrived
DRAIN_LIMIT = 10.0  # seconds
KEEPALIVE_INTERVAL = 20.0  # seconds
ACKNOWLEDGEMENT_INTERVAL = (
    0.01  # seconds between two acknowledgements of a reader (draft-sharabayko-srt-01 section 3.2.4)
)
ACKNOWLEDGEMENT_CHECKS = 0.005  # seconds between two looks at readers that receive nothing
BUFFER_SIZE = 1 << 20
DATAGRAM_RECEIVE_SIZE = 16  # bytes copied of a datagram that is only counted
RECEIVE_BUFFER = 4 << 20  # bytes of SO_RCVBUF of a UDP reader: several key frames


class Sample(Protocol):
    """A parser of everything that one reader receives."""

    @property
    def result(self) -> Any: ...

    def feed(self, data: memoryview, arrival_ns: int) -> None: ...


class Acknowledger(ABC):
    """Answers of a reader to a sender that waits for them, at the times of libsrt: when it has received a packet, or
    has nothing to do, it looks whether 10 ms have passed since the last time that they had."""

    def __init__(self) -> None:
        self._is_due = False
        self._next = time.monotonic() + random.random() * ACKNOWLEDGEMENT_INTERVAL

    @abstractmethod
    def accept(self, datagram: bytearray) -> bool:
        """Take the start of a received datagram; return whether it carries media. Others are not counted."""

    @abstractmethod
    def acknowledge(self, now: float) -> None:
        """Acknowledge what was received."""

    def take(self, datagram: bytearray) -> bool:
        """Take a datagram, and acknowledge if it is time."""
        if not self.accept(datagram):
            return False
        self._is_due = True
        self.check(time.monotonic())
        return True

    def check(self, now: float) -> None:
        """Acknowledge if it is time and something was received."""
        if now < self._next:
            return
        self._next = now + ACKNOWLEDGEMENT_INTERVAL
        if self._is_due:
            self._is_due = False
            self.acknowledge(now)


_SO_MEMINFO = 55
_MEMINFO = struct.Struct("9I")
_MEMINFO_DROPS = 8


@dataclass
class Reader:
    """One connected reader."""

    media: socket.socket
    make_sample: Callable[[], Sample] | None
    """None if nothing is parsed."""
    first_bytes: bytes = b""
    """Data received together with the last response."""
    keepalive: Callable[[], None] | None = None
    keep_open: list[socket.socket] = field(default_factory=list)
    acknowledger: Acknowledger | None = None

    def receive_media(self, buffer: bytearray, size: int, flags: int) -> int:
        """`recv_into` of a reader that acknowledges: of the next datagram that is counted."""
        while True:
            received = self.media.recv_into(buffer, size, flags)
            if self.acknowledger is None or self.acknowledger.take(buffer):
                return received

    @property
    def is_datagram(self) -> bool:
        return self.media.type == socket.SOCK_DGRAM


class Sink:
    """Counts what all readers get; it returns plain dictionaries."""

    def __init__(self, connection: Connection, readers: list[Reader]) -> None:
        self._connection = connection
        self._readers = readers
        highest = max(reader.media.fileno() for reader in readers)
        self._byte_counts = [0] * (highest + 1)
        self._receive_counts = [0] * (highest + 1)
        self._receive: list[Callable[..., int] | None] = [None] * (max(highest, connection.fileno()) + 1)
        self._sampled: dict[int, tuple[Reader, Sample]] = {}
        self._closed: set[int] = set()
        self._buffer = bytearray(BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._command_waits = False
        self._acknowledges = readers[0].acknowledger is not None
        # Datagrams that wait make the kernel take fresh memory, which would double what sending costs: no rest for UDP.
        self._rest = 0.0 if readers[0].is_datagram else STREAM_REST
        self._epoll = select.epoll()
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        self._register()

    def _register(self) -> None:
        count = len(self._readers)
        sample_count = min(SAMPLE_COUNT, count)
        sampled = {index * count // sample_count + count // (2 * sample_count) for index in range(sample_count)}
        for index, reader in enumerate(self._readers):
            descriptor = reader.media.fileno()
            reader.media.setblocking(False)
            self._byte_counts[descriptor] = len(reader.first_bytes)
            if index in sampled and reader.make_sample is not None:
                enable_stamps(reader.media)
                sample = reader.make_sample()
                sample.feed(memoryview(reader.first_bytes), time.monotonic_ns())
                self._sampled[descriptor] = (reader, sample)
            else:
                self._receive[descriptor] = (
                    reader.media.recv_into if reader.acknowledger is None else reader.receive_media
                )
            self._epoll.register(descriptor, select.EPOLLIN)

    def run(self) -> None:
        """Read until the command "finish", then until nothing more arrives."""
        next_keepalive = time.monotonic() + KEEPALIVE_INTERVAL
        acknowledgers = [reader.acknowledger for reader in self._readers if reader.acknowledger is not None]
        next_acknowledgement = time.monotonic() if acknowledgers else math.inf
        finish: dict[str, Any] | None = None
        drain_deadline = 0.0
        last_read = time.monotonic()
        while True:
            if self._read_once(ACKNOWLEDGEMENT_CHECKS if acknowledgers else QUIET):
                last_read = time.monotonic()
            quiet = time.monotonic() - last_read >= QUIET
            if self._command_waits:
                self._command_waits = False
                command = self._connection.recv()
                if command["command"] == "finish":
                    finish = command
                    drain_deadline = time.monotonic() + DRAIN_LIMIT
                else:
                    self._connection.send(self._totals())
            if finish is not None and (quiet or time.monotonic() > drain_deadline):
                self._connection.send(self._results(finish["from_ns"], finish["to_ns"]))
                return
            now = time.monotonic()
            if now >= next_acknowledgement:
                next_acknowledgement = now + ACKNOWLEDGEMENT_CHECKS
                for acknowledger in acknowledgers:
                    acknowledger.check(now)
            if time.monotonic() > next_keepalive:
                next_keepalive += KEEPALIVE_INTERVAL
                for reader in self._readers:
                    if reader.keepalive is not None:
                        reader.keepalive()

    def _read_once(self, timeout: float) -> bool:
        """Serve what epoll reports; whether any reader had something."""
        receivers = self._receive
        byte_counts = self._byte_counts
        receive_counts = self._receive_counts
        buffer = self._buffer
        size = DATAGRAM_RECEIVE_SIZE if self._readers[0].is_datagram else BUFFER_SIZE
        truncate = socket.MSG_TRUNC
        command_descriptor = self._connection.fileno()
        events = self._epoll.poll(timeout)
        for descriptor, _mask in events:
            if self._acknowledges and descriptor != command_descriptor:
                self._drain(descriptor)
                continue
            receive = receivers[descriptor]
            try:
                if receive is not None:
                    received = receive(buffer, size, truncate)
                elif descriptor == command_descriptor:
                    self._command_waits = True
                    continue
                else:
                    received = self._read_sample(descriptor)
            except BlockingIOError:
                continue
            except OSError:
                received = 0
            if received == 0:
                self._closed.add(descriptor)
                self._epoll.unregister(descriptor)
            byte_counts[descriptor] += received
            receive_counts[descriptor] += 1
        if self._rest:
            time.sleep(self._rest)
        return bool(events)

    def _drain(self, descriptor: int) -> None:
        """Read all that a reader which acknowledges has received. If it read in turn with others, a frame would take as
        long as those of all readers, so it would be acknowledged several times."""
        receive = self._receive[descriptor]
        with contextlib.suppress(BlockingIOError):
            while True:
                if receive is not None:
                    received = receive(self._buffer, DATAGRAM_RECEIVE_SIZE, socket.MSG_TRUNC)
                else:
                    received = self._read_sample(descriptor)
                self._byte_counts[descriptor] += received
                self._receive_counts[descriptor] += 1

    def _read_sample(self, descriptor: int) -> int:
        reader, sample = self._sampled[descriptor]
        while True:
            received, ancillary, _flags, _address = reader.media.recvmsg_into([self._buffer], 128)
            if reader.acknowledger is None or reader.acknowledger.take(self._buffer):
                break
        now = time.monotonic_ns()
        sample.feed(self._view[:received], arrival_time(ancillary, now))
        return received

    def _totals(self) -> dict[str, Any]:
        return {"bytes": sum(self._byte_counts), "receives": sum(self._receive_counts)}

    def _results(self, from_ns: int, to_ns: int) -> dict[str, Any]:
        readers = []
        for reader in self._readers:
            descriptor = reader.media.fileno()
            readers.append(
                {
                    "bytes": self._byte_counts[descriptor],
                    "receives": self._receive_counts[descriptor],
                    "is_datagram": reader.is_datagram,
                    "sample": self._sample_result(descriptor),
                    "socket_drops": _socket_drops(reader.media) if reader.is_datagram else 0,
                }
            )
        delays = sorted(
            delay
            for _reader, sample in self._sampled.values()
            for sent, delay in sample.result.delays
            if from_ns <= sent < to_ns
        )
        return {"readers": readers, "delays_ns": delays, "closed": len(self._closed)}

    def _sample_result(self, descriptor: int) -> dict[str, int] | None:
        if descriptor not in self._sampled:
            return None
        result = self._sampled[descriptor][1].result
        return {"packets": result.packets, "missing": result.missing, "frames": result.frames}


def run_sink(connection: Connection, readers: list[Reader]) -> None:
    """Report that the readers are connected, then count until the command to finish."""
    ports = [reader.media.getsockname()[1] for reader in readers]
    sink = Sink(connection, readers)
    connection.send({"ports": ports})
    sink.run()
    connection.poll(None)  # keep the readers connected until the process is terminated


def enlarge_receive_buffer(media: socket.socket) -> None:
    media.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def datagram_reader(media: socket.socket) -> Reader:
    enlarge_receive_buffer(media)
    return Reader(media, DatagramSample)


def _socket_drops(media: socket.socket) -> int:
    """Datagrams that the kernel dropped because the reader's buffer was full: the load generator's fault."""
    try:
        drops: int = _MEMINFO.unpack(media.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[_MEMINFO_DROPS]
    except OSError:
        return 0
    return drops
