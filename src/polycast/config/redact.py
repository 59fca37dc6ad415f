"""Hides passwords in errors and logs."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"

# From the user to the last @, as a password that was not encoded may contain slashes, question marks and @. Also
# without a scheme, which may be what is missing.
_USERINFO = re.compile(r"((?:^|//?)[^:/?#@]*):(?!//).*@", re.DOTALL)

_SECRET_PARAMETER = re.compile(
    r"([?&;](?:[^=&;]*[-_])?(?:pass|password|passwd|passphrase|pwd|secret|token|key|auth|signature|sig|jwt)=)[^&;#]*",
    re.IGNORECASE,
)


def redact(url: str) -> str:
    """Return a possibly invalid URL without the password and without secrets in its query."""
    return _SECRET_PARAMETER.sub(rf"\1{HIDDEN}", _USERINFO.sub(rf"\1:{HIDDEN}@", url))


def redact_query(query: str) -> str:
    """Return the query of a URL, without ``?``, with its secrets hidden."""
    return _SECRET_PARAMETER.sub(rf"\1{HIDDEN}", f"?{query}")[1:]
