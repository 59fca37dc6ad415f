"""The one door through which the running configuration changes: from the file, the API, a signal or the program.

Changes are taken one after the other. One that fails leaves the last good configuration in place and says why.
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
from polycast.config.watch import content_changes
from polycast.errors import ConfigurationError, PolycastError
from polycast.log import Log

Apply = Callable[[Configuration], Awaitable[None]]
"""Makes a configuration the running one. Raises PolycastError and leaves the old one running when it cannot."""

Check = Callable[[Configuration, Configuration], None]
"""Asked about a change, with the old and the new configuration."""

Loader = Callable[[], LoadedConfiguration]
"""Reads the configuration again as it was read at the start. Raises ConfigurationError."""


class ChangeSource(StrEnum):
    """Who wanted the last change."""

    START = "start"
    FILE = "file"
    API = "api"
    SIGNAL = "signal"
    PROGRAM = "program"


@dataclass(slots=True)
class ReloadStatus:
    """What became of changes so far."""

    ok: bool = True
    """Whether the last change was taken."""
    error: str = ""
    """Why the last change was not taken."""
    source: ChangeSource = ChangeSource.START
    time: float = 0.0
    """Unix time of the last attempt, seconds."""
    success_time: float = 0.0
    """Unix time of the last success, the start included."""
    successes: int = 0
    failures: int = 0


class Settings:
    """The running configuration and what is known of its file."""

    def __init__(self, loaded: LoadedConfiguration, apply: Apply, log: Log, loader: Loader | None = None) -> None:
        self._apply = apply
        self._log = log
        self._lock = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._loader = loader
        self.configuration: Configuration = loaded.configuration
        self.file = loaded.source_path if loaded.is_rereadable else None
        """The configuration file; None when there is none, or a pipe, which can be read only once."""
        self._digest = loaded.content_digest
        now = time.time()
        self.status = ReloadStatus(time=now, success_time=now)
        self.listeners: list[Callable[[ReloadStatus], None]] = []
        """Called after each change, taken or not."""

    def start_watching(self) -> None:
        """Take changes of the file from now on."""
        if self.file is not None and self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Stop watching."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait((watcher,))
        async with self._lock:
            pass  # a change that is under way ends first

    async def replace(self, configuration: Configuration) -> None:
        """Make a configuration the running one, for the program that embeds the server. Raises PolycastError."""
        async with self._lock:
            await self._take(configuration, ChangeSource.PROGRAM)

    async def edit(self, edit: Edit, check: Check = lambda old, new: None) -> None:
        """Take a change through the API, and write it into the file where that is wanted.

        ``check`` may refuse what it would change, by an exception.

        Returns once it is in effect. Raises ConfigurationError when it is not valid, PersistError when it cannot be
        written, and PolycastError when it cannot be put into effect; then nothing has changed.
        """
        work = asyncio.get_running_loop().create_task(self._edit(edit, check))
        work.add_done_callback(_retrieve)
        await asyncio.shield(work)  # a client that goes away must not leave half a change

    async def _edit(self, edit: Edit, check: Check) -> None:
        async with self._lock:
            old = self.configuration
            new = await asyncio.to_thread(edit.apply, old)  # with thousands of paths, it takes tenths of a second
            check(old, new)
            write = None
            if old.api_persist or new.api_persist:
                write = await self._prepare(edit, new)
            self._log.info("reloading configuration (API request)")
            await self._take(new, ChangeSource.API)
            if write is None:
                return
            try:
                await asyncio.to_thread(write.commit)
            except PersistError as error:
                self._note(ChangeSource.API, str(error))
                await self._apply(old)
                self.configuration = old
                raise
            self._digest = write.digest

    async def reload_file(self, source: ChangeSource) -> bool:
        """Read the file again; return whether its configuration is running now. Never raises for a bad file."""
        async with self._lock:
            try:
                loaded = await asyncio.to_thread(self._load)
            except ConfigurationError as error:
                self._on_bad_file(source, error)
                return False
            if source is ChangeSource.FILE and loaded.content_digest == self._digest:
                if not self.status.ok:
                    self._log.info("the configuration file matches the running configuration again")
                    self._note(source, "")
                return True  # else what we wrote ourselves
            self._log.info("reloading configuration (%s)", "file changed" if source is ChangeSource.FILE else source)
            for warning in loaded.warnings:
                self._log.warning("%s", warning)
            try:
                await self._take(loaded.configuration, source)
            except PolycastError:
                return False
            # Only now: as long as the file is not what runs, changes through the API must not be written into it.
            self._digest = loaded.content_digest
            return True

    async def _take(self, configuration: Configuration, source: ChangeSource) -> None:
        try:
            await self._apply(configuration)
        except PolycastError as error:
            self._log.error("the configuration was not changed: %s", error)
            self._note(source, str(error))
            raise
        self.configuration = configuration
        self._note(source, "")

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
            self._log.error(
                "the configuration file has an error, the last good configuration stays in effect: %s", error
            )
        self._note(source, str(error))

    def _note(self, source: ChangeSource, error: str) -> None:
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
        async with aclosing(content_changes(self.file, self._digest)) as changes:
            async for state in changes:
                if state.problem:
                    self._on_bad_file(ChangeSource.FILE, UnreadableError(state.problem))
                    continue
                try:
                    await asyncio.shield(self.reload_file(ChangeSource.FILE))
                except Exception:
                    self._log.exception("internal error while the configuration file was loaded")


def _retrieve(task: asyncio.Task[None]) -> None:
    """Look at a task's exception, which nobody may be left to do."""
    if not task.cancelled():
        task.exception()
