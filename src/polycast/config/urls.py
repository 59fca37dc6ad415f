"""URLs in settings."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

_GROUP: Final = re.compile(r"\$G[0-9]+", re.ASCII)
_GROUP_AS_PORT: Final = re.compile(r":\$G[0-9]+", re.ASCII)


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


def with_examples(url: str) -> str:
    """Return a URL with something in the place of the groups of an expression, which are only known later."""
    return _GROUP.sub("abc", _GROUP_AS_PORT.sub(":1935", url))
