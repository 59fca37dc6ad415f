"""Splits an H264 byte stream (Rec. ITU-T H.264 Annex B) into access units."""

from __future__ import annotations

from typing import Final

from polycast.codecs.h264 import NalType
from polycast.codecs.nal import MAXIMUM_FRAME_SIZE
from polycast.errors import RemoteProtocolError

_START_CODE: Final = b"\x00\x00\x01"

_PICTURE_TYPES: Final = (1, 5)

# Types that begin a new access unit after a picture (section 7.4.1.2.3).
_LEADING_TYPES: Final = frozenset((6, 7, 8, 9, 14, 15, 16, 17, 18))

AccessUnit = tuple[bytes, ...]
"""NAL units without start codes and access unit delimiters."""


class AccessUnitReader:
    """Splits a byte stream. Call `receive` with received data, and `flush` if there is no more data for a while."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._units: list[bytes] = []
        self._has_picture = False

    @property
    def is_pending(self) -> bool:
        """Whether there is a picture, or a part of one, whose end is not known yet."""
        return bool(self._buffer) or self._has_picture

    def receive(self, data: bytes) -> list[AccessUnit]:
        """Process received bytes; return the access units that are complete.

        Raises RemoteProtocolError if an access unit exceeds the limit.
        """
        self._buffer += data
        found: list[AccessUnit] = []
        while (end := self._buffer.find(_START_CODE, self._searched)) >= 0:
            self._add_unit(bytes(self._buffer[:end]), found)
            del self._buffer[: end + len(_START_CODE)]
            self._searched = 0
        # A start code may be split in two.
        self._searched = max(0, len(self._buffer) - len(_START_CODE) + 1)
        if len(self._buffer) > MAXIMUM_FRAME_SIZE:
            raise RemoteProtocolError("the bytes are not an H264 stream")
        return found

    def flush(self) -> list[AccessUnit]:
        """Return pending data as a complete access unit: the program has written the whole picture."""
        found: list[AccessUnit] = []
        if self._buffer:
            self._add_unit(bytes(self._buffer), found)
            self._buffer.clear()
            self._searched = 0
        if self._has_picture:
            self._end(found)
        return found

    def _add_unit(self, unit: bytes, found: list[AccessUnit]) -> None:
        unit = unit.rstrip(b"\0")  # part of the next start code, or padding (section B.1)
        if not unit:
            return
        kind = unit[0] & 0x1F
        is_picture = kind in _PICTURE_TYPES
        # first_mb_in_slice is 0, written as a single one bit, in the first slice of a picture.
        begins = kind in _LEADING_TYPES or (is_picture and len(unit) > 1 and unit[1] & 0x80 != 0)
        if self._has_picture and begins:
            self._end(found)
        if kind != NalType.ACCESS_UNIT_DELIMITER:
            self._units.append(unit)
        self._has_picture |= is_picture

    def _end(self, found: list[AccessUnit]) -> None:
        found.append(tuple(self._units))
        self._units = []
        self._has_picture = False
