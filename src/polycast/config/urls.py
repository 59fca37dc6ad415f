"""URLs in settings."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def split_url(url: str) -> SplitResult | None:
    """The parts of a URL with a host and a valid port, or None."""
    if not url.isprintable():
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if it is not a port
    except ValueError:
        return None
    return parts if parts.hostname and " " not in parts.netloc else None
