"""The errors of the Python API. All are `PolycastError`; texts are meant for the user."""

from __future__ import annotations

import re

from polycast.errors import MissingDependency, PolycastError, RemoteProtocolError, UnsupportedCodec
from polycast.hub.errors import AccessDenied, CannotPublish, NoOnePublishing, PathError, PathNotConfigured, Redirected


class NotFound(PolycastError):
    """The path does not exist, or nobody is publishing to it and `reconnect` is off."""


class AccessRefused(PolycastError):
    """The user or password is wrong, or this address may not read or publish there."""


class PublishRefused(PolycastError):
    """The path or the server does not accept this publisher: it already has one, or the path has its own source."""


class ConnectionFailed(PolycastError, ConnectionError):
    """A server cannot be reached, or the connection to it was lost, and `reconnect` is off."""


class ReadTimeout(PolycastError, TimeoutError):
    """No frame arrived within the timeout."""


class StreamEnded(PolycastError):
    """The stream being written has ended: it was closed, the server has stopped, or another publisher took over the
    path."""


NO_ACCESS_STATUSES = (401, 403)
NOT_FOUND_STATUS = 404


def public_error(error: BaseException) -> PolycastError:
    """Return the public error that corresponds to ``error``."""
    if isinstance(error, NotFound | AccessRefused | PublishRefused | UnsupportedCodec | ConnectionFailed | StreamEnded):
        return error
    text = str(error) or type(error).__name__
    status = _status_of(error)
    if status in NO_ACCESS_STATUSES:
        return AccessRefused(f"wrong user or password, or no access from here: {text}")
    if status == NOT_FOUND_STATUS:
        return NotFound(f"there is no such stream: {text}")
    if isinstance(error, AccessDenied):
        return AccessRefused(text)
    if isinstance(error, Redirected):
        return NotFound(f"the path is elsewhere: {text}")
    if isinstance(error, PathNotConfigured | NoOnePublishing):
        return NotFound(text)
    if isinstance(error, CannotPublish):
        return PublishRefused(text)
    if isinstance(error, PathError):
        return NotFound(text)
    return ConnectionFailed(text)


# What servers write if a protocol has no status codes (RTMP), or if the code is only in the text.
_STATUS_TEXT = re.compile(r"bad status code: (\d{3})")
_NOT_FOUND_TEXT = re.compile(r"NetStream\.Play\.StreamNotFound")
_NO_ACCESS_TEXT = re.compile(
    r"Net(?:Stream|Connection)\..*(?:auth|denied|forbidden|credential|password|not allowed)", re.IGNORECASE
)


def _status_of(error: BaseException) -> int:
    """Return the RTSP or HTTP status code with which a server refused; 0 if there is none."""
    if isinstance(error, RemoteProtocolError):
        return error.status
    status = getattr(error, "status", 0)
    if isinstance(status, int) and status:
        return status
    text = str(error)
    found = _STATUS_TEXT.search(text)
    if found is not None:
        return int(found[1])
    if _NOT_FOUND_TEXT.search(text):
        return NOT_FOUND_STATUS
    return NO_ACCESS_STATUSES[1] if _NO_ACCESS_TEXT.search(text) else 0


def is_permanent(error: PolycastError) -> bool:
    """Whether retrying is useless until somebody changes something."""
    return isinstance(error, AccessRefused | UnsupportedCodec | MissingDependency | PublishRefused)
