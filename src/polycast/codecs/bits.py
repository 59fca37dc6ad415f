"""Reading and writing of bit fields, most significant bit first, with the Exp-Golomb codes of H.264 and H.265."""

from __future__ import annotations

from polycast.errors import RemoteProtocolError

MAXIMUM_BIT_READER_SIZE = 65_536
"""In bytes. Headers are far smaller; the reader holds its data as one integer, so the cost of a read grows with it."""

MAXIMUM_EXP_GOLOMB_ZEROS = 32
"""Leading zero bits: the largest value in either specification, 2**32 - 2, takes 32 (Rec. ITU-T H.264 section 9.1)."""


class BitReader:
    """Reads bit fields out of bytes. Reading beyond the end raises `RemoteProtocolError`.

    The bytes must not contain emulation prevention (see `polycast.codecs.nal.remove_emulation_prevention`).
    """

    __slots__ = ("_remaining", "_value")

    def __init__(self, data: bytes) -> None:
        if len(data) > MAXIMUM_BIT_READER_SIZE:
            raise RemoteProtocolError(f"a header of {len(data)} bytes is too large")
        self._value = int.from_bytes(data, "big")
        self._remaining = len(data) * 8

    @property
    def remaining(self) -> int:
        """How many bits are left."""
        return self._remaining

    def read(self, count: int) -> int:
        """Return the next ``count`` bits as an unsigned number."""
        remaining = self._remaining - count
        if remaining < 0:
            raise RemoteProtocolError("a header ends too early")
        self._remaining = remaining
        return (self._value >> remaining) & ((1 << count) - 1)

    def flag(self) -> bool:
        """Return the next bit as a boolean."""
        return self.read(1) == 1

    def skip(self, count: int) -> None:
        """Skip ``count`` bits."""
        if count > self._remaining:
            raise RemoteProtocolError("a header ends too early")
        self._remaining -= count

    def align(self) -> None:
        """Skip the bits up to the next byte boundary."""
        self._remaining -= self._remaining % 8

    def read_ue(self) -> int:
        """Return the next unsigned Exp-Golomb code, ``ue(v)`` (Rec. ITU-T H.264 section 9.1)."""
        remaining = self._remaining
        zeros = remaining - (self._value & ((1 << remaining) - 1)).bit_length()
        if zeros > MAXIMUM_EXP_GOLOMB_ZEROS:
            raise RemoteProtocolError("an Exp-Golomb code is too long")
        self.skip(zeros)
        return self.read(zeros + 1) - 1

    def read_se(self) -> int:
        """Return the next signed Exp-Golomb code, ``se(v)`` (Rec. ITU-T H.264 section 9.1.1)."""
        code = self.read_ue()
        return (code + 1) >> 1 if code & 1 else -(code >> 1)


class BitWriter:
    """Collects bit fields into bytes."""

    __slots__ = ("_length", "_value")

    def __init__(self) -> None:
        self._value = 0
        self._length = 0

    def write(self, value: int, count: int) -> None:
        """Append ``value`` as ``count`` bits; higher bits of ``value`` are ignored."""
        self._value = self._value << count | value & ((1 << count) - 1)
        self._length += count

    def to_bytes(self) -> bytes:
        """Return what was written, padded with zero bits to whole bytes."""
        padding = -self._length % 8
        return (self._value << padding).to_bytes((self._length + padding) // 8, "big")
