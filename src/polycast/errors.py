"""The errors of all layers: those that leave protocol engines and parsers, and those for the user.

    PolycastError
    ├── ProtocolError
    │   ├── RemoteProtocolError   the peer violated the protocol; carries the status to answer with
    │   └── LocalProtocolError    an engine was used wrongly: a bug
    ├── UnsupportedCodec          a codec cannot be decoded, encoded or carried
    ├── MissingDependency         an optional package is not installed
    └── ConfigurationError        an error in the user's configuration

Any other exception out of an engine is a bug: the shell that drives it closes that one session and counts it.
"""

from __future__ import annotations

import sys
from typing import Self


class PolycastError(Exception):
    """Base class of all Polycast errors."""


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


class UnsupportedCodec(PolycastError):
    """The stream has no track that can be decoded, encoded or carried as requested."""


class MissingDependency(PolycastError, ImportError):
    """A package is not installed; the message says how to install it."""


class ConfigurationError(PolycastError):
    """A configuration file, environment variable or API body is not valid. The message is meant for the user.

    ``keys`` are the settings that the error concerns, most important first: ``("readTimeout",)``, or
    ``("paths", "cam1", "source")`` for a setting of a path. The message names the first one.
    """

    def __init__(self, message: str, *keys: tuple[str, ...]) -> None:
        super().__init__(message)
        self.message = message
        self.keys = keys
        self.place = ""
        """Where the setting is: file and line, or environment variable."""
        self.line = 0
        """Line of the file, from 1; 0 while unknown, then that of one of the keys applies."""
        self.included: tuple[str, ...] = ()
        self.others: tuple[ConfigurationError, ...] = ()
        """Further errors of the same value, for example of other items of a list."""
        self.report: tuple[str, ...] = ()
        """The texts of all errors of the configuration, this one included, sorted by line; set by ``config.load``."""

    def within(self, *prefix: str) -> Self:
        """Put a prefix in front of the keys, for an error of a part of the configuration; return the error."""
        self.keys = tuple(prefix + key for key in self.keys) or (prefix,)
        return self

    def __str__(self) -> str:
        setting = _setting(self.keys[0]) if self.keys else ""
        return ": ".join(part for part in (self.place, setting, self.message) if part)


def _setting(key: tuple[str, ...]) -> str:
    if len(key) < 2 or key[0] != "paths":
        return ": ".join(key)
    _, path, *rest = key
    return ": ".join((f"parameter paths, key {path}", *rest))


def missing_packages(purpose: str, *packages: str) -> str:
    """Return the text for the user when optional packages are not installed: what needs them, and what to type."""
    names = " and ".join(filter(None, (", ".join(packages[:-1]), packages[-1])))
    what = f"the package{'s' if len(packages) > 1 else ''} {names}"
    if getattr(sys, "frozen", False):
        return f"{purpose} needs {what}, which this single executable does not have; install Polycast with pip instead"
    return f"{purpose} needs {what}: pip install {' '.join(packages)}"
