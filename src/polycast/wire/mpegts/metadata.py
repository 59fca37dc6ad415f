"""Metadata access units, the form of synchronous metadata in PES packets (ISO/IEC 13818-1 section 2.12.4)."""

from __future__ import annotations

from typing import Final

from polycast.errors import RemoteProtocolError

MAXIMUM_UNIT_SIZE: Final = 1024 * 1024
"""Bytes of the cells of an access unit, with their headers, as cells may be empty; units of KLV have some hundred."""

_HEADER_SIZE: Final = 5
_SERVICE: Final = 0
_MAXIMUM_CELL_SIZE: Final = 0xFFFF
# The flags of a cell: which part of an access unit it is, and that reading can begin here.
_WHOLE, _FIRST, _MIDDLE, _LAST = 0xC0, 0x80, 0x00, 0x40
_PART: Final = 0xC0
_RANDOM_ACCESS: Final = 0x10
_RESERVED: Final = 0x0F


def build_metadata_cells(unit: bytes) -> bytes:
    """Return an access unit as the payload of a PES packet. Its cells are numbered from 0; see `number_cells`."""
    if len(unit) <= _MAXIMUM_CELL_SIZE:
        return _cell(_WHOLE, unit)
    pieces = [unit[start : start + _MAXIMUM_CELL_SIZE] for start in range(0, len(unit), _MAXIMUM_CELL_SIZE)]
    parts = [_FIRST, *[_MIDDLE] * (len(pieces) - 2), _LAST]
    return b"".join(map(_cell, parts, pieces))


def _cell(part: int, data: bytes) -> bytes:
    flags = part | _RANDOM_ACCESS | _RESERVED
    return bytes((_SERVICE, 0, flags)) + len(data).to_bytes(2, "big") + data


def number_cells(payload: bytes, first: int) -> tuple[bytes, int]:
    """Return the cells numbered from ``first``, in 8 bits, and the number of the next cell."""
    numbered = bytearray(payload)
    offset = 0
    while offset < len(numbered):
        numbered[offset + 1] = first & 0xFF
        first += 1
        offset += _HEADER_SIZE + (numbered[offset + 3] << 8 | numbered[offset + 4])
    return bytes(numbered), first


class MetadataReader:
    """Joins cells to access units."""

    def __init__(self) -> None:
        self._pieces: list[bytes] | None = None
        """Of an access unit whose last cell has not come."""
        self._size = 0
        """Bytes of their cells."""

    def read(self, payload: bytes) -> list[bytes]:
        """Return the access units that end in the payload of a PES packet. Raises RemoteProtocolError."""
        units: list[bytes] = []
        offset = 0
        while offset < len(payload):
            if offset + _HEADER_SIZE > len(payload):
                raise RemoteProtocolError("a metadata cell is too short")
            end = offset + _HEADER_SIZE + (payload[offset + 3] << 8 | payload[offset + 4])
            if end > len(payload):
                raise RemoteProtocolError("a metadata cell is longer than its packet")
            self._add(payload[offset + 2] & _PART, payload[offset + _HEADER_SIZE : end], units)
            offset = end
        return units

    def _add(self, part: int, data: bytes, units: list[bytes]) -> None:
        if part == _WHOLE:
            self._pieces = None
            units.append(data)
        elif part == _FIRST:
            self._pieces, self._size = [data], _HEADER_SIZE + len(data)
        elif self._pieces is not None:
            self._pieces.append(data)
            self._size += _HEADER_SIZE + len(data)
            if self._size > MAXIMUM_UNIT_SIZE:
                self._pieces = None
                raise RemoteProtocolError("a metadata access unit is too large")
            if part == _LAST:
                units.append(b"".join(self._pieces))
                self._pieces = None
