"""The tables of a transport stream, as far as a demuxer follows them: which program, and what it consists of."""

from __future__ import annotations

from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.psi import ProgramMap, SectionAssembler, parse_program_association, parse_program_map


class ProgramTables:
    """Follows the program association and the map of one program."""

    def __init__(self, number: int | None) -> None:
        """``number`` of the program; None for the first one."""
        self._number = number
        self._association = SectionAssembler()
        self._map = SectionAssembler()
        self._map_pid: int | None = None
        self.program: ProgramMap | None = None
        """The current map; None before the first one."""

    def has(self, pid: int) -> bool:
        """Whether packets of this PID carry tables."""
        return pid in (ts.PROGRAM_ASSOCIATION_PID, self._map_pid)

    def receive(self, pid: int, payload: bytes, *, unit_start: bool, lost: bool) -> ProgramMap | None:
        """Process a packet; ``lost``: others before it are missing. Return a new map.

        Raises RemoteProtocolError for an invalid section.
        """
        is_association = pid == ts.PROGRAM_ASSOCIATION_PID
        assembler = self._association if is_association else self._map
        if lost:
            assembler.reset()
        changed: ProgramMap | None = None
        for section in assembler.push(payload, unit_start):
            if is_association:
                self._on_association(parse_program_association(section))
            else:
                changed = self._on_map(parse_program_map(section)) or changed
        return changed

    def _on_association(self, programs: list[tuple[int, int]] | None) -> None:
        for number, pid in programs or ():
            if self._number in (None, number):
                if pid != self._map_pid:
                    self._map_pid = pid
                    self._map.reset()
                return

    def _on_map(self, program: ProgramMap | None) -> ProgramMap | None:
        """Return a map if it says something new. Several programs may have their maps on one PID."""
        if program is None or self._number not in (None, program.program_number):
            return None
        if self.program is not None and program.streams == self.program.streams:
            return None
        self.program = program
        return program
