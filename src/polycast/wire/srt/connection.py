"""An SRT connection after its handshake (draft-sharabayko-srt-01): datagrams and the time in; payloads and datagrams
out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from struct import Struct
from typing import Final

from polycast.wire.srt.acknowledgements import LIGHT, Acknowledgements, parse_acknowledgement
from polycast.wire.srt.counters import DirectionCounters, PacketRate, ReceptionCounters
from polycast.wire.srt.datagrams import Datagrams
from polycast.wire.srt.delivery_clock import DeliveryClock
from polycast.wire.srt.handshake import ExtensionType
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.loss_list import Range, build_loss_list, parse_loss_list
from polycast.wire.srt.pacing import UNLIMITED, Pace
from polycast.wire.srt.packet import (
    CONTROL_FLAG,
    HEADER,
    HEADER_SIZE,
    KEY_SHIFT,
    MAXIMUM_DATAGRAM,
    MESSAGE_MASK,
    RETRANSMITTED,
    SEQUENCE_MASK,
    TIME_MASK,
    ControlType,
    build_control,
    control_kind,
)
from polycast.wire.srt.receiver import Receiver
from polycast.wire.srt.round_trip import RoundTrip
from polycast.wire.srt.sender import Output, Sender

KEEP_ALIVE_SECONDS: Final = 1.0
"""Seconds without a packet to the peer after which a keep-alive is sent (section 3.2.3)."""
DEFAULT_IDLE_SECONDS: Final = 5.0
"""Seconds without a packet of the peer after which it is considered gone."""
_MAXIMUM_DRAIN_SECONDS: Final = 1.0
"""Seconds that a connection that is being closed waits for the last packets to arrive, in addition to their delay."""
_SMALLEST_WINDOW: Final = 2
"""Packets that may be on the way to a full receiver: without any, nothing would tell that it has room again."""
_PAUSE_SECONDS: Final = 1.0
"""Seconds without media that count as a pause."""
_DRAIN_MARGIN: Final = 0.05
"""Seconds for the receiver's program to take the last payloads."""
_HOUSEKEEPING_SECONDS: Final = 0.25
"""Seconds between two searches for packets that are too late to be sent again."""

_RANGE: Final = Struct("!II")

_ACK: Final = CONTROL_FLAG >> 16 | ControlType.ACK
"""The upper half of the first word of an acknowledgement."""
_ACKACK: Final = CONTROL_FLAG | ControlType.ACKACK << 16
_ANSWER: Final = Struct("!IIIII")
"""An ACKACK packet, whose body is empty (`build_control`)."""


class State(Enum):
    """The life of a connection."""

    OPEN = auto()
    DRAINING = auto()
    """It is being closed: the peer still gets what was sent."""
    CLOSED = auto()


class _Input(Enum):
    CLOSE = auto()
    DRAINED = auto()
    PEER_SHUTDOWN = auto()
    TIMEOUT = auto()
    ABORT = auto()


_TRANSITIONS: Final = {
    (State.OPEN, _Input.CLOSE): State.DRAINING,
    (State.OPEN, _Input.PEER_SHUTDOWN): State.CLOSED,
    (State.OPEN, _Input.TIMEOUT): State.CLOSED,
    (State.OPEN, _Input.ABORT): State.CLOSED,
    (State.DRAINING, _Input.DRAINED): State.CLOSED,
    (State.DRAINING, _Input.PEER_SHUTDOWN): State.CLOSED,
    (State.DRAINING, _Input.TIMEOUT): State.CLOSED,
    (State.DRAINING, _Input.ABORT): State.CLOSED,
}
"""What is not in here changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What the handshake has agreed on."""

    own_id: int
    peer_id: int
    started_at: float
    """Zero of the timestamps that are sent (monotonic seconds)."""
    send_sequence: int
    """Number of the first packet that is sent."""
    receive_sequence: int
    """Number of the first packet that is received."""
    window: int
    """Packets that the peer can hold."""
    receive_delay: float
    """Seconds from the arrival of a packet to its delivery."""
    send_delay: float
    """The same at the peer."""
    peer_arrival: float
    """When the handshake with ``peer_timestamp`` arrived: the two are the base of the delivery."""
    peer_timestamp: int
    keys: ConnectionKeys | None = None
    bandwidth: float = UNLIMITED
    """Bytes per second that are sent at most; see `Pace`."""
    idle_seconds: float = DEFAULT_IDLE_SECONDS


class Measured:
    """What is measured of a connection."""

    __slots__ = ("link_capacity", "round_trip", "send_rate")

    def __init__(self, now: float) -> None:
        self.round_trip = RoundTrip()
        self.send_rate = PacketRate(now)
        self.link_capacity = 0
        """Packets per second, as the receiver estimates."""


class Connection:
    """One connection. After each call: `received`, `data_to_send`, `next_timeout`, `state`."""

    def __init__(self, parameters: Parameters, now: float) -> None:
        self.parameters = parameters
        self.state = State.OPEN
        self.close_reason = ""
        """Why it is closed."""
        self.sent = DirectionCounters()
        self.arrived = ReceptionCounters()
        self.measured = Measured(now)
        clock = DeliveryClock(parameters.peer_arrival, parameters.peer_timestamp, parameters.receive_delay)
        self.receiver = Receiver(parameters.receive_sequence, clock, self.round_trip, self.arrived)
        self.sender = Sender(
            parameters.send_sequence,
            parameters.peer_id,
            window=parameters.window,
            delay=parameters.send_delay,
            round_trip=self.round_trip,
            pace=Pace(parameters.bandwidth, now),
            counters=self.sent,
        )
        self._acknowledgements = Acknowledgements(self.receiver, self.round_trip, self.arrived, now)
        self._output: list[bytes] = []
        self._received: list[bytes] = []
        self._times = _Times(now)

    def timestamp(self, now: float) -> int:
        """Return the time in microseconds since the start."""
        return int((now - self.parameters.started_at) * 1e6)

    @property
    def round_trip(self) -> RoundTrip:
        """The round-trip time."""
        return self.measured.round_trip

    @property
    def busy_seconds(self) -> float:
        """How long it has had media to send."""
        return self._times.busy

    @property
    def receive_rate(self) -> PacketRate:
        """What arrives."""
        return self._acknowledgements.rate

    # Received packets

    def receive_data(self, data: bytes, now: float) -> bool:
        """Process a datagram that was sent to this connection. Invalid ones are ignored and counted.

        Return False if it has only changed `data_to_send`, as most acknowledgements do.
        """
        if self.state is State.CLOSED:
            return False
        if not HEADER_SIZE <= len(data) <= MAXIMUM_DATAGRAM + HEADER_SIZE:
            self.arrived.invalid_packets += 1
            return False
        first, second, timestamp, _ = HEADER.unpack_from(data)
        self._times.heard = now
        if first >> 16 == _ACK:
            return self._on_ack(second, data, now)
        if first & CONTROL_FLAG:
            self._on_control(first, second, timestamp, data, now)
        else:
            self._on_data(first, second, timestamp, data, now)
        return True

    def _on_data(self, number: int, word: int, timestamp: int, data: bytes, now: float) -> None:
        receiver, counters = self.receiver, self.arrived
        self._times.due = None
        size = len(data) - HEADER_SIZE
        if word & RETRANSMITTED:
            counters.retransmitted_packets += 1
            counters.retransmitted_bytes += size
        payload = data[HEADER_SIZE:]
        key = word >> KEY_SHIFT & 3
        keys = self.parameters.keys
        is_plain = not key and keys is None
        if not (is_plain and receiver.add_next(number, timestamp, payload)):
            if not receiver.is_wanted(number, size):
                receiver.refuse(number, timestamp, size, now)
                return
            if not is_plain:
                plain = keys.decrypt(key, data) if keys is not None else None
                if plain is None:
                    counters.undecryptable_packets += 1
                    counters.undecryptable_bytes += size
                    plain = b""  # it has arrived, so it is not asked for again
                payload = plain
            missing = receiver.add(number, timestamp, payload, now)
            if missing is not None:
                self._ask_for((missing,), now)
        light = self._acknowledgements.on_packet()
        if light is not None:
            self._send_control(ControlType.ACK, now, body=light)

    def _on_control(self, first: int, information: int, timestamp: int, data: bytes, now: float) -> None:
        kind = control_kind(first)
        self._times.due = None
        if kind == ControlType.ACKACK:
            if self._acknowledgements.on_ackack(information, now):
                self.receiver.clock.sample(timestamp, now, self.round_trip.time)
        elif kind == ControlType.NAK:
            self.sent.naks += 1
            self._on_nak(parse_loss_list(data[HEADER_SIZE:]), now)
        elif kind == ControlType.DROP_REQUEST:
            if len(data) >= HEADER_SIZE + _RANGE.size:
                begin, end = _RANGE.unpack_from(data, HEADER_SIZE)
                self.receiver.drop(begin & SEQUENCE_MASK, end & SEQUENCE_MASK)
        elif kind == ControlType.SHUTDOWN:
            self._received += self.receiver.deliver_all()
            self._change(_Input.PEER_SHUTDOWN, "EOF")
        elif kind == ControlType.USER_DEFINED:
            self._on_key_message(first & 0xFFFF, data[HEADER_SIZE:], now)

    def _on_ack(self, number: int, data: bytes, now: float) -> bool:
        """Return whether anything but `data_to_send` has changed."""
        report, sender = parse_acknowledgement(data), self.sender
        left = sender.acknowledge(report[0], now) if report is not None else -1
        if report is None or left < 0:
            self.arrived.invalid_packets += 1
            return False
        self.sent.acks += 1
        _, round_trip, variation, room, link_capacity = report
        if room != LIGHT:
            parameters, measured = self.parameters, self.measured
            window = parameters.window
            sender.window = window if room >= window else max(_SMALLEST_WINDOW, room)
            measured.round_trip.report(round_trip, variation)
            measured.link_capacity = link_capacity
            timestamp = int((now - parameters.started_at) * 1e6) & TIME_MASK
            self._output.append(_ANSWER.pack(_ACKACK, number, timestamp, parameters.peer_id, 0))
            self._times.spoken = now
        if left and sender.waiting:
            self._times.due = None
        return left > 0 or self.state is not State.OPEN

    def _on_nak(self, ranges: Sequence[Range], now: float) -> None:
        output, dropped = self.sender.retransmit(ranges, now)
        self._send_output(output, now)
        for begin, end in dropped:
            body = _RANGE.pack(begin & SEQUENCE_MASK, end & SEQUENCE_MASK)
            message = (begin - self.parameters.send_sequence) % MESSAGE_MASK + 1
            self._send_control(ControlType.DROP_REQUEST, now, message, body)

    def _on_key_message(self, subtype: int, message: bytes, now: float) -> None:
        keys = self.parameters.keys
        if keys is None:
            return
        if subtype == ExtensionType.KEY_REQUEST:
            self.arrived.key_messages += 1
            answer = keys.on_request(message, now)
            if answer is not None:
                self.sent.key_messages += 1
                self._send_control(ControlType.USER_DEFINED, now, body=answer, subtype=ExtensionType.KEY_RESPONSE)
        elif subtype == ExtensionType.KEY_RESPONSE:
            self.arrived.key_messages += 1
            keys.on_response(message)

    # Sending

    def send(self, datagrams: Datagrams, now: float) -> list[Output]:
        """Send payloads. Return the datagrams to send at once, before ``datagrams`` are used for another connection;
        the rest goes out later if it cannot be sent now."""
        if self.state is not State.OPEN:
            return []
        parameters, sender = self.parameters, self.sender
        keys = parameters.keys
        timestamp = int((now - parameters.started_at) * 1e6)
        if keys is None:
            output = sender.send(datagrams, timestamp, None, now)
        else:
            output = sender.send(datagrams, timestamp, keys.encryption, now)
            self._count_encrypted(datagrams.count, now)
        if sender.waiting:
            self._times.due = None
        self._times.on_media(now)
        return output

    def received(self) -> list[bytes]:
        """Return the payloads that are due, in order, and forget them."""
        received, self._received = self._received, []
        return received

    def data_to_send(self) -> list[bytes]:
        """Return the datagrams to send now."""
        output, self._output = self._output, []
        return output

    def _count_encrypted(self, packets: int, now: float) -> None:
        keys = self.parameters.keys
        assert keys is not None
        keys.count_sent(packets)
        announcement = keys.announcement(now)
        if announcement is not None:
            self._times.due = None
            self.sent.key_messages += 1
            self._send_control(ControlType.USER_DEFINED, now, body=announcement, subtype=ExtensionType.KEY_REQUEST)

    def _send_output(self, output: Iterable[Output], now: float) -> None:
        for data, _ in output:
            self._output.append(bytes(data))
            self._times.spoken = now

    def _send_control(
        self, kind: ControlType, now: float, information: int = 0, body: bytes = b"\0\0\0\0", subtype: int = 0
    ) -> None:
        self._output.append(
            build_control(kind, information, self.timestamp(now), self.parameters.peer_id, body, subtype)
        )
        self._times.spoken = now

    def _ask_for(self, ranges: Sequence[Range], now: float) -> None:
        self.arrived.naks += 1
        self._send_control(ControlType.NAK, now, body=build_loss_list(ranges))

    # Time

    def next_timeout(self) -> float:
        """Return when `handle_timeout` is to be called; infinity for never."""
        if self.state is not State.OPEN:
            if self.state is State.CLOSED:
                return math.inf
            return min(self._next_event(), self.sender.next_probe(), self._drain_time())
        due = self._times.due
        if due is None:
            due = self._times.due = self._next_event()
        probe = self.sender.next_probe()
        return min(due, probe)

    def _next_event(self) -> float:
        times, keys = self._times, self.parameters.keys
        return min(
            self.receiver.next_delivery(),
            self.receiver.next_request(),
            self._acknowledgements.next_timeout(),
            self.sender.next_waiting(),
            times.spoken + KEEP_ALIVE_SECONDS,
            times.heard + self.parameters.idle_seconds,
            times.housekeeping,
            keys.next_timeout() if keys is not None else math.inf,
        )

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        if self.state is State.CLOSED:
            return
        self._times.due = None
        receiver, sender, times = self.receiver, self.sender, self._times
        if now >= receiver.next_delivery():
            self._received += receiver.deliver(now)
        if now >= receiver.next_request():
            ranges = receiver.requests(now)
            if ranges:
                self._ask_for(ranges, now)
        acknowledgement = self._acknowledgements.due(now)
        if acknowledgement is not None:
            number, body = acknowledgement
            self.arrived.acks += 1
            self._send_control(ControlType.ACK, now, number, body)
        if now >= sender.next_waiting():
            keys = self.parameters.keys
            self._send_output(sender.send_waiting(keys.encryption if keys is not None else None, now), now)
        if now >= sender.next_probe():
            self._send_output(sender.probe(now), now)
        if self.parameters.keys is not None:
            self._count_encrypted(0, now)
        if now >= times.housekeeping:
            times.housekeeping = now + _HOUSEKEEPING_SECONDS
            sender.drop_late(self.timestamp(now))
            self.measured.send_rate.sample(self.sent.packets, self.sent.bytes, now)
        self._check_life(now)

    def _check_life(self, now: float) -> None:
        times = self._times
        if now >= times.heard + self.parameters.idle_seconds:
            self._received += self.receiver.deliver_all()
            self._send_control(ControlType.SHUTDOWN, now)
            self._change(_Input.TIMEOUT, f"the peer was silent for {self.parameters.idle_seconds:g} s")
        elif self.state is State.DRAINING and now >= self._drain_time():
            self._send_control(ControlType.SHUTDOWN, now)
            self._change(_Input.DRAINED, self.close_reason)
        elif now >= times.spoken + KEEP_ALIVE_SECONDS:
            self._send_control(ControlType.KEEP_ALIVE, now)

    def _drain_time(self) -> float:
        """Return when everything that was sent has been delivered by the peer, which forgets the rest at the end."""
        times = self._times
        if not self.sender.is_idle:
            return times.drained
        return min(times.drained, times.media + self.parameters.send_delay + _DRAIN_MARGIN)

    # Closing

    def close(self, reason: str, now: float) -> None:
        """Close once everything that was sent has been delivered by the peer, or after some seconds."""
        self._times.drained = now + self.parameters.send_delay + _MAXIMUM_DRAIN_SECONDS
        self._change(_Input.CLOSE, reason)

    def abort(self, reason: str, now: float) -> None:
        """Close at once; the peer is told."""
        if self.state is not State.CLOSED:
            self._send_control(ControlType.SHUTDOWN, now)
            self._change(_Input.ABORT, reason)

    def _change(self, happened: _Input, reason: str) -> None:
        state = _TRANSITIONS.get((self.state, happened))
        if state is not None:
            self.state = state
            self.close_reason = reason


class _Times:
    """When something happened last, or is to happen (monotonic seconds)."""

    __slots__ = ("busy", "drained", "due", "heard", "housekeeping", "media", "spoken")

    def __init__(self, now: float) -> None:
        self.heard = now
        """A packet came."""
        self.spoken = now
        """A packet was sent."""
        self.media = -math.inf
        """Media was sent."""
        self.housekeeping = now + _HOUSEKEEPING_SECONDS
        self.due: float | None = None
        """Something is to be done then, or later, apart from what follows from packets that are on the way; None if
        that has to be computed."""
        self.drained = math.inf
        """The end of the patience while draining."""
        self.busy = 0.0
        """Seconds during which media was sent."""

    def on_media(self, now: float) -> None:
        """Media is sent."""
        if now - self.media < _PAUSE_SECONDS:
            self.busy += now - self.media
        self.media = self.spoken = now
