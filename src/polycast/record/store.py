"""The files of recordings: how ``recordPath`` names them, and which of them are on the disk.

Files that do not have the form of ``recordPath`` are never listed, and symbolic links below its directory are never
followed: nothing outside that directory can be listed, served or deleted.

The functions that look at the disk block: call them in a thread. With a million files they take seconds, and let the
other threads work meanwhile.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, NamedTuple, Protocol

from polycast.config.names import check_path_name
from polycast.errors import ConfigurationError
from polycast.media.timebase import NANOSECONDS, WallTime

EXTENSIONS: Final = {"fmp4": ".mp4", "mpegts": ".ts"}
"""The extension of the files of each ``recordFormat``."""

_CODE = re.compile(r"%(path|[YmdHMSfsz])")
_EXPRESSIONS: Final = {
    "path": r"[0-9a-zA-Z_\-/\\.~]+?",
    "Y": r"[0-9]{4}",
    "m": r"[0-9]{2}",
    "d": r"[0-9]{2}",
    "H": r"[0-9]{2}",
    "M": r"[0-9]{2}",
    "S": r"[0-9]{2}",
    "f": r"[0-9]{6}",
    "s": r"[0-9]{10}",
    "z": r"Z|[+-][0-9]{4}",
}

_MANY_FILES: Final = 1_000
"""Files of one path in a directory after which it is not searched for directories of other paths."""

_PAUSE_ENTRIES: Final = 256  # entries of directories, about half a millisecond
_PAUSE_SECONDS: Final = 0.0002


class Segment(NamedTuple):
    """One file of a recording."""

    path: str
    """The name of the path that was recorded."""
    start: WallTime
    """When it begins, as exactly as its name says: microseconds with ``%f``, otherwise seconds."""
    file: str
    """The absolute name of the file."""


class Layout:
    """The form of the names of the segments of one path."""

    def __init__(self, root: str, path: str, template: str) -> None:
        """``template`` is relative to ``root``."""
        self._root = root
        self._path = path
        self._whole = _compile(template)
        self.levels: Final[Sequence[re.Pattern[str] | str]] = [
            _compile(level) if _CODE.search(level) else level for level in template.split(os.sep)
        ]
        """What the names of the directories below the root must match, and at last that of the file; texts where the
        name is known."""

    def parse(self, relative: str) -> Segment | None:
        """Return what the name of a file says, or None if it is not that of a segment of the path."""
        segment = _parse(self._root, relative, self._whole)
        return segment._replace(path=self._path) if segment is not None else None


class SegmentStore:
    """The segments that have the form of one ``recordPath``.

    Args:
        record_path: As configured, without extension. Relative names are relative to the working directory.
        record_format: ``fmp4`` or ``mpegts``.

    """

    def __init__(self, record_path: str, record_format: str) -> None:
        name = os.path.abspath(record_path) + EXTENSIONS[record_format]
        self.root = os.path.dirname(name[: name.index("%")] if "%" in name else name)
        """The directory that all segments are in: what precedes the first variable of ``recordPath``."""
        self._template = os.path.relpath(name, self.root)
        self._any = _compile(self._template)
        self._has_fraction = "%f" in self._template

    @property
    def resolution(self) -> int:
        """The smallest difference between the starts of two segments of a path, in nanoseconds."""
        return 1_000 if self._has_fraction else NANOSECONDS

    def file_of(self, path: str, start: WallTime) -> str:
        """Return the absolute name of the segment of a path that starts at ``start``, in the local time of the server.

        Raises ConfigurationError if ``path`` cannot be the name of a path, and ValueError if there is no such date.
        """
        check_path_name(path)
        values = _values(start)
        values["path"] = path.replace("/", os.sep)
        return os.path.join(self.root, _CODE.sub(lambda code: values[code[1]], self._template))

    def parse(self, file: str) -> Segment | None:
        """Return what the name of a file says, or None if it is not that of a segment. The disk is not looked at."""
        relative = os.path.relpath(file, self.root)
        return _parse(self.root, relative, self._any)

    def scan(self, path: str) -> Iterator[Segment]:
        """Yield the segments of a path, in no particular order.

        Raises ConfigurationError if ``path`` cannot be the name of a path, and OSError if a directory cannot be read;
        that it does not exist is no error.
        """
        layout = self.layout(path)
        for file in self._descend("", layout.levels, _Pauses()):
            segment = layout.parse(file)
            if segment is not None:
                yield segment

    def layout(self, path: str) -> Layout:
        """Return the form of the names of a path. Raises ConfigurationError if ``path`` cannot be one."""
        check_path_name(path)
        return Layout(self.root, path, self._template.replace("%path", path.replace("/", os.sep)))

    def segments(self, path: str) -> list[Segment]:
        """Return the segments of a path by their start; errors as those of `scan`."""
        return sorted(self.scan(path), key=lambda segment: segment.start)

    def scan_all(self) -> Iterator[Segment]:
        """Yield the segments of all paths, in no particular order. Directories that cannot be read are left out."""
        pauses = _Pauses()
        directories = [""]
        while directories:
            directory = directories.pop()
            with suppress(OSError), os.scandir(os.path.join(self.root, directory)) as entries:
                for entry in entries:
                    pauses.count()
                    name = os.path.join(directory, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(name)
                    elif (segment := _parse(self.root, name, self._any)) and entry.is_file(follow_symlinks=False):
                        yield segment

    def paths(self) -> Iterator[str]:
        """Yield the names of all paths that have segments, perhaps several times.

        Directories that cannot be read are left out. In a directory with files of one path, it is enough to find one of
        them; the other entries are only read because there may be directories among them.
        """
        pauses = _Pauses()
        has_one_path = "%path" not in os.path.basename(self._template)
        directories = [""]
        while directories:
            directory = directories.pop()
            found = 0
            with suppress(OSError), os.scandir(os.path.join(self.root, directory)) as entries:
                for entry in entries:
                    pauses.count()
                    name = os.path.join(directory, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(name)
                    elif found and has_one_path:
                        found += 1
                        if found > _MANY_FILES:
                            break
                    elif segment := _parse(self.root, name, self._any):
                        yield segment.path
                        found = 1

    def find(self, path: str, start: WallTime) -> Segment | None:
        """Return the segment of a path that starts at ``start``, as exactly as names of files say it, or None.

        Errors as those of `scan`.
        """
        wanted = start - start % self.resolution
        for segment in self.scan(path):
            if segment.start == wanted:
                return segment
        return None

    def remove(self, segment: Segment) -> None:
        """Delete the file of a segment, and the directories that are empty without it, except `root`.

        Raises OSError if the file cannot be deleted, or is not in `root` because a directory is a symbolic link.
        """
        self.check_inside(segment.file)
        os.unlink(segment.file)
        self.remove_empty(os.path.dirname(segment.file))

    def remove_empty(self, directory: str) -> None:
        """Delete a directory below `root`, and those that it is in, as far as they are empty."""
        with suppress(OSError):  # it is not empty, or gone
            while directory.startswith(os.path.join(self.root, "")) and directory != self.root:
                os.rmdir(directory)
                directory = os.path.dirname(directory)

    def check_inside(self, file: str) -> None:
        """Raise OSError if a file is outside of `root`, or would be: because of ``..``, or of symbolic links."""
        inside = os.path.realpath(self.root)
        if os.path.commonpath([inside, os.path.realpath(file)]) != inside or os.path.islink(file):
            raise OSError(errno.EPERM, f"not in {self.root}, or a symbolic link", file)

    def _descend(self, directory: str, levels: Sequence[re.Pattern[str] | str], pauses: _Pauses) -> Iterator[str]:
        """Yield the files below a directory whose names match ``levels``; both relative to `root`."""
        level, *below = levels
        for entry in self._entries(directory, level, pauses):
            name = os.path.join(directory, entry.name)
            if below:
                if entry.is_dir(follow_symlinks=False):
                    yield from self._descend(name, below, pauses)
            elif entry.is_file(follow_symlinks=False):
                yield name

    def _entries(self, directory: str, level: re.Pattern[str] | str, pauses: _Pauses) -> Iterator[_Entry]:
        """Yield what is in a directory and matches. A directory that is missing is empty."""
        absolute = os.path.join(self.root, directory)
        if isinstance(level, str):
            yield _Named(absolute, level)
            return
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(absolute) as entries:
            for entry in entries:
                pauses.count()
                if level.fullmatch(entry.name):
                    yield entry


class _Pauses:
    """Lets other threads work after some entries of directories."""

    def __init__(self) -> None:
        self._entries = 0

    def count(self) -> None:
        self._entries += 1
        if self._entries % _PAUSE_ENTRIES == 0:
            time.sleep(_PAUSE_SECONDS)


class _Entry(Protocol):
    """What `os.DirEntry` has in common with `_Named`."""

    @property
    def name(self) -> str: ...
    def is_dir(self, *, follow_symlinks: bool) -> bool: ...
    def is_file(self, *, follow_symlinks: bool) -> bool: ...


class _Named:
    """A file or directory whose name is known, so that its directory need not be read. It may be missing."""

    def __init__(self, directory: str, name: str) -> None:
        self.name = name
        self._file = os.path.join(directory, name)

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return os.path.isdir(self._file) and (follow_symlinks or not os.path.islink(self._file))

    def is_file(self, *, follow_symlinks: bool) -> bool:
        return os.path.isfile(self._file) and (follow_symlinks or not os.path.islink(self._file))


def _parse(root: str, relative: str, expression: re.Pattern[str]) -> Segment | None:
    match = expression.fullmatch(relative)
    if match is None:
        return None
    values = match.groupdict()
    path = values.get("path", "").replace(os.sep, "/")
    start = _start(values)
    if start is None or ("path" in values and not _is_path_name(path)):
        return None
    return Segment(path, start, os.path.join(root, relative))


def _compile(template: str) -> re.Pattern[str]:
    """Return the expression that matches names of the form of a template, with a group for each variable."""
    parts = []
    seen = set()
    position = 0
    for code in _CODE.finditer(template):
        parts.append(re.escape(template[position : code.start()]))
        name = code[1]
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{_EXPRESSIONS[name]})")
        seen.add(name)
        position = code.end()
    parts.append(re.escape(template[position:]))
    return re.compile("".join(parts), re.ASCII)


def _values(start: WallTime) -> dict[str, str]:
    """Return the values of the variables of time, in the local time of the server."""
    seconds, nanoseconds = divmod(start, NANOSECONDS)
    utc = datetime(1970, 1, 1, tzinfo=UTC)
    try:
        local = (utc + timedelta(seconds=seconds)).astimezone()
    except (OverflowError, OSError) as error:
        raise ValueError(f"no date: {start} ns") from error
    minutes = (local.utcoffset() or timedelta()) // timedelta(minutes=1)
    return {
        "Y": f"{local.year:04}",
        "m": f"{local.month:02}",
        "d": f"{local.day:02}",
        "H": f"{local.hour:02}",
        "M": f"{local.minute:02}",
        "S": f"{local.second:02}",
        "f": f"{nanoseconds // 1000:06}",
        "s": f"{seconds:010}",
        "z": "{}{:02}{:02}".format("-" if minutes < 0 else "+", *divmod(abs(minutes), 60)) if minutes else "Z",
    }


def _start(values: dict[str, str]) -> WallTime | None:
    """Return the time that the variables of a name stand for, or None if there is no such date."""
    microseconds = int(values.get("f", 0))
    if "s" in values:
        seconds = int(values["s"])
    else:
        try:
            date = datetime(*(int(values[name]) for name in "YmdHMS"))  # type: ignore[arg-type]
            zone = values.get("z")
            if zone is not None:
                date = date.replace(tzinfo=_zone(zone))
            seconds = int(date.timestamp())
        except (KeyError, ValueError, OverflowError, OSError):
            return None
    return WallTime(seconds * NANOSECONDS + microseconds * 1000)


def _zone(text: str) -> timezone:
    if text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:5]))
    return timezone(-offset if text[0] == "-" else offset)


def _is_path_name(name: str) -> bool:
    try:
        check_path_name(name)
    except ConfigurationError:
        return False
    return True
