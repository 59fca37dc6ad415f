"""What the pages say of paths: which there are, and why one has no playlist."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from polycast.config.schema import Configuration
from polycast.hub.errors import NoOnePublishing
from polycast.hub.hub import Hub
from polycast.hub.path import Path
from polycast.protocols.hls.configuration import HlsConfiguration
from polycast.protocols.hls.reasons import Problem, codec_problem, path_problem
from polycast.protocols.hls.sound import planned_tracks
from polycast.wire.hls.muxer import NOTHING_TO_CARRY, select_tracks
from polycast.wire.hls.options import Variant


def list_paths(paths: Iterable[Path], variant: Variant) -> bytes:
    """Return those that have a stream, as a JSON document."""
    items = [
        {
            "name": path.name,
            "ready_since": path.ready_since,
            "tracks": [track.codec_name for track in path.stream.descriptions],
            "unsupported": [track.codec_name for track in select_tracks(variant, planned_tracks(variant, path))[1]],
            "readers": len(path.readers),
        }
        for path in paths
        if path.stream is not None
    ]
    return msgspec.json.encode(items)


def absence(hub: Hub, path_name: str, configuration: Configuration) -> Problem | None:
    """Return why a playlist of a configured path without a muxer would be refused now; None if it would not, or if a
    source or a command would be started for it. Nothing is started here."""
    path = hub.paths.get(path_name)
    if path is not None and path.stream is not None:
        tracks = path.stream.descriptions
        if select_tracks(Variant(configuration[HlsConfiguration].hls_variant.value), tracks)[0]:
            return None
        return codec_problem(NOTHING_TO_CARRY, tracks, configuration)
    settings = hub.find_entry(path_name)[0].configuration
    if settings.starts_on_demand or hub.is_elsewhere(path_name):
        return None
    return path_problem(NoOnePublishing(path_name), path)
