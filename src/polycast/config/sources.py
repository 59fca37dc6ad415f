"""What may feed a path: a publisher, a redirection, or what the protocols declare that they can pull."""

from __future__ import annotations

from typing import Final

from polycast.config.declarations import SourceKind, declared_protocols

PUBLISHER: Final = SourceKind(name="publisher", word="publisher", is_static=False)
REDIRECT: Final = SourceKind(name="redirect", word="redirect", is_static=False)


def source_kinds() -> tuple[SourceKind, ...]:
    """Return all kinds that there are."""
    return (PUBLISHER, REDIRECT, *(kind for protocol in declared_protocols() for kind in protocol.sources))


def source_kind(source: str) -> SourceKind | None:
    """Return the kind of one ``source`` text, or None when the text is not a source."""
    scheme, separator, _ = source.partition("://")
    for kind in source_kinds():
        if scheme in kind.schemes if separator else source == kind.word:
            return kind
    return None
