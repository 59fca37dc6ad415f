"""Numbers about a running server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from polycast.hub.path import Path
from polycast.hub.stats import SessionSnapshot
from polycast.media.track import Track
from polycast.protocols.base import Server


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """One path as it was at one moment."""

    name: str
    ready: bool
    """Whether something is published on it."""
    tracks: tuple[Track, ...]
    """Its tracks, each with ``index``, ``kind`` and ``codec``; empty while it is not ready."""
    publisher: str
    """Kind of who publishes: ``rtspSession``, ``rtmpConnection``, ``pythonPublisher``...; empty for nobody."""
    readers: tuple[str, ...]
    """Kinds of who reads."""
    bytes_received: int
    """From the publisher, since the stream began."""
    packets_received: int
    """RTP packets, or frames of publishers that do not send RTP."""
    packets_lost: int
    """That the publisher sent and did not arrive."""
    bit_rate: float
    """In bit/s, over the last seconds."""
    ready_since: datetime | None
    """When the stream began; None while it is not ready."""


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """One client as it was at one moment."""

    protocol: str
    """``RTSP``, ``RTMP``..."""
    id: str
    address: str
    """``ip:port``."""
    state: str
    """``idle``, ``read`` or ``publish``."""
    path: str
    user: str
    transport: str
    created: datetime
    bytes_received: int
    bytes_sent: int
    packets_lost: int
    packets_dropped: int
    """Not sent because the client was too slow."""


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """A server as it was at one moment."""

    streams: dict[str, StreamStatistics]
    """All paths by name."""
    sessions: tuple[SessionStatistics, ...]
    """All clients; readers and publishers of the program itself are not among them."""


def stream_statistics(path: Path) -> StreamStatistics:
    """Return what there is to know of a path."""
    stream = path.stream
    tracks = stream.tracks if stream is not None else ()
    return StreamStatistics(
        name=path.name,
        ready=stream is not None,
        tracks=stream.descriptions if stream is not None else (),
        publisher=path.publisher.reference().type if path.publisher is not None and stream is not None else "",
        readers=tuple(reader.reference().type for reader in path.readers),
        bytes_received=stream.bytes_received if stream is not None else 0,
        packets_received=sum(track.packets_received for track in tracks),
        packets_lost=sum(track.packets_lost for track in tracks),
        bit_rate=stream.rate.bit_rate if stream is not None else 0.0,
        ready_since=None if path.ready_since is None else datetime.fromtimestamp(path.ready_since, UTC),
    )


def session_statistics(server: Server) -> list[SessionStatistics]:
    """Return the clients of one protocol server."""
    return [_session(server.name, snapshot) for snapshot in server.sessions()]


def _session(protocol: str, snapshot: SessionSnapshot) -> SessionStatistics:
    counters = snapshot.counters
    return SessionStatistics(
        protocol=protocol,
        id=snapshot.id,
        address=snapshot.remote_address,
        state=snapshot.state,
        path=snapshot.path,
        user=snapshot.user,
        transport=snapshot.transport,
        created=snapshot.created,
        bytes_received=counters.bytes_received,
        bytes_sent=counters.bytes_sent,
        packets_lost=counters.packets_lost,
        packets_dropped=counters.packets_dropped,
    )
