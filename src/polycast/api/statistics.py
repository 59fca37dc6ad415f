"""Statistics about a running server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from polycast.hub.path import Path
from polycast.items import SessionItem
from polycast.media.track import Track
from polycast.protocols.base import Server


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """A snapshot of one path."""

    name: str
    ready: bool
    """Whether a stream is being published to it."""
    tracks: tuple[Track, ...]
    """Its tracks, each with ``index``, ``kind`` and ``codec``; empty if it is not ready."""
    publisher: str
    """Type of the publisher: ``rtspSession``, ``rtmpConn``, ``pythonPublisher``...; empty if there is none."""
    readers: tuple[str, ...]
    """Types of the readers."""
    bytes_received: int
    """Bytes received from the publisher since the stream started."""
    packets_received: int
    """Number of RTP packets, or of frames for publishers that do not send RTP."""
    packets_lost: int
    """Packets sent by the publisher that did not arrive."""
    bit_rate: float
    """In bit/s, averaged over the last few seconds."""
    ready_since: datetime | None
    """When the stream started; None if it is not ready."""


class SessionStatistics(SessionItem, frozen=True, kw_only=True):
    """A snapshot of one client."""

    protocol: str
    """``RTSP``, ``RTMP``..."""
    id: str


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """A snapshot of the server."""

    streams: dict[str, StreamStatistics]
    """All paths by name."""
    sessions: tuple[SessionStatistics, ...]
    """All network clients, without this program's own readers and publishers."""


def stream_statistics(path: Path) -> StreamStatistics:
    """Return the statistics of a path."""
    stream = path.stream
    tracks = stream.tracks if stream is not None else ()
    return StreamStatistics(
        name=path.name,
        ready=stream is not None,
        tracks=stream.descriptions if stream is not None else (),
        publisher=path.publisher.reference().type if path.publisher is not None and stream is not None else "",
        readers=tuple(reader.reference().type for reader in path.readers),
        bytes_received=stream.bytes_received if stream is not None else 0,
        packets_received=sum(track.counters.packets for track in tracks),
        packets_lost=sum(track.counters.lost for track in tracks),
        bit_rate=stream.meter.bit_rate if stream is not None else 0.0,
        ready_since=None if path.ready_since is None else datetime.fromtimestamp(path.ready_since, UTC),
    )


def session_statistics(server: Server) -> list[SessionStatistics]:
    """Return the clients of one protocol server."""
    return [_session(server.name, key, item) for key, item in server.sessions().items()]


def _session(protocol: str, session_id: str, item: SessionItem) -> SessionStatistics:
    fields: dict[str, Any] = {name: getattr(item, name) for name in SessionItem.__struct_fields__}
    return SessionStatistics(protocol=protocol, id=session_id, **{**fields, "created": item.created.astimezone(UTC)})
