"""Acknowledgements of received packets (draft-sharabayko-srt-01 sections 3.2.4 and 4.8.1)."""

from __future__ import annotations

import math
from struct import Struct
from typing import Final

from polycast.wire.srt.counters import PacketRate, ReceptionCounters
from polycast.wire.srt.packet import HEADER_SIZE, SEQUENCE_MASK, WORD
from polycast.wire.srt.receiver import Receiver
from polycast.wire.srt.round_trip import RoundTrip

INTERVAL: Final = 0.01
"""Seconds between two acknowledgements."""
_LIGHT_PACKETS: Final = 64
"""Packets after which a short acknowledgement is sent meanwhile."""
_MAXIMUM_UNCONFIRMED: Final = 128
"""Acknowledgements whose ACKACK is awaited: those of the last second."""

_FULL: Final = Struct("!IIIIIII")
_REPORT: Final = Struct("!IIIIxxxxI")
"""The fields that a sender reads."""
_REPORT_SIZE: Final = _REPORT.size
_SMALL_SIZE: Final = 16
"""Bytes up to the room in the receiver's buffer."""

LIGHT: Final = -1
"""The buffer space in the report of a light acknowledgement, which does not have it."""

Report = tuple[int, int, int, int, int]
"""The report in an acknowledgement: the first packet that has not arrived, the round-trip time and its variation
(microseconds), how many packets the receiver can take, and how many per second the link carries, an estimate. A plain
tuple, since there are thousands a second."""


def parse_acknowledgement(packet: bytes) -> Report | None:
    """Return the content of an ACK packet, None if it is invalid."""
    size = len(packet) - HEADER_SIZE
    if size < _REPORT_SIZE:
        if size < WORD.size:
            return None
        if size < _SMALL_SIZE:
            return WORD.unpack_from(packet, HEADER_SIZE)[0], 0, 0, LIGHT, 0
        packet = packet.ljust(HEADER_SIZE + _REPORT_SIZE, b"\0")
    return _REPORT.unpack_from(packet, HEADER_SIZE)


class Acknowledgements:
    """Decides when to acknowledge, and measures the round-trip time with the answers."""

    def __init__(self, receiver: Receiver, round_trip: RoundTrip, counters: ReceptionCounters, now: float) -> None:
        self._receiver = receiver
        self._round_trip = round_trip
        self._counters = counters
        self.rate = PacketRate(now)
        self._next = now
        self._number = 0
        self._position = receiver.position
        """What was acknowledged last."""
        self._repeat = math.inf
        """When the last one is repeated, unless it is confirmed."""
        self._unconfirmed: dict[int, float] = {}
        """When an acknowledgement was sent, by its number."""
        self._packets = 0
        """Packets since the last acknowledgement."""

    def on_packet(self) -> bytes | None:
        """A packet was received. Return the body of a light acknowledgement to be sent now."""
        self._packets += 1
        if self._packets < _LIGHT_PACKETS:
            return None
        self._packets = 0
        return WORD.pack(self._receiver.position & SEQUENCE_MASK)

    def next_timeout(self) -> float:
        """Return when `due` is to be called; infinity for never."""
        return self._next if self._receiver.position != self._position else self._repeat

    def due(self, now: float) -> tuple[int, bytes] | None:
        """Return the number and the body of an acknowledgement to be sent now."""
        if now < self.next_timeout():
            return None
        receiver, rate, round_trip = self._receiver, self.rate, self._round_trip
        rate.sample(self._counters.packets, self._counters.bytes, now)
        self._position = receiver.position
        self._packets = 0
        self._next = now + INTERVAL
        self._repeat = now + round_trip.timeout + INTERVAL
        self._number += 1
        self._unconfirmed[self._number] = now
        if len(self._unconfirmed) > _MAXIMUM_UNCONFIRMED:
            del self._unconfirmed[next(iter(self._unconfirmed))]
        return self._number, _FULL.pack(
            self._position & SEQUENCE_MASK,
            int(round_trip.time * 1e6),
            int(round_trip.variation * 1e6),
            receiver.room,
            int(rate.packets),
            0,
            int(rate.bytes),
        )

    def on_ackack(self, number: int, now: float) -> bool:
        """An acknowledgement was confirmed. Return whether it is one that was sent, so that its times can be used."""
        sent = self._unconfirmed.get(number)
        if sent is None:
            return False
        self._round_trip.sample(now - sent)
        for old in [old for old in self._unconfirmed if old <= number]:
            del self._unconfirmed[old]
        if number == self._number:
            self._repeat = math.inf
        return True
