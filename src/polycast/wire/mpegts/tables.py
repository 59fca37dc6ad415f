"""The tables of a transport stream, as far as a demuxer follows them: which program, and what it consists of."""

from __future__ import annotations

from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.psi import ProgramMap, SectionAssembler, parse_program_association, parse_program_map

PATIENCE = 3
"""Maps of another program after which that of the chosen one is no longer awaited: how often there are associations
says nothing of it (ATSC A/53: every 100 ms, and maps every 400 ms)."""


class ProgramTables:
    """Follows the program association and the map of one program."""

    def __init__(self, number: int | None) -> None:
        """``number`` of the program; None for the first one that has a map and is not rejected."""
        self._number = number
        self._programs: list[tuple[int, int]] = []
        """Number and PID of the programs to choose from."""
        self._current = 0
        """The number of the chosen one."""
        self._others: dict[int, int] = {}
        """Maps since it was chosen, by the PIDs of the other programs."""
        self._association = SectionAssembler()
        self._map = SectionAssembler()
        self._map_pid: int | None = None
        self.program: ProgramMap | None = None
        """The current map; None before the first one."""

    def has(self, pid: int) -> bool:
        """Whether packets of this PID carry tables."""
        return pid in (ts.PROGRAM_ASSOCIATION_PID, self._map_pid) or (self.program is None and pid in self._others)

    def receive(self, pid: int, payload: bytes, *, unit_start: bool, lost: bool) -> ProgramMap | None:
        """Process a packet; ``lost``: others before it are missing. Return a new map.

        Raises RemoteProtocolError for an invalid section.
        """
        is_association = pid == ts.PROGRAM_ASSOCIATION_PID
        if not is_association and pid != self._map_pid:
            self._pass(pid, unit_start)
            return None
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

    def reject(self) -> None:
        """Try the next program: the current one has nothing that is supported."""
        if len(self._programs) > 1:
            self.program = None
            self._choose_next()

    def _on_association(self, programs: list[tuple[int, int]] | None) -> None:
        wanted = [program for program in programs or () if self._number in (None, program[0])]
        if not wanted:
            return
        self._programs = wanted
        for number, pid in wanted:
            if number == self._current:
                self._choose(number, pid)
                return
        self._choose(*wanted[0])

    def _pass(self, pid: int, unit_start: bool) -> None:
        if pid in self._others and self.program is None:
            self._others[pid] += unit_start
            if self._others[pid] >= PATIENCE:
                self._choose_next()

    def _choose_next(self) -> None:
        numbers = [number for number, _ in self._programs]
        self._choose(*self._programs[(numbers.index(self._current) + 1) % len(numbers)])

    def _choose(self, number: int, pid: int) -> None:
        others = {other for each, other in self._programs if each != number}
        if number != self._current or self._others.keys() != others:
            self._current = number
            self._others = dict.fromkeys(others, 0)
        if pid != self._map_pid:
            self._map_pid = pid
            self._map.reset()

    def _on_map(self, program: ProgramMap | None) -> ProgramMap | None:
        """Return a map if it says something new. Several programs may have their maps on one PID."""
        if program is None or self._number not in (None, program.program_number):
            return None
        if program.program_number != self._current:
            is_known = self.program is not None and self.program.program_number == self._current
            if is_known or [pid for _, pid in self._programs].count(self._map_pid or 0) > 1:
                self._pass(self._map_pid or 0, unit_start=True)
                return None
        if self.program is not None and program.streams == self.program.streams:
            return None
        self.program = program
        return program
