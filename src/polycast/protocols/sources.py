"""Creates the source of a path."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.hub.path import Path, Source
from polycast.protocols.pull import Puller, SourceSettings, SupervisedSource
from polycast.protocols.registry import pull_of


def make_source(path: Path, addresses: Sequence[str], settings: SourceSettings) -> Source | None:
    """Return the source of a path with these addresses, in order; None if clients publish."""
    pullers: list[Puller] = []
    for url in addresses:
        pull = pull_of(url)
        if pull is None:
            return None
        pullers.append(pull.load()(url))
    return SupervisedSource(path, pullers, settings)
