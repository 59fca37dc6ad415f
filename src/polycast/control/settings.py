"""All changes of the running configuration: from the file, the API, a signal or the program.

Changes are applied sequentially. If one fails, the last valid configuration remains in effect, and the reason is
logged.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

from polycast.config import LoadedConfiguration, load
from polycast.config.crypto import decrypt
from polycast.config.edits import Edit
from polycast.config.env import key_variable
from polycast.config.files import UnreadableError, decode
from polycast.config.persist import PersistError, PreparedWrite, prepare_write
from polycast.config.schema import Configuration
from polycast.config.watch import content_changes, state_digest
from polycast.config.whole import Problem, ReplaceAll, load_text, problems_of, replacement, text_of
from polycast.control.turns import Turns
from polycast.errors import ConfigurationError, PolycastError
from polycast.log import Log

Apply = Callable[[Configuration], Awaitable[None]]
"""Applies a configuration. Raises PolycastError if that fails; the old one remains in effect then."""

AnyEdit = Edit | ReplaceAll

MakeEdit = Callable[[Configuration], AnyEdit]
"""Makes a change of the configuration that is in effect when its turn comes; other changes may come first.

Raises an exception to refuse it."""

Check = Callable[[AnyEdit, Configuration, Configuration], None]
"""Checks a change, given the old and the new configuration. Raises an exception to refuse it."""

Record = Callable[[Configuration, Configuration], None]
"""Called with the old and the new configuration once a change is in effect, before the next one."""

Loader = Callable[[], LoadedConfiguration]
"""Reloads the configuration in the same way as at the start. Raises ConfigurationError."""


MAXIMUM_VERSIONS: Final = 10
"""Earlier configurations that are kept."""

MAXIMUM_KEPT: Final = 1024 * 1024
"""Bytes of a file that are kept of an earlier version."""


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


@dataclass(frozen=True, slots=True)
class Version:
    """A configuration that was in effect."""

    number: int
    time: float
    """Unix time at which it was replaced, seconds."""
    replaced_by: ChangeSource
    """The origin of the change that replaced it."""
    configuration: Configuration
    content: bytes
    """The file as it was stored; empty if it did not say what was in effect, or is too large to be kept."""
    unwritten: str | None
    """The text that was in effect without being written into the file."""

    @property
    def is_text_generated(self) -> bool:
        """Whether `text` is made of the settings."""
        return self.unwritten is None and not self.content

    @property
    def text(self) -> str:
        """The text of the file, with comments if they are known. Raises ConfigurationError for an unknown key."""
        if self.unwritten is not None:
            return self.unwritten
        return _decoded(self.content) if self.content else text_of(self.configuration)


class _Texts:
    """The text of the running configuration, and earlier versions of it."""

    def __init__(self, content: bytes, digest: str) -> None:
        self.content = content
        """The file as stored when it was last read or written."""
        self.digest = digest
        """Identifies this content (`config.files.digest_of`)."""
        self.unwritten: str | None = None
        """A text that is in effect, but was not written into the file."""
        self.is_drifted = False
        """Whether single settings were changed since, so that no text says what is in effect."""
        self.versions: deque[Version] = deque(maxlen=MAXIMUM_VERSIONS)
        self._count = 0

    def keep(self, configuration: Configuration, replaced_by: ChangeSource) -> None:
        """Keep a configuration that is about to be replaced."""
        self._count += 1
        content = b"" if self.is_drifted or len(self.content) > MAXIMUM_KEPT else self.content
        self.versions.append(Version(self._count, time.time(), replaced_by, configuration, content, self.unwritten))

    def set_file(self, content: bytes, digest: str, edit: AnyEdit | None = None) -> None:
        """The file has this content: it was loaded, or ``edit`` was written into it."""
        was_different = self.is_drifted or self.unwritten is not None
        self.content = content
        self.digest = digest
        self.unwritten = None
        # A single setting that is written leaves out what was not written before.
        self.is_drifted = was_different and edit is not None and not isinstance(edit, ReplaceAll)

    def set_unwritten(self, edit: AnyEdit) -> None:
        """A change is in effect that was not written into the file."""
        text = edit.text if isinstance(edit, ReplaceAll) else None
        self.unwritten = text
        self.is_drifted = text is None


class Settings:
    """The running configuration and the state of its file."""

    def __init__(self, loaded: LoadedConfiguration, apply: Apply, log: Log, loader: Loader | None = None) -> None:
        self._apply = apply
        self._log = log
        self._turns = Turns()
        self._watcher: asyncio.Task[None] | None = None
        self._loader = loader
        self.configuration: Configuration = loaded.configuration
        self.file = loaded.source_path if loaded.is_rereadable else None
        """The configuration file; None if there is none, or for a pipe, which can only be read once."""
        self._texts = _Texts(loaded.content if self.file is not None else b"", loaded.content_digest)
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
        async with self._turns.lock:
            pass  # a change in progress is completed first

    async def replace(self, configuration: Configuration) -> None:
        """Apply a configuration, for the program that embeds the server; completely, even if the caller is cancelled.

        Raises PolycastError.
        """
        await self._turns.complete(partial(self._apply_change, configuration, ChangeSource.PROGRAM))

    async def edit(self, make: MakeEdit, check: Check, record: Record) -> None:
        """Apply a change through the API, and save it to the file if that is enabled.

        ``make`` and ``check`` are called in a thread. Returns once the change is in effect. Raises
        ConfigurationError if it is invalid, PersistError if it cannot be saved, TooManyChangesError if too many others
        are waiting, and PolycastError if it cannot be applied; then nothing has changed.
        """
        await self._turns.complete(partial(self._edit, make, check, record))

    @property
    def versions(self) -> list[Version]:
        """The last configurations that were replaced, the oldest first."""
        return list(self._texts.versions)

    @property
    def is_text_generated(self) -> bool:
        """Whether `read_text` makes it of the settings in effect, since it is that of no file."""
        return self._texts.unwritten is None and (self.file is None or self._texts.is_drifted)

    def read_text(self) -> str:
        """Return the running configuration as the text of a file: with comments, if a file or text says the same.

        To be called in a thread. Raises ConfigurationError if the file is encrypted with a key that is not known any
        more.
        """
        texts = self._texts
        unwritten = texts.unwritten
        if unwritten is not None:
            return unwritten
        return text_of(self.configuration) if self.is_text_generated else _decoded(texts.content)

    def check_text(self, text: str) -> tuple[list[Problem], list[str]]:
        """Return the errors and the warnings of a text that may replace the configuration. To be called in a thread."""
        try:
            return [], load_text(text, self._name, self.configuration, os.environ, self._included).warnings
        except ConfigurationError as error:
            return problems_of(error, self._name), []

    async def replace_text(self, text: str, begin: Callable[[], None], check: Check, record: Record) -> None:
        """Put a text in the place of the whole configuration; otherwise like `edit`.

        ``begin`` is called in a thread when no other change can come before this one; it may refuse it with an
        exception.
        """

        def make(old: Configuration) -> AnyEdit:
            begin()
            return replacement(text, self._name, old, os.environ, self._included)

        await self.edit(make, check, record)

    @property
    def _name(self) -> str:
        """The name of the file, for errors."""
        return str(self.file) if self.file is not None else ""

    async def restore(self, number: int, check: Check, record: Record) -> None:
        """Put an earlier version in the place of the configuration; otherwise like `edit`.

        Raises LookupError if the version is not kept any more.
        """
        version = next((each for each in self._texts.versions if each.number == number), None)
        if version is None:
            raise LookupError(number)
        await self.edit(lambda _: ReplaceAll(version.configuration, version.text), check, record)

    async def _edit(self, make: MakeEdit, check: Check, record: Record) -> None:
        old = self.configuration
        # With thousands of paths, these take tenths of a second.
        edit = await asyncio.to_thread(make, old)
        new = await asyncio.to_thread(edit.apply, old)
        await asyncio.to_thread(check, edit, old, new)
        write: PreparedWrite | None = None
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
                self._texts.versions.pop()
                raise
            self._texts.set_file(write.content, write.digest, edit)
        else:
            self._texts.set_unwritten(edit)
        record(old, new)

    async def reload_file(self, source: ChangeSource) -> bool:
        """Reload the file; return whether its configuration is in effect now. Never raises because of an invalid
        file."""
        async with self._turns.lock:
            try:
                loaded = await asyncio.to_thread(self._load)
            except ConfigurationError as error:
                self._on_bad_file(source, error)
                return False
            is_known = (loaded.content_digest, loaded.included_digest) == (self._texts.digest, self._included_digest)
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
            self._texts.set_file(loaded.content, loaded.content_digest)
            self._included, self._included_digest = loaded.included, loaded.included_digest
            return True

    async def _apply_change(self, configuration: Configuration, source: ChangeSource) -> None:
        try:
            await self._apply(configuration)
        except PolycastError as error:
            self._log.error("the configuration was not changed: %s", error)
            self._record(source, str(error))
            raise
        self._texts.keep(self.configuration, source)
        self.configuration = configuration
        self._record(source, "")

    async def _prepare(self, edit: AnyEdit, new: Configuration) -> PreparedWrite:
        if self.file is None:
            raise PersistError("the change can't be persisted (apiPersist): there is no configuration file")
        return await asyncio.to_thread(prepare_write, self.file, self._texts.digest, edit, new, os.environ)

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
        known = state_digest(self._texts.digest, self._included_digest)
        async with aclosing(content_changes(self.file, known, lambda: self._included)) as changes:
            async for state in changes:
                if state.problem:
                    self._on_bad_file(ChangeSource.FILE, UnreadableError(state.problem))
                    continue
                try:
                    await asyncio.shield(self.reload_file(ChangeSource.FILE))
                except Exception:
                    self._log.exception("internal error while the configuration file was loaded")


def _decoded(content: bytes) -> str:
    """Return the text of a file as it is stored. Raises ConfigurationError."""
    key = os.environ.get(key_variable(os.environ))
    return decode(content if key is None else decrypt(content, key))[0]
