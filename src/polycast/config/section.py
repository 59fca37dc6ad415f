"""Base class for the settings of a protocol."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from polycast.config.dialects.base import Dialect
from polycast.config.spelling import yaml_key
from polycast.errors import ConfigurationError


class UsedCredentials(Struct, frozen=True):
    """By what the credentials of clients are checked."""

    are_internal: bool
    """Whether the server knows them."""
    are_hashed: bool
    """Whether some of those that it knows are only known as hashes."""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=yaml_key):
    """Settings that a protocol adds to the configuration; in the file, its keys are on the top level like all others.

    A protocol declares its own subclass. Each field has a default and, in its annotation, a description and marks.
    """

    def broken_rules(self, dialect: Dialect) -> Iterator[ConfigurationError]:
        """Yield an error for each broken rule between keys. Values of single keys are already valid.

        ``dialect`` is that of the file, whose rules may differ. The keys of an error are all whose values the rule
        depends on, the one to change first.
        """
        yield from ()

    def broken_rules_of_credentials(
        self, credentials: UsedCredentials, dialect: Dialect
    ) -> Iterator[ConfigurationError]:
        """Yield an error for each broken rule between these settings and ``credentials``."""
        yield from ()
