"""Detects changes of a file's content: edited in place, replaced, or through links (Kubernetes config maps)."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

import msgspec

from polycast.config.files import UnreadableError, digest_of, empty_file, is_blank, read_again
from polycast.config.includes import digest_of_included, matching
from polycast.errors import ConfigurationError

# Milliseconds without another event after which a burst of changes is considered over.
QUIET_MILLISECONDS: Final = 50

# Seconds without a change of the content before it is used: an editor may be in the middle of writing.
SETTLE_SECONDS: Final = 0.05

# The same for a file that is empty or missing, as it may be briefly while it is written in place or replaced.
SETTLE_MISSING_SECONDS: Final = 1.0

# Seconds between two checks without events: for file systems that send none (network, some containers), and for
# changes while the set of watched directories is updated.
POLL_SECONDS: Final = 1.0

# Seconds before watching is retried after a failure: a directory was removed.
RETRY_SECONDS: Final = 1.0

# Links that are followed from one name.
MAXIMUM_LINKS: Final = 40

Stamp = tuple[str, int, int, int, int]


class FileState(msgspec.Struct, frozen=True):
    """The state of the configuration file."""

    digest: str
    """Identifies the content; empty if it cannot be read."""
    problem: str = ""
    """Why it cannot be loaded, for the log."""


Patterns = Callable[[], Sequence[str]]
"""Returns the patterns of the files that are included at present (``LoadedConfiguration.included``)."""


def _includes_nothing() -> Sequence[str]:
    return ()


async def content_changes(path: Path, known: str, patterns: Patterns = _includes_nothing) -> AsyncGenerator[FileState]:
    """Yield the state of the file after each change, once it has settled. Never ends.

    ``known`` identifies the content that the caller has (``state_digest``). Changes made while the caller works are
    not lost. Included files belong to it.
    """
    last: FileState | None = None
    async with aclosing(_events(path, patterns)) as events:
        async for _ in events:
            state = await _settled(path, patterns)
            if state != last and (last is not None or state.digest != known):
                yield state
            last = state


def state_digest(content_digest: str, included_digest: str) -> str:
    """Return what identifies the content of a file together with the included ones."""
    return f"{content_digest}+{included_digest}" if included_digest else content_digest


async def _events(path: Path, patterns: Patterns) -> AsyncGenerator[None]:
    """Yield once at the start, and after each event in a directory on the way to the file or to an included one."""
    from watchfiles import awatch

    # In threads, because there may be many included files.
    stamp = await asyncio.to_thread(_stamps, path, patterns())  # before the content is read, to detect later changes
    yield
    while True:
        directories = await asyncio.to_thread(_directories, path, patterns())
        watching = awatch(
            *directories,
            recursive=False,
            step=QUIET_MILLISECONDS,
            rust_timeout=round(POLL_SECONDS * 1000),
            yield_on_timeout=True,
            watch_filter=None,
        )
        try:
            async with aclosing(watching):
                async for _ in watching:
                    new = await asyncio.to_thread(_stamps, path, patterns())
                    if new != stamp:
                        stamp = new
                        yield
                    if await asyncio.to_thread(_directories, path, patterns()) != directories:
                        yield
                        break
        except (OSError, RuntimeError):
            await asyncio.sleep(RETRY_SECONDS)
            yield


async def _settled(path: Path, patterns: Patterns) -> FileState:
    """Return the state of the file, once it is stable."""
    last = await asyncio.to_thread(_state, path, patterns())
    while True:
        await asyncio.sleep(SETTLE_MISSING_SECONDS if last.problem else SETTLE_SECONDS)
        now = await asyncio.to_thread(_state, path, patterns())
        if now == last:
            return last
        last = now


def watched_directories(path: Path) -> list[Path]:
    """Return the directories that determine what the path refers to: those of the file and of every link to it."""
    found: list[Path] = []
    pending = list(reversed(Path(os.path.abspath(path)).parts))
    current = Path(pending.pop())
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            current = current.parent
            continue
        entry = current / part
        try:
            target = os.readlink(entry)
        except OSError:
            if not pending:
                found.append(current)
            current = entry
            continue
        links += 1
        if links > MAXIMUM_LINKS:
            break
        found.append(current)
        if os.path.isabs(target):
            current = Path(Path(target).anchor)
        pending.extend(part for part in reversed(Path(target).parts) if part not in ("/", Path(target).anchor))
        if not pending:
            found.append(current)
    return [directory for directory in dict.fromkeys(found) if directory.is_dir()]


def _directories(path: Path, patterns: Sequence[str]) -> list[Path]:
    """Return the directories to watch for a file and for those that it includes."""
    found = watched_directories(path)
    for pattern in patterns:
        found += watched_directories(Path(pattern.split("*")[0] + "x" if "*" in pattern else pattern))
    return list(dict.fromkeys(found))


def _state(path: Path, patterns: Sequence[str]) -> FileState:
    try:
        content = read_again(path)
    except UnreadableError as error:
        return FileState("", str(error))
    if is_blank(content):
        return FileState(digest_of(content), empty_file(path))
    return FileState(state_digest(digest_of(content), digest_of_included(patterns)))


def _stamps(path: Path, patterns: Sequence[str]) -> list[Stamp | None]:
    names: list[str] = []
    with contextlib.suppress(ConfigurationError):
        names = matching(patterns)
    return [_stamp(path), *(_stamp(Path(name)) for name in names)]


def _stamp(path: Path) -> Stamp | None:
    with contextlib.suppress(OSError):
        status = path.stat()
        return os.path.realpath(path), status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
    return None
