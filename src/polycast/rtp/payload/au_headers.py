"""The AU header section of mpeg4-generic (RFC 3640 section 3.2.1), whose fields the fmtp line configures.

A parameter that the line omits is 0 (section 4.1), but many cameras omit what their mode prescribes (section 3.3). So
if parameters are missing, both interpretations are tried, and the packet decides: its headers must fill
AU-headers-length, and the sizes in them its payload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from polycast.errors import RemoteProtocolError

MAXIMUM_ACCESS_UNITS = 256
"""Access units in one packet. Speech at AAC-lbr sizes (down to 6 bytes) fits at most this many in 1460 bytes."""

_MAXIMUM_FIELD_BITS = 32
_MAXIMUM_NUMBER = 1 << 31
"""The value of a parameter that is not a valid number of bits."""


class AccessUnit(NamedTuple):
    """One AU header of a packet."""

    size: int
    """In bytes; of the whole unit, even if the packet has only a fragment of it."""
    place: int
    """Offset in access units from the first one of the packet; more than its position if interleaved."""
    offset: int | None
    """Ticks from the packet's timestamp to that of the unit, if the header has it."""


@dataclass(frozen=True, slots=True)
class HeaderFormat:
    """Sizes of the AU header's fields in bits, and constant values for absent fields."""

    size: int = 13
    index: int = 3
    index_delta: int = 3
    cts_delta: int = 0
    dts_delta: int = 0
    random_access: bool = False
    stream_state: int = 0
    auxiliary_size: int = 0
    constant_size: int = 0
    """Bytes of each access unit, if the header does not give them."""
    constant_duration: int = 0
    """Ticks of each access unit; 0: as defined by the codec."""
    is_interleaved: bool = False
    """Whether access units may come in another order than they are decoded in."""

    @property
    def has_only_sizes(self) -> bool:
        """Whether the header consists of size and index."""
        return not (self.cts_delta or self.dts_delta or self.random_access or self.stream_state or self.auxiliary_size)

    @property
    def has_size(self) -> bool:
        """Whether the sizes of access units are known, so that several fit in a packet."""
        return bool(self.size or self.constant_size)

    @property
    def has_headers(self) -> bool:
        """Whether there is an AU header section: it is omitted if each header would be empty."""
        return bool(
            self.size
            or self.index
            or self.index_delta
            or self.cts_delta
            or self.dts_delta
            or self.random_access
            or self.stream_state
        )

    def parse(self, data: bytes, position: int, end: int) -> tuple[list[AccessUnit], int]:
        """Return the headers, and the offset of the access units. Raises `RemoteProtocolError`."""
        if not self.has_headers:
            position = self._skip_auxiliary(data, position, end)
            return self._units_without_headers(end - position), position
        if end - position < 2:
            raise RemoteProtocolError("AAC packet is too short")
        bits = data[position] << 8 | data[position + 1]
        position += 2
        header_end = position + (bits + 7) // 8
        if bits == 0 or header_end > end:
            raise RemoteProtocolError("AU headers are cut off")
        value = int.from_bytes(data[position:header_end], "big") >> (-bits % 8)
        units_start = self._skip_auxiliary(data, header_end, end)
        return self._parse_fields(value, bits, end - units_start), units_start

    def _units_without_headers(self, room: int) -> list[AccessUnit]:
        size = self.constant_size
        if not size or room <= size:
            return [AccessUnit(size or room, 0, None)]
        return [AccessUnit(size, place, None) for place in range(min(room // size, MAXIMUM_ACCESS_UNITS))]

    def _parse_fields(self, value: int, remaining: int, room: int) -> list[AccessUnit]:
        def read(count: int) -> int:
            nonlocal remaining
            remaining -= count
            if remaining < 0:
                raise RemoteProtocolError("AU headers are cut off")
            return value >> remaining & (1 << count) - 1

        units: list[AccessUnit] = []
        place = 0
        while remaining > 0:
            if len(units) == MAXIMUM_ACCESS_UNITS:
                raise RemoteProtocolError("too many AAC access units in a packet")
            before = remaining
            size = read(self.size) if self.size else self.constant_size or room
            if units:
                place += 1 + read(self.index_delta)
            else:
                read(self.index)  # the serial number of the first one says nothing about the others
            offset = _signed(read(self.cts_delta), self.cts_delta) if self.cts_delta and read(1) else None
            if self.dts_delta and read(1):
                read(self.dts_delta)
            read(int(self.random_access) + self.stream_state)
            if remaining == before:
                raise RemoteProtocolError("AU headers are longer than their fields")
            units.append(AccessUnit(size, place, offset))
        return units

    def _skip_auxiliary(self, data: bytes, position: int, end: int) -> int:
        count = self.auxiliary_size
        if not count:
            return position
        field_end = position + (count + 7) // 8
        size = int.from_bytes(data[position:field_end], "big") >> (-count % 8)
        position += (count + size + 7) // 8
        if position > end:
            raise RemoteProtocolError("AAC auxiliary section is cut off")
        return position


def mode_of(parameters: Mapping[str, str], default: str) -> str:
    """Return the mode (RFC 3640 section 4.1) in lower case, with a hyphen where some devices write an underscore."""
    return parameters.get("mode", default).lower().replace("_", "-")


def header_formats(parameters: Mapping[str, str]) -> tuple[HeaderFormat, ...]:
    """Return the possible formats of an fmtp line, the most likely first. Names are in lower case."""

    def number(name: str, maximum: int) -> int | None:
        text = parameters.get(name, "")
        return min(int(text), maximum) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def bits(name: str) -> int:
        return number(name, _MAXIMUM_FIELD_BITS) or 0

    told = {
        field: number(name, _MAXIMUM_FIELD_BITS)
        for field, name in (("size", "sizelength"), ("index", "indexlength"), ("index_delta", "indexdeltalength"))
    }
    literal = HeaderFormat(
        size=told["size"] or 0,
        index=told["index"] or 0,
        index_delta=told["index_delta"] or 0,
        cts_delta=bits("ctsdeltalength"),
        dts_delta=bits("dtsdeltalength"),
        random_access=bits("randomaccessindication") != 0,
        stream_state=bits("streamstateindication"),
        auxiliary_size=bits("auxiliarydatasizelength"),
        constant_size=number("constantsize", _MAXIMUM_NUMBER) or 0,
        constant_duration=number("constantduration", _MAXIMUM_NUMBER) or 0,
        is_interleaved=bool(number("maxdisplacement", _MAXIMUM_NUMBER)),
    )
    if literal.constant_size or None not in told.values():
        return (literal,)
    prescribed = (6, 2, 2) if mode_of(parameters, "") == "aac-lbr" else (13, 3, 3)
    as_mode = replace(
        literal,
        size=literal.size if told["size"] is not None else prescribed[0],
        index=literal.index if told["index"] is not None else prescribed[1],
        index_delta=literal.index_delta if told["index_delta"] is not None else prescribed[2],
    )
    # Without headers any data is valid, so that comes last.
    return (literal, as_mode) if literal.has_headers else (as_mode, literal)


class HeaderParser:
    """Parses the AU header sections of a track's packets."""

    __slots__ = ("_formats",)

    def __init__(self, formats: Sequence[HeaderFormat]) -> None:
        self._formats = tuple(formats)

    @property
    def format(self) -> HeaderFormat:
        """The format that matches the packets, as far as is known."""
        return self._formats[0]

    def parse(self, data: bytes, position: int, end: int) -> tuple[list[AccessUnit], int]:
        """Return the headers of a packet, and the offset of its access units. Raises `RemoteProtocolError`."""
        formats = self._formats
        if len(formats) == 1:
            return formats[0].parse(data, position, end)
        failure: RemoteProtocolError | None = None
        for candidate in formats:
            try:
                units, start = candidate.parse(data, position, end)
            except RemoteProtocolError as error:
                failure = failure or error
                continue
            if _fit(candidate, units, end - start):
                if candidate is not formats[0]:
                    self._formats = (candidate, *(each for each in formats if each is not candidate))
                return units, start
        raise failure or RemoteProtocolError("AU headers do not fit the packet")


def _fit(form: HeaderFormat, units: Sequence[AccessUnit], room: int) -> bool:
    """Whether the result is plausible: the units fill the packet, or it has a fragment of one."""
    if not form.is_interleaved and units[-1].place != len(units) - 1:
        return False
    return sum(unit.size for unit in units) == room or (len(units) == 1 and units[0].size > room)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value
