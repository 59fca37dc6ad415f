"""The kinds of sources of a path: a publisher, a redirection, or those that the protocols can pull."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from polycast.config.declarations import DeclaredProtocol, SourceKind, declared_protocols

PUBLISHER: Final = SourceKind(name="publisher", word="publisher", is_static=False)
REDIRECT: Final = SourceKind(name="redirect", word="redirect", is_static=False)


def source_kinds() -> tuple[SourceKind, ...]:
    """Return all kinds."""
    return (PUBLISHER, REDIRECT, *(kind for protocol in declared_protocols() for kind in protocol.sources))


def source_kind(source: str) -> SourceKind | None:
    """Return the kind of one ``source`` text, or None if the text is not a source."""
    scheme, separator, _ = source.partition("://")
    return _kinds_by_form(declared_protocols()).get(scheme + separator)


@cache
def _kinds_by_form(_: tuple[DeclaredProtocol, ...]) -> Mapping[str, SourceKind]:
    """Return the kinds by their words and by their schemes with ``://``; there may be thousands of paths to look up."""
    words = {kind.word: kind for kind in source_kinds() if kind.word}
    return words | {f"{scheme}://": kind for kind in source_kinds() for scheme in kind.schemes}
