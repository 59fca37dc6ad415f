"""What a caller is told when it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from polycast.hub.errors import (
    AccessDenied,
    CannotPublish,
    Denial,
    InvalidPathName,
    NoOnePublishing,
    PathClosed,
    PathError,
    PathNotConfigured,
    Redirected,
    SourceTimedOut,
    TooManyReaders,
)
from polycast.wire.srt.rejection import Rejection

_BY_DENIAL: Final[Mapping[Denial, Rejection]] = {
    Denial.ADDRESS: Rejection.FORBIDDEN,
    Denial.CREDENTIALS: Rejection.UNAUTHORIZED,
    Denial.EXTERNAL: Rejection.UNAUTHORIZED,
    Denial.UNDECIDED: Rejection.UNAUTHORIZED,
    Denial.LIMIT: Rejection.OVERLOAD,
}

_BY_ERROR: Final[tuple[tuple[type[PathError], Rejection], ...]] = (
    (PathNotConfigured, Rejection.NOT_FOUND),
    (InvalidPathName, Rejection.BAD_REQUEST),
    (SourceTimedOut, Rejection.GATEWAY),
    (NoOnePublishing, Rejection.NOT_FOUND),
    (Redirected, Rejection.NOT_FOUND),
    (PathClosed, Rejection.NOT_FOUND),
    (TooManyReaders, Rejection.OVERLOAD),
    (CannotPublish, Rejection.CONFLICT),
)
"""The first row that fits counts."""


def rejection_of(error: PathError) -> Rejection:
    """Return the code for the caller."""
    if isinstance(error, AccessDenied):
        return _BY_DENIAL[error.denial]
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Rejection.PEER)
