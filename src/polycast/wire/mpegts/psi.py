"""Program specific information (ISO/IEC 13818-1 section 2.4.4): PAT and PMT, their CRC, and sections in packets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polycast.errors import RemoteProtocolError
from polycast.wire.mpegts.constants import PROGRAM_NUMBER

MAXIMUM_SECTION_SIZE = 1024
"""Bytes of a PAT or PMT section, header included (section 2.4.4.3: section_length is at most 1021)."""
MAXIMUM_PROGRAMS = 64
"""Programs read from one PAT; the first one is used, real multiplexes have at most a few dozen."""
MAXIMUM_ELEMENTARY_STREAMS = 64
"""Elementary streams read from one PMT; broadcast programs have at most about 40."""

_TABLE_PROGRAM_ASSOCIATION = 0x00
_TABLE_PROGRAM_MAP = 0x02
# section_length 13 for one program; transport_stream_id 0, version 0, current, section 0 of 0.
_CURRENT_VERSION_0 = b"\xc1\x00\x00"


def _crc_table() -> tuple[int, ...]:
    table = []
    for index in range(256):
        value = index << 24
        for _ in range(8):
            value = (value << 1) ^ 0x04C11DB7 if value & 0x80000000 else value << 1
        table.append(value & 0xFFFFFFFF)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc32_mpeg(data: bytes) -> int:
    """Return the CRC of a section (annex A of ISO/IEC 13818-1). Over a section with its CRC the result is 0."""
    value = 0xFFFFFFFF
    table = _CRC_TABLE
    for byte in data:
        value = ((value << 8) & 0xFFFFFFFF) ^ table[(value >> 24) ^ byte]
    return value


@dataclass(frozen=True, slots=True)
class ElementaryStream:
    """One row of a program map."""

    stream_type: int
    pid: int
    descriptors: bytes = b""
    """The descriptor loop as it is on the wire."""


@dataclass(frozen=True, slots=True)
class ProgramMap:
    """The content of a PMT section."""

    pcr_pid: int
    streams: tuple[ElementaryStream, ...]
    program_number: int = PROGRAM_NUMBER


def _section(table: int, identifier: int, body: bytes) -> bytes:
    length = 5 + len(body) + 4
    section = (
        bytes((table, 0xB0 | length >> 8, length & 0xFF)) + identifier.to_bytes(2, "big") + _CURRENT_VERSION_0 + body
    )
    return section + crc32_mpeg(section).to_bytes(4, "big")


def build_program_association(program_map_pid: int) -> bytes:
    """Return a PAT section with one program (section 2.4.4.3)."""
    body = PROGRAM_NUMBER.to_bytes(2, "big") + (0xE000 | program_map_pid).to_bytes(2, "big")
    return _section(_TABLE_PROGRAM_ASSOCIATION, 0, body)


def build_program_map(program_map: ProgramMap) -> bytes:
    """Return a PMT section (section 2.4.4.8)."""
    body = [(0xE000 | program_map.pcr_pid).to_bytes(2, "big"), b"\xf0\x00"]
    for stream in program_map.streams:
        body.append(bytes((stream.stream_type,)))
        body.append((0xE000 | stream.pid).to_bytes(2, "big"))
        body.append((0xF000 | len(stream.descriptors)).to_bytes(2, "big"))
        body.append(stream.descriptors)
    return _section(_TABLE_PROGRAM_MAP, program_map.program_number, b"".join(body))


def _checked_body(section: bytes, table: int) -> bytes | None:
    """Return the section without its 8-byte header and CRC; None for another table or one not yet in force."""
    if len(section) < 12 or section[0] != table or not section[5] & 1:
        return None
    if crc32_mpeg(section):
        raise RemoteProtocolError("a PSI section has a wrong CRC")
    return section[8:-4]


def parse_program_association(section: bytes) -> list[tuple[int, int]] | None:
    """Return (program number, PMT PID) of each program; None if the section is not a PAT in force.

    Raises RemoteProtocolError when the CRC is wrong.
    """
    body = _checked_body(section, _TABLE_PROGRAM_ASSOCIATION)
    if body is None:
        return None
    programs = []
    for offset in range(0, min(len(body) - 3, 4 * MAXIMUM_PROGRAMS), 4):
        number = int.from_bytes(body[offset : offset + 2], "big")
        if number:  # program 0 names the network information table
            programs.append((number, int.from_bytes(body[offset + 2 : offset + 4], "big") & 0x1FFF))
    return programs


def parse_program_map(section: bytes) -> ProgramMap | None:
    """Return the program map; None if the section is not a PMT in force.

    Raises RemoteProtocolError when the CRC is wrong or a length does not fit.
    """
    body = _checked_body(section, _TABLE_PROGRAM_MAP)
    if body is None:
        return None
    if len(body) < 4:
        raise RemoteProtocolError("a program map is too short")
    pcr_pid = int.from_bytes(body[:2], "big") & 0x1FFF
    offset = 4 + (int.from_bytes(body[2:4], "big") & 0x0FFF)
    streams: list[ElementaryStream] = []
    while offset + 5 <= len(body) and len(streams) < MAXIMUM_ELEMENTARY_STREAMS:
        end = offset + 5 + (int.from_bytes(body[offset + 3 : offset + 5], "big") & 0x0FFF)
        if end > len(body):
            raise RemoteProtocolError("a descriptor loop is longer than its program map")
        pid = int.from_bytes(body[offset + 1 : offset + 3], "big") & 0x1FFF
        streams.append(ElementaryStream(body[offset], pid, body[offset + 5 : end]))
        offset = end
    return ProgramMap(pcr_pid, tuple(streams), int.from_bytes(section[3:5], "big"))


def iterate_descriptors(loop: bytes) -> Sequence[tuple[int, bytes]]:
    """Return (tag, body) of each descriptor of a loop; a truncated last one is omitted."""
    descriptors = []
    offset = 0
    while offset + 2 <= len(loop):
        end = offset + 2 + loop[offset + 1]
        if end > len(loop):
            break
        descriptors.append((loop[offset], loop[offset + 2 : end]))
        offset = end
    return descriptors


class SectionAssembler:
    """Assembles the sections of one PID from packet payloads (section 2.4.4)."""

    __slots__ = ("_buffer", "_started")

    def __init__(self) -> None:
        self._buffer = b""
        self._started = False

    def reset(self) -> None:
        """Discard an incomplete section after a lost packet."""
        self._buffer = b""
        self._started = False

    def push(self, payload: bytes, unit_start: bool) -> list[bytes]:
        """Process the payload of one packet; return the sections that it completed."""
        sections: list[bytes] = []
        if unit_start:
            if not payload:
                return sections
            pointer = 1 + payload[0]
            if self._started:
                self._buffer += payload[1:pointer]
                self._extract(sections)
            self._buffer = payload[pointer:]
            self._started = True
        elif self._started:
            self._buffer += payload
        self._extract(sections)
        return sections

    def _extract(self, sections: list[bytes]) -> None:
        while len(self._buffer) >= 3:
            if self._buffer[0] == 0xFF:  # stuffing up to the end of the packet
                self.reset()
                return
            size = 3 + (int.from_bytes(self._buffer[1:3], "big") & 0x0FFF)
            if size > MAXIMUM_SECTION_SIZE:
                self.reset()
                return
            if len(self._buffer) < size:
                return
            sections.append(self._buffer[:size])
            self._buffer = self._buffer[size:]
