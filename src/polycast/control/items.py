"""Paths as the API shows them, and what it says of reloads."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from polycast.config import path_to_jsonable
from polycast.control.settings import Settings
from polycast.control.traffic import Traffic
from polycast.hub.live_track import LiveTrack
from polycast.hub.path import Path, SourceFailure
from polycast.hub.stats import COUNTERS_SCHEMA, Reference, rfc3339

Json = dict[str, object]


def describe_reference(reference: Reference) -> Json:
    """Return ``type`` and, where there are several of the type, ``id``."""
    return {"type": reference.type, "id": reference.id} if reference.id else {"type": reference.type}


def describe_path(path: Path, traffic: Traffic) -> Json:
    """Return a path with its publisher, tracks, readers and counters."""
    stream = path.stream
    counters = traffic.of(path)
    since = path.ready_since
    return {
        "confName": path.entry.name,
        "conf": path_to_jsonable(path.configuration),
        "source": _describe_source(path),
        "sourceReady": stream is not None,
        "sourceFailure": _describe_failure(path.source_failure),
        "tracks": [str(track) for track in stream.descriptions] if stream is not None else [],
        "readers": [describe_reference(reader.reference()) for reader in path.readers],
        "readySince": _moment(since) if since is not None else None,
        "uptime": round(max(0.0, time.time() - since), 3) if since is not None else 0.0,
        "bitRate": round(stream.rate.bit_rate) if stream is not None else 0,
        "trackDetails": [_describe_track(track) for track in stream.tracks] if stream is not None else [],
        "bytesReceived": counters.bytes_received,
        "bytesSent": counters.bytes_sent,
        "packetsReceived": counters.packets_received,
        "packetsSent": counters.packets_sent,
        "packetsLost": counters.packets_lost,
        "packetsDropped": counters.packets_dropped,
    }


def describe_status(settings: Settings) -> Json:
    """Return what became of the last change of the configuration."""
    status = settings.status
    return {
        "ok": status.ok,
        "error": status.error or None,
        "source": status.source.value,
        "time": _moment(status.time),
        "lastSuccess": _moment(status.success_time),
        "successes": status.successes,
        "failures": status.failures,
        "file": str(settings.file) if settings.file is not None else None,
        "persist": settings.configuration.api_persist,
    }


def _describe_source(path: Path) -> Json | None:
    participant = path.publisher or path.source
    if participant is not None:
        return describe_reference(participant.reference())
    return {"type": "redirect"} if path.configuration.source == "redirect" else None


def _describe_failure(failure: SourceFailure | None) -> Json | None:
    if failure is None:
        return None
    next_attempt = failure.next_attempt
    return {
        "error": failure.error,
        "since": _moment(failure.since),
        "nextAttempt": _moment(next_attempt) if next_attempt is not None else None,
    }


def _describe_track(live: LiveTrack) -> Json:
    return {
        "codec": str(live.track),
        "kind": live.track.kind,
        "clockRate": live.track.clock_rate,
        "bytesReceived": live.bytes_received,
        "packetsReceived": live.packets_received,
        "packetsLost": live.packets_lost,
        "packetsForeign": live.packets_foreign,
        "discontinuities": live.discontinuities,
    }


def _moment(unix_time: float) -> str:
    return rfc3339(datetime.fromtimestamp(unix_time, UTC))


_COUNTS = {key: COUNTERS_SCHEMA[key] for key in ("bytesReceived", "packetsReceived", "packetsLost")}
_NULLABLE_MOMENT: Json = {"type": ["string", "null"], "format": "date-time"}

REFERENCE_SCHEMA: Json = {
    "type": "object",
    "properties": {"type": {"type": "string"}, "id": {"type": "string"}},
    "required": ["type"],
}

PATH_SCHEMA: Json = {
    "confName": {"type": "string", "description": "The entry of the configuration that the path belongs to."},
    "conf": {"$ref": "#/components/schemas/PathConf"},
    "source": {"anyOf": [{"$ref": "#/components/schemas/Reference"}, {"type": "null"}]},
    "sourceReady": {"type": "boolean"},
    "sourceFailure": {
        "type": ["object", "null"],
        "description": "Why the source of the path does not deliver a stream; null while it does.",
        "required": ["error", "since", "nextAttempt"],
        "additionalProperties": False,
        "properties": {
            "error": {"type": "string"},
            "since": {"type": "string", "format": "date-time", "description": "First failure since it last worked."},
            "nextAttempt": _NULLABLE_MOMENT,
        },
    },
    "tracks": {"type": "array", "items": {"type": "string"}, "description": "Codecs."},
    "readers": {"type": "array", "items": {"$ref": "#/components/schemas/Reference"}},
    "readySince": _NULLABLE_MOMENT,
    "uptime": {"type": "number", "description": "Seconds since the path is ready."},
    "bitRate": {"type": "integer", "description": "Of the publisher, bit/s."},
    "trackDetails": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "codec": {"type": "string"},
                "kind": {"type": "string"},
                "clockRate": {"type": "integer", "description": "Hz."},
                **_COUNTS,
                "packetsForeign": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "Packets dropped because their payload type is not that of the track.",
                },
                "discontinuities": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "How often the clock of the publisher leapt. Seen only while frames are read.",
                },
            },
        },
    },
    **{key: value for key, value in COUNTERS_SCHEMA.items() if key not in ("jitter", "roundTrip")},
}
"""Properties of `describe_path`, as a JSON schema."""

STATUS_SCHEMA: Json = {
    "ok": {"type": "boolean", "description": "Whether the last change was taken."},
    "error": {"type": ["string", "null"]},
    "source": {"enum": ["start", "file", "api", "signal", "program"]},
    "time": {"type": "string", "format": "date-time"},
    "lastSuccess": {"type": "string", "format": "date-time"},
    "successes": {"type": "integer"},
    "failures": {"type": "integer"},
    "file": {"type": ["string", "null"]},
    "persist": {"type": "boolean", "description": "Whether changes through the API are written into the file."},
}
"""Properties of `describe_status`, as a JSON schema."""
