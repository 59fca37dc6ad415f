"""Scans RTP packets: one by one, or all packets of a read at once."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from polycast.media.packet_buffer import PacketBuffer
from polycast.rtp.header import HEADER_SIZE
from polycast.rtp.payload.base import PayloadPattern, Peek

PLAIN: Final = 0x80
"""First byte of a plain packet: version 2; no padding, no extension, no CSRC list."""
MARKER: Final = 0x80
"""The marker bit in the second byte."""

MINIMUM_SIZE: Final = HEADER_SIZE + 4
"""Minimum size of a packet to detect a continuation."""

# First two bytes, sequence number, and the first four bytes of the payload.
_unpack = struct.Struct("!BBH8xI").unpack_from

# The same and the timestamp, before the first four bytes of the payload.
_unpack_whole = struct.Struct("!BBHI4xI").unpack_from

# Second byte, and timestamp.
_unpack_end = struct.Struct("!xBxxI").unpack_from

_ASCENDING: Final = bytes(range(256)) * 2
"""Low bytes of consecutive sequence numbers."""


class FlaggedPacket(NamedTuple):
    """A packet with flags."""

    flags: int
    """KEY and PARAMETERS flags (`polycast.rtp.payload.base`)."""
    start: int
    """``data[start:end]`` is the packet."""
    end: int


Summary = tuple[int, int, bool, Sequence[FlaggedPacket]]
"""The result for a buffer: sequence number of the first packet, which the others continue; RTP timestamp and marker bit
of the last one; the packets with flags. A plain tuple, as one is created per read."""


class PacketScanner:
    """Inspects the packets of one track.

    ``inspect`` and ``continuation`` are those of the track's codec (`payload.registry`).
    """

    __slots__ = ("_columns", "_mask", "_pattern", "_second_bytes", "inspect", "maximum_size", "payload_type")

    def __init__(self, payload_type: int, maximum_size: int, inspect: Peek, continuation: PayloadPattern) -> None:
        self.inspect = inspect
        self._mask = continuation.mask
        self._pattern = continuation.pattern
        self._columns = continuation.columns
        self.maximum_size = maximum_size
        """Bytes of a packet at most."""
        self.set_payload_type(payload_type)

    def set_payload_type(self, payload_type: int) -> None:
        """Set the payload type that packets must have."""
        self.payload_type = payload_type
        self._second_bytes = bytes((payload_type, payload_type | MARKER))
        """Allowed values of the second byte of a packet."""

    def scan(self, buffer: PacketBuffer) -> Summary | None:
        """Inspect all packets of a buffer.

        None if a packet is not plain: its header has more than 12 bytes, it has padding or another payload type, is
        longer than ``maximum_size`` or shorter than `MINIMUM_SIZE`, or the sequence numbers are not consecutive.
        Such packets must be parsed one by one.
        """
        if buffer.count == 1:
            return self._scan_one(buffer)
        summary = self._scan_uniform(buffer) if buffer.stride else None
        return self._scan_each(buffer) if summary is None else summary

    def _scan_one(self, buffer: PacketBuffer) -> Summary | None:
        """A shortcut for a single packet: audio, and video of publishers that write packet by packet."""
        data, end = buffer.data, buffer.end
        start = buffer.start + buffer.framing.header_size
        if not MINIMUM_SIZE <= end - start <= self.maximum_size:
            return None
        first, second, sequence, timestamp, payload = _unpack_whole(data, start)
        if first != PLAIN or second & 0x7F != self.payload_type:
            return None
        flags = 0 if payload & self._mask == self._pattern else self.inspect(data, start + HEADER_SIZE, end)
        flagged = (FlaggedPacket(flags, start, end),) if flags else ()
        return sequence, timestamp, second >= MARKER, flagged

    def _scan_uniform(self, buffer: PacketBuffer) -> Summary | None:
        """A shortcut for packets of one size of which all but the first are continuations: each relevant byte is
        compared for all packets at once. None if it does not apply."""
        data = buffer.data
        stride = buffer.stride
        end = buffer.end
        count = buffer.count
        header_size = buffer.framing.header_size
        start = buffer.start + header_size
        last = start + stride * (count - 1)
        if (
            end - last < MINIMUM_SIZE
            or stride - header_size > self.maximum_size
            or data[start:end:stride].count(PLAIN) != count
            or data[start + 1 : end : stride].translate(None, self._second_bytes)
        ):
            return None
        high, low = data[start + 2 : end : stride], data[start + 3 : end : stride]
        first_high, first_low = high[0], low[0]
        if low != _ASCENDING[first_low : first_low + count]:
            return None
        if first_low + count <= 256:
            if high.count(first_high) != count:
                return None
        elif high != _high_bytes(first_high, first_low, count):
            return None
        continued = start + HEADER_SIZE + stride
        for place, fitting in self._columns:
            if data[continued + place : end : stride].translate(None, fitting):
                return None
        first_end = start + stride - header_size
        flags = self.inspect(data, start + HEADER_SIZE, first_end)
        second, timestamp = _unpack_end(data, last)
        flagged = (FlaggedPacket(flags, start, first_end),) if flags else ()
        return first_high << 8 | first_low, timestamp, second >= MARKER, flagged

    def _scan_each(self, buffer: PacketBuffer) -> Summary | None:
        data = buffer.data
        header_size = buffer.framing.header_size
        sizes = buffer.packet_sizes()
        if min(sizes) < MINIMUM_SIZE or max(sizes) > self.maximum_size:
            return None
        payload_type = self.payload_type
        mask, pattern = self._mask, self._pattern
        inspect = self.inspect
        flagged: list[FlaggedPacket] = []
        start = buffer.start + header_size
        first_sequence = sequence = data[start + 2] << 8 | data[start + 3]
        for size in sizes:
            first, second, its_sequence, payload = _unpack(data, start)
            if first != PLAIN or second & 0x7F != payload_type or its_sequence != sequence:
                return None
            sequence = sequence + 1 & 0xFFFF
            if payload & mask != pattern:
                flags = inspect(data, start + HEADER_SIZE, start + size)
                if flags:
                    flagged.append(FlaggedPacket(flags, start, start + size))
            start += size + header_size
        second, timestamp = _unpack_end(data, start - header_size - sizes[-1])
        return first_sequence, timestamp, second >= MARKER, flagged


def _high_bytes(first_high: int, first_low: int, count: int) -> bytes:
    """Return the high bytes of consecutive sequence numbers of which the low byte overflows once."""
    before = 256 - first_low
    return bytes((first_high,)) * before + bytes((first_high + 1 & 0xFF,)) * (count - before)
