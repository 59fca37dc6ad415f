"""The log of a worker: its lines go to the supervisor, which writes them to the destinations of the configuration.

So lines of several processes are never mixed, a log file is rotated once, and the system log has one name. In the
worker, the thread of `LogWriter` sends them: one that is not read, or a supervisor that is busy, never blocks a stream.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from typing import Final, cast

import msgspec
from msgspec import Struct

from polycast.log.writer import Descriptor, LogWriter

MAXIMUM_LINE: Final = 1024 * 1024
"""Bytes of one line, with the traceback of a bug."""

_MAXIMUM_TEXT: Final = MAXIMUM_LINE - 64
"""Bytes of its text, beside which there are level, time, and headers."""

_LENGTH: Final = 4


class _Line(Struct, array_like=True):
    level: int
    created: float
    """Unix time in seconds."""
    text: str


class _Sent(Descriptor):
    """The socket to the supervisor as a destination of `LogWriter`."""

    def encode(self, level: int, line: str) -> bytes:
        # The line begins with its time; see `LineHandler.format`.
        created, _, text = line.partition(" ")
        # Names of files may have surrogates, which are not UTF-8.
        cut = text.encode(errors="backslashreplace")[:_MAXIMUM_TEXT].decode(errors="ignore")
        encoded = msgspec.msgpack.encode(_Line(level, float(created), cut))
        return len(encoded).to_bytes(_LENGTH) + encoded

    def write(self, pending: deque[bytes]) -> None:
        try:
            super().write(pending)
        except BrokenPipeError:  # the supervisor has gone, and so will this process
            pending.clear()


class LineHandler(logging.Handler):
    """Sends the lines of a worker."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__()
        self._end = end
        end.setblocking(True)
        self._writer = LogWriter(_Sent(end.fileno(), "the supervisor"), self._notice)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        self._writer.put(record.levelno, f"{record.created} {text}")

    def _notice(self, text: str) -> str:
        record = logging.makeLogRecord({"msg": text})
        return f"{record.created} {text}"

    def end(self) -> None:
        """Send the remaining lines, for a limited time."""
        self._writer.close()


class LineReader(asyncio.Protocol):
    """Receives the lines of one worker, and writes them to the log with the name of the worker."""

    def __init__(self, logger: logging.Logger, prefix: str) -> None:
        self._logger = logger
        self.prefix = prefix
        """Before each line."""
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when there are no more lines."""

    async def open(self, end: socket.socket) -> None:
        """Use one end of a pair of sockets."""
        end.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=end)

    def close(self) -> None:
        """Receive no more."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of this class

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _LENGTH:
            end = start + _LENGTH + int.from_bytes(received[start : start + _LENGTH])
            if end - start > MAXIMUM_LINE + _LENGTH:
                self.close()
                return
            if len(received) < end:
                break
            self._write(msgspec.msgpack.decode(received[start + _LENGTH : end], type=_Line))
            start = end
        del received[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _write(self, line: _Line) -> None:
        if self._logger.isEnabledFor(line.level):
            fields = {
                "name": self._logger.name,
                "levelno": line.level,
                "levelname": logging.getLevelName(line.level),
                "msg": "%s",
                "args": (self.prefix + line.text,),
                "created": line.created,
            }
            self._logger.handle(logging.makeLogRecord(fields))
