"""The kinds of sources that there are, and what makes the source of a path. A new kind is a case here."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.config.path_schema import SourceKind, source_kind
from polycast.hub.path import Path, Source
from polycast.protocols.pull import Puller, SourceSettings, SupervisedSource


def puller_class(kind: SourceKind) -> type[Puller] | None:
    """Return what pulls a kind of source; None for one that is not pulled. Imported here, when it is first needed."""
    if kind is SourceKind.RTSP:
        from polycast.protocols.rtsp.source import RtspPuller

        return RtspPuller
    if kind is SourceKind.RTMP:
        from polycast.protocols.rtmp.source import RtmpPuller

        return RtmpPuller
    if kind is SourceKind.HLS:
        from polycast.protocols.hls.source import HlsPuller

        return HlsPuller
    if kind is SourceKind.WHEP:
        from polycast.protocols.webrtc.source import WhepPuller

        return WhepPuller
    if kind is SourceKind.RPI_CAMERA:
        from polycast.protocols.rpicamera.source import RpiCameraPuller

        return RpiCameraPuller
    return None


def make_source(path: Path, addresses: Sequence[str], settings: SourceSettings) -> Source | None:
    """Return the source that feeds a path from these addresses, in their order; None where clients publish."""
    pullers: list[Puller] = []
    for url in addresses:
        kind = source_kind(url)
        made = puller_class(kind) if kind is not None else None
        if made is None:
            return None
        pullers.append(made(url))
    return SupervisedSource(path, pullers, settings)
