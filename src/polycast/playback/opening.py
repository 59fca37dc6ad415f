"""Opens recorded files by the format that their names tell."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from polycast.playback.files import RecordedFile
from polycast.playback.fmp4_file import Fmp4File
from polycast.playback.mpegts_file import MpegtsFile

MAXIMUM_KNOWN: Final = 64
"""Files of which it is remembered where their samples are: up to a megabyte each."""


def open_file(name: str, known: object = None) -> RecordedFile:
    """Open a recorded file. ``known`` is its `RecordedFile.known`, when it may have been shorter.

    Raises OSError, or UnreadableFile.
    """
    return MpegtsFile(name, known) if name.endswith(".ts") else Fmp4File(name, known)


class Files:
    """Opens files, and remembers what was found out about the ones that were used last. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, int], tuple[int, object]] = OrderedDict()
        """Size and `RecordedFile.known`, by name and inode."""

    @contextmanager
    def open(self, name: str) -> Iterator[RecordedFile]:
        """Open a file for a while. Raises OSError, or UnreadableFile."""
        status = os.stat(name)
        key = (name, status.st_ino)
        with self._lock:
            size, known = self._known.get(key, (0, None))
        file = open_file(name, known if size <= status.st_size else None)
        try:
            yield file
        finally:
            file.close()
            if file.known is not None:  # otherwise nothing was read that is worth keeping
                self._keep(key, status.st_size, file.known)

    def _keep(self, key: tuple[str, int], size: int, known: object) -> None:
        with self._lock:
            self._known[key] = (size, known)
            self._known.move_to_end(key)
            if len(self._known) > MAXIMUM_KNOWN:
                self._known.popitem(last=False)
