"""Creates the source of a path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from polycast.hub.path import Path, Source
from polycast.protocols.pull import Puller, SourceSettings, SupervisedSource
from polycast.protocols.registry import pull_of

QUERY: Final = "$MTX_QUERY"
"""In an address: the query of the reader for whom the source is started."""


def with_groups(url: str, groups: Sequence[str]) -> str:
    """Return an address with ``$G1``, ``$G2``... replaced by what the groups of the path's expression matched."""
    for number in range(len(groups), 0, -1):  # $G10 before $G1
        url = url.replace(f"$G{number}", groups[number - 1])
    return url


def make_source(path: Path, addresses: Sequence[str], settings: SourceSettings) -> Source | None:
    """Return the source of a path with these addresses, in order; None if clients publish."""
    if any(pull_of(url) is None for url in addresses):
        return None

    def make(query: str) -> list[Puller]:
        return [_make_puller(with_groups(url, path.groups).replace(QUERY, query)) for url in addresses]

    def renew() -> list[Puller]:
        query = path.on_demand.query if path.on_demand is not None else ""
        return make(query if query.isprintable() and " " not in query else "")

    has_query = any(QUERY in url for url in addresses)
    return SupervisedSource(path, make(""), settings, renew if has_query else None)


def _make_puller(url: str) -> Puller:
    pull = pull_of(url)
    assert pull is not None
    return pull.load()(url)
