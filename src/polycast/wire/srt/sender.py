"""The sending side of a connection: what may be asked for again, pacing, packets that are too late.

draft-sharabayko-srt-01 sections 4.6 (packets that are too late), 4.8 (losses), 5.1 (live congestion control).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from polycast.wire.srt.counters import DirectionCounters
from polycast.wire.srt.datagrams import Datagrams, Encryption
from polycast.wire.srt.loss_list import Range
from polycast.wire.srt.pacing import Pace
from polycast.wire.srt.packet import (
    HEADER,
    KEY_SHIFT,
    MESSAGE_MASK,
    RETRANSMITTED,
    SEQUENCE_HALF,
    SEQUENCE_MASK,
    TIME_MASK,
    WHOLE_MESSAGE,
    extend_sequence,
)
from polycast.wire.srt.round_trip import RoundTrip

_MINIMUM_DROP_TIME: Final = 1.0
_DROP_MARGIN: Final = 0.02
"""Seconds: a packet is dropped when the receiver's delay is over, but never before one second has passed (4.6)."""

_SHORTEST_REPEAT: Final = 0.002
"""Seconds between two transmissions of one packet at least."""

_CREDITS_PER_PACKET: Final = 4
_MAXIMUM_CREDITS: Final = 8192
_FIRST_CREDITS: Final = 256
"""Retransmissions are limited to some per packet that was sent, so that nobody can ask for a flood."""

_LOOKS_PER_PACKET: Final = 16
_MAXIMUM_LOOKS: Final = 16_384
"""The numbers in requests that are looked at are limited in the same way: a small request can name thousands."""
_MAXIMUM_DROPS: Final = 16
"""Ranges of dropped packets that one request is answered with; the receiver asks for the others again."""
_TIDY_SECONDS: Final = 0.1
"""Seconds between two removals of what is remembered of acknowledged packets."""

_SHORTEST_PROBE: Final = 0.04
_MAXIMUM_PROBES: Final = 4
"""Seconds without an acknowledgement after which packets are sent again without a request, and how often."""
_LATE_PROBE: Final = 0.015
"""Seconds of delay that timers may have: more than the rounding of timers."""

Output = tuple[memoryview | bytes, int]
"""Datagrams and the size of each but the last."""


class _Sent(NamedTuple):
    first: int
    """Sequence number of the first datagram that was sent of these."""
    start: int
    """Sequence number of the first of these datagrams, if all had been sent."""
    datagrams: Datagrams
    timestamp: int
    encryption: Encryption | None


_FIRST: Final = attrgetter("first")


class _Waiting(NamedTuple):
    datagrams: Datagrams
    number: int
    """Which one of the datagrams."""
    timestamp: int


class Sender:
    """Sequence numbers are integers that do not wrap; timestamps are microseconds since the start."""

    __slots__ = (
        "_counters",
        "_initial",
        "_peer_id",
        "_queue",
        "_repeats",
        "_round_trip",
        "drop_time",
        "next",
        "pace",
        "window",
    )

    def __init__(
        self,
        initial: int,
        peer_id: int,
        *,
        window: int,
        delay: float,
        round_trip: RoundTrip,
        pace: Pace,
        counters: DirectionCounters,
    ) -> None:
        """``window``: packets on the way at most; ``delay``: seconds that the peer delays what it receives."""
        self._initial = initial
        self._peer_id = peer_id
        self.window = window
        self.pace = pace
        self.drop_time = round((max(_MINIMUM_DROP_TIME, delay) + _DROP_MARGIN) * 1e6)
        """Microseconds."""
        self._round_trip = round_trip
        self._counters = counters
        self.next = initial
        """The next packet."""
        self._queue = _Queue(initial)
        self._repeats = _Repeats()

    @property
    def flight(self) -> int:
        """Packets that are not acknowledged."""
        return self.next - self._queue.first

    @property
    def waiting(self) -> int:
        """Packets that are not sent yet."""
        return len(self._queue.waiting)

    @property
    def is_idle(self) -> bool:
        """Whether everything was acknowledged or dropped."""
        return not self.flight and not self._queue.waiting

    @property
    def payload_size(self) -> int:
        """Bytes of a payload."""
        sent = self._queue.sent
        return sent[-1].datagrams.payload_size if sent else 0

    def held_time(self, timestamp: int) -> int:
        """Return the age of the oldest packet that is not acknowledged, in microseconds; ``timestamp`` is now."""
        queue = self._queue
        oldest = queue.sent[0] if queue.sent else queue.waiting[0] if queue.waiting else None
        return max(0, timestamp - oldest.timestamp) if oldest is not None else 0

    # Sending

    def send(self, datagrams: Datagrams, timestamp: int, encryption: Encryption | None, now: float) -> list[Output]:
        """Send datagrams, or queue them if the window or the bandwidth does not allow it. Return those to send now;
        they are to be sent before ``datagrams`` are used again."""
        queue, first, count = self._queue, self.next, datagrams.count
        pace = self.pace
        if pace.is_limited:
            pace.count(count, datagrams.size, now)
        if pace.is_limited or queue.waiting or first + count - queue.first > self.window:
            queue.waiting.extend(_Waiting(datagrams, index, timestamp) for index in range(count))
            return self.send_waiting(encryption, now)
        if first == queue.first:
            self._repeats.restart_probes(now)
        queue.sent.append(_Sent(first, first, datagrams, timestamp, encryption))
        self.next = first + count
        self._counters.count_unique(count, datagrams.size)
        number, word = first & SEQUENCE_MASK, WHOLE_MESSAGE | (first - self._initial) % MESSAGE_MASK + 1
        if number + count > SEQUENCE_MASK or (word & MESSAGE_MASK) + count > MESSAGE_MASK:  # a number wraps
            sent = queue.sent[-1]
            data: memoryview | bytes = b"".join([self._packet(first + index, sent, 0) for index in range(count)])
        elif encryption is None:
            data = datagrams.write_headers(number, word, timestamp, self._peer_id)
        else:
            word |= encryption.key << KEY_SHIFT
            data = datagrams.encrypt(number, word, timestamp, self._peer_id, encryption)
        return [(data, datagrams.segment_size + (encryption.tag_size if encryption is not None else 0))]

    def send_waiting(self, encryption: Encryption | None, now: float) -> list[Output]:
        """Return the datagrams of those that wait which may be sent now."""
        queue = self._queue
        output: list[Output] = []
        while queue.waiting and self.flight < self.window and self.pace.next_time <= now:
            item = queue.waiting.popleft()
            if not queue.sent or queue.sent[-1].datagrams is not item.datagrams:
                if self.next == queue.first:
                    self._repeats.restart_probes(now)
                start = self.next - item.number
                queue.sent.append(_Sent(self.next, start, item.datagrams, item.timestamp, encryption))
            packet = self._packet(self.next, queue.sent[-1], 0)
            self.pace.spend(len(packet), now)
            self.next += 1
            self._counters.count_unique(1, len(packet))
            output.append((packet, len(packet)))
        return output

    def next_waiting(self) -> float:
        """Return when `send_waiting` may have something; infinity for never."""
        return self.pace.next_time if self._queue.waiting and self.flight < self.window else math.inf

    def _packet(self, sequence: int, sent: _Sent, flags: int) -> bytes:
        number = sequence & SEQUENCE_MASK
        payload = sent.datagrams.payload(sequence - sent.start)
        word = WHOLE_MESSAGE | flags | self._message(sequence)
        timestamp = sent.timestamp & TIME_MASK
        encryption = sent.encryption
        if encryption is None:
            return HEADER.pack(number, word, timestamp, self._peer_id) + bytes(payload)
        header = HEADER.pack(number, word | encryption.key << KEY_SHIFT, timestamp, self._peer_id)
        return header + encryption.encrypt(header, payload)

    def _message(self, sequence: int) -> int:
        """Return the number of the message in a packet: 1 to the largest number of 26 bits, then again."""
        return (sequence - self._initial) % MESSAGE_MASK + 1

    # Answers of the receiver

    def acknowledge(self, position: int, now: float) -> int:
        """Everything before ``position`` (31 bits) has arrived. Return how many packets are not acknowledged or wait;
        a negative number if the position is not valid."""
        sequence, queue = self.next, self._queue
        behind = (sequence - position) & SEQUENCE_MASK
        if behind:
            if behind > SEQUENCE_HALF:
                return -1
            sequence -= behind
        if sequence > queue.acknowledged:
            queue.acknowledged = sequence
        if sequence > queue.first:
            queue.forget_before(sequence)
            self._repeats.forget_before(sequence, now)
        return self.next - queue.first + len(queue.waiting)

    def retransmit(self, ranges: Sequence[Range], now: float) -> tuple[list[Output], list[Range]]:
        """Return the packets that the receiver misses, and the ranges of those that were dropped.

        Not those that it has acknowledged meanwhile: libsrt 1.5.1 would then drop what it has.
        """
        output: list[Output] = []
        dropped: list[Range] = []
        queue = self._queue
        self._repeats.earn(self._counters.unique_packets)
        end = self.next - self.window
        for first, last in ranges:
            begin = max(extend_sequence(first, self.next), end + 1)  # lists are in ascending order
            end = min(extend_sequence(last, self.next), self.next - 1)
            begin = max(begin, queue.acknowledged)
            if begin < queue.first:
                if begin <= end and len(dropped) < _MAXIMUM_DROPS:
                    dropped.append((begin, min(end, queue.first - 1)))
                begin = queue.first
            end = max(end, begin - 1)
            self._counters.lost_packets += max(0, end + 1 - begin)
            for sequence in range(begin, begin + self._repeats.take_looks(end + 1 - begin)):
                if self._repeats.may_send(sequence, self._round_trip.time, now):
                    output.append(self._again(sequence, now))
        return output, dropped

    def _again(self, sequence: int, now: float) -> Output:
        packet = self._packet(sequence, self._queue.find(sequence), RETRANSMITTED)
        counters = self._counters
        counters.packets += 1
        counters.bytes += len(packet)
        counters.retransmitted_packets += 1
        counters.retransmitted_bytes += len(packet)
        self.pace.spend(len(packet), now)
        return packet, len(packet)

    # Time

    def next_probe(self) -> float:
        """Return when `probe` will have something; infinity for never."""
        if self.next == self._queue.first:
            return math.inf
        return self._repeats.next_probe(self._round_trip.timeout)

    def probe(self, now: float) -> list[Output]:
        """Return the first and the last unacknowledged packet once more, if none was acknowledged for some time.

        The receiver may not ask for them: it cannot know that the last one was lost, and libsrt repeats its requests
        only after 300 ms. If this is called late, acknowledgements may have arrived that were not read yet, so it waits
        again: an overloaded sender would send everything twice.
        """
        due = self.next_probe()
        if now < due:
            return []
        if now > due + _LATE_PROBE:
            self._repeats.restart_probes(now)
            return []
        self._repeats.count_probe(now)
        return [self._again(sequence, now) for sequence in sorted({self._queue.first, self.next - 1})]

    def drop_late(self, timestamp: int) -> int:
        """Forget what the receiver could not use any more; return how many packets that are."""
        queue = self._queue
        limit = timestamp - self.drop_time
        count = 0
        size = self.payload_size
        while queue.waiting and queue.waiting[0].timestamp < limit:
            queue.waiting.popleft()
            count += 1
        if queue.sent and queue.sent[0].timestamp < limit:
            first = queue.first
            end = next((sent.first for sent in queue.sent if sent.timestamp >= limit), self.next)
            count += end - first
            queue.forget_before(end)
        self._counters.dropped_packets += count
        self._counters.dropped_bytes += count * size
        return count


class _Queue:
    """Packets that are not acknowledged."""

    __slots__ = ("acknowledged", "first", "sent", "waiting")

    def __init__(self, initial: int) -> None:
        self.first = initial
        """The first one."""
        self.acknowledged = initial
        """The first one that the receiver has not acknowledged; smaller than `first` if some were dropped."""
        self.sent: deque[_Sent] = deque()
        self.waiting: deque[_Waiting] = deque()

    def forget_before(self, sequence: int) -> None:
        """Forget the packets before this one."""
        self.first = sequence
        sent = self.sent
        if len(sent) == 1 and sent[0].start + sent[0].datagrams.count == sequence:
            sent.clear()
            return
        while len(sent) > 1 and sent[1].first <= sequence:
            sent.popleft()
        if sent and sent[0].start + sent[0].datagrams.count <= sequence:
            sent.popleft()

    def find(self, sequence: int) -> _Sent:
        """Return the datagrams that a packet belongs to."""
        return self.sent[bisect_right(self.sent, sequence, key=_FIRST) - 1]


class _Repeats:
    """When packets were sent again, and whether they may be sent once more."""

    __slots__ = ("_credits", "_last", "_looks", "_probed_at", "_probes", "_sent", "_tidied_at")

    def __init__(self) -> None:
        self._credits = _FIRST_CREDITS
        self._looks = _MAXIMUM_LOOKS
        self._sent = 0
        """New packets that were sent, as far as they are counted in both."""
        self._last: dict[int, float] = {}
        """When a packet was sent again, in the order of the first time."""
        self._probed_at = 0.0
        self._probes = 0
        self._tidied_at = -math.inf

    def earn(self, sent: int) -> None:
        """Take how many new packets were sent so far."""
        packets, self._sent = sent - self._sent, sent
        self._credits = min(_MAXIMUM_CREDITS, self._credits + _CREDITS_PER_PACKET * packets)
        self._looks = min(_MAXIMUM_LOOKS, self._looks + _LOOKS_PER_PACKET * packets)

    def take_looks(self, packets: int) -> int:
        """Return at how many of some packets the sender may look now, and note it; none if it may not send any."""
        count = min(packets, self._looks) if self._credits > 0 else 0
        self._looks -= count
        return count

    def may_send(self, sequence: int, round_trip: float, now: float) -> bool:
        """Return whether a packet may be sent again, and note it."""
        last = self._last.get(sequence)
        if self._credits <= 0 or (last is not None and now - last < max(_SHORTEST_REPEAT, round_trip / 16)):
            return False
        self._credits -= 1
        self._last[sequence] = now
        return True

    def forget_before(self, sequence: int, now: float) -> None:
        """The packets before this one have arrived."""
        self._probed_at = now
        self._probes = 0
        if self._last and now >= self._tidied_at + _TIDY_SECONDS:
            self._tidied_at = now
            self._last = {number: time for number, time in self._last.items() if number >= sequence}

    def restart_probes(self, now: float) -> None:
        """Something was acknowledged, or sent after a pause."""
        self._probed_at = now
        self._probes = 0

    def next_probe(self, timeout: float) -> float:
        """Return when packets are to be sent again without a request."""
        if self._probes >= _MAXIMUM_PROBES:
            return math.inf
        return self._probed_at + max(_SHORTEST_PROBE, timeout) * (1 << self._probes)

    def count_probe(self, now: float) -> None:
        """Packets are sent again without a request."""
        self._probed_at = now
        self._probes += 1
