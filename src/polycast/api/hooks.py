"""Hooks of programs that embed a server: authentication, and events on paths."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from polycast.api.statistics import StreamStatistics, stream_statistics
from polycast.hub.access_request import AccessRequest
from polycast.hub.path import Path, PathObserver
from polycast.hub.stream import Reader
from polycast.log import Log

# Threads for authentication functions that are not asynchronous.
AUTHENTICATION_THREADS = 8

# Name of the thread for event functions that are not asynchronous.
WORKER_NAME = "polycast-hooks"

# Seconds for running hooks when the server stops.
GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class AuthenticationRequest:
    """A client's request to publish or read."""

    action: str
    """``publish`` or ``read``."""
    path: str
    """Name of the path."""
    user: str
    """Empty if the client sent none; a bearer token, if it came instead. RTSP clients send their first request without
    credentials: return False, and they repeat it with credentials."""
    password: str
    address: str
    """IP address of the client."""
    query: str
    """What follows the ``?`` in the URL of the client."""


Authenticate = Callable[[AuthenticationRequest], bool | Awaitable[bool]]
"""Authenticates a client. A coroutine function runs in the server's event loop, any other in a worker thread."""

OnStream = Callable[[StreamStatistics], object]
"""Called with a stream. A coroutine function runs in the server's event loop, any other in a worker thread."""

OnRead = Callable[[StreamStatistics, str], object]
"""Called with a stream and the type of a new reader, such as ``rtspSession``."""


class Hooks(PathObserver):
    """Calls the functions of the program; an observer of all paths. Lives in the loop's thread.

    Functions are called sequentially, in the order of events; a slow one delays later ones, but never the server.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        *,
        authenticate: Authenticate | None,
        on_ready: OnStream | None,
        on_read: OnRead | None,
        on_close: OnStream | None,
    ) -> None:
        self._loop = loop
        self._log = log
        self._authenticate = authenticate
        self._on_ready = on_ready
        self._on_read = on_read
        self._on_close = on_close
        self._last: dict[Path, StreamStatistics] = {}
        self._queue: asyncio.Queue[tuple[Callable[..., Any], tuple[object, ...]] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.stops_itself = False
        """Whether a hook is stopping the server, which must not wait for that hook."""
        self._worker = concurrent.futures.ThreadPoolExecutor(1, WORKER_NAME)
        self._deciders = concurrent.futures.ThreadPoolExecutor(AUTHENTICATION_THREADS, "polycast-authenticate")

    async def authenticate(self, request: AccessRequest) -> bool:
        """Call the program's authentication function."""
        function = self._authenticate
        if function is None:
            return True
        user, password = request.credentials.plain()
        question = AuthenticationRequest(
            request.action.value,
            request.path,
            user or request.credentials.token,
            password,
            request.address,
            request.query,
        )
        if inspect.iscoroutinefunction(function):
            return bool(await function(question))
        answer = await self._loop.run_in_executor(self._deciders, function, question)
        return bool(await answer if inspect.isawaitable(answer) else answer)

    async def close(self) -> None:
        """Wait a few seconds for running hooks, and end."""
        if self._task is not None:
            self._queue.put_nowait(None)
        if self._task is not None and not self.stops_itself:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._task, GRACE_SECONDS)
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._deciders.shutdown(wait=False, cancel_futures=True)

    # PathObserver

    def on_path_ready(self, path: Path) -> None:
        statistics = self._last[path] = stream_statistics(path)
        self._enqueue(self._on_ready, statistics)

    def on_path_not_ready(self, path: Path) -> None:
        statistics = self._last.pop(path, None)
        if statistics is not None:
            self._enqueue(self._on_close, statistics)

    def on_reader_added(self, path: Path, reader: Reader) -> None:
        if self._on_read is not None:
            self._enqueue(self._on_read, stream_statistics(path), reader.reference().type)

    def _enqueue(self, function: Callable[..., Any] | None, *arguments: object) -> None:
        if function is None:
            return
        self._queue.put_nowait((function, arguments))
        if self._task is None:
            self._task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        while (item := await self._queue.get()) is not None:
            function, arguments = item
            try:
                if inspect.iscoroutinefunction(function):
                    await function(*arguments)
                else:
                    await self._loop.run_in_executor(self._worker, function, *arguments)
            except Exception:
                self._log.exception("the function %s failed", getattr(function, "__name__", function))
