"""Spreads a transport stream evenly over time, as receivers of constant delay expect it (ISO/IEC 13818-1 annex D).

The packets between two PCRs are sent at regular intervals between the times that these PCRs stand for. When a packet
with a PCR is sent, it gets the time at which that happens, so that it is exact even if the packet is late.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

from polycast.wire.mpegts.constants import PACKET_SIZE

DELAY: Final = 0.3
"""Seconds from the arrival of a PCR to its time at first: packets are held until the next PCR is there, and frames do
not come at regular intervals."""
MAXIMUM_STEP: Final = 1.0
"""Seconds between two PCRs at most; otherwise the clock of the stream has jumped."""
MAXIMUM_AHEAD: Final = 10.0
"""Seconds that a PCR may be ahead of its time: segments of HLS come at once."""
MAXIMUM_HELD: Final = 64 * 1024 * 1024 // PACKET_SIZE
"""Packets that are held at most: 10 s at 50 Mbit/s."""

_TOGETHER_SECONDS: Final = 0.04
"""Packets that are due within this time after the first one share its datagram: half of what DVB allows between two
PCRs."""
_USUAL_STEP: Final = 0.04
_WINDOW_SECONDS: Final = 10.0
"""Seconds over which is measured whether the clock of the stream runs faster than ours, or slower."""
_MAXIMUM_SLEW: Final = 50e-6
"""Seconds per second by which our clock follows it; 30 ppm are allowed for the system clock of a stream."""
_SYSTEM_CLOCK: Final = 27_000_000
_BASE_MODULUS: Final = 1 << 33
_BASE_CLOCK: Final = 90_000
_EXTENSION: Final = 300

_HAS_ADAPTATION: Final = 0x20
_DISCONTINUITY: Final = 0x80
_HAS_PCR: Final = 0x10


class _Scheduled(NamedTuple):
    due: float
    packet: bytes
    has_pcr: bool
    base: float
    """Seconds to subtract from a time to get that of the stream."""
    is_discontinuous: bool


class Pacer:
    """Takes whole transport packets, and returns them as datagrams when they are due. Times are monotonic seconds."""

    def __init__(self, packets_per_datagram: int) -> None:
        self._packets_per_datagram = packets_per_datagram
        self._scheduled: deque[_Scheduled] = deque()
        self._open: list[bytes] = []
        """Packets since the last PCR, which is in the first one."""
        self._base: float | None = None
        self._pcr = 0.0
        """Time of the last PCR in seconds, not wrapped."""
        self._pcr_base = 0
        """Its 33 bits."""
        self._step = _USUAL_STEP
        """Seconds between the last two."""
        self._is_discontinuous = False
        """Whether the clock has jumped at the last PCR."""
        self._slew = 0.0
        """Seconds by which the time of the stream comes earlier, per second."""
        self._window_end = math.inf
        self._smallest_slack = math.inf
        self.dropped = 0
        """Packets that were dropped because too many were held."""

    @property
    def held(self) -> int:
        """Packets that have yet to be sent."""
        return len(self._scheduled) + len(self._open)

    def receive_data(self, data: bytes, now: float) -> None:
        """Take packets. Those before the first PCR are sent at once with it."""
        for start in range(0, len(data), PACKET_SIZE):
            packet = data[start : start + PACKET_SIZE]
            if _has_pcr(packet):
                self._on_pcr(int.from_bytes(packet[6:11], "big") >> 7, now)
            if self.held >= MAXIMUM_HELD:
                self.dropped += 1
            else:
                self._open.append(packet)

    def finish(self) -> None:
        """Nothing follows: send the last packets at the pace of those before."""
        if self._base is not None:
            self._schedule(self._step)

    def _on_pcr(self, pcr_base: int, now: float) -> None:
        base = self._base
        if base is None:
            self._pcr, self._pcr_base = 0.0, pcr_base
            self._base = now + DELAY
            self._window_end = now + _WINDOW_SECONDS
            return
        step = ((pcr_base - self._pcr_base) % _BASE_MODULUS) / _BASE_CLOCK
        due = base + self._pcr + step
        is_regular = 0 < step <= MAXIMUM_STEP and due - now <= MAXIMUM_AHEAD
        if is_regular:
            self._step = step
        self._schedule(self._step)
        end = base + self._pcr + self._step
        if is_regular:
            self._pcr += step
        else:  # go on at once with the time that the stream has now
            self._pcr = 0.0
            self._base = min(end, now + MAXIMUM_AHEAD)
            self._is_discontinuous = True
        self._pcr_base = pcr_base
        self._follow(now)

    def _follow(self, now: float) -> None:
        """Follow the clock of the stream, and what it takes to get here."""
        assert self._base is not None
        slack = self._base + self._pcr - now
        if slack < 0:  # nothing was there in time; it may happen again
            self._base -= slack - DELAY / 2
            self._is_discontinuous = True
            self._smallest_slack = math.inf
            return
        self._smallest_slack = min(self._smallest_slack, slack)
        self._base -= self._slew * self._step
        if now >= self._window_end:
            error = (self._smallest_slack - DELAY) / _WINDOW_SECONDS
            self._slew = min(max(error, -_MAXIMUM_SLEW), _MAXIMUM_SLEW)
            self._window_end = now + _WINDOW_SECONDS
            self._smallest_slack = math.inf

    def _schedule(self, step: float) -> None:
        """Send the packets since the last PCR within the next seconds after its time."""
        packets, self._open = self._open, []
        base = self._base
        if not packets or base is None:
            return
        start, pace = base + self._pcr, step / len(packets)
        # what a stamp is computed with: the PCR of the stream at its time
        stream_base = start - self._pcr_base / _BASE_CLOCK
        for index, packet in enumerate(packets):
            has_pcr = _has_pcr(packet)
            is_discontinuous = has_pcr and self._is_discontinuous
            self._scheduled.append(_Scheduled(start + index * pace, packet, has_pcr, stream_base, is_discontinuous))
        self._is_discontinuous = False

    def next_timeout(self) -> float:
        """Return when `next_datagram` will have something; infinity for never."""
        return self._scheduled[0].due if self._scheduled else math.inf

    def next_datagram(self, now: float) -> bytes | None:
        """Return the next datagram that is due, to be sent immediately; None if there is none."""
        scheduled = self._scheduled
        if not scheduled or scheduled[0].due > now:
            return None
        end = scheduled[0].due + _TOGETHER_SECONDS
        parts: list[bytes] = []
        while scheduled and len(parts) < self._packets_per_datagram and scheduled[0].due <= end:
            item = scheduled.popleft()
            parts.append(_stamp(item, now) if item.has_pcr else item.packet)
        return b"".join(parts)


def _has_pcr(packet: bytes) -> bool:
    return bool(packet[3] & _HAS_ADAPTATION and packet[4] and packet[5] & _HAS_PCR)


def _stamp(item: _Scheduled, now: float) -> bytes:
    clock = max(0, round((now - item.base) * _SYSTEM_CLOCK))
    base, extension = clock // _EXTENSION % _BASE_MODULUS, clock % _EXTENSION
    packet = item.packet
    flags = packet[5] | _DISCONTINUITY * item.is_discontinuous
    # 33 bits of base, 6 reserved bits, 9 bits of extension
    return packet[:5] + bytes((flags,)) + (base << 15 | 0x7E00 | extension).to_bytes(6, "big") + packet[12:]
