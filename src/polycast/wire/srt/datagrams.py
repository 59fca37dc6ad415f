"""Payloads laid out as datagrams: built once, and sent to any number of receivers, each with its own headers."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Final

from polycast.errors import LocalProtocolError
from polycast.wire.srt.packet import HEADER_SIZE, MAXIMUM_PAYLOAD, TIME_MASK

MAXIMUM_COUNT: Final = 48
"""Datagrams that are sent together: below 64 kB, the limit of one system call."""

_WORD_SIZE: Final = 4
_SWAPS: Final = sys.byteorder == "little"


class Datagrams:
    """Consecutive datagrams of equal size (the last one may be shorter), whose headers are written for each receiver.

    The buffer is shared, so what `address` returns is valid until its next call.
    """

    __slots__ = ("_buffer", "_words", "count", "payload_size", "segment_size", "size")

    def __init__(self, data: bytes, payload_size: int) -> None:
        self.payload_size = payload_size
        """Bytes of all payloads but the last."""
        self.segment_size = HEADER_SIZE + payload_size
        """Bytes of all datagrams but the last."""
        self.count = -(-len(data) // payload_size)
        self.size = len(data)
        """Bytes of all payloads."""
        buffer = bytearray(len(data) + HEADER_SIZE * self.count)
        position = HEADER_SIZE
        for offset in range(0, len(data), payload_size):
            piece = data[offset : offset + payload_size]
            buffer[position : position + len(piece)] = piece
            position += self.segment_size
        self._buffer = memoryview(buffer)
        self._words = self._buffer.cast("I")

    def payload(self, index: int) -> memoryview:
        """Return one payload."""
        start = index * self.segment_size + HEADER_SIZE
        return self._buffer[start : start + self.payload_size]

    def write_headers(self, sequence: int, flags: int, message: int, timestamp: int, destination: int) -> memoryview:
        """Write consecutive sequence and message numbers, and return the datagrams.

        None of the numbers may wrap between the first and the last datagram.
        """
        words, step, count = self._words, self.segment_size // _WORD_SIZE, self.count
        words[0::step] = _array(range(sequence, sequence + count))
        words[1::step] = _array(range(flags | message, (flags | message) + count))
        words[2::step] = _array((timestamp & TIME_MASK,)) * count
        words[3::step] = _array((destination,)) * count
        return self._buffer


def _array(values: Sequence[int]) -> array[int]:
    words = array("I", values)
    if _SWAPS:
        words.byteswap()
    return words


def split(data: bytes, payload_size: int) -> tuple[Datagrams, ...]:
    """Return data as datagrams of ``payload_size`` bytes, in groups that can be sent together.

    Raises LocalProtocolError for a size that is not possible: not a multiple of 4, or too large.
    """
    if not 0 < payload_size <= MAXIMUM_PAYLOAD or payload_size % _WORD_SIZE or len(data) % _WORD_SIZE:
        raise LocalProtocolError(f"{payload_size} bytes are no possible size of a payload")
    step = payload_size * MAXIMUM_COUNT
    return tuple(Datagrams(data[offset : offset + step], payload_size) for offset in range(0, len(data), step))
