"""The library for HTTP requests is large: it is loaded beside the loop, by whoever will need it."""

from __future__ import annotations

import contextlib
from importlib import import_module


def load_http_client() -> None:
    """Import the library, and what it would import with its first request. Takes tenths of a second; for a thread."""
    import_module("httpx2")
    with contextlib.suppress(ImportError):
        import_module("anyio._backends._asyncio")
