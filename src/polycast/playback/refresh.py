"""Brings the index of recorded files up to date: which files there are, and what is in those that are new."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from polycast.log import Log
from polycast.media.timebase import NANOSECONDS
from polycast.playback.files import MAXIMUM_TIME, UnreadableFile
from polycast.playback.opening import Files
from polycast.playback.watch import DirectoryWatch
from polycast.record.store import SegmentStore
from polycast.wire.mp4.presentation import build_fragmented_head

TOLERANCE: Final = NANOSECONDS
"""Nanoseconds between the end of a file and the start of the next one that are no gap, if the files do not say what
they belong to."""
SETTLED: Final = 600 * NANOSECONDS
"""Nanoseconds after its last change from which on a file counts as complete, even if it does not say so: it belongs to
a recorder that was killed, or is MPEG-TS."""
YOUNG: Final = 60 * NANOSECONDS
"""Nanoseconds during which it is normal that a file is empty."""
COARSE: Final = 100_000_000
"""Nanoseconds: a change of a directory this soon after it was read may have the same time as one before."""
LARGE: Final = 1_000
"""Files in a directory above which it is watched, so that it need not be read again."""
MAXIMUM_WARNINGS: Final = 20
"""Files in one look at the disk that are complained about one by one."""
_FINISHED: Final = -1
_BATCH: Final = 500
"""Rows that are held in memory."""


class _Row(NamedTuple):
    """What decides whether a file continues the one before."""

    start: int
    file: str
    end: int
    stream: str
    number: int
    tracks: str
    joins: int | None

    def continues(self, before: _Row) -> bool:
        if self.tracks != before.tracks:
            return False
        if self.stream or before.stream:
            return self.stream == before.stream and self.number == before.number + 1
        return abs(self.start - before.end) <= TOLERANCE


class Refresh:
    """One look at the files of a path. Within a transaction of its caller."""

    def __init__(
        self,
        database: sqlite3.Connection,
        stores: Sequence[SegmentStore],
        path: str,
        watch: DirectoryWatch,
        log: Log,
        files: Files,
    ) -> None:
        """``stores``: of the same ``recordPath``, one for each format."""
        self._watch = watch
        self._database = database
        self._root = stores[0].root
        self._path = path
        self._layouts = [store.layout(path) for store in stores]
        self._log = log
        self._files = files
        self._now = time.time_ns()
        self._warnings = 0
        self._visited: set[str] = set()

    def run(self) -> None:
        """Look at the disk. Raises OSError if a directory cannot be read."""
        first, *others = (layout.levels for layout in self._layouts)
        levels: list[_Level] = [(level,) for level in first[:-1]]
        levels.append((first[-1], *(other[-1] for other in others)))
        self._walk("", levels)
        self._forget_other_directories()
        self._read_unfinished()
        self._join()
        if self._warnings > MAXIMUM_WARNINGS:
            self._log.warning("%d more files cannot be played", self._warnings - MAXIMUM_WARNINGS)

    # Directories

    def _walk(self, directory: str, levels: Sequence[_Level]) -> None:
        level, *below = levels
        if below and isinstance(level[0], str):
            child = os.path.join(directory, level[0])
            if self._is_directory(child):
                self._walk(child, below)
            return
        names_changed = self._watch.take(os.path.join(self._root, directory)) if not below else None
        changed = self._changed(directory)
        if changed is None:
            return
        self._visited.add(directory)
        known = self._database.execute(
            "SELECT changed FROM directories WHERE path = ? AND directory = ?", (self._path, directory)
        ).fetchone()
        if known is not None and names_changed:
            self._compare_some(directory, names_changed)
            self._note_directory(directory, None, changed)
            return
        if known is not None and known[0] == changed:
            if below:
                for (child,) in self._database.execute(
                    "SELECT directory FROM directories WHERE path = ? AND parent = ?", (self._path, directory)
                ).fetchall():
                    self._walk_into(child, below)
            return
        names = self._names(directory, level, is_file=not below)
        is_watched = names_changed is not None
        if len(names) > LARGE and not below and not is_watched:
            is_watched = self._watch.add(os.path.join(self._root, directory))
            names = self._names(directory, level, is_file=True)  # what was added before it was watched
        if below:
            for name in names:
                child = os.path.join(directory, name)
                self._note_directory(child, directory, 0)
                self._walk_into(child, below)
        else:
            self._compare(directory, names)
        is_certain = is_watched or self._now - changed > COARSE
        self._note_directory(directory, None, changed if is_certain else 0)

    def _walk_into(self, directory: str, levels: Sequence[_Level]) -> None:
        """Walk through a directory that was found. It stays known, so that it is found again without a look."""
        self._visited.add(directory)
        self._walk(directory, levels)

    def _is_directory(self, directory: str) -> bool:
        """Return whether there is a directory of this name; a symbolic link is none."""
        try:
            return stat.S_ISDIR(os.lstat(os.path.join(self._root, directory)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _changed(self, directory: str) -> int | None:
        """Return when files were added to a directory or removed the last time; None if there is no such directory."""
        try:
            return os.stat(os.path.join(self._root, directory)).st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _names(self, directory: str, level: _Level, *, is_file: bool) -> set[str]:
        names = set()
        expressions = [re.compile(re.escape(each)) if isinstance(each, str) else each for each in level]
        with os.scandir(os.path.join(self._root, directory)) as entries:
            for entry in entries:
                if any(expression.fullmatch(entry.name) for expression in expressions):
                    has_kind = entry.is_file if is_file else entry.is_dir
                    if has_kind(follow_symlinks=False):
                        names.add(entry.name)
        return names

    def _note_directory(self, directory: str, parent: str | None, changed: int) -> None:
        self._database.execute(
            "INSERT INTO directories VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET parent = ifnull(excluded.parent, parent), "
            "changed = CASE WHEN excluded.parent IS NULL THEN excluded.changed ELSE changed END",
            (self._path, directory, parent, changed),
        )

    def _compare(self, directory: str, names: set[str]) -> None:
        """Add and remove files of a directory that was read."""
        rows = self._database.execute(
            "SELECT file, start FROM segments WHERE path = ? AND directory = ?", (self._path, directory)
        )
        known: dict[str, int] = dict(rows.fetchall())
        found = {os.path.join(directory, name) for name in names}
        removed = known.keys() - found
        for file in removed:
            self._remove(known[file], file)
        self._add(self._starts(found - known.keys()), directory)

    def _add(self, files: Iterable[tuple[str, int]], directory: str) -> None:
        self._database.executemany(
            "INSERT OR REPLACE INTO segments (path, start, file, directory, size, changed) VALUES (?, ?, ?, ?, 0, 0)",
            [(self._path, start, file, directory) for file, start in files],
        )

    def _compare_some(self, directory: str, names: set[str]) -> None:
        """Add and remove files of a directory that was not read: those whose names have appeared or disappeared."""
        for file, start in self._starts({os.path.join(directory, name) for name in names}):
            absolute = os.path.join(self._root, file)
            if os.path.isfile(absolute) and not os.path.islink(absolute):
                self._add([(file, start)], directory)
            else:
                self._remove(start, file)

    def _starts(self, files: set[str]) -> Iterator[tuple[str, int]]:
        for file in files:
            for layout in self._layouts:
                segment = layout.parse(file)
                if segment is not None and abs(segment.start) < MAXIMUM_TIME:
                    yield file, segment.start
                    break

    def _forget_other_directories(self) -> None:
        for (directory,) in self._database.execute(
            "SELECT directory FROM directories WHERE path = ?", (self._path,)
        ).fetchall():
            if directory not in self._visited:
                self._compare(directory, set())
                self._database.execute(
                    "DELETE FROM directories WHERE path = ? AND directory = ?", (self._path, directory)
                )

    # Files

    def _read_unfinished(self) -> None:
        """Read the files that are new or may have grown."""
        after = (-(1 << 62), "")
        while True:
            rows = self._database.execute(
                "SELECT start, file, size, changed, problem FROM segments INDEXED BY unfinished "
                "WHERE path = ? AND changed >= 0 AND (start, file) > (?, ?) ORDER BY start, file LIMIT ?",
                (self._path, *after, _BATCH),
            ).fetchall()
            if not rows:
                return
            for row in rows:
                self._read_if_changed(*row)
            after = rows[-1][:2]
            if len(rows) == _BATCH:
                self._database.execute("COMMIT")  # what was read is not lost, and others can use the index meanwhile
                self._database.execute("BEGIN IMMEDIATE")

    def _read_if_changed(self, start: int, file: str, size: int, changed: int, problem: str | None) -> None:
        try:
            status = os.stat(os.path.join(self._root, file))
        except OSError:
            self._remove(start, file)
            return
        is_settled = self._now - status.st_mtime_ns > SETTLED
        if (size, changed) == (status.st_size, status.st_mtime_ns):
            if is_settled:
                self._update(start, file, {"changed": _FINISHED})
            return
        fields, is_complete, new_problem = self._read(start, file)
        if new_problem and new_problem != problem and (is_settled or self._now - status.st_mtime_ns > YOUNG):
            self._warn(file, new_problem)
        fields["size"] = status.st_size
        fields["changed"] = _FINISHED if is_complete or is_settled else status.st_mtime_ns
        fields["problem"] = new_problem
        fields["joins"] = None
        self._update(start, file, fields)
        self._ask_again_after(start, file)

    def _read(self, start: int, file: str) -> tuple[dict[str, object], bool, str]:
        """Return what a file contains, whether it is complete, and why it cannot be read."""
        try:
            with self._files.open(os.path.join(self._root, file)) as opened:
                place = opened.place
                duration = opened.duration
                if duration >= MAXIMUM_TIME:
                    raise UnreadableFile("its times are not possible")
                tracks = " ".join(
                    f"{track.track_id}/{track.timescale}/{track.kind.decode('latin-1')}" for track in opened.tracks
                )
                fields: dict[str, object] = {
                    "end": start + duration,
                    "stream": place.stream.hex if place is not None else "",
                    "number": place.number & (1 << 63) - 1 if place is not None else 0,
                    "time": opened.origin,
                    "tracks": tracks,
                    "head": hashlib.blake2b(build_fragmented_head(opened.tracks), digest_size=8).hexdigest(),
                    "cuts": None,
                }
                return fields, opened.is_complete, ""
        except (UnreadableFile, OSError) as error:
            text = str(error.strerror or error) if isinstance(error, OSError) else str(error)
            return {"end": None}, False, text

    def _update(self, start: int, file: str, fields: dict[str, object]) -> None:
        assignments = ", ".join(f"{name} = ?" for name in fields)
        self._database.execute(
            f"UPDATE segments SET {assignments} WHERE path = ? AND start = ? AND file = ?",
            (*fields.values(), self._path, start, file),
        )

    def _warn(self, file: str, problem: str) -> None:
        self._warnings += 1
        if self._warnings <= MAXIMUM_WARNINGS:
            self._log.warning("%s cannot be played: %s", os.path.join(self._root, file), problem)

    # What continues what

    def _remove(self, start: int, file: str) -> None:
        self._database.execute(
            "DELETE FROM segments WHERE path = ? AND start = ? AND file = ?", (self._path, start, file)
        )
        self._ask_again_after(start, file)

    def _ask_again_after(self, start: int, file: str) -> None:
        """The file after this one may continue another one now."""
        following = self._database.execute(
            "SELECT start, file FROM segments INDEXED BY readable "
            "WHERE path = ? AND (start, file) > (?, ?) AND end IS NOT NULL ORDER BY start, file LIMIT 1",
            (self._path, start, file),
        ).fetchone()
        if following is not None:
            self._update(following[0], following[1], {"joins": None})

    def _join(self) -> None:
        """Decide which files continue the one before, where it is not known."""
        first, last = self._database.execute(
            "SELECT min(start), max(start) FROM segments INDEXED BY undecided "
            "WHERE path = ? AND end IS NOT NULL AND joins IS NULL",
            (self._path,),
        ).fetchone()
        if first is None:
            return
        columns = "start, file, end, stream, number, tracks, joins"
        before = self._database.execute(
            f"SELECT {columns} FROM segments INDEXED BY readable WHERE path = ? AND start < ? AND end IS NOT NULL "
            "ORDER BY start DESC, file DESC LIMIT 1",
            (self._path, first),
        ).fetchone()
        previous = _Row(*before) if before is not None else None
        changes = []
        for values in self._database.execute(
            f"SELECT {columns} FROM segments INDEXED BY readable WHERE path = ? AND start BETWEEN ? AND ? "
            "AND end IS NOT NULL ORDER BY start, file",
            (self._path, first, last),
        ):
            row = _Row(*values)
            joins = int(previous is not None and row.continues(previous))
            if joins != row.joins:
                changes.append((joins, self._path, row.start, row.file))
            previous = row
        self._database.executemany("UPDATE segments SET joins = ? WHERE path = ? AND start = ? AND file = ?", changes)


_Level = tuple[str | re.Pattern[str], ...]
