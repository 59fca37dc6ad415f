"""All changes of the running configuration: from the file, the API, a signal or the program.

Changes are applied sequentially. If one fails, the last valid configuration remains in effect, and the reason is
logged.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from polycast.config import LoadedConfiguration, load
from polycast.config.edits import Edit
from polycast.config.files import UnreadableError
from polycast.config.persist import PersistError, PreparedWrite, prepare_write
from polycast.config.schema import Configuration
from polycast.config.watch import content_changes, state_digest
from polycast.errors import ConfigurationError, PolycastError
from polycast.log import Log

Apply = Callable[[Configuration], Awaitable[None]]
"""Applies a configuration. Raises PolycastError if that fails; the old one remains in effect then."""

MakeEdit = Callable[[Configuration], Edit]
"""Makes a change of the configuration that is in effect when its turn comes; other changes may come first.

Raises an exception to refuse it."""

Check = Callable[[Edit, Configuration, Configuration], None]
"""Checks a change, given the old and the new configuration. Raises an exception to refuse it."""

Record = Callable[[Configuration, Configuration], None]
"""Called with the old and the new configuration once a change is in effect, before the next one."""

Loader = Callable[[], LoadedConfiguration]
"""Reloads the configuration in the same way as at the start. Raises ConfigurationError."""


class ChangeSource(StrEnum):
    """The origin of the last change."""

    START = "start"
    FILE = "file"
    API = "api"
    SIGNAL = "signal"
    PROGRAM = "program"


@dataclass(slots=True)
class ReloadStatus:
    """The results of changes so far."""

    ok: bool = True
    """Whether the last change was applied."""
    error: str = ""
    """Why the last change was not applied."""
    source: ChangeSource = ChangeSource.START
    time: float = 0.0
    """Unix time of the last attempt, seconds."""
    success_time: float = 0.0
    """Unix time of the last success, including the start."""
    successes: int = 0
    failures: int = 0


class Settings:
    """The running configuration and the state of its file."""

    def __init__(self, loaded: LoadedConfiguration, apply: Apply, log: Log, loader: Loader | None = None) -> None:
        self._apply = apply
        self._log = log
        self._lock = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._loader = loader
        self.configuration: Configuration = loaded.configuration
        self.file = loaded.source_path if loaded.is_rereadable else None
        """The configuration file; None if there is none, or for a pipe, which can only be read once."""
        self._digest = loaded.content_digest
        self._included = loaded.included
        self._included_digest = loaded.included_digest
        now = time.time()
        self.status = ReloadStatus(time=now, success_time=now)
        self.listeners: list[Callable[[ReloadStatus], None]] = []
        """Called after each change, whether it was applied or not."""

    def start_watching(self) -> None:
        """Start applying changes of the file."""
        if self.file is not None and self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Stop watching."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait((watcher,))
        async with self._lock:
            pass  # a change in progress is completed first

    async def replace(self, configuration: Configuration) -> None:
        """Apply a configuration, for the program that embeds the server. Raises PolycastError."""
        async with self._lock:
            await self._apply_change(configuration, ChangeSource.PROGRAM)

    async def edit(self, make: MakeEdit, check: Check, record: Record) -> None:
        """Apply a change through the API, and save it to the file if that is enabled.

        ``make`` and ``check`` are called in a thread. Returns once the change is in effect. Raises
        ConfigurationError if it is invalid, PersistError if it cannot be saved, and PolycastError if it cannot be
        applied; then nothing has changed.
        """
        work = asyncio.get_running_loop().create_task(self._edit(make, check, record))
        work.add_done_callback(_retrieve)
        await asyncio.shield(work)  # a client that disconnects must not leave a partial change

    async def _edit(self, make: MakeEdit, check: Check, record: Record) -> None:
        async with self._lock:
            old = self.configuration
            # With thousands of paths, these take tenths of a second.
            edit = await asyncio.to_thread(make, old)
            new = await asyncio.to_thread(edit.apply, old)
            await asyncio.to_thread(check, edit, old, new)
            write = None
            if old.api_persist or new.api_persist:
                write = await self._prepare(edit, new)
            self._log.info("reloading configuration (API request)")
            await self._apply_change(new, ChangeSource.API)
            if write is not None:
                try:
                    await asyncio.to_thread(write.commit)
                except PersistError as error:
                    self._record(ChangeSource.API, str(error))
                    await self._apply(old)
                    self.configuration = old
                    raise
                self._digest = write.digest
            record(old, new)

    async def reload_file(self, source: ChangeSource) -> bool:
        """Reload the file; return whether its configuration is in effect now. Never raises because of an invalid
        file."""
        async with self._lock:
            try:
                loaded = await asyncio.to_thread(self._load)
            except ConfigurationError as error:
                self._on_bad_file(source, error)
                return False
            is_known = (loaded.content_digest, loaded.included_digest) == (self._digest, self._included_digest)
            if source is ChangeSource.FILE and is_known:
                if not self.status.ok:
                    self._log.info("the configuration file matches the running configuration again")
                    self._record(source, "")
                return True  # otherwise, the server wrote it itself
            self._log.info("reloading configuration (%s)", "file changed" if source is ChangeSource.FILE else source)
            for warning in loaded.warnings:
                self._log.warning("%s", warning)
            try:
                await self._apply_change(loaded.configuration, source)
            except PolycastError:
                return False
            # Only now: while the file differs from the running configuration, API changes must not be written to it.
            self._digest = loaded.content_digest
            self._included, self._included_digest = loaded.included, loaded.included_digest
            return True

    async def _apply_change(self, configuration: Configuration, source: ChangeSource) -> None:
        try:
            await self._apply(configuration)
        except PolycastError as error:
            self._log.error("the configuration was not changed: %s", error)
            self._record(source, str(error))
            raise
        self.configuration = configuration
        self._record(source, "")

    async def _prepare(self, edit: Edit, new: Configuration) -> PreparedWrite:
        if self.file is None:
            raise PersistError("the change can't be persisted (apiPersist): there is no configuration file")
        return await asyncio.to_thread(prepare_write, self.file, self._digest, edit, new, os.environ)

    def _load(self) -> LoadedConfiguration:
        if self._loader is not None:
            return self._loader()
        return load(str(self.file) if self.file is not None else None, os.environ, again=True)

    def _on_bad_file(self, source: ChangeSource, error: ConfigurationError) -> None:
        if isinstance(error, UnreadableError):
            self._log.warning("%s; the last good configuration stays in effect", error)
        else:
            for text in error.report or (str(error),):
                self._log.error(
                    "the configuration file has an error, the last good configuration stays in effect: %s", text
                )
        self._included = error.included or self._included
        self._record(source, str(error))

    def _record(self, source: ChangeSource, error: str) -> None:
        status = self.status
        status.source = source
        status.time = time.time()
        status.ok = not error
        status.error = error
        if error:
            status.failures += 1
        else:
            status.successes += 1
            status.success_time = status.time
        for listener in self.listeners:
            listener(status)

    async def _watch(self) -> None:
        if self.file is None:
            return
        known = state_digest(self._digest, self._included_digest)
        async with aclosing(content_changes(self.file, known, lambda: self._included)) as changes:
            async for state in changes:
                if state.problem:
                    self._on_bad_file(ChangeSource.FILE, UnreadableError(state.problem))
                    continue
                try:
                    await asyncio.shield(self.reload_file(ChangeSource.FILE))
                except Exception:
                    self._log.exception("internal error while the configuration file was loaded")


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve a task's exception, in case nobody else does."""
    if not task.cancelled():
        task.exception()
