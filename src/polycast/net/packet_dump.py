"""Files with what connections and sockets carry, for Wireshark (dumpPackets). A thread writes them.

Each file is named ``<prefix>_<nanoseconds since 1970>_<UUID>.pcapng`` and is in the working directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final
from uuid import uuid4

from polycast.log import Log
from polycast.net.key_log import KeyLog
from polycast.net.loop_local import LoopLocal
from polycast.wire.pcapng import file_header

MAXIMUM_QUEUED: Final = 64 * 1024 * 1024
"""Bytes that wait for the disk; what comes while there are more is left out."""

END_SECONDS: Final = 5.0
"""Seconds for the disk to take what waits when the server stops."""

Blocks = Callable[[], bytes]
"""Makes the next blocks of a file; called in the thread."""


class PacketDumps:
    """The thread that writes the files of an event loop, and the keys of its TLS connections."""

    def __init__(self, _: asyncio.AbstractEventLoop) -> None:
        self.log = Log().child("packet dump")
        self.key_log = KeyLog()
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._open = 0
        """Number of files."""
        self._accepted = 0
        """Bytes of packets that it got to write; changed by the loop only."""
        self._done = 0
        """Bytes of these that are written or lost; changed by the thread only."""

    def open(self, prefix: str) -> DumpFile:
        """Begin a file."""
        if self._thread is None:
            # A daemon: a disk that hangs must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="packet dump", daemon=True)
            self._thread.start()
        self._open += 1
        return DumpFile(self, f"{prefix}_{time.time_ns()}_{uuid4()}.pcapng")

    async def finish(self) -> None:
        """Wait until everything is written that was closed, but not for long."""
        if self._thread is not None:
            is_written = threading.Event()
            self._jobs.put(is_written.set)
            await asyncio.to_thread(is_written.wait, END_SECONDS)
        if not self._open:
            self.key_log.close()

    # For `DumpFile`

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more may wait."""
        return self._accepted - self._done + size <= MAXIMUM_QUEUED

    def submit(self, job: Callable[[], None], size: int) -> None:
        """Let the thread do something with so many bytes."""
        self._accepted += size

        def run() -> None:
            job()
            self._done += size

        self._jobs.put(run)

    def on_closed(self) -> None:
        """A file was closed."""
        self._open -= 1

    def _run(self) -> None:
        while True:
            self._jobs.get()()


class DumpFile:
    """One file. All methods are for the loop."""

    def __init__(self, dumps: PacketDumps, name: str) -> None:
        self.name = name
        self.dropped = 0
        """Bytes that were left out because the disk was too slow."""
        self._dumps = dumps
        self._file: io.FileIO | None = None
        """Used by the thread only."""
        dumps.submit(self._open, 0)

    def write(self, make: Blocks, size: int) -> bool:
        """Append blocks with ``size`` bytes of data; False if too much is waiting."""
        if not self._dumps.has_room(size):
            self.dropped += size
            return False
        self._dumps.submit(lambda: self._append(make()), size)
        return True

    def close(self) -> None:
        if self.dropped:
            self._dumps.log.warning("'%s' lacks %d bytes: the disk was too slow", self.name, self.dropped)
        self._dumps.submit(self._close, 0)
        self._dumps.on_closed()

    # In the thread

    def _open(self) -> None:
        try:
            self._file = io.FileIO(self.name, "xb", opener=_open_for_owner)
        except OSError as error:
            self._dumps.log.warning("'%s' cannot be written: %s", self.name, error.strerror or error)
        else:
            self._append(file_header())

    def _append(self, blocks: bytes) -> None:
        if self._file is None:
            return
        try:
            self._file.write(blocks)
        except OSError as error:
            self._dumps.log.warning("'%s' ends here: %s", self.name, error.strerror or error)
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def _open_for_owner(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)  # there are passwords in it


_DUMPS: Final = LoopLocal("packet_dumps", PacketDumps)


def packet_dumps_of(loop: asyncio.AbstractEventLoop) -> PacketDumps:
    """Return what writes the files of an event loop."""
    return _DUMPS.get(loop)
