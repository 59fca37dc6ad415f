"""Paths and reloads as shown by the API: each field is defined here once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from polycast.config import path_to_jsonable
from polycast.control.contract import LiveTrack, Path, Traffic
from polycast.control.settings import ChangeSource, Settings
from polycast.hub.retry import Failure
from polycast.hub.stats import Reference
from polycast.items import (
    BytesReceived,
    BytesSent,
    DateTime,
    ForwardItem,
    PacketsDropped,
    PacketsLost,
    PacketsReceived,
    PacketsSent,
)


class FailureItem(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Why the source of a path does not deliver a stream."""

    error: str
    since: Annotated[DateTime, Meta(description="First failure since it last worked.")]
    next_attempt: DateTime | None


class TrackItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """One track of a stream."""

    codec: str
    kind: str
    clock_rate: Annotated[int, Meta(description="Hz.")]
    bytes_received: BytesReceived
    packets_received: PacketsReceived
    packets_lost: PacketsLost
    packets_foreign: Annotated[
        int, Meta(ge=0, description="Packets dropped because their payload type is not that of the track.")
    ]
    discontinuities: Annotated[
        int, Meta(ge=0, description="How often the clock of the publisher jumped. Seen only while frames are read.")
    ]


class PathItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """A path with its publisher, tracks, readers and counters."""

    conf_name: Annotated[str, Meta(description="The entry of the configuration that the path belongs to.")]
    conf: Annotated[Any, Meta(extra_json_schema={"$ref": "#/components/schemas/PathConf"})]
    source: Reference | None
    source_ready: bool
    online: Annotated[
        bool,
        Meta(description="Whether a publisher or source delivers the stream; else readers wait, or get a slate."),
    ]
    source_failure: Annotated[
        FailureItem | None,
        Meta(description="Why the source of the path does not deliver a stream; null while it does."),
    ]
    tracks: Annotated[list[str], Meta(description="Codecs.")]
    readers: list[Reference]
    forwards: Annotated[list[ForwardItem], Meta(description="The servers that the stream is sent to.")]
    ready_since: DateTime | None
    uptime: Annotated[float, Meta(description="Seconds since the path is ready.")]
    bit_rate: Annotated[int, Meta(description="Of the publisher, bit/s.")]
    track_details: list[TrackItem]
    bytes_received: BytesReceived
    bytes_sent: BytesSent
    packets_received: PacketsReceived
    packets_sent: PacketsSent
    packets_lost: PacketsLost
    packets_dropped: PacketsDropped


class StatusItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """The result of the last change of the configuration."""

    ok: Annotated[bool, Meta(description="Whether the last change was taken.")]
    error: str | None
    source: ChangeSource
    time: DateTime
    last_success: DateTime
    successes: int
    failures: int
    file: str | None
    persist: Annotated[bool, Meta(description="Whether changes through the API are written into the file.")]


def describe_path(path: Path, traffic: Traffic, forwards: Sequence[ForwardItem]) -> PathItem:
    """Return a path as shown by the API, with the servers that its stream is sent to."""
    stream = path.stream
    since = path.ready_since
    counters = traffic.of(path)
    return PathItem(
        conf_name=path.entry.name,
        conf=path_to_jsonable(path.configuration),
        source=_describe_source(path),
        source_ready=stream is not None,
        online=path.is_online,
        source_failure=_describe_failure(path.source_failure),
        tracks=[str(track) for track in stream.descriptions] if stream is not None else [],
        readers=[reader.reference() for reader in path.readers],
        forwards=list(forwards),
        ready_since=_moment(since) if since is not None else None,
        uptime=round(max(0.0, time.time() - since), 3) if since is not None else 0.0,
        bit_rate=round(stream.meter.bit_rate) if stream is not None else 0,
        track_details=[_describe_track(track) for track in stream.tracks] if stream is not None else [],
        bytes_received=counters.bytes_received,
        bytes_sent=counters.bytes_sent,
        packets_received=counters.packets_received,
        packets_sent=counters.packets_sent,
        packets_lost=counters.packets_lost,
        packets_dropped=counters.packets_dropped,
    )


def describe_status(settings: Settings) -> StatusItem:
    """Return the result of the last change of the configuration."""
    status = settings.status
    return StatusItem(
        ok=status.ok,
        error=status.error or None,
        source=status.source,
        time=_moment(status.time),
        last_success=_moment(status.success_time),
        successes=status.successes,
        failures=status.failures,
        file=str(settings.file) if settings.file is not None else None,
        persist=settings.configuration.api_persist,
    )


def _describe_source(path: Path) -> Reference | None:
    participant = path.publisher or path.source
    if participant is not None:
        return participant.reference()
    return Reference("redirect") if path.configuration.source == "redirect" else None


def _describe_failure(failure: Failure | None) -> FailureItem | None:
    if failure is None:
        return None
    next_attempt = failure.next_attempt
    return FailureItem(
        error=failure.error,
        since=_moment(failure.since),
        next_attempt=_moment(next_attempt) if next_attempt is not None else None,
    )


def _describe_track(live: LiveTrack) -> TrackItem:
    return TrackItem(
        codec=str(live.track),
        kind=live.track.kind,
        clock_rate=live.track.clock_rate,
        bytes_received=live.counters.bytes,
        packets_received=live.counters.packets,
        packets_lost=live.counters.lost,
        packets_foreign=live.counters.foreign,
        discontinuities=live.discontinuities,
    )


def _moment(unix_time: float) -> datetime:
    """Return a time as shown by the API: local time with its offset."""
    return datetime.fromtimestamp(unix_time, UTC).astimezone()
