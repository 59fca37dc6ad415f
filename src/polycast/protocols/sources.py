"""Creates the source of a path."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.config.sources import source_kind
from polycast.hub.path import Path, Source
from polycast.protocols.pull import Puller, SourceSettings, SupervisedSource
from polycast.protocols.registry import pull_of


def make_source(path: Path, addresses: Sequence[str], settings: SourceSettings) -> Source | None:
    """Return the source of a path with these addresses, in order; None if clients publish."""
    pullers: list[Puller] = []
    for url in addresses:
        kind = source_kind(url)
        pull = pull_of(kind) if kind is not None else None
        if pull is None:
            return None
        pullers.append(pull.load()(url))
    return SupervisedSource(path, pullers, settings)
