"""Writes log lines to their destination in a thread: a blocked destination must never block a stream.

Lines are queued up to a limit. Further ones are dropped and counted, and the count is logged once lines can be written
again. A destination that fails (a full disk, for example) is reported once on standard error, and retried.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TextIO

# Characters of queued lines, and the overhead of each line: about 20,000 lines. More would be outdated when read.
QUEUE_LIMIT: Final = 4 * 1024 * 1024
LINE_OVERHEAD: Final = 100

# Seconds before a failed destination is retried.
RETRY_SECONDS: Final = 1.0

# Seconds for the last lines when the log is closed: a blocked destination must not keep the server from exiting.
CLOSE_SECONDS: Final = 1.0

# Bytes of one write. A pipe holds 64 KiB; a full disk should be detected early.
WRITE_SIZE: Final = 64 * 1024

# Errors after which a destination never recovers: the reader of a pipe is gone.
_FATAL: Final = frozenset({errno.EPIPE, errno.EBADF})

_SYSLOG_PATHS: Final = ("/dev/log", "/var/run/syslog")
_SYSLOG_FACILITY: Final = 3 << 3  # RFC 5424 section 6.2.1: system daemons
_SYSLOG_SEVERITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class Destination(Protocol):
    """A destination of lines. Everything except its creation happens in the writer's thread, and may block."""

    name: str
    """Name for error messages."""

    def encode(self, level: int, line: str) -> bytes:
        """Return the bytes of a line."""
        ...

    def write(self, pending: deque[bytes]) -> None:
        """Write some lines, and remove what was written. Raises OSError."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class LogWriter:
    """The queue and the thread of one destination."""

    def __init__(self, destination: Destination, format_notice: Callable[[str], str]) -> None:
        """``format_notice`` formats the writer's own messages."""
        self._destination = destination
        self._format_notice = format_notice
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._is_idle = True
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="polycast log", daemon=True)
        self._thread.start()

    def put(self, level: int, line: str) -> None:
        """Queue a line, or drop it. Never blocks."""
        encoded = self._destination.encode(level, line)
        with self._changed:
            if self._size + len(encoded) + LINE_OVERHEAD > QUEUE_LIMIT:
                self._dropped += 1
                return
            self._report_dropped()
            self._queue(encoded)
            self._changed.notify_all()

    def flush(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Wait until everything is written; return whether it was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_idle, seconds)

    def close(self) -> None:
        """Write the queued lines, within a limited time, and close."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS)

    def _queue(self, encoded: bytes) -> None:
        self._lines.append(encoded)
        self._size += len(encoded) + LINE_OVERHEAD
        self._is_idle = False

    def _report_dropped(self) -> None:
        if self._dropped:
            notice = f"{self._dropped} log lines are missing here: they were not written fast enough"
            self._dropped = 0
            self._queue(self._destination.encode(logging.WARNING, self._format_notice(notice)))

    # In the thread

    def _run(self) -> None:
        pending: deque[bytes] = deque()
        has_failed = False
        while self._take(pending):
            try:
                while pending:
                    self._destination.write(pending)
            except (OSError, ValueError) as error:
                if not has_failed:
                    has_failed = True
                    self._report(error)
                if isinstance(error, ValueError) or error.errno in _FATAL:
                    self._discard_all()
                    break
                if not self._wait_for_retry():
                    break
            else:
                has_failed = False
        with contextlib.suppress(OSError, ValueError):
            self._destination.close()

    def _take(self, pending: deque[bytes]) -> bool:
        """Wait for lines and move them to ``pending`` if it is empty; return False if there are no more."""
        with self._changed:
            if pending:
                return True
            if not self._lines:
                self._report_dropped()
            if not self._lines:
                self._is_idle = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines or self._is_closing)
            size = 0
            while self._lines and size < WRITE_SIZE:
                line = self._lines.popleft()
                self._size -= len(line) + LINE_OVERHEAD
                size += len(line)
                pending.append(line)
            return bool(pending)

    def _report(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        text = f"polycast: the log cannot be written to {self._destination.name}: {reason}\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode(errors="backslashreplace"))

    def _wait_for_retry(self) -> bool:
        """Wait before the next attempt; return False if there is no time for one."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._is_closing, RETRY_SECONDS)

    def _discard_all(self) -> None:
        """Drop all lines from now on."""
        with self._changed:
            self._lines.clear()
            self._size = QUEUE_LIMIT
            self._is_idle = True
            self._changed.notify_all()


class Descriptor:
    """A file descriptor, such as standard output."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name

    def encode(self, level: int, line: str) -> bytes:
        return line.encode(errors="backslashreplace") + b"\n"

    def write(self, pending: deque[bytes]) -> None:
        data = b"".join(pending)
        try:
            written = os.write(self.descriptor, data)
        except BlockingIOError:  # another process made it non-blocking: a terminal is shared
            select.select((), (self.descriptor,), (), RETRY_SECONDS)
            return
        pending.clear()
        if written < len(data):
            pending.append(data[written:])

    def close(self) -> None:
        """Standard output stays open."""


class File(Descriptor):
    """A file that is appended to; it is created again after logrotate has moved it away."""

    def __init__(self, path: str) -> None:
        """Raises OSError if it cannot be opened."""
        self._path = Path(path)
        super().__init__(self._open(), f"the file '{path}'")

    def write(self, pending: deque[bytes]) -> None:
        try:
            status = self._path.stat()
            is_same = os.path.samestat(status, os.fstat(self.descriptor))
        except FileNotFoundError:
            is_same = False
        if not is_same:
            new = self._open()
            os.close(self.descriptor)
            self.descriptor = new
        super().write(pending)

    def close(self) -> None:
        os.close(self.descriptor)

    def _open(self) -> int:
        # Opening a pipe without a reader would block otherwise.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self._path, flags, 0o666)
        if os.name == "posix":
            os.set_blocking(descriptor, True)
        return descriptor


class Stream:
    """A text stream without a file descriptor, as test programs use for standard output."""

    name = "standard output"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def encode(self, level: int, line: str) -> bytes:
        return line.encode(errors="backslashreplace") + b"\n"

    def write(self, pending: deque[bytes]) -> None:
        self._stream.write(b"".join(pending).decode())
        self._stream.flush()
        pending.clear()

    def close(self) -> None:
        """The stream belongs to the program and stays open."""


class Syslog:
    """The system log, over its Unix socket (RFC 3164, in the format of glibc's syslog)."""

    name = "the system log"

    def __init__(self, tag: str) -> None:
        """``tag`` is the name of the program in the entries. Raises OSError if there is no system log."""
        self._tag = tag
        self._path = find_syslog()
        self._socket = self._connect()

    def encode(self, level: int, line: str) -> bytes:
        priority = _SYSLOG_FACILITY | _SYSLOG_SEVERITIES.get(level, 6)
        return f"<{priority}>{self._tag}: {line}".encode(errors="backslashreplace")

    def write(self, pending: deque[bytes]) -> None:
        while pending:
            try:
                self._socket.send(pending[0])
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    pending.popleft()
                    continue
                # The system log was restarted, most likely.
                self._socket.close()
                self._socket = self._connect()
                self._socket.send(pending[0])
            pending.popleft()

    def close(self) -> None:
        self._socket.close()

    def _connect(self) -> socket.socket:
        last = OSError("there is no system log")
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            connection = socket.socket(socket.AF_UNIX, kind)
            try:
                connection.connect(self._path)
            except OSError as error:
                connection.close()
                last = error
            else:
                return connection
        raise last


def find_syslog() -> str:
    """Return the path of the system log's socket. Raises OSError if there is none."""
    path = next((path for path in _SYSLOG_PATHS if Path(path).exists()), None)
    if path is None:
        raise OSError("there is no system log on this machine (no /dev/log)")
    return path


def standard_output() -> Destination:
    """Return the destination for standard output."""
    stream = sys.stdout
    if os.name == "posix":
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
            return Descriptor(stream.fileno(), "standard output")
    return Stream(stream)
