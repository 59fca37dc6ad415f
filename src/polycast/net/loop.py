"""The event loop that servers run on."""

from __future__ import annotations

import asyncio
import contextlib
import sys


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop, or winloop on Windows, where it is installed; else the platform's own."""
    with contextlib.suppress(ImportError):
        module = __import__("winloop" if sys.platform == "win32" else "uvloop")
        loop: asyncio.AbstractEventLoop = module.new_event_loop()
        return loop
    return asyncio.new_event_loop()
