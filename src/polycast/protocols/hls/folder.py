"""Copies of the files of a muxer on disk, for web servers and caches that read them there."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from polycast.log import Log
from polycast.wire.hls.resource import Resource


class MuxerFolder:
    """Keeps a folder as the muxer's files are, from a thread. A disk that is too slow gets only the latest state."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        self._folder = folder
        self._loop = loop
        self._log = log
        self._wanted: Mapping[str, Resource] | None = None
        """What the folder should contain, if that is not what it contains or is about to."""
        self._written: dict[str, Resource] = {}
        """What it contains; used by the thread only."""
        self._is_busy = False
        self._is_closed = False
        self._has_failed = False

    def close(self) -> None:
        """Remove the folder. Returns at once."""
        self._is_closed = True
        self.update({})

    def update(self, files: Mapping[str, Resource]) -> None:
        """Make the folder, and make it contain these files, by name. Returns at once."""
        self._wanted = files
        if not self._is_busy:
            self._run()

    def _run(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            self._is_busy = True
            done = self._loop.run_in_executor(None, self._write, wanted, self._is_closed)
            done.add_done_callback(self._on_done)

    def _on_done(self, done: asyncio.Future[None]) -> None:
        self._is_busy = False
        error = None if done.cancelled() else done.exception()
        if error is not None and not self._has_failed:
            self._log.warning("files cannot be written to '%s': %s", self._folder, error)
        self._has_failed = error is not None
        self._run()

    def _write(self, wanted: Mapping[str, Resource], is_closed: bool) -> None:
        """In the thread: segments first, then the playlists that name them; what is no longer needed at the end."""
        if not is_closed:
            self._folder.mkdir(parents=True, exist_ok=True)
        for name, resource in sorted(wanted.items(), key=lambda item: not item[1].immutable):
            if self._written.get(name) is not resource:
                temporary = self._folder / f".{name}.part"
                temporary.write_bytes(resource.body)
                os.replace(temporary, self._folder / name)
                self._written[name] = resource
        for name in self._written.keys() - wanted.keys():
            (self._folder / name).unlink(missing_ok=True)
            del self._written[name]
        if is_closed:
            with contextlib.suppress(OSError):  # it contains something else, or was never made
                self._folder.rmdir()
