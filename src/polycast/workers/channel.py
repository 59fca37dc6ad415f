"""Messages between the supervisor and a worker, over a pair of Unix stream sockets.

Both ends are processes of the same server. Still, everything is bounded: a process that hangs, or has gone mad, must
not take the other one with it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec import Raw, Struct

from polycast.errors import PolycastError
from polycast.log import Log

MAXIMUM_FRAME: Final = 128 * 1024 * 1024
"""Bytes of one message: the sessions and paths of a worker with a hundred thousand of them."""

MAXIMUM_QUEUED: Final = 2 * MAXIMUM_FRAME
"""Bytes that wait until the other end reads them. It hangs if there are more, and the channel is closed."""

MAXIMUM_CALLS: Final = 10_000
"""Calls from the other end that are being answered."""

CALL_SECONDS: Final = 30.0
"""Seconds for an answer: a reload may stop servers, which takes some."""

_LENGTH: Final = 4
_TELL: Final = 0
_CALL: Final = 1
_ANSWER: Final = 2
_ERROR: Final = 3
_CANCEL: Final = 4

Answer = TypeVar("Answer")


class ChannelError(PolycastError):
    """A call failed: the other end refused it, or it has gone. The text is for the log or the user."""


class _Frame(Struct, array_like=True):
    kind: int
    number: int
    subject: str
    body: Raw


class Channel(asyncio.Protocol):
    """One end of a channel. Calls have an answer, and what is told has none."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Raw]] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._writable = asyncio.Event()
        self._writable.set()
        self.has_heard = False
        """Whether anything was received since this was reset."""
        self.calls: dict[str, Callable[[Raw], Awaitable[object]]] = {}
        """What answers calls, by subject. PolycastError is passed on to the caller."""
        self.notices: dict[str, Callable[[Raw], None]] = {}
        """What is told."""
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when the other end has gone."""

    async def open(self, end: socket.socket) -> None:
        """Use one end of a pair of sockets."""
        end.setblocking(False)
        await self._loop.create_connection(lambda: self, sock=end)

    async def call(
        self, subject: str, body: object = None, answer: type[Answer] | Any = Any, *, seconds: float = CALL_SECONDS
    ) -> Answer:
        """Send a call, and return its answer. Raises ChannelError."""
        number = next(self._numbers)
        waiting = self._waiting[number] = self._loop.create_future()
        try:
            self._send(_CALL, number, subject, body)
            async with asyncio.timeout(seconds):
                found: Answer = msgspec.msgpack.decode(await waiting, type=answer)
                return found
        except (TimeoutError, asyncio.CancelledError) as error:
            if not self.lost.done():
                self._send(_CANCEL, number, "", None)
            if isinstance(error, TimeoutError):
                raise ChannelError(f"no answer within {seconds:g} s") from None
            raise
        finally:
            del self._waiting[number]

    async def drain(self) -> None:
        """Wait until the other end has read most of what was sent."""
        await self._writable.wait()

    def tell(self, subject: str, body: object = None) -> None:
        """Send something that needs no answer. Does nothing if the other end has gone."""
        if not self.lost.done():
            self._send(_TELL, 0, subject, body)

    def close(self) -> None:
        """Close the channel."""
        if self._transport is not None:
            self._transport.abort()
        self._on_lost()

    def _send(self, kind: int, number: int, subject: str, body: object) -> None:
        transport = self._transport
        if transport is None or self.lost.done():
            raise ChannelError("the process has ended")
        frame = msgspec.msgpack.encode(_Frame(kind, number, subject, Raw(msgspec.msgpack.encode(body))))
        if len(frame) > MAXIMUM_FRAME or transport.get_write_buffer_size() > MAXIMUM_QUEUED:
            self._log.error("internal error: messages between processes are too large, or are not read")
            self.close()
            raise ChannelError("the process does not read")
        transport.write(len(frame).to_bytes(_LENGTH) + frame)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of this class

    def data_received(self, data: bytes) -> None:
        self.has_heard = True
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _LENGTH:
            end = start + _LENGTH + int.from_bytes(received[start : start + _LENGTH])
            if end - start > MAXIMUM_FRAME + _LENGTH:
                self.close()
                return
            if len(received) < end:
                break
            self._on_frame(msgspec.msgpack.decode(received[start + _LENGTH : end], type=_Frame))
            start = end
        del received[:start]

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()

    def _on_lost(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ChannelError("the process has ended"))
        self._writable.set()
        for task in self._answering.values():
            task.cancel()

    def _on_frame(self, frame: _Frame) -> None:
        body = Raw(bytes(frame.body))
        if frame.kind == _TELL:
            self._on_told(frame.subject, body)
        elif frame.kind == _CALL:
            if len(self._answering) >= MAXIMUM_CALLS:
                self._answer(_ERROR, frame.number, "too many requests")
                return
            task = self._loop.create_task(self._on_call(frame.number, frame.subject, body))
            self._answering[frame.number] = task
            task.add_done_callback(lambda _: self._answering.pop(frame.number, None))
        elif frame.kind == _CANCEL:
            answering = self._answering.get(frame.number)
            if answering is not None:
                answering.cancel()
        else:
            waiting = self._waiting.get(frame.number)
            if waiting is None or waiting.done():
                return
            if frame.kind == _ERROR:
                waiting.set_exception(ChannelError(msgspec.msgpack.decode(body, type=str)))
            else:
                waiting.set_result(body)

    def _on_told(self, subject: str, body: Raw) -> None:
        try:
            self.notices[subject](body)
        except Exception:
            self._log.exception("internal error: '%s' of another process", subject)

    async def _on_call(self, number: int, subject: str, body: Raw) -> None:
        try:
            self._answer(_ANSWER, number, await self.calls[subject](body))
        except PolycastError as error:
            self._answer(_ERROR, number, str(error))
        except Exception:
            self._log.exception("internal error: '%s' of another process", subject)
            self._answer(_ERROR, number, "internal error")

    def _answer(self, kind: int, number: int, body: object) -> None:
        if not self.lost.done():
            self._send(kind, number, "", body)
