"""The declarations of the protocols, as far as the configuration needs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from polycast.config.section import Section
from polycast.providers import protocols


class SourceKind(Struct, frozen=True, kw_only=True):
    """One kind of source."""

    name: str
    """Its name in error messages."""
    schemes: tuple[str, ...] = ()
    """The schemes of its URLs."""
    word: str = ""
    """The word that replaces a URL, for a source without addresses."""
    is_static: bool = True
    """Whether the server itself pulls the stream."""
    redirects: bool = False
    """Whether readers can be redirected to such an address."""
    allows_user_alone: bool = False
    """Whether a URL may have a user without a password."""
    allows_token: bool = False
    """Whether a URL may have a password without a user, which is a bearer token."""
    allows_fragment: bool = True
    needs_host: bool = True
    """Whether a URL must have a host; one without is an address to listen on."""
    check: Callable[[str], None] | None = None
    """Checks a URL instead of the general rules; groups of an expression (``$G1``) are in it. Raises
    ConfigurationError."""


class DestinationKind(Struct, frozen=True, kw_only=True):
    """One kind of server that streams can be sent to."""

    schemes: tuple[str, ...]
    """The schemes of its URLs."""
    allows_token: bool = False
    """Whether a URL may have a password without a user, which is a bearer token."""


class DeclaredProtocol(Protocol):
    """A protocol, as far as the configuration is concerned; declared as ``protocols.base.Protocol``."""

    @property
    def configuration(self) -> type[Section] | None:
        """Its own settings, if it has any."""
        ...

    @property
    def sources(self) -> tuple[SourceKind, ...]:
        """The kinds of sources that it can pull."""
        ...

    @property
    def destinations(self) -> tuple[DestinationKind, ...]:
        """The kinds of servers that it can publish to."""
        ...


def declared_protocols() -> tuple[DeclaredProtocol, ...]:
    """Return all protocols, in the order of the documents."""
    return protocols()


def declared_sections() -> tuple[type[Section], ...]:
    """Return the settings of all protocols."""
    declared = (protocol.configuration for protocol in declared_protocols())
    return tuple(section for section in declared if section is not None)


def destination_kinds() -> tuple[DestinationKind, ...]:
    """Return all kinds of servers that streams can be sent to."""
    return tuple(kind for protocol in declared_protocols() for kind in protocol.destinations)
