"""Creates the source of a path."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.hub.path import Path, Source
from polycast.protocols.pull import Puller, SourceSettings, SupervisedSource
from polycast.protocols.registry import pull_of


def with_groups(url: str, groups: Sequence[str]) -> str:
    """Return an address with ``$G1``, ``$G2``... replaced by what the groups of the path's expression matched."""
    for number in range(len(groups), 0, -1):  # $G10 before $G1
        url = url.replace(f"$G{number}", groups[number - 1])
    return url


def make_source(path: Path, addresses: Sequence[str], settings: SourceSettings) -> Source | None:
    """Return the source of a path with these addresses, in order; None if clients publish."""
    pullers: list[Puller] = []
    for url in addresses:
        pull = pull_of(url)
        if pull is None:
            return None
        pullers.append(pull.load()(with_groups(url, path.groups)))
    return SupervisedSource(path, pullers, settings)
