"""Load generators as child processes that answer commands over a pipe."""

import gc
import multiprocessing
import resource
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from bench.server import settle_process

ANSWER_LIMIT = 60.0  # seconds; connecting a thousand readers takes a few
END_LIMIT = 2.0  # seconds between SIGTERM and SIGKILL

type_of_answer = dict[str, Any]
_context = multiprocessing.get_context("fork")


class WorkerError(Exception):
    """A load generator failed or did not answer in time."""


class Worker:
    """A child process that runs `target(connection, *arguments)`; its first message says that it is ready."""

    def __init__(self, core: int, target: Callable[..., None], *arguments: object) -> None:
        self._name = f"{target.__module__}.{target.__name__}"
        self._connection, child_connection = _context.Pipe()
        self._process = _context.Process(target=_run, args=(core, child_connection, target, arguments), daemon=True)
        self._process.start()
        child_connection.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.join(END_LIMIT)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()

    @property
    def pid(self) -> int:
        if self._process.pid is None:
            raise WorkerError(f"{self._name} is not running")
        return self._process.pid

    def answer(self, limit: float = ANSWER_LIMIT) -> type_of_answer:
        """The next message, with at most `limit` seconds of waiting."""
        try:
            if not self._connection.poll(limit):
                raise WorkerError(f"{self._name} did not answer within {limit:.0f} s")
            answer: type_of_answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise WorkerError(f"{self._name} ended without an answer") from error
        if "error" in answer:
            raise WorkerError(f"{self._name}: {answer['error']}")
        return answer

    def ask(self, command: str, **arguments: object) -> type_of_answer:
        try:
            self._connection.send({"command": command, **arguments})
        except ConnectionError as error:
            raise WorkerError(f"{self._name} has ended: {self.answer(0)}") from error
        return self.answer()


def raise_file_limit() -> None:
    """Allow as many file descriptors as the system lets this user have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run(core: int, connection: Connection, target: Callable[..., None], arguments: tuple[object, ...]) -> None:
    settle_process(core)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    try:
        target(connection, *arguments)
    except Exception:
        connection.send({"error": traceback.format_exc()})
