"""Flashes and clicks, published and watched with FFmpeg in processes of their own: PyAV holds the interpreter while it
connects."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.waiting import PATIENCE

FOLDER = Path(__file__).parent

TOLERANCE = 0.02
"""Seconds between flash and click."""


def transcoder_threads(kind: str = "audio") -> list[threading.Thread]:
    """Return the threads that transcode ``audio`` or ``video``."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"{kind} transcoder")]


@contextlib.asynccontextmanager
async def publishing(
    url: str, container: str, sound_encoder: str = "aac", pictures: str = "baseline"
) -> AsyncIterator[None]:
    """Publish flashes and clicks; ``pictures`` is a key of ``flashes.PICTURES``."""
    script = str(FOLDER / "flashes.py")
    process = await asyncio.create_subprocess_exec(sys.executable, script, url, container, sound_encoder, pictures)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def watched(url: str, count: int = 3) -> dict[str, Any]:
    """Read a URL until this many flashes were seen; return what `watch` prints."""
    script = str(FOLDER / "watch.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, url, str(count), stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(2 * PATIENCE):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    found: dict[str, Any] = json.loads(output)
    return found
