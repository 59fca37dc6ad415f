"""What happens with the errors of a configuration: the first one ends reading it, or all of them are collected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from polycast.config.names import ALL_OTHERS, ALL_PATHS, ALL_PATHS_ALIAS
from polycast.errors import ConfigurationError

MAXIMUM_ERRORS: Final = 50
"""Errors that are collected. Finding what was meant by a key takes milliseconds, and nobody reads more."""

SettingKey = tuple[str, ...]
"""A setting in the form of ``ConfigurationError.keys``."""


class UnknownKeyError(ConfigurationError):
    """A key does not exist. ``keys`` is the map that it is in, and ``meant`` the key that the user probably meant."""

    def __init__(self, text: str, hint: str, meant: str = "", *, is_unsupported: bool = False) -> None:
        super().__init__(f"{text} ({hint})")
        self.text = text
        """The error without the hint."""
        self.meant = meant
        self.is_unsupported = is_unsupported
        """Whether it is a setting of MediaMTX whose feature does not exist here."""


class Report(Protocol):
    """Called with each error. If it returns, reading goes on, and the key concerned keeps its default.

    ``doubtful`` are keys whose values are unknown because of the error, in addition to those of the error.
    """

    def __call__(self, error: ConfigurationError, *doubtful: SettingKey) -> None: ...


def raise_error(error: ConfigurationError, *doubtful: SettingKey) -> None:
    """The ``Report`` with which the first error ends reading."""
    raise error from error.__cause__


class TooManyErrors(Exception):
    """``MAXIMUM_ERRORS`` were collected."""


class ErrorCollector:
    """Collects errors. An instance is a ``Report``, which raises ``TooManyErrors`` when it has enough.

    Rules between keys are checked with the defaults of keys that have an error or do not exist. What then looks like a
    broken rule may only be a consequence, and would confuse: ``add_rule`` leaves it out.
    """

    def __init__(self, position: Callable[[ConfigurationError], tuple[int, int]]) -> None:
        """``position`` sets the place of an error and returns a value by which errors are sorted."""
        self.errors: list[ConfigurationError] = []
        self.is_complete = True
        """False if there may be more errors."""
        self._position = position
        self._positions: list[tuple[int, int]] = []
        self._doubtful: set[SettingKey] = set()
        self._maps_in_doubt: set[SettingKey] = set()
        """Maps with a key that does not exist and might stand for any of the others."""
        self._lines_of_bad_keys: set[int] = set()

    def __call__(self, error: ConfigurationError, *doubtful: SettingKey) -> None:
        if isinstance(error, UnknownKeyError):
            if error.line in self._lines_of_bad_keys:
                return
            scope = _canonical(error.keys[0]) if error.keys else ()
            if error.meant:
                self._doubtful.add((*scope, error.meant))
            else:
                self._maps_in_doubt.add(scope)
        elif error.line and not error.keys:
            self._lines_of_bad_keys.add(error.line)
        self._doubtful.update(map(_canonical, (*error.keys, *doubtful)))
        self._add(error)

    def add_rule(self, error: ConfigurationError) -> None:
        """Add the error of a broken rule, unless it may be a consequence of another error."""
        keys = [_canonical(key) for key in error.keys]
        if any(key in self._doubtful for key in keys):
            return
        if len(keys) > 1 and any(key[:-1] in self._maps_in_doubt for key in keys):
            return
        self._add(error)

    def lines(self) -> tuple[str, ...]:
        """Return the texts of the errors, sorted by their position."""
        in_order = sorted(range(len(self.errors)), key=self._positions.__getitem__)
        texts = dict.fromkeys(str(self.errors[index]) for index in in_order)
        more = () if self.is_complete else (f"there may be more errors (limit: {MAXIMUM_ERRORS})",)
        return (*texts, *more)

    def _add(self, error: ConfigurationError) -> None:
        if len(self.errors) == MAXIMUM_ERRORS:
            self.is_complete = False
            raise TooManyErrors
        self.errors.append(error)
        self._positions.append(self._position(error))


_NAMES_OF_ALL: Final = (("paths", ALL_PATHS), ("paths", ALL_OTHERS))


def _canonical(key: SettingKey) -> SettingKey:
    return ("paths", ALL_PATHS_ALIAS, *key[2:]) if key[:2] in _NAMES_OF_ALL else key
