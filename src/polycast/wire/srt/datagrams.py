"""Payloads laid out as datagrams: built once, and sent to any number of receivers, each with its own headers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from polycast.errors import LocalProtocolError
from polycast.wire.srt.packet import HEADER_SIZE, MAXIMUM_PAYLOAD, TIME_MASK

MAXIMUM_COUNT: Final = 48
"""Datagrams that are sent together: below 64 kB, the limit of one system call."""

_WORD_SIZE: Final = 4
_HEADER_BITS: Final = HEADER_SIZE * 8


class Place(NamedTuple):
    """A datagram that is to be encrypted."""

    header: memoryview
    payload: memoryview
    output: memoryview
    """Where the encrypted payload is written, with its authentication tag."""


class Encryption(NamedTuple):
    """How packets are encrypted now."""

    key: int
    """1 even, 2 odd."""
    tag_size: int
    """Bytes of the authentication tag that each encrypted payload has."""
    encrypt: Callable[[bytes, memoryview], bytes]
    """Encrypts the payload of the packet with a header. A retransmitted packet gives the same result."""
    encrypt_to: Callable[[int, Sequence[Place]], None]
    """Encrypts consecutive packets, from the one with a 31-bit number on; the numbers do not wrap."""


class Datagrams:
    """Consecutive datagrams of equal size (the last one may be shorter), whose headers are written for each receiver.

    The buffers are shared, so what `write_headers` and `encrypt` return is valid until the next call.
    """

    __slots__ = ("_encrypted", "_plain", "count", "payload_size", "segment_size", "size")

    def __init__(self, data: bytes, payload_size: int) -> None:
        self.payload_size = payload_size
        """Bytes of all payloads but the last."""
        self.segment_size = HEADER_SIZE + payload_size
        """Bytes of all datagrams but the last."""
        self.count = -(-len(data) // payload_size)
        self.size = len(data)
        """Bytes of all payloads."""
        plain = self._plain = _Buffer(len(data) + HEADER_SIZE * self.count, self.segment_size)
        position = HEADER_SIZE
        for offset in range(0, len(data), payload_size):
            piece = data[offset : offset + payload_size]
            plain.data[position : position + len(piece)] = piece
            position += self.segment_size
        self._encrypted: dict[int, tuple[_Buffer, tuple[Place, ...]]] = {}
        """By the size of tags."""

    def payload(self, index: int) -> memoryview:
        """Return one payload."""
        start = index * self.segment_size + HEADER_SIZE
        return self._plain.data[start : start + self.payload_size]

    def write_headers(self, sequence: int, word: int, timestamp: int, destination: int) -> memoryview:
        """Write the headers, and return the datagrams.

        ``word`` is the second one of the first header: flags, and the number of the message. This number and
        ``sequence`` grow by one with each datagram; neither may wrap before the last one.
        """
        return self._plain.write_headers(sequence, word, timestamp, destination)

    def encrypt(self, sequence: int, word: int, timestamp: int, destination: int, encryption: Encryption) -> memoryview:
        """Do the same with encrypted payloads. The datagrams are larger by the size of the tags."""
        found = self._encrypted.get(encryption.tag_size)
        if found is None:
            found = self._encrypted[encryption.tag_size] = self._make_places(encryption.tag_size)
        buffer, places = found
        data = buffer.write_headers(sequence, word, timestamp, destination)
        encryption.encrypt_to(sequence, places)
        return data

    def _make_places(self, tag_size: int) -> tuple[_Buffer, tuple[Place, ...]]:
        size = self.segment_size + tag_size
        buffer = _Buffer(len(self._plain.data) + tag_size * self.count, size)
        data, places = buffer.data, []
        for index in range(self.count):
            start = index * size
            end = start + HEADER_SIZE
            payload = self.payload(index)
            places.append(Place(data[start:end], payload, data[end : end + len(payload) + tag_size]))
        return buffer, tuple(places)


class _Buffer:
    """The bytes of some datagrams, and where the words of their headers are."""

    __slots__ = ("_ones", "_size", "_steps", "_words", "data")

    def __init__(self, size: int, segment_size: int) -> None:
        self.data = memoryview(bytearray(size))
        words, step = self.data.cast("I"), segment_size // _WORD_SIZE
        self._words = words[0::step], words[1::step], words[2::step], words[3::step]
        count = -(-size // segment_size)
        self._size = HEADER_SIZE * count
        self._ones, self._steps = _digits(count)

    def write_headers(self, sequence: int, word: int, timestamp: int, destination: int) -> memoryview:
        """Write the headers, in network byte order, and return the datagrams. The headers are computed at once, as the
        digits of one large number: that takes a third of the time that each word alone would take."""
        first = sequence << 96 | word << 64 | (timestamp & TIME_MASK) << 32 | destination
        headers = memoryview((first * self._ones + self._steps).to_bytes(self._size, "big")).cast("I")
        words = self._words
        words[0][:] = headers[0::4]
        words[1][:] = headers[1::4]
        words[2][:] = headers[2::4]
        words[3][:] = headers[3::4]
        return self.data


@lru_cache(MAXIMUM_COUNT)
def _digits(count: int) -> tuple[int, int]:
    """Return the number whose digits of 128 bits are all 1, and the one that counts in the first two words of each."""
    ones = steps = 0
    for index in range(count):
        ones = ones << _HEADER_BITS | 1
        steps = steps << _HEADER_BITS | index << 96 | index << 64
    return ones, steps


def split(data: bytes, payload_size: int) -> tuple[Datagrams, ...]:
    """Return data as datagrams of ``payload_size`` bytes, in groups that can be sent together.

    Raises LocalProtocolError for a size that is not possible: not a multiple of 4, or too large.
    """
    if not 0 < payload_size <= MAXIMUM_PAYLOAD or payload_size % _WORD_SIZE or len(data) % _WORD_SIZE:
        raise LocalProtocolError(f"{payload_size} bytes are no possible size of a payload")
    step = payload_size * MAXIMUM_COUNT
    return tuple(Datagrams(data[offset : offset + step], payload_size) for offset in range(0, len(data), step))
