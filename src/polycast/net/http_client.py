"""Loads the HTTP client library, which is large, outside the event loop and only when it is needed."""

from __future__ import annotations

import contextlib
from importlib import import_module


def load_http_client() -> None:
    """Import the library and what it imports at its first request. Takes tenths of a second; call it in a thread."""
    import_module("httpx2")
    with contextlib.suppress(ImportError):
        import_module("anyio._backends._asyncio")
