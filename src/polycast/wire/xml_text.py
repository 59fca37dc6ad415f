"""Text of others in XML documents."""

from __future__ import annotations

import re
from typing import Final

_INVALID: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def without_invalid(text: str) -> str:
    """Return text without the characters that XML cannot contain, not even escaped (XML 1.0 section 2.2)."""
    return _INVALID.sub("", text)
