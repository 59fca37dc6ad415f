"""The receiving side of a connection: order, losses, delivery in time.

draft-sharabayko-srt-01 sections 4.5 (delivery), 4.6 (packets that are too late), 4.8 (acknowledgements).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from polycast.wire.srt.counters import ReceptionCounters
from polycast.wire.srt.delivery_clock import DeliveryClock
from polycast.wire.srt.loss_list import MAXIMUM_WORDS, Range
from polycast.wire.srt.missing import Gap, MissingPackets
from polycast.wire.srt.packet import SEQUENCE_MASK, extend_sequence
from polycast.wire.srt.round_trip import RoundTrip

WINDOW: Final = 8192
"""Packets that are held at most: 11 MB, as in other implementations; 850 ms of 100 Mbit/s."""

_MAXIMUM_DELIVERED: Final = 128
"""Packets that are delivered at once, so that others are served in between after the program was held up."""

_URGENT_ROUND_TRIPS: Final = 2
"""A packet whose delivery is nearer than this is asked for more often."""
_SHORTEST_INTERVAL: Final = 0.01
"""Seconds between two requests for the same packet at least."""
_SHORTEST_URGENT_INTERVAL: Final = 0.005
_MARGIN: Final = 1.05
"""A packet that was asked for is not asked for again before this many round-trip times, unless it is urgent."""
_ASSUMED_PART: Final = 5
"""Before it was measured, the round-trip time is assumed to be at most this part of the delay."""
_SECONDS_PER_GAP: Final = 150e-6
"""Seconds between two requests for the same packet, per gap: each request looks at all of them, and a peer can make
thousands. That of 100 Mbit/s with 10 % of losses and a round-trip time of 100 ms has a hundred: 15 ms."""
_AVERAGE_PAYLOAD: Final = 1316
"""Bytes that a lost packet is assumed to have."""


class Receiver:
    """Sequence numbers are integers that do not wrap."""

    def __init__(self, initial: int, clock: DeliveryClock, round_trip: RoundTrip, counters: ReceptionCounters) -> None:
        """``initial`` is the number of the first packet."""
        self.clock = clock
        self._round_trip = round_trip
        self._counters = counters
        self.next = initial
        """The first packet that is not delivered."""
        self.newest = initial - 1
        """The last packet that has come."""
        self._held: dict[int, tuple[float, bytes]] = {}
        self.held_size = 0
        """Bytes."""
        self._missing = MissingPackets()
        self._gap_end = initial
        """While `next` is missing: the first packet behind it that is there, or a smaller number."""
        self._next_request = math.inf

    @property
    def position(self) -> int:
        """The first packet that is missing, or the next one to come: what acknowledgements say."""
        gaps = self._missing.gaps
        return gaps[0].first if gaps else self.newest + 1

    @property
    def room(self) -> int:
        """Packets that may come, from `position` on."""
        return max(2, WINDOW - (self.newest + 1 - self.next))

    @property
    def held_count(self) -> int:
        """Packets that wait for their delivery."""
        return len(self._held)

    @property
    def held_seconds(self) -> float:
        """Time from the first to the last packet that waits."""
        held = self._held
        if len(held) < 2:
            return 0.0
        return max(0.0, held[max(held)][0] - held[min(held)][0])

    def is_wanted(self, number: int, size: int) -> bool:
        """Count a packet, and return whether it is a new one that can be used. ``number``: 31 bits."""
        counters = self._counters
        counters.packets += 1
        counters.bytes += size
        sequence = extend_sequence(number, self.newest)
        if (
            sequence < self.next
            or sequence in self._held
            or (sequence <= self.newest and sequence not in self._missing)
        ):
            return False
        counters.unique_packets += 1
        counters.unique_bytes += size
        return True

    def refuse(self, number: int, timestamp: int, size: int, now: float) -> None:
        """Count a packet that is not wanted: one that was given up, or a duplicate."""
        if extend_sequence(number, self.newest) < self.next:
            counters = self._counters
            late = now - self.clock.due(timestamp)
            if late > 0:
                counters.belated_packets += 1
                counters.belated_bytes += size
                counters.belated_time += (late - counters.belated_time) / 8

    def add(self, number: int, timestamp: int, payload: bytes, now: float) -> Range | None:
        """Take a wanted packet. Return the packets before it that are missing since now, to be asked for at once."""
        sequence = extend_sequence(number, self.newest)
        found: Range | None = None
        if sequence <= self.newest:
            self._missing.discard(sequence, sequence)
            if self.next < sequence < self._gap_end:
                self._gap_end = sequence
        else:
            if sequence - self.next >= WINDOW:
                self._give_up_before(sequence)
            if sequence > self.newest + 1:
                found = self._open_gap(self.newest + 1, sequence - 1, now)
            self.newest = sequence
        self._held[sequence] = (self.clock.due(timestamp), payload)
        self.held_size += len(payload)
        return found

    def add_next(self, number: int, timestamp: int, payload: bytes) -> bool:
        """Take a packet as `is_wanted` and `add` do, if it follows the last one that has come, as nearly all do.

        False if it does not: nothing was counted then.
        """
        sequence = self.newest + 1
        if number != sequence & SEQUENCE_MASK or sequence - self.next >= WINDOW:
            return False
        size = len(payload)
        counters = self._counters
        counters.packets += 1
        counters.bytes += size
        counters.unique_packets += 1
        counters.unique_bytes += size
        self.newest = sequence
        self._held[sequence] = (self.clock.due(timestamp), payload)
        self.held_size += size
        return True

    def _open_gap(self, first: int, last: int, now: float) -> Range:
        gap = self._missing.add(first, last, now + self.clock.delay)
        count = last + 1 - first
        self._counters.lost_packets += count
        self._counters.lost_bytes += count * _AVERAGE_PAYLOAD
        self._schedule(gap, now)
        return first, last

    def _give_up_before(self, sequence: int) -> None:
        """The sender went on after a longer interruption: nothing before is delivered any more."""
        self._counters.dropped_packets += sequence - self.next
        self._counters.dropped_bytes += (sequence - self.next) * _AVERAGE_PAYLOAD
        self._held.clear()
        self.held_size = 0
        self._missing.clear()
        self.next = self._gap_end = sequence
        self.newest = sequence - 1

    def drop(self, first: int, last: int) -> None:
        """The sender has dropped packets (31-bit numbers), so they are not waited for."""
        begin = max(extend_sequence(first, self.newest), self.next)
        end = min(extend_sequence(last, self.newest), self.next + WINDOW - 1)
        self._missing.discard(begin, end)
        if begin <= self.newest + 1:
            self.newest = max(self.newest, end)

    # Delivery

    def deliver(self, now: float, limit: int = _MAXIMUM_DELIVERED) -> list[bytes]:
        """Return the payloads that are due, in order. Missing packets are dropped if a later one is due.

        ``limit``: packets that are delivered by one call; the next one delivers more.
        """
        held = self._held
        output: list[bytes] = []
        while held and len(output) < limit:
            item = held.get(self.next)
            if item is None:
                end = self._find_gap_end()
                if held[end][0] > now:
                    break
                self._skip(end)
                continue
            if item[0] > now:
                break
            del held[self.next]
            self.held_size -= len(item[1])
            self.next += 1
            if item[1]:
                output.append(item[1])
        return output

    def deliver_all(self) -> list[bytes]:
        """Return all payloads that are there, since nothing more will come."""
        return self.deliver(math.inf, WINDOW)

    def next_delivery(self) -> float:
        """Return when `deliver` will have something; infinity for never."""
        if not self._held:
            return math.inf
        item = self._held.get(self.next)
        return item[0] if item is not None else self._held[self._find_gap_end()][0]

    def _find_gap_end(self) -> int:
        end = max(self._gap_end, self.next + 1)
        held = self._held
        while end not in held:
            end += 1
        self._gap_end = end
        return end

    def _skip(self, end: int) -> None:
        count = end - self.next
        self._counters.dropped_packets += count
        self._counters.dropped_bytes += count * _AVERAGE_PAYLOAD
        self._missing.discard(self.next, end - 1)
        self.next = end

    # Requests for missing packets

    def next_request(self) -> float:
        """Return when `requests` will have something; infinity for never."""
        return self._next_request if self._missing.gaps else math.inf

    def requests(self, now: float) -> Sequence[Range]:
        """Return the missing packets to ask for again."""
        ranges: list[Range] = []
        words = 0
        self._next_request = math.inf
        for gap in self._missing.gaps:
            if gap.next_request > now:
                self._next_request = min(self._next_request, gap.next_request)
                continue
            words += 1 if gap.first == gap.last else 2
            if words > MAXIMUM_WORDS:  # the rest in the next list
                pause = max(_SHORTEST_INTERVAL, len(self._missing.gaps) * _SECONDS_PER_GAP / 15)
                self._next_request = min(self._next_request, now + pause)
                break
            if ranges and ranges[-1][1] == gap.first - 1:
                ranges[-1] = (ranges[-1][0], gap.last)
            else:
                ranges.append((gap.first, gap.last))
            self._schedule(gap, now)
        return ranges

    def _schedule(self, gap: Gap, now: float) -> None:
        """Set when the packets of a gap are asked for again: more often, the nearer they are to their delivery."""
        round_trip = self._round_trip
        time = round_trip.time if round_trip.is_known else min(round_trip.time, self.clock.delay / _ASSUMED_PART)
        gap.requests += 1
        if gap.deadline - now < _URGENT_ROUND_TRIPS * time and gap.requests > 1:
            interval = max(time / 8, _SHORTEST_URGENT_INTERVAL)
        elif gap.requests == 1:
            patience = gap.deadline - now - _URGENT_ROUND_TRIPS * time
            interval = max(min(time + 4 * round_trip.variation, patience), time * _MARGIN)
            interval = max(interval, _SHORTEST_INTERVAL)
        else:
            interval = max(time / 2, _SHORTEST_INTERVAL)
        gap.next_request = now + max(interval, len(self._missing.gaps) * _SECONDS_PER_GAP)
        self._next_request = min(self._next_request, gap.next_request)
