"""Restores the order of RTP packets from UDP by their sequence numbers."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.media.packet import RtpPacket

DEFAULT_SIZE = 64
"""Maximum number of packets that are held back while one is missing; the same as in rtsp-simple-server."""
MAXIMUM_HELD_SIZE = 1 << 20
"""Bytes that are held back while a packet is missing: ten times as much as that many packets of 1,500 bytes."""
DEFAULT_TIMEOUT = 0.1
"""Seconds that a missing packet is waited for; reordering in networks is a matter of milliseconds."""
MAXIMUM_DROPOUT = 3000
"""Sequence numbers that may be missing before a jump is considered a restart (RFC 3550 appendix A.1)."""
MAXIMUM_MISORDER = 100
"""Sequence numbers that a packet may be late before it is considered a restart (RFC 3550 appendix A.1)."""


class Reorderer:
    """Reorders one RTP stream. Push every packet, and call `flush` when `next_timeout` has passed.

    Duplicates and packets that arrive too late are dropped. A jump of the sequence numbers that is too large for loss
    is a restart of the sender once a second packet confirms it.
    """

    __slots__ = (
        "_candidate",
        "_candidate_expected",
        "_deadline",
        "_expected",
        "_held",
        "_held_size",
        "_size",
        "_timeout",
        "duplicates",
        "lost",
        "reordered",
    )

    def __init__(self, size: int = DEFAULT_SIZE, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._size = size
        self._timeout = timeout
        self._expected = -1
        self._held: dict[int, RtpPacket] = {}
        self._held_size = 0
        self._deadline: float | None = None
        self._candidate: RtpPacket | None = None
        """The first packet of a possible restart."""
        self._candidate_expected = -1
        self.lost = 0
        """Packets that were given up."""
        self.duplicates = 0
        """Packets that were dropped because they were duplicates or too late."""
        self.reordered = 0
        """Packets that arrived out of order but in time."""

    def push(self, packet: RtpPacket, now: float | None = None) -> Sequence[RtpPacket]:
        """Process one packet; return those that are next in order.

        ``now`` starts and ends the waiting time after a gap; without it the time starts at the next `flush`.
        """
        if packet.sequence == self._expected and not self._held:
            self._expected = (packet.sequence + 1) & 0xFFFF
            return (packet,)
        return self._push_uncommon(packet, now)

    @property
    def has_started(self) -> bool:
        """Whether a packet was pushed."""
        return self._expected >= 0

    def next_timeout(self) -> float | None:
        """Return when `flush` is due, None if nothing is held back; 0.0 (immediately) if the time is unknown."""
        if not self._held:
            return None
        return 0.0 if self._deadline is None else self._deadline

    def flush(self, now: float) -> Sequence[RtpPacket]:
        """Give up packets that timed out; return those that follow."""
        if not self._held:
            return ()
        if self._deadline is None:
            self._deadline = now + self._timeout
            return ()
        if now < self._deadline:
            return ()
        released: list[RtpPacket] = []
        self._skip_gap(released)
        self._deadline = now + self._timeout if self._held else None
        return released

    def _push_uncommon(self, packet: RtpPacket, now: float | None) -> Sequence[RtpPacket]:
        sequence = packet.sequence
        if self._expected < 0:
            self._expected = (sequence + 1) & 0xFFFF
            return (packet,)
        ahead = (sequence - self._expected) & 0xFFFF
        if MAXIMUM_DROPOUT <= ahead < 0x10000 - MAXIMUM_MISORDER:
            return self._push_after_jump(packet)
        self._candidate = None
        if ahead >= 0x10000 - MAXIMUM_MISORDER or sequence in self._held:
            self.duplicates += 1
            return ()
        released: list[RtpPacket] = []
        if ahead == 0:
            self.reordered += 1
            self._release_from(packet, released)
        else:
            self._held[sequence] = packet
            self._held_size += len(packet)
            while self._held and (
                ((sequence - self._expected) & 0xFFFF) >= self._size or self._held_size > MAXIMUM_HELD_SIZE
            ):
                self._skip_gap(released)
            # Rare calls of `flush` must not make readers wait for longer than the timeout.
            if self._held and not released and now is not None and self._deadline is not None and now >= self._deadline:
                self._skip_gap(released)
        if not self._held:
            self._deadline = None
        elif now is not None and (released or self._deadline is None):
            self._deadline = now + self._timeout
        elif released:
            self._deadline = None
        return released

    def _push_after_jump(self, packet: RtpPacket) -> Sequence[RtpPacket]:
        candidate = self._candidate
        # The packets in between continued as before: the first one was a stray packet.
        confirmed = candidate is not None and self._candidate_expected == self._expected
        if candidate is None or not confirmed or packet.sequence != (candidate.sequence + 1) & 0xFFFF:
            self._candidate = packet
            self._candidate_expected = self._expected
            return ()
        released: list[RtpPacket] = []
        while self._held:
            self._skip_gap(released)
        released += (candidate, packet)
        self._candidate = None
        self._deadline = None
        self._expected = (packet.sequence + 1) & 0xFFFF
        return released

    def _skip_gap(self, released: list[RtpPacket]) -> None:
        held, expected = self._held, self._expected
        first = min(held, key=lambda sequence: (sequence - expected) & 0xFFFF)
        self.lost += (first - expected) & 0xFFFF
        packet = held.pop(first)
        self._held_size -= len(packet)
        self._release_from(packet, released)

    def _release_from(self, packet: RtpPacket | None, released: list[RtpPacket]) -> None:
        held = self._held
        sequence = self._expected if packet is None else packet.sequence
        while packet is not None:
            released.append(packet)
            sequence = (sequence + 1) & 0xFFFF
            packet = held.pop(sequence, None)
            if packet is not None:
                self._held_size -= len(packet)
        self._expected = sequence
