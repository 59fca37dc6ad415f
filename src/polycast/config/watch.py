"""Tells when the content of a file changed: edited in place, replaced, or through links (Kubernetes config maps)."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final

from polycast.config.persist import digest_of

# Milliseconds without another event after which a burst of changes counts as over.
QUIET_MILLISECONDS: Final = 50

# Seconds over which the content must stay the same before it is taken: an editor may be in the middle of writing.
SETTLE_SECONDS: Final = 0.05

# The same for an empty file, which is what a file being written in place looks like for a moment.
SETTLE_EMPTY_SECONDS: Final = 1.0

# Seconds between two looks without any event: for file systems that send none (network, some containers), and for what
# happens while the directories to watch are changed.
POLL_SECONDS: Final = 1.0

# Seconds before watching is tried again when it fails: a directory went away.
RETRY_SECONDS: Final = 1.0

# Links that are followed from one name.
MAXIMUM_LINKS: Final = 40

Stamp = tuple[str, int, int, int, int]


async def content_changes(path: Path, known: str) -> AsyncGenerator[None]:
    """Yield each time the content of the file is another one than before, once it has settled. Ends never.

    ``known`` identifies the content that the caller has (``LoadedConfiguration.content_digest``). A file that goes away
    yields nothing until it is there again. Changes that come while the caller works are not lost.
    """
    async with aclosing(_events(path)) as events:
        async for _ in events:
            content = await _settled(path)
            if content is not None and content != known:
                known = content
                yield


async def _events(path: Path) -> AsyncGenerator[None]:
    """Yield once at the beginning, and when something happened in a directory on the way to the file."""
    from watchfiles import awatch

    stamp: Stamp | None = None
    yield
    while True:
        directories = watched_directories(path)
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
                    new = _stamp(path)
                    if new != stamp:
                        stamp = new
                        yield
                    if watched_directories(path) != directories:
                        yield
                        break
        except (OSError, RuntimeError):
            await asyncio.sleep(RETRY_SECONDS)
            yield


async def _settled(path: Path) -> str | None:
    """Return what identifies the content, once it stays the same; None when there is no file."""
    last = await asyncio.to_thread(_digest, path)
    while last is not None:
        await asyncio.sleep(SETTLE_EMPTY_SECONDS if last == _EMPTY else SETTLE_SECONDS)
        now = await asyncio.to_thread(_digest, path)
        if now == last:
            break
        last = now
    return last


def watched_directories(path: Path) -> list[Path]:
    """Return the directories whose entries decide what the name means: those of the file and of every link to it."""
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


_EMPTY: Final = digest_of(b"")


def _digest(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        return digest_of(path.read_bytes())
    return None


def _stamp(path: Path) -> Stamp | None:
    with contextlib.suppress(OSError):
        status = path.stat()
        return os.path.realpath(path), status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
    return None
