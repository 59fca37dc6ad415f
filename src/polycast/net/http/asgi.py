"""Runs ASGI applications (Starlette and others) as request handlers. Request bodies are complete when they start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from polycast.log import Log
from polycast.net.http.tasks import MAXIMUM_REQUESTS, RequestTasks
from polycast.net.http.transaction import Transaction
from polycast.wire.http.message import Header
from polycast.wire.http.response import Response

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI 3 application for HTTP."""

# Headers that the connection itself sends.
_OF_THE_CONNECTION: Final = frozenset({b"content-length", b"date", b"connection", b"transfer-encoding", b"keep-alive"})


class AsgiHandler:
    """Passes requests to an application, each in a task."""

    def __init__(self, application: Application, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        self._application = application
        self._log = log
        self._tasks = RequestTasks(loop, MAXIMUM_REQUESTS)

    def handle(self, transaction: Transaction, headers: Sequence[Header] = ()) -> None:
        """Answer a request; ``headers`` are added to those of the response."""
        if self._tasks.is_full:
            transaction.respond(Response(503, headers, b"too many requests\n"))
            return
        self._tasks.start(transaction, partial(self._run, transaction, headers))

    async def _run(self, transaction: Transaction, headers: Sequence[Header]) -> None:
        call = _Call(transaction, headers)
        try:
            await self._application(_scope_of(transaction), call.receive, call.send)
        except Exception:
            self._log.exception("internal error")
        call.finish()


def _scope_of(transaction: Transaction) -> Scope:
    request = transaction.request
    path, _, query = request.target.partition(b"?")
    if not path.startswith(b"/"):  # the absolute form (RFC 9112 section 3.2.2)
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    connection = transaction.connection
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "2" if request.stream else "1.1",
        "method": request.method,
        "scheme": transaction.scheme,
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": list(request.headers),
        "client": (transaction.client, transaction.peer[1]),
        "server": connection.local_address,
    }


class _Call:
    """What the application receives and sends for one request."""

    def __init__(self, transaction: Transaction, headers: Sequence[Header]) -> None:
        self._transaction = transaction
        self._headers = headers
        self._start: Message | None = None
        self._is_streamed = False
        self._is_complete = False
        self._has_received = False

    async def receive(self) -> Message:
        """Return the body, then nothing: the task is cancelled when the client leaves."""
        if self._has_received:
            await asyncio.get_running_loop().create_future()
        self._has_received = True
        return {"type": "http.request", "body": self._transaction.request.body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Process the start of a response, or a piece of its body."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._start is None or self._is_complete:
            raise RuntimeError("a body without a response")
        body = bytes(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        if self._is_complete and not self._is_streamed:
            # to HEAD, the headers tell the length of the body that GET would get
            is_head = self._transaction.request.method == "HEAD" and not body
            self._transaction.respond(self._response(body, is_streamed=is_head))
            return
        if not self._is_streamed:
            self._is_streamed = True
            self._transaction.respond(self._response(b"", is_streamed=True))
        if body:
            self._transaction.send(body)
        if self._is_complete:
            self._transaction.end()
        else:
            await self._transaction.drain()

    def _response(self, body: bytes, *, is_streamed: bool) -> Response:
        start = self._start or {}
        headers = [(name.lower(), value) for name, value in start.get("headers", ())]
        fields = [field for field in headers if field[0] not in _OF_THE_CONNECTION]
        length = next((value for name, value in headers if name == b"content-length"), b"")
        if is_streamed and length:
            fields.append((b"content-length", length))
        return Response(start.get("status", 500), [*fields, *self._headers], body, is_streamed=is_streamed)

    def finish(self) -> None:
        """The application has returned."""
        if self._is_streamed and not self._is_complete:
            self._transaction.abandon()
        elif not self._is_complete:
            self._transaction.respond(Response(500, self._headers, b"internal error\n"))
