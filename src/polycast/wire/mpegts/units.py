"""Finds single PES packets in the bytes of a recorded transport stream (ISO/IEC 13818-1), without demultiplexing it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from polycast.errors import RemoteProtocolError
from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.pes import PesHeader, parse_pes_header
from polycast.wire.mpegts.psi import ProgramMap, SectionAssembler, parse_program_association, parse_program_map

MAXIMUM_UNIT_SIZE: Final = 16 * 1024 * 1024
"""Bytes of a PES packet."""
_UNIT_START: Final = 0x40


class UnitStart(NamedTuple):
    """The first packet of a PES packet."""

    offset: int
    time: int
    """Decoding time in ticks of 90 kHz, 33 bits."""
    random_access: bool
    """Whether the stream says that decoding can begin here."""


class Unit(NamedTuple):
    """A whole PES packet."""

    pid: int
    header: PesHeader
    payload: bytes


def find_program(data: bytes) -> ProgramMap | None:
    """Return the map of the first program in data that begins with a packet; None if it is not in it."""
    map_pid: int | None = None
    association, program = SectionAssembler(), SectionAssembler()
    for start in range(0, len(data) - ts.PACKET_SIZE + 1, ts.PACKET_SIZE):
        pid = (data[start + 1] & 0x1F) << 8 | data[start + 2]
        if data[start] != ts.SYNC_BYTE or pid not in (ts.PROGRAM_ASSOCIATION_PID, map_pid):
            continue
        payload = _payload(data, start)
        is_start = bool(data[start + 1] & _UNIT_START)
        try:
            if pid == ts.PROGRAM_ASSOCIATION_PID:
                for section in association.push(payload, is_start):
                    programs = parse_program_association(section)
                    map_pid = programs[0][1] if programs and map_pid is None else map_pid
            else:
                for section in program.push(payload, is_start):
                    found = parse_program_map(section)
                    if found is not None:
                        return found
        except RemoteProtocolError:
            continue
    return None


def find_unit_starts(data: bytes, pid: int, offset: int = 0) -> Iterator[UnitStart]:
    """Yield the PES packets of a PID that begin in data that begins with a packet.

    ``offset`` is that of the data in the file. Only the second byte of each packet is looked at, which is fast.
    """
    seconds = data[1 :: ts.PACKET_SIZE]
    wanted = bytes((_UNIT_START | pid >> 8,))
    low = pid & 0xFF
    index = seconds.find(wanted)
    while index >= 0:
        start = index * ts.PACKET_SIZE
        if start + ts.PACKET_SIZE > len(data):
            return
        if data[start + 2] == low and data[start] == ts.SYNC_BYTE:
            header = parse_pes_header(_payload(data, start))
            if header is not None and header.dts is not None:
                has_field = data[start + 3] & 0x20 and data[start + 4]
                yield UnitStart(offset + start, header.dts, bool(has_field and data[start + 5] & 0x40))
        index = seconds.find(wanted, index + 1)


def read_units(data: bytes, pids: Collection[int]) -> Iterator[Unit]:
    """Yield the PES packets of some PIDs that are whole in data that begins with a packet.

    The last one of each PID, if its length is not known, ends with the data. Damaged packets are left out.
    """
    open_units: dict[int, list[bytes]] = {}
    counters: dict[int, int] = {}
    for start in range(0, len(data) - ts.PACKET_SIZE + 1, ts.PACKET_SIZE):
        pid = (data[start + 1] & 0x1F) << 8 | data[start + 2]
        if pid not in pids or data[start] != ts.SYNC_BYTE or not data[start + 3] & 0x10:
            continue
        counter = data[start + 3] & 0x0F
        if pid in counters and counter != (counters[pid] + 1) & 0x0F:
            if counter == counters[pid]:  # a packet may be sent twice (section 2.4.3.3)
                continue
            open_units.pop(pid, None)
        counters[pid] = counter
        if data[start + 1] & _UNIT_START:
            yield from _finish(pid, open_units.pop(pid, None))
            open_units[pid] = [_payload(data, start)]
        elif pid in open_units:
            open_units[pid].append(_payload(data, start))
            if len(open_units[pid]) * ts.PAYLOAD_SIZE > MAXIMUM_UNIT_SIZE:
                del open_units[pid]
    for pid, pieces in open_units.items():
        yield from _finish(pid, pieces)


def _finish(pid: int, pieces: list[bytes] | None) -> Iterator[Unit]:
    if pieces is None:
        return
    data = b"".join(pieces)
    header = parse_pes_header(data)
    if header is None or header.packet_size > len(data):
        return
    yield Unit(pid, header, data[header.payload : header.packet_size or len(data)])


def _payload(data: bytes, start: int) -> bytes:
    """Return the payload of the packet that begins at ``start``, empty if it has none."""
    control = data[start + 3]
    if not control & 0x10:
        return b""
    skipped = 4 + (1 + data[start + 4] if control & 0x20 else 0)
    return data[start + skipped : start + ts.PACKET_SIZE]
