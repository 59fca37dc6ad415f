"""The last lines of the log, in memory, and those that follow."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from polycast.log import Log, printable

MAXIMUM_LINES: Final = 2_000
"""Lines that are kept."""

MAXIMUM_TEXT: Final = 2_000
"""Characters of a line that are kept."""

_LEVELS: Final[dict[int, Literal["debug", "info", "warn", "error"]]] = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warn",
    logging.ERROR: "error",
}


class LogLine(Struct, frozen=True, kw_only=True, rename="camel"):
    """A line of the log."""

    number: Annotated[int, Meta(ge=1, description="Grows by one with each line.")]
    time: Annotated[float, Meta(description="Unix time in seconds.")]
    level: Literal["debug", "info", "warn", "error"]
    text: str


class LogRing(logging.Handler):
    """Keeps the last lines of a log. Lines may be written in any thread."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._logger = log.logger
        self._loop = asyncio.get_running_loop()
        self._numbers = count(1)
        self._lines: deque[LogLine] = deque(maxlen=MAXIMUM_LINES)
        self.listener: Callable[[LogLine], None] | None = None
        """Called on the loop with each line."""

    @property
    def lines(self) -> list[LogLine]:
        """The lines, the oldest first."""
        return list(self._lines)

    def start(self) -> None:
        """Begin to keep lines."""
        self._logger.addHandler(self)

    def stop(self) -> None:
        """End, and forget the lines."""
        self._logger.removeHandler(self)
        self._lines.clear()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.exc_info:
                text += "\n" + logging.Formatter().formatException(record.exc_info)
        except Exception:  # a faulty format string in a library
            return
        line = LogLine(
            number=next(self._numbers),
            time=round(record.created or time.time(), 3),
            level=_LEVELS.get(record.levelno, "info"),
            text=printable(text[:MAXIMUM_TEXT]),
        )
        self._lines.append(line)
        if self.listener is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, line)

    def _tell(self, line: LogLine) -> None:
        if self.listener is not None:
            self.listener(line)

    def close(self) -> None:
        """Called by ``logging.config``, which libraries use, for all existing handlers: lines are still kept."""
