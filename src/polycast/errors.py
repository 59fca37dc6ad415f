"""The errors that leave protocol engines and parsers.

    PolycastError
    ├── ProtocolError
    │   ├── RemoteProtocolError   the peer broke the protocol; carries the status to answer with
    │   └── LocalProtocolError    we used an engine wrongly; a bug of ours
    └── ConfigurationError        what a user wrote in the configuration is wrong

Any other exception out of an engine is a bug: the shell that drives it closes that one session and counts it.
"""

from __future__ import annotations


class PolycastError(Exception):
    """Base of all errors that Polycast raises on purpose."""


class ProtocolError(PolycastError):
    """A rule of a wire protocol was broken."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow.

    ``status`` is the response status that suits the error where the protocol has one (RTSP and HTTP numbers).
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class LocalProtocolError(ProtocolError):
    """An engine was asked to do something that its state or the protocol does not allow."""


class ConfigurationError(PolycastError):
    """A configuration file, environment variable or API body is not valid. The text is meant for the user."""
