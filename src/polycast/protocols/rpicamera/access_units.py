"""Access units out of an H264 byte stream without a container (Rec. ITU-T H.264 Annex B)."""

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
    """Splits a byte stream. Call `receive` with what came, and `flush` when nothing more comes for a while."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._units: list[bytes] = []
        self._has_picture = False

    @property
    def is_pending(self) -> bool:
        """Whether there is a picture, or a part of one, whose end is not known."""
        return bool(self._buffer) or self._has_picture

    def receive(self, data: bytes) -> list[AccessUnit]:
        """Take bytes and return the access units that are complete.

        Raises RemoteProtocolError when there is no end of one within the limit.
        """
        self._buffer += data
        found: list[AccessUnit] = []
        while (end := self._buffer.find(_START_CODE, self._searched)) >= 0:
            self._take_unit(bytes(self._buffer[:end]), found)
            del self._buffer[: end + len(_START_CODE)]
            self._searched = 0
        # A start code may be cut in two.
        self._searched = max(0, len(self._buffer) - len(_START_CODE) + 1)
        if len(self._buffer) > MAXIMUM_FRAME_SIZE:
            raise RemoteProtocolError("the bytes are not an H264 stream")
        return found

    def flush(self) -> list[AccessUnit]:
        """Return what is pending as complete: the program has written the picture to its end."""
        found: list[AccessUnit] = []
        if self._buffer:
            self._take_unit(bytes(self._buffer), found)
            self._buffer.clear()
            self._searched = 0
        if self._has_picture:
            self._end(found)
        return found

    def _take_unit(self, unit: bytes, found: list[AccessUnit]) -> None:
        unit = unit.rstrip(b"\0")  # of the next start code, or padding (section B.1)
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
