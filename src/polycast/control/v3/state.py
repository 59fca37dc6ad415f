"""Live paths, sessions and connections in API v3."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from polycast.control.contract import MediaServer, SessionServer
from polycast.control.ids import universal_id
from polycast.control.traffic import Traffic
from polycast.control.v3.configuration import shown_name
from polycast.control.v3.tracks import describe_track, label_of
from polycast.hub.path import Path
from polycast.hub.stats import Reference
from polycast.items import SessionItem

NOT_FOUND: Final = {"sessions": "session not found", "conns": "connection not found", "muxers": "muxer not found"}
"""The errors for an item that does not exist, by the end of the collection's name."""


def describe_path(media_server: MediaServer, path: Path, traffic: Traffic) -> dict[str, Any]:
    """Return a path."""
    stream = path.stream
    since = _moment(path.ready_since) if path.ready_since is not None else None
    online = _moment(path.online_since) if path.online_since is not None else None
    counters = traffic.of(path)
    codecs = [track.codec for track in stream.descriptions] if stream is not None else []
    readers = [_reference(reader.reference()) for reader in path.readers if reader.reference().id]
    return {
        "name": path.name,
        "confName": shown_name(media_server.configuration, path.entry.name),
        "ready": stream is not None,
        "readyTime": since,
        "available": stream is not None,
        "availableTime": since,
        "online": path.is_online,
        "onlineTime": online,
        "source": _source(path),
        "tracks": [label_of(codec) for codec in codecs],
        "tracks2": [describe_track(codec) for codec in codecs],
        "readers": sorted(readers, key=lambda reader: (reader["type"], reader["id"])),
        "inboundBytes": counters.bytes_received,
        "outboundBytes": counters.bytes_sent,
        "inboundFramesInError": sum(track.counters.foreign for track in stream.tracks) if stream is not None else 0,
        "bytesReceived": counters.bytes_received,
        "bytesSent": counters.bytes_sent,
    }


def _source(path: Path) -> dict[str, str] | None:
    participant = path.publisher or path.source
    if participant is not None:
        return _reference(participant.reference())
    return {"type": "redirect", "id": ""} if path.configuration.source == "redirect" else None


def _reference(reference: Reference) -> dict[str, str]:
    return {"type": reference.type, "id": universal_id(reference.id)}


def describe_items(server: SessionServer) -> list[dict[str, Any]]:
    """Return the items of a server, the oldest first."""
    connections: dict[str | None, list[str]] = {}
    for key, connection in server.connections().items():
        connections.setdefault(connection.session, []).append(universal_id(key))
    described = []
    for key, item in server.items().items():
        if isinstance(item, SessionItem):
            described.append(_session(server, key, item, connections.get(key, [])))
        else:
            created = getattr(item, "created", None)
            described.append({"path": key, "created": created, **server.item_fields(item)})
    return sorted(described, key=_age)


def _session(server: SessionServer, key: str, item: SessionItem, connections: list[str]) -> dict[str, Any]:
    described = {
        "id": universal_id(key),
        "created": item.created,
        "remoteAddr": item.address,
        "state": item.state,
        "path": item.path,
        "query": item.query,
        "user": item.user,
        "userAgent": item.user_agent,
        "inboundBytes": item.bytes_received,
        "outboundBytes": item.bytes_sent,
        "bytesReceived": item.bytes_received,
        "bytesSent": item.bytes_sent,
        **server.item_fields(item),
    }
    if server.connections_collection:
        described["conns"] = connections
    return described


def describe_connections(server: SessionServer) -> list[dict[str, Any]]:
    """Return the connections of a server whose sessions are something else, the oldest first."""
    described = []
    for key, item in server.connections().items():
        session = universal_id(item.session) if item.session is not None else None
        described.append(
            {
                "id": universal_id(key),
                "created": item.created,
                "remoteAddr": item.address,
                "session": session,
                "tunnel": item.tunnel,
                "inboundBytes": item.bytes_received,
                "outboundBytes": item.bytes_sent,
                "bytesReceived": item.bytes_received,
                "bytesSent": item.bytes_sent,
            }
        )
    return sorted(described, key=_age)


def _age(item: Mapping[str, Any]) -> str:
    return str(msgspec.to_builtins(item["created"]))


def own_id(server: SessionServer, identifier: str) -> str | None:
    """Return the id of a session as its server knows it; None if there is none."""
    return next((key for key in server.items() if universal_id(key) == identifier), None)


def _moment(unix_time: float) -> datetime:
    return datetime.fromtimestamp(unix_time, UTC).astimezone()
