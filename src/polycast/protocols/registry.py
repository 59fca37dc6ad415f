"""The registry of protocols. A new one is a folder next to this file and a line here."""

from __future__ import annotations

from polycast.config.sources import source_kind
from polycast.items import MetricBlock
from polycast.protocols import hls, onvif, rpicamera, rtmp, rtsp, srt, udp, webrtc
from polycast.protocols.base import Protocol, Pull, PushKind, ServerKind

PROTOCOLS: tuple[Protocol, ...] = (
    rtsp.PROTOCOL,
    rtmp.PROTOCOL,
    hls.PROTOCOL,
    webrtc.PROTOCOL,
    srt.PROTOCOL,
    udp.PROTOCOL,
    onvif.PROTOCOL,
    rpicamera.PROTOCOL,
)
"""In the order of the documentation and of starting."""


def protocols() -> tuple[Protocol, ...]:
    """Return all protocols; do not cache them, since a program or a test may add more."""
    return PROTOCOLS


def server_kinds() -> tuple[ServerKind, ...]:
    """Return the servers of all protocols."""
    return tuple(kind for protocol in protocols() for kind in protocol.servers)


def server_names() -> dict[str, str]:
    """Return the names of all servers, by their collections in the API."""
    return {kind.collection: kind.name for kind in server_kinds()}


def metric_blocks() -> list[MetricBlock]:
    """Return the metrics of all servers under the names of MediaMTX."""
    return [block for kind in server_kinds() for block in kind.blocks]


def pull_of(source: str) -> Pull | None:
    """Return how a source is pulled; None for one that is not pulled."""
    kind = source_kind(source)
    return next((pull for protocol in protocols() for pull in protocol.pulls if pull.kind == kind), None)


def push_of(url: str) -> PushKind | None:
    """Return how a stream is sent to a URL; None if no protocol has its scheme."""
    scheme = url.partition("://")[0].lower()
    return next((push for protocol in protocols() for push in protocol.pushes if scheme in push.kind.schemes), None)
