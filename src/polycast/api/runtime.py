"""The event loop of the API's objects, and calls to it from other threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

from polycast.api.errors import StreamEnded
from polycast.net.loop import new_event_loop

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

STOPPED = "the server is stopped"

# Seconds for a loop thread to end.
JOIN_SECONDS = 5.0

# Seconds for the tasks of a loop thread to end by themselves.
TASK_GRACE_SECONDS = 1.0

# Seconds for the connections of clients after that; a server waits for its own.
CONNECTION_GRACE_SECONDS = 0.02


class Runtime:
    """An event loop and the thread that it runs in. Everything here may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        self.loop = loop
        self._thread_id = thread_id
        self._lock = threading.Lock()
        self._calls: set[concurrent.futures.Future[Any]] = set()
        self._ended = False

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in the loop's thread."""
        return threading.get_ident() == self._thread_id

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Run a function in the loop's thread soon, immediately if this is that thread. Does nothing after the loop
        ended."""
        if self.is_here:
            function(*arguments)
        else:
            self.defer(function, *arguments)

    def defer(self, function: Callable[..., object], *arguments: Any) -> None:
        """Run a function in the loop's thread soon, never immediately. Does nothing after the loop ended."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(function, *arguments)

    def call(
        self, function: Callable[Parameters, Result], *arguments: Parameters.args, **options: Parameters.kwargs
    ) -> Result:
        """Run a function in the loop's thread and return its result. Raises StreamEnded after the loop ended."""
        if self.is_here:
            return function(*arguments, **options)
        future: concurrent.futures.Future[Result] = concurrent.futures.Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*arguments, **options))
            except BaseException as error:
                future.set_exception(error)

        return self._wait(future, lambda: self.loop.call_soon_threadsafe(run))

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the loop and wait for it. Must not be called in the loop's thread."""
        if self.is_here:
            coroutine.close()
            raise RuntimeError("this would block the event loop: use the asynchronous form")
        future: concurrent.futures.Future[Result] = concurrent.futures.Future()
        tasks: list[asyncio.Task[Result]] = []

        def begin() -> None:
            task = self.loop.create_task(coroutine)
            tasks.append(task)
            task.add_done_callback(lambda _: _copy_result(task, future))

        def give_up() -> None:
            if tasks:
                tasks[0].cancel()
            else:
                coroutine.close()

        try:
            return self._wait(future, lambda: self.loop.call_soon_threadsafe(begin))
        except BaseException:  # also KeyboardInterrupt, at any point
            try:
                if self._ended:
                    raise RuntimeError
                # After `begin`, if that was sent: only the loop's thread knows whether the coroutine is running.
                self.loop.call_soon_threadsafe(give_up)
            except RuntimeError:  # nothing runs in the loop any more
                coroutine.close()
            raise

    async def run_async(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the loop and await it in the caller's loop, which may be a different one."""
        if self.is_here:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    def end(self) -> None:
        """Fail all pending calls, because the loop has ended."""
        with self._lock:
            self._ended = True
            calls = tuple(self._calls)
        for future in calls:
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                future.set_exception(StreamEnded(STOPPED))

    def _wait(self, future: concurrent.futures.Future[Result], send: Callable[[], object]) -> Result:
        with self._lock:
            if self._ended:
                raise StreamEnded(STOPPED)
            self._calls.add(future)
        try:
            try:
                send()
            except RuntimeError:
                raise StreamEnded(STOPPED) from None
            return future.result()
        finally:
            with self._lock:
                self._calls.discard(future)


def _copy_result(task: asyncio.Task[Result], future: concurrent.futures.Future[Result]) -> None:
    with contextlib.suppress(concurrent.futures.InvalidStateError):
        if task.cancelled():
            future.set_exception(StreamEnded(STOPPED))
            return
        error = task.exception()
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(task.result())


class LoopThread(Runtime):
    """A runtime with its own thread. ``linger``: seconds for transports to close at the end."""

    def __init__(self, name: str, linger: float = 0.0) -> None:
        loop = new_event_loop()
        super().__init__(loop, 0)
        self._linger = linger
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name=name, daemon=True)
        self._thread.start()
        started.wait()

    def stop(self) -> None:
        """Cancel running tasks, end the loop and wait for the thread. May be called several times."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        if not self.is_here:
            self._thread.join(JOIN_SECONDS)

    def _run(self, started: threading.Event) -> None:
        loop = self.loop
        self._thread_id = threading.get_ident()
        asyncio.set_event_loop(loop)
        loop.call_soon(started.set)
        try:
            loop.run_forever()
        finally:
            try:
                _finish_tasks(loop)
                # Transports close in later turns of the loop, and those with TLS exchange close_notify.
                loop.run_until_complete(asyncio.sleep(self._linger))
                loop.set_exception_handler(lambda *_: None)
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(loop.shutdown_default_executor())
            finally:
                self.end()
                asyncio.set_event_loop(None)
                with contextlib.suppress(OSError):  # uvloop: a handle is still busy
                    loop.close()


def _finish_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Give tasks time to end by themselves, for example to send a teardown, then cancel them."""
    tasks = asyncio.all_tasks(loop)
    if tasks:
        _, pending = loop.run_until_complete(asyncio.wait(tasks, timeout=TASK_GRACE_SECONDS))
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))


class SharedThread:
    """The loop thread that all clients of other servers share: started by the first, ended after the last."""

    def __init__(self) -> None:
        self._thread: LoopThread | None = None
        self._users = 0
        self._lock = threading.RLock()  # the garbage collector may call release during acquire

    def acquire(self) -> LoopThread:
        """Return the thread; release it with `release`."""
        with self._lock:
            if self._thread is None:
                self._thread = LoopThread("polycast-client", CONNECTION_GRACE_SECONDS)
            self._users += 1
            return self._thread

    def release(self) -> None:
        """Release the thread; the last user ends it."""
        with self._lock:
            self._users -= 1
            if self._users or self._thread is None:
                return
            thread, self._thread = self._thread, None
        thread.stop()


CLIENT_THREAD: Final = SharedThread()
