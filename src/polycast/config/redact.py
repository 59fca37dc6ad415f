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

# The password in a stream id of SRT, whose separators may be encoded: "publish:path:user:password", as in MediaMTX, or
# the s of "#!::m=publish,r=path,u=user,s=password".
_STREAM_ID = re.compile(
    r"([?&]streamid=(?:[a-z]+(?::|%3a)(?:(?!:|%3a)[^&])*(?::|%3a)(?:(?!:|%3a)[^&])*(?::|%3a)"
    r"|(?:#|%23)(?:!|%21)(?::|%3a){2}(?:[^&]*(?:,|%2c))?s(?:=|%3d)))(?:(?!:|%3a|,|%2c)[^&])*",
    re.IGNORECASE,
)


def redact(url: str) -> str:
    """Return a possibly invalid URL without the password and without secrets in its query."""
    return _without_parameters(_USERINFO.sub(rf"\1:{HIDDEN}@", url))


def _without_parameters(url: str) -> str:
    return _STREAM_ID.sub(rf"\1{HIDDEN}", _SECRET_PARAMETER.sub(rf"\1{HIDDEN}", url))


def redact_query(query: str) -> str:
    """Return the query of a URL, without ``?``, with its secrets hidden."""
    return _without_parameters(f"?{query}")[1:]
