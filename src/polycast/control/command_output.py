"""Logs the output of external commands, line by line, prefixed with the path and the command.

Each command's pipe is read by its own thread: a command that prints without end must block neither the streams nor
itself, so excess output is read and dropped.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from typing import Final

from polycast.log import Log

READ_SIZE: Final = 64 * 1024  # bytes; the capacity of a pipe
MAXIMUM_LINE: Final = 4096  # bytes; a longer line is split into several
LINES_PER_SECOND: Final = 100  # a command that logs each frame prints 60

# Seconds between two logged lines of a progress display, which FFmpeg prints twice a second with a carriage return.
PROGRESS_SECONDS: Final = 10.0

_LINE_END = re.compile(rb"\r\n|\n|\r")


class OutputLines:
    """Splits the output of one command into lines. No I/O."""

    def __init__(self) -> None:
        self.last = ""
        """The last non-empty line; often the reason why a command has exited."""
        self._rest = b""
        self._window_start = -1.0
        self._lines_in_window = 0
        self._dropped = 0
        self._next_progress = 0.0

    def receive(self, data: bytes, now: float) -> list[str]:
        """Return the complete lines to log; ``now`` in monotonic seconds."""
        buffer = self._rest + data
        lines: list[str] = []
        start = 0
        for end in _LINE_END.finditer(buffer):
            if end[0] == b"\r" and end.end() == len(buffer):
                break  # a line feed may follow
            self._add(buffer[start : end.start()], now, lines, is_progress=end[0] == b"\r")
            start = end.end()
        self._rest = buffer[start:]
        while len(self._rest) > MAXIMUM_LINE:
            self._add(self._rest[:MAXIMUM_LINE], now, lines)
            self._rest = self._rest[MAXIMUM_LINE:]
        return lines

    def end(self, now: float) -> list[str]:
        """Return the remaining lines when the command closes its output."""
        lines: list[str] = []
        self._add(self._rest.rstrip(b"\r"), now, lines)
        self._rest = b""
        if self._dropped:
            lines.append(self._report_dropped())
        return lines

    def _add(self, line: bytes, now: float, lines: list[str], *, is_progress: bool = False) -> None:
        for start in range(0, len(line), MAXIMUM_LINE):
            self._add_short(line[start : start + MAXIMUM_LINE], now, lines, is_progress=is_progress)

    def _add_short(self, line: bytes, now: float, lines: list[str], *, is_progress: bool) -> None:
        if not line.strip():
            return
        if is_progress:
            if now < self._next_progress:
                return
            self._next_progress = now + PROGRESS_SECONDS
        if not self._window_start <= now < self._window_start + 1:
            self._window_start = now
            self._lines_in_window = 0
            if self._dropped:
                lines.append(self._report_dropped())
        self._lines_in_window += 1
        if self._lines_in_window > LINES_PER_SECOND:
            self._dropped += 1
            return
        self.last = line.decode(errors="backslashreplace").rstrip()
        lines.append(self.last)

    def _report_dropped(self) -> str:
        dropped, self._dropped = self._dropped, 0
        return f"({dropped} lines are missing here: more than {LINES_PER_SECOND} in a second)"


class OutputReader:
    """Reads the pipe of one command until the command and all its children have closed it."""

    def __init__(self, descriptor: int, log: Log, on_end: Callable[[], None]) -> None:
        """``on_end`` is called from another thread."""
        self._descriptor = descriptor
        self._log = log
        self._on_end = on_end
        self._lines = OutputLines()
        threading.Thread(target=self._run, name="polycast command", daemon=True).start()

    @property
    def last_line(self) -> str:
        """The last line so far."""
        return self._lines.last

    def _run(self) -> None:
        try:
            while data := os.read(self._descriptor, READ_SIZE):
                for line in self._lines.receive(data, time.monotonic()):
                    self._log.info("%s", line)
            for line in self._lines.end(time.monotonic()):
                self._log.info("%s", line)
        except OSError:
            pass  # the server is exiting
        finally:
            os.close(self._descriptor)
            self._on_end()
