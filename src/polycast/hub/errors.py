"""Reasons why a path cannot be read or published. The texts are those of rtsp-simple-server."""

from __future__ import annotations

from enum import Enum

from polycast.errors import PolycastError


class PathError(PolycastError):
    """Base: a request to a path was refused."""


class PathNotConfigured(PathError):
    """No entry of the configuration matches the name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"path '{name}' is not configured")


class InvalidPathName(PathError):
    """The name violates the rules for path names."""


class NoOnePublishing(PathError):
    """The path exists, but nobody is publishing."""

    def __init__(self, name: str, failure: str = "") -> None:
        """``failure`` is the reason if the path has a source that failed."""
        self.cause = f" (its source failed: {failure})" if failure else ""
        super().__init__(f"no one is publishing to path '{name}'{self.cause}")


class SourceTimedOut(NoOnePublishing):
    """The on-demand source did not become ready in time."""

    def __init__(self, name: str) -> None:
        self.cause = " (its source has timed out)"
        PathError.__init__(self, f"source of path '{name}' has timed out")


class TooManyReaders(PathError):
    """The path has as many readers as its ``maxReaders`` allows."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(f"maximum reader count reached: path '{name}' allows {limit}")


class CannotPublish(PathError):
    """Publishing on the path is refused; the text says why."""


class PathClosed(PathError):
    """The path was removed while the request was pending."""

    def __init__(self, name: str) -> None:
        super().__init__(f"path '{name}' was closed")


class Redirected(PathError):
    """The reader is redirected: ``target`` is a URL, or a path of this server that starts with ``/``."""

    def __init__(self, target: str) -> None:
        super().__init__(f"redirected to {target}")
        self.target = target


class RedirectedToNode(Redirected):
    """The reader is redirected to another node of the cluster, temporarily."""


class Denial(Enum):
    """The check that failed."""

    ADDRESS = "address"
    CREDENTIALS = "credentials"
    EXTERNAL = "external"
    UNDECIDED = "undecided"
    """Who decides cannot be asked now; whether the credentials are valid is not known."""
    LIMIT = "limit"
    """Too many attempts; whether the credentials are valid was not looked at."""


class AccessDenied(PathError):
    """The client may not do this. ``denial`` says which check failed."""

    def __init__(self, message: str, denial: Denial, detail: str = "") -> None:
        """``detail`` is logged instead of the message, which the client may see."""
        super().__init__(message)
        self.denial = denial
        self.detail = detail or message
