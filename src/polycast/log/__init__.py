"""Logging: lines with nested prefixes, to standard output, a file and the system log.

A line reads ``2026/11/23 21:36:04 INF [RTSP] [conn 127.0.0.1:40814] opened``, the format of rtsp-simple-server.
Built on the standard library's ``logging``, so that a program that embeds a server configures it as usual.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from polycast.log.writer import Destination, File, LogWriter, Syslog, standard_output

LEVELS = {"error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}
"""Values of the ``logLevel`` key."""

SYSLOG_TAG: Final = "rtsp-simple-server"
"""The program's name in the system log."""

_LABELS = {logging.DEBUG: "DEB", logging.INFO: "INF", logging.WARNING: "WAR", logging.ERROR: "ERR"}
_COLORS = {"DEB": "\x1b[34m", "INF": "\x1b[32m", "WAR": "\x1b[33m", "ERR": "\x1b[31m"}

# The log contains text of peers: control characters could forge lines or terminal commands, and so could line
# separators and changes of the writing direction.
_CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(32), *range(0x7F, 0xA0)) if code not in (9, 10)}
_CONTROL_CHARACTERS |= {code: f"\\u{code:04x}" for code in (*range(0x2028, 0x202F), *range(0x2066, 0x206A))}


def printable(text: str) -> str:
    """Return a text in which control characters are visible, and only line feeds break lines."""
    return text.translate(_CONTROL_CHARACTERS)


class Log:
    """A logger with a prefix. ``child("conn 1.2.3.4:5")`` nests one more."""

    __slots__ = ("_logger", "_prefix")

    def __init__(self, logger: logging.Logger | None = None, prefix: str = "") -> None:
        self._logger = logger if logger is not None else logging.getLogger("polycast")
        self._prefix = prefix

    def child(self, name: str) -> Log:
        """Return a log whose lines start with this log's prefix and ``[name]``."""
        return Log(self._logger, f"{self._prefix}[{name}] ")

    @property
    def logger(self) -> logging.Logger:
        """The underlying logger of the standard library."""
        return self._logger

    def is_debug(self) -> bool:
        """Whether debug lines are enabled; check this before building an expensive one."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def debug(self, message: str, *arguments: object) -> None:
        self._write(logging.DEBUG, message, arguments)

    def info(self, message: str, *arguments: object) -> None:
        self._write(logging.INFO, message, arguments)

    def warning(self, message: str, *arguments: object) -> None:
        self._write(logging.WARNING, message, arguments)

    def error(self, message: str, *arguments: object) -> None:
        self._write(logging.ERROR, message, arguments)

    def exception(self, message: str, *arguments: object) -> None:
        """Log at error level with the traceback of the exception being handled, which is a bug."""
        if self._logger.isEnabledFor(logging.ERROR):
            self._logger.error(self._prefix.replace("%", "%%") + message, *arguments, exc_info=True)

    def _write(self, level: int, message: str, arguments: tuple[object, ...]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(
                level,
                self._prefix.replace("%", "%%") + message if arguments else "%s",
                *(arguments or (self._prefix + message,)),
            )


class _Formatter(logging.Formatter):
    def __init__(self, *, color: bool = False) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        # Only a new entry starts at the beginning of a line, so that text of peers cannot forge one.
        text = printable(text).replace("\n", "\n    ")
        return self._line(record.created, _LABELS.get(record.levelno, record.levelname[:3]), text)

    def format_notice(self, text: str) -> str:
        """Format a warning of the log itself as a line."""
        return self._line(time.time(), _LABELS[logging.WARNING], text)

    def _line(self, created: float, label: str, text: str) -> str:
        moment = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(created))
        if self._color:
            label = f"{_COLORS.get(label, '')}{label}\x1b[0m"
        return f"{moment} {label} {text}"


class _JsonFormatter(_Formatter):
    """Formats each line as a JSON object."""

    def _line(self, created: float, label: str, text: str) -> str:
        timestamp = datetime.fromtimestamp(created).astimezone().isoformat()
        return json.dumps({"timestamp": timestamp, "level": label, "message": text}, ensure_ascii=False)


class _QueueHandler(logging.Handler):
    """Passes lines to the thread of one destination."""

    def __init__(self, destination: Destination, formatter: _Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.writer = LogWriter(destination, formatter.format_notice)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.put(record.levelno, self.format(record))
        except Exception:  # a faulty format string in a library
            self.handleError(record)

    def close(self) -> None:
        """Called by ``logging.config``, which libraries use, for all existing handlers: the destination stays open."""

    def end(self) -> None:
        """Write the remaining lines, and close the destination."""
        self.writer.close()
        super().close()


class LogHandlers:
    """Open destinations. Opening and closing them may block."""

    def __init__(self, handlers: Collection[_QueueHandler]) -> None:
        self.handlers = handlers

    def close(self) -> None:
        """Write the remaining lines, for a limited time, and close the destinations."""
        for handler in self.handlers:
            handler.end()


class LogOutput:
    """Connects a logger to the destinations of a configuration; `close` undoes it."""

    def __init__(self, logger: logging.Logger, *others: logging.Logger) -> None:
        """``others`` are written to the same destinations: the loggers of libraries, if the program is the server."""
        self._logger = logger
        self._others = others
        self._current = LogHandlers(())

    def configure(self, level: str, destinations: Collection[str], file: str, **options: Any) -> None:
        """Replace the level and destinations (``stdout``, ``file``, ``syslog``). May block. ``options``: see `open`.

        Raises OSError if a destination cannot be opened; the old ones remain then.
        """
        self.use(level, self.open(destinations, file, **options)).close()

    def open(
        self, destinations: Collection[str], file: str, *, structured: bool = False, tag: str = SYSLOG_TAG
    ) -> LogHandlers:
        """Open destinations, without using them yet; may block. Raises OSError.

        ``structured``: standard output and the file get JSON objects. ``tag``: the program's name in the system log.
        """
        opened: list[tuple[Destination, _Formatter]] = []
        try:
            for name in sorted(destinations):
                if structured and name != "syslog":
                    formatter: _Formatter = _JsonFormatter()
                else:
                    formatter = _Formatter(color=name == "stdout" and sys.stdout.isatty())
                opened.append((_open(name, file, tag), formatter))
        except OSError:
            for destination, _ in opened:
                destination.close()
            raise
        return LogHandlers([_QueueHandler(*one) for one in opened])

    def use(self, level: str, handlers: LogHandlers) -> LogHandlers:
        """Write further lines to these destinations. Returns the previous ones, which the caller closes."""
        previous, self._current = self._current, handlers
        for logger in (self._logger, *self._others):
            for handler in previous.handlers:
                logger.removeHandler(handler)
            for handler in handlers.handlers:
                logger.addHandler(handler)
        self._logger.setLevel(LEVELS[level])
        self._logger.propagate = False
        return previous

    def flush(self) -> None:
        """Wait until all lines are written, for a limited time."""
        for handler in self._current.handlers:
            handler.writer.flush()

    def close(self) -> None:
        """Flush and close the destinations."""
        previous, self._current = self._current, LogHandlers(())
        for logger in (self._logger, *self._others):
            for handler in previous.handlers:
                logger.removeHandler(handler)
        previous.close()


def _open(destination: str, file: str, tag: str) -> Destination:
    if destination == "file":
        return File(file)
    return Syslog(tag) if destination == "syslog" else standard_output()
