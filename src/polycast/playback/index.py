"""The index of recorded files: when each begins and ends, and which continue each other.

It is a database beside the files, made of them alone: if it is lost, damaged or of another version, it is made again.
Files that others have added or removed are noticed, because the time of their directory changes.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

from polycast.log import Log
from polycast.playback.files import MAXIMUM_TIME
from polycast.playback.opening import Files
from polycast.playback.refresh import Refresh
from polycast.playback.watch import DirectoryWatch
from polycast.record.store import EXTENSIONS, SegmentStore

NAME: Final = ".polycast-index.sqlite3"
"""File of the database, in the directory that all files of a ``recordPath`` are in."""
VERSION: Final = 2
"""Of the tables. A database of another version is made again."""
BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another process that uses the same index."""
MANY_PERIODS: Final = 2_000
"""Periods above which it is faster to look at all files than to look up the last one of each period."""
_DAMAGED: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)
"""Primary result codes, the low byte of the extended ones. The last one means that a table is missing."""

Answer = TypeVar("Answer")

_TABLES: Final = """
CREATE TABLE directories (
    path TEXT, directory TEXT, parent TEXT, changed INTEGER, PRIMARY KEY (path, directory)
) WITHOUT ROWID;
CREATE TABLE segments (
    path TEXT, start INTEGER, file TEXT, directory TEXT, size INTEGER, changed INTEGER, problem TEXT,
    end INTEGER, stream TEXT, number INTEGER, time INTEGER, tracks TEXT, head TEXT, joins INTEGER,
    cuts BLOB,
    PRIMARY KEY (path, start, file)
) WITHOUT ROWID;
CREATE INDEX readable ON segments (path, start, file) WHERE end IS NOT NULL;
CREATE INDEX by_directory ON segments (path, directory);
CREATE INDEX beginnings ON segments (path, start, file) WHERE joins = 0;
CREATE INDEX undecided ON segments (path, start) WHERE end IS NOT NULL AND joins IS NULL;
CREATE INDEX unfinished ON segments (path, start, file) WHERE changed >= 0;
"""
# joins: 1 if the file continues the one before, 0 if not, NULL while unreadable or not read yet.
# changed: time of the file's last change if it may still grow (0: not read yet), -1 if not.


class Segment(NamedTuple):
    """A recorded file that can be played."""

    start: int
    """Wall-clock time in nanoseconds since 1970."""
    file: str
    """Absolute name."""
    end: int
    joins: bool
    """Whether it continues the file before."""
    time: int | None
    """On the timeline of its recording, in nanoseconds; None if it does not say so."""
    head: str
    """Differs if the description of the tracks does."""
    cuts: tuple[int, ...] | None = None
    """Where media segments can begin (`playlist.thin_out`); None if that was not looked for yet."""
    is_complete: bool = True
    """Whether nothing will be added to it."""

    @property
    def duration(self) -> int:
        """Nanoseconds."""
        return self.end - self.start


class Period(NamedTuple):
    """Files that continue each other, without a gap."""

    start: int
    """Wall-clock time in nanoseconds since 1970."""
    end: int


class RecordingIndex:
    """The index of the files of one ``recordPath``. Its methods wait for the disk; threads may share it."""

    def __init__(self, record_path: str, log: Log, files: Files | None = None) -> None:
        """``record_path`` is as configured, without extension. ``files`` opens the files for others as well."""
        self._stores = [SegmentStore(record_path, each) for each in EXTENSIONS]
        self.root = self._stores[0].root
        self._log = log
        self._files = files if files is not None else Files()
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        """Device and number of its file; None in memory."""
        self._watch = DirectoryWatch()

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._close()
            self._watch.close()

    # Questions

    def periods(self, path: str, start: int | None = None, end: int | None = None) -> list[Period]:
        """Return what is recorded of a path, in order: what ends after ``start`` and does not begin after ``end``.

        Files are not cut: a period may begin before ``start``, and end after ``end``. Raises OSError if a directory
        cannot be read.
        """
        first, last = (None if each is None else _clamp(each) for each in (start, end))
        return self._ask(lambda database: _periods(database, path, first, last), path)

    def segments(
        self, path: str, start: int, end: int, newest: int | None = None, oldest: int | None = None
    ) -> list[Segment]:
        """Return the files of a path from the last one that begins at ``start`` or before, up to ``end``, in order.

        ``newest`` or ``oldest``: how many, if there are more. Raises OSError if a directory cannot be read.
        """
        first, last = _clamp(start), _clamp(end)
        found = self._ask(lambda database: _segments(database, path, first, last, newest, oldest), path)
        return [segment._replace(file=os.path.join(self.root, segment.file)) for segment in found]

    def keep_cuts(self, path: str, segments: Sequence[Segment]) -> None:
        """Remember where media segments can begin, of those files that will not change any more."""
        rows = [
            (array("q", segment.cuts or ()).tobytes(), path, segment.start, os.path.relpath(segment.file, self.root))
            for segment in segments
        ]
        with self._lock, suppress(sqlite3.Error):  # it can be found out again
            self._open().executemany(
                "UPDATE segments SET cuts = ? WHERE path = ? AND start = ? AND file = ? AND changed = -1", rows
            )

    def _ask(self, question: Callable[[sqlite3.Connection], list[Answer]], path: str) -> list[Answer]:
        """Compare the index with the disk, then run a query.

        A damaged database is created again. If it cannot be used, because the disk is full or read-only,
        or another process holds it for too long, the index is kept in memory.
        """
        with self._lock:
            try:
                return self._answer(question, path)
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                    self._log.warning("the index of the recordings in %s is created again: %s", self.root, error)
                    self._discard()
                else:
                    self._keep_in_memory(error)
                return self._answer(question, path)

    def _answer(self, question: Callable[[sqlite3.Connection], list[Answer]], path: str) -> list[Answer]:
        if not os.path.isdir(self.root):
            return []
        database = self._open()
        with database:
            # other processes may write as well: a transaction that only begins to write later could not wait for them
            database.execute("BEGIN IMMEDIATE")
            Refresh(database, self._stores, path, self._watch, self._log, self._files).run()
            return question(database)

    # The database

    def _open(self) -> sqlite3.Connection:
        name = os.path.join(self.root, NAME)
        if self._opened is not None and _identify(name) != self._opened:
            self._close()  # the directory was replaced, or another disk was mounted there
            self._watch.close()
        if self._database is None:
            try:
                self._database = _connect(name)
                self._opened = _identify(name)
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                    raise
                return self._keep_in_memory(error)
        return self._database

    def _keep_in_memory(self, error: sqlite3.Error) -> sqlite3.Connection:
        self._log.info("the index of the recordings in %s is kept in memory only: %s", self.root, error)
        self._close()
        self._database = _connect(":memory:")
        return self._database

    def _close(self) -> None:
        database, self._database, self._opened = self._database, None, None
        if database is not None:
            with suppress(sqlite3.Error):
                database.close()

    def _discard(self) -> None:
        self._close()
        for suffix in ("", "-wal", "-shm"):
            with suppress(OSError):
                os.unlink(os.path.join(self.root, NAME + suffix))


def _clamp(time: int) -> int:
    """Return a time that the database can compare: requests may name any year."""
    return max(-MAXIMUM_TIME, min(time, MAXIMUM_TIME))


def _identify(file: str) -> tuple[int, int] | None:
    """Return device and number of a file; None if there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _connect(name: str) -> sqlite3.Connection:
    """Open a database with the tables, empty if it is new or of another version. Raises sqlite3.Error."""
    database = sqlite3.connect(name, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        # nothing is lost if the power fails: the index can be made again
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")
        if database.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                database.execute(f'DROP TABLE "{table}"')
            database.executescript(_TABLES)
            database.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        database.close()
        raise
    return database


def _periods(database: sqlite3.Connection, path: str, start: int | None, end: int | None) -> list[Period]:
    last = MAXIMUM_TIME if end is None else end
    first = -MAXIMUM_TIME
    if start is not None:
        row = database.execute(
            "SELECT start FROM segments INDEXED BY beginnings WHERE path = ? AND joins = 0 AND start <= ? "
            "ORDER BY start DESC LIMIT 1",
            (path, start),
        ).fetchone()
        first = row[0] if row is not None else start
    beginnings = database.execute(
        "SELECT start, file FROM segments INDEXED BY beginnings WHERE path = ? AND joins = 0 AND start BETWEEN ? AND ? "
        "ORDER BY start, file",
        (path, first, last),
    ).fetchall()
    if not beginnings:
        return []
    if len(beginnings) > MANY_PERIODS:
        periods = _periods_one_by_one(database, path, first, last)
    else:
        periods = []
        following = [*beginnings[1:], (last + 1, "")]
        for beginning, next_one in zip(beginnings, following, strict=True):
            row = database.execute(
                "SELECT end FROM segments WHERE path = ? AND (start, file) < (?, ?) AND joins IS NOT NULL "
                "ORDER BY start DESC, file DESC LIMIT 1",
                (path, *next_one),
            ).fetchone()
            periods.append(Period(beginning[0], row[0]))
    return [period for period in periods if start is None or period.end > start]


def _periods_one_by_one(database: sqlite3.Connection, path: str, first: int, last: int) -> list[Period]:
    periods: list[Period] = []
    for start, end, joins in database.execute(
        "SELECT start, end, joins FROM segments WHERE path = ? AND start BETWEEN ? AND ? AND joins IS NOT NULL "
        "ORDER BY start, file",
        (path, first, last),
    ):
        if joins and periods:
            periods[-1] = Period(periods[-1].start, end)
        else:
            periods.append(Period(start, end))
    return periods


def _segments(
    database: sqlite3.Connection, path: str, start: int, end: int, newest: int | None = None, oldest: int | None = None
) -> list[Segment]:
    row = database.execute(
        "SELECT start FROM segments WHERE path = ? AND joins IS NOT NULL AND start <= ? ORDER BY start DESC LIMIT 1",
        (path, start),
    ).fetchone()
    limit = newest if oldest is None else oldest
    order = "start DESC, file DESC" if oldest is None else "start, file"
    rows = database.execute(
        "SELECT start, file, end, joins, time, head, cuts, changed = -1 FROM segments "
        f"WHERE path = ? AND start >= ? AND start <= ? AND joins IS NOT NULL ORDER BY {order} LIMIT ?",
        (path, row[0] if row is not None else start, end, -1 if limit is None else limit),
    )
    found = [
        Segment(at, file, until, bool(joins), time, head, None if cuts is None else tuple(array("q", cuts)), bool(done))
        for at, file, until, joins, time, head, cuts, done in rows
    ]
    if oldest is None:
        found.reverse()
    return found
