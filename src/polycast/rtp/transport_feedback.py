"""Transport-wide congestion control: reports arrival times to the publisher, which adapts its bit rate
(draft-holmer-rmcat-transport-wide-cc-extensions-01)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from polycast.rtp.rtcp import TRANSPORT_FEEDBACK, TransportFeedback

FEEDBACK_INTERVAL: Final = 0.1
"""Seconds between two feedback packets (section 3 of the draft: 50 to 100 ms)."""
MAXIMUM_PACKETS: Final = 1000
"""Maximum number of packets in one feedback; more are reported in the next one."""

TRANSPORT_CC_FORMAT: Final = 15
"""Feedback message type in TRANSPORT_FEEDBACK."""

_DELTA_UNIT: Final = 0.000_25
"""Seconds of one unit of an arrival time difference."""
_REFERENCE_UNITS: Final = 256
"""Arrival time units in one unit of the reference time (64 ms)."""
_NOT_RECEIVED, _SMALL_DELTA, _LARGE_DELTA = 0, 1, 2
_MAXIMUM_RUN: Final = 0x1FFF
_SYMBOLS_PER_VECTOR: Final = 7


class ArrivalRecorder:
    """Collects the arrival times of one transport's packets and creates feedback from them."""

    __slots__ = ("_arrivals", "_feedback_count", "_highest", "_next")

    def __init__(self) -> None:
        self._arrivals: dict[int, float] = {}
        """Monotonic seconds by extended sequence number, not reported yet."""
        self._highest = -1
        self._next: int | None = None
        """The extended sequence number after the last reported one; None before the first feedback."""
        self._feedback_count = 0

    def receive(self, sequence: int, now: float) -> None:
        """Process the transport-wide sequence number (16 bits) of a packet."""
        if self._highest < 0:
            self._highest = sequence
        extended = self._highest + ((sequence - self._highest + 0x8000) & 0xFFFF) - 0x8000
        self._highest = max(self._highest, extended)
        is_new = self._next is None or extended >= self._next
        if is_new and len(self._arrivals) < MAXIMUM_PACKETS:
            self._arrivals.setdefault(extended, now)

    def feedback(self, sender_ssrc: int, media_ssrc: int) -> TransportFeedback | None:
        """Return the feedback on packets since the last one; None if there were none."""
        if not self._arrivals:
            return None
        last = max(self._arrivals)
        first = max(min(self._arrivals) if self._next is None else self._next, last - MAXIMUM_PACKETS + 1)
        ticks = {number: round(time / _DELTA_UNIT) for number, time in self._arrivals.items() if number >= first}
        self._arrivals.clear()
        self._next = last + 1
        reference = ticks[min(ticks)] // _REFERENCE_UNITS
        symbols: list[int] = []
        deltas: list[bytes] = []
        previous = reference * _REFERENCE_UNITS
        for number in range(first, last + 1):
            tick = ticks.get(number)
            if tick is None:
                symbols.append(_NOT_RECEIVED)
                continue
            delta = tick - previous
            if 0 <= delta <= 0xFF:
                symbols.append(_SMALL_DELTA)
                deltas.append(delta.to_bytes(1, "big"))
            else:
                delta = max(-0x8000, min(0x7FFF, delta))
                symbols.append(_LARGE_DELTA)
                deltas.append(delta.to_bytes(2, "big", signed=True))
            previous += delta
        head = struct.pack("!HH", first & 0xFFFF, len(symbols)) + (reference & 0xFFFFFF).to_bytes(3, "big")
        body = head + bytes((self._feedback_count,)) + _status_chunks(symbols) + b"".join(deltas)
        self._feedback_count = (self._feedback_count + 1) & 0xFF
        body += bytes(-len(body) % 4)
        return TransportFeedback(TRANSPORT_FEEDBACK, TRANSPORT_CC_FORMAT, sender_ssrc, media_ssrc, body)


def _status_chunks(symbols: Sequence[int]) -> bytes:
    """Return packet status chunks: run lengths where a symbol repeats, else vectors of seven (section 3.1.2)."""
    chunks: list[bytes] = []
    position = 0
    while position < len(symbols):
        symbol = symbols[position]
        end = position
        while end < len(symbols) and symbols[end] == symbol and end - position < _MAXIMUM_RUN:
            end += 1
        if end - position >= _SYMBOLS_PER_VECTOR or end == len(symbols):
            chunks.append((symbol << 13 | end - position).to_bytes(2, "big"))
            position = end
            continue
        vector = 0b11
        for index in range(position, position + _SYMBOLS_PER_VECTOR):
            vector = vector << 2 | (symbols[index] if index < len(symbols) else _NOT_RECEIVED)
        chunks.append(vector.to_bytes(2, "big"))
        position += _SYMBOLS_PER_VECTOR
    return b"".join(chunks)
