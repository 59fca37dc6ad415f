"""An application in the process of the test."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from tests.support.waiting import PATIENCE

from polycast.app import Application
from polycast.config import LoadedConfiguration
from polycast.hub.path import PathObserver
from polycast.log import Log

BUGS = re.compile("internal error|a reader failed|Traceback")
"""What the log must not say: the server goes on, but the test has found something."""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.value = time.monotonic()

    def __call__(self) -> float:
        return self.value


class Lines(logging.Handler):
    """The log, and a way to wait for a line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._grown = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        trace = f"\n{record.exc_info}" if record.exc_info else ""
        self.lines.append(f"{record.levelname} {record.getMessage()}{trace}")
        self._grown.set()

    def find(self, pattern: str) -> str | None:
        return next((line for line in self.lines if re.search(pattern, line)), None)

    async def wait(self, pattern: str) -> str:
        """Return the first line that matches, waiting for it."""
        try:
            async with asyncio.timeout(PATIENCE):
                while (line := self.find(pattern)) is None:
                    self._grown.clear()
                    await self._grown.wait()
                return line
        except TimeoutError:
            raise AssertionError(f"no line matches {pattern!r} in:\n" + "\n".join(self.lines)) from None


@contextlib.asynccontextmanager
async def application(
    loaded: LoadedConfiguration,
    *,
    level: int = logging.INFO,
    observers: Sequence[PathObserver] = (),
    **options: Any,
) -> AsyncIterator[tuple[Application, Lines]]:
    """Run an application until the block ends; fail when it had a bug meanwhile, in its log or in its servers' counts.

    ``observers`` observe its paths from the start. ``options`` are those of `Application`.
    """
    logger = logging.Logger("polycast.test", level)
    lines = Lines()
    logger.addHandler(lines)
    app = Application(loaded, log=Log(logger), **options)
    app.hub.observers.extend(observers)
    await app.start()
    servers = list(app.servers.values())
    try:
        yield app, lines
    finally:
        await app.stop()
    bugs = [line for line in lines.lines if BUGS.search(line)]
    assert not bugs, "\n".join(bugs)
    assert sum(server.internal_errors for server in {*servers, *app.servers.values()}) == 0, "\n".join(lines.lines)
