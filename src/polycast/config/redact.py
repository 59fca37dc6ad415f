"""Hides passwords in texts that people read: errors, logs."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"

# From the user to the last @, as a password that nobody encoded may have slashes, question marks and @ itself. Also
# without a scheme, which may be just what is missing.
_USERINFO = re.compile(r"((?:^|//?)[^:/?#@]*):(?!//).*@", re.DOTALL)

_SECRET_PARAMETER = re.compile(
    r"([?&;](?:[^=&;]*[-_])?(?:pass|password|passwd|passphrase|pwd|secret|token|key|auth|signature|sig|jwt)=)[^&;#]*",
    re.IGNORECASE,
)


def redact(url: str) -> str:
    """Return a URL, or what was meant to be one, without the password and without secrets in its query."""
    return _SECRET_PARAMETER.sub(rf"\1{HIDDEN}", _USERINFO.sub(rf"\1:{HIDDEN}@", url))
