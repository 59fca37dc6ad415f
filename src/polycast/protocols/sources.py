"""The kinds of sources that there are, and what makes the source of a path. A new kind is a row here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from polycast.config.path_schema import SourceKind, source_kind
from polycast.hub.path import Path, Source
from polycast.protocols.hls.source import HlsPuller
from polycast.protocols.pull import Puller, SourceSettings, SupervisedSource
from polycast.protocols.rpicamera.source import RpiCameraPuller
from polycast.protocols.rtmp.source import RtmpPuller
from polycast.protocols.rtsp.source import RtspPuller

PULLERS: Final[dict[SourceKind, Callable[[str], Puller]]] = {
    SourceKind.RTSP: RtspPuller,
    SourceKind.RTMP: RtmpPuller,
    SourceKind.HLS: HlsPuller,
    SourceKind.RPI_CAMERA: RpiCameraPuller,
}


def make_source(path: Path, addresses: Sequence[str], settings: SourceSettings) -> Source | None:
    """Return the source that feeds a path from these addresses, in their order; None where clients publish."""
    pullers: list[Puller] = []
    for url in addresses:
        kind = source_kind(url)
        if kind is None or kind not in PULLERS:
            return None
        pullers.append(PULLERS[kind](url))
    return SupervisedSource(path, pullers, settings)
