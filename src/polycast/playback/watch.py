"""Tells which files were added to large directories, or removed, without reading these again (inotify(7), Linux).

Unlike other ways to watch files, a question is answered with everything that had happened before it.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from contextlib import suppress
from typing import Any, Final

_CLOSE_ON_EXEC: Final = 0o2000000
_NOT_BLOCKING: Final = 0o4000
_MOVED: Final = 0x40 | 0x80
_CREATED: Final = 0x100
_DELETED: Final = 0x200
_GONE: Final = 0x400 | 0x800 | 0x8000  # the directory itself: deleted, moved, no longer watched
_OVERFLOW: Final = 0x4000
_ONLY_DIRECTORIES: Final = 0x01000000
_HEADER: Final = struct.Struct("iIII")
_BUFFER: Final = 64 * 1024

MAXIMUM_NAMES: Final = 10_000
"""Changed files of one directory that are remembered; above that, it is read again."""


class DirectoryWatch:
    """Watches some directories. Where that is impossible, none is watched."""

    def __init__(self) -> None:
        self._file = -1
        self._library: Any = None
        self._directories: dict[int, str] = {}
        """By watch descriptor."""
        self._changed: dict[str, set[str]] = {}
        """Names of files that were added or removed, by directory."""

    def add(self, directory: str) -> bool:
        """Watch a directory from now on; return whether that is possible."""
        if sys.platform != "linux":
            return False
        if directory in self._changed:
            return True
        if self._file < 0:
            with suppress(OSError, AttributeError):
                self._library = ctypes.CDLL(None, use_errno=True)
                self._file = self._library.inotify_init1(_NOT_BLOCKING | _CLOSE_ON_EXEC)
            if self._file < 0:
                return False
        mask = _MOVED | _CREATED | _DELETED | 0x400 | 0x800 | _ONLY_DIRECTORIES
        descriptor = self._library.inotify_add_watch(self._file, os.fsencode(directory), mask)
        if descriptor < 0:
            return False
        self._directories[descriptor] = directory
        self._changed[directory] = set()
        return True

    def take(self, directory: str) -> set[str] | None:
        """Return the files of a directory that were added or removed since the last question; None if unknown."""
        self._read()
        names = self._changed.get(directory)
        if names is None:
            return None
        self._changed[directory] = set()
        return names

    def close(self) -> None:
        """Watch nothing any more."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._directories.clear()
        self._changed.clear()

    def _read(self) -> None:
        while self._file >= 0:
            try:
                data = os.read(self._file, _BUFFER)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        offset = 0
        while offset + _HEADER.size <= len(data):
            descriptor, mask, _, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = data[offset : offset + length].rstrip(b"\0")
            offset += length
            if mask & _OVERFLOW:
                self.close()
                return
            directory = self._directories.get(descriptor)
            if directory is None or directory not in self._changed:
                continue
            self._changed[directory].add(os.fsdecode(name))
            if mask & _GONE or len(self._changed[directory]) > MAXIMUM_NAMES:
                # it may be replaced by another one of the same name, which is not watched
                del self._changed[directory]
                self._library.inotify_rm_watch(self._file, descriptor)
                self._directories.pop(descriptor, None)
