"""Two ends of a connection and a network that loses, delays and reorders: all in memory, in virtual time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from polycast.wire.srt.caller import Caller, CallerOptions
from polycast.wire.srt.conclusion import Terms
from polycast.wire.srt.connection import Connection
from polycast.wire.srt.datagrams import split
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.listener import ConnectionRequest, Listener
from polycast.wire.srt.pacing import UNLIMITED

CALLER_ID = 0x1234
LISTENER_ID = 0x5678
START = 1000.0
CALLER_START = 50.0
"""What the caller's clock says at `START`."""
TICK = 0.0005


@dataclass(kw_only=True)
class Network:
    """What happens to datagrams, the same for each seed."""

    delay: float = 0.02
    """Seconds in one direction."""
    jitter: float = 0.0
    """Seconds by which some are later, so that they arrive in another order."""
    loss: float = 0.0
    duplicates: float = 0.0
    bursts: tuple[tuple[float, float], ...] = ()
    """When everything is lost: seconds since the start, and for how long."""
    seed: int = 0
    skew: float = 0.0
    """By how much the caller's clock is faster: 0.0001 for 100 ppm."""
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def arrivals(self, now: float) -> list[float]:
        """Return when a datagram that is sent now arrives: not at all, once or twice."""
        if any(START + begin <= now < START + begin + length for begin, length in self.bursts):
            return []
        if self.random.random() < self.loss:
            return []
        times = 2 if self.random.random() < self.duplicates else 1
        return [now + self.delay + self.random.random() * self.jitter for _ in range(times)]


class Simulation:
    """A caller and a listener."""

    def __init__(
        self,
        network: Network,
        *,
        delay: float = 0.12,
        options: CallerOptions | None = None,
        keys: tuple[ConnectionKeys, ConnectionKeys, bytes, int] | None = None,
        initial_sequence: int = 1000,
        bandwidth: float = UNLIMITED,
        decide: Callable[[ConnectionRequest], bytes | None] = lambda request: None,
    ) -> None:
        self.network = network
        self.now = START
        options = options or CallerOptions(receive_delay=delay, send_delay=delay, bandwidth=bandwidth)
        caller_keys, self._listener_keys, message, size = keys or (None, None, b"", 0)
        self.calling = Caller(options, CALLER_ID, initial_sequence, self._caller_time(), caller_keys, message, size)
        self._listening = Listener(b"0123456789abcdef")
        self._terms = Terms(receive_delay=delay, send_delay=delay, bandwidth=bandwidth, idle_seconds=5.0)
        self._decide = decide
        self._answer: tuple[ConnectionRequest, Connection] | None = None
        self._in_flight: list[tuple[float, int, bool, bytes]] = []
        self._count = 0
        self.caller: Connection | None = None
        self.listener: Connection | None = None
        self.to_listener: list[tuple[float, bytes]] = []
        """Payloads that were delivered, with the time."""
        self.to_caller: list[tuple[float, bytes]] = []
        self.handshakes = 0
        self.datagrams = 0
        """Sent by either."""

    def _caller_time(self) -> float:
        return CALLER_START + (self.now - START) * (1 + self.network.skew)

    def transmit(self, packet: bytes, *, to_listener: bool) -> None:
        """Put a datagram on the network."""
        self.datagrams += 1
        for time in self.network.arrivals(self.now):
            self._count += 1
            heapq.heappush(self._in_flight, (time, self._count, to_listener, packet))

    def send(self, data: bytes, *, from_caller: bool = True, payload_size: int = 1316) -> None:
        """Send payloads."""
        end = self.caller if from_caller else self.listener
        assert end is not None
        now = self._caller_time() if from_caller else self.now
        for datagrams in split(data, payload_size):
            for joined, size in end.send(datagrams, now):
                for offset in range(0, len(joined), size):
                    self.transmit(bytes(joined[offset : offset + size]), to_listener=from_caller)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end and not until():
            self._step()
            self.now = min(end, self.now + TICK)
            last = self.now if until() else min(end, self._next_event() - TICK)
            while self.now < last:
                self.now = min(end, self.now + TICK)

    def _next_event(self) -> float:
        """Return when something happens next; until then, a step would change nothing."""
        if self.caller is None:
            return self.now
        seconds = (self.caller.next_timeout() - CALLER_START) / (1 + self.network.skew)
        times = [START + seconds, *(arrival for arrival, *_ in self._in_flight[:1])]
        return min(times if self.listener is None else [*times, self.listener.next_timeout()])

    def connect(self, seconds: float = 10.0) -> None:
        """Run until both ends are connected."""
        self.run(seconds, lambda: self.caller is not None)
        assert self.caller is not None
        assert self.listener is not None

    def _step(self) -> None:
        while self._in_flight and self._in_flight[0][0] <= self.now:
            _, _, to_listener, packet = heapq.heappop(self._in_flight)
            if to_listener:
                self._at_listener(packet)
            else:
                self._at_caller(packet)
        if self.caller is None:
            request = self.calling.data_to_send(self._caller_time())
            if request is not None:
                self.transmit(request, to_listener=True)
        self._drive(self.caller, self._caller_time(), self.to_caller, to_listener=True)
        self._drive(self.listener, self.now, self.to_listener, to_listener=False)

    def _drive(
        self, end: Connection | None, now: float, delivered: list[tuple[float, bytes]], *, to_listener: bool
    ) -> None:
        if end is None:
            return
        while end.next_timeout() <= now:
            end.handle_timeout(now)
        delivered.extend((self.now, payload) for payload in end.received())
        for packet in end.data_to_send():
            self.transmit(packet, to_listener=to_listener)

    def _at_listener(self, packet: bytes) -> None:
        if packet[12:16] != bytes(4):
            if self.listener is not None:
                self.listener.receive_data(packet, self.now)
            return
        self.handshakes += 1
        answer = self._listening.receive_data(packet, "192.0.2.1", 9, self.now)
        if isinstance(answer, ConnectionRequest):
            refusal = self._decide(answer)
            if refusal is None:
                if self._answer is None:
                    self.listener = answer.accept(LISTENER_ID, self._terms, self._listener_keys, self.now)
                    self._answer = (answer, self.listener)
                request, connection = self._answer
                refusal = request.answer(connection, self.now)
            answer = refusal
        if answer is not None:
            self.transmit(answer, to_listener=False)

    def _at_caller(self, packet: bytes) -> None:
        if self.caller is not None:
            self.caller.receive_data(packet, self._caller_time())
        else:
            self.caller = self.calling.receive_data(packet, self._caller_time())


def payload(number: int) -> bytes:
    """Return a payload that says which one it is."""
    return number.to_bytes(4, "big") * 329


def transfer(
    simulation: Simulation, count: int, interval: float = 0.003, *, from_caller: bool = True, settle: float = 3.0
) -> dict[int, float]:
    """Send payloads, and return the seconds from the sending to the delivery of each, by number."""
    sent: dict[int, float] = {}
    start = simulation.now
    for number in range(count):
        simulation.run(start + number * interval - simulation.now)
        sent[number] = simulation.now
        simulation.send(payload(number), from_caller=from_caller)
    simulation.run(settle)
    delivered = simulation.to_listener if from_caller else simulation.to_caller
    numbers = [int.from_bytes(data[:4], "big") for _, data in delivered]
    assert numbers == sorted(set(numbers)), "in order, and none twice"
    assert all(data == payload(number) for number, (_, data) in zip(numbers, delivered, strict=True))
    return {number: time - sent[number] for number, (time, _) in zip(numbers, delivered, strict=True)}
