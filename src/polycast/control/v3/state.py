"""Live paths, sessions and connections in API v3."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from typing import Any, Final

import msgspec
from msgspec import Struct

from polycast.config.redact import redact_query
from polycast.control.contract import MediaServer, Path, SessionServer, Traffic
from polycast.control.ids import universal_id
from polycast.control.slices import in_slices
from polycast.control.v3.configuration import shown_name
from polycast.control.v3.items import (
    ConnectionFields,
    PathFields,
    PathTraffic,
    ReferenceFields,
    SessionFields,
    ViewerFields,
    fields_of,
    types_of_collections,
)
from polycast.control.v3.tracks import describe_track, label_of
from polycast.hub.stats import Reference
from polycast.items import ConnectionItem, SessionItem, ViewerItem

NOT_FOUND: Final = {"sessions": "session not found", "conns": "connection not found", "muxers": "muxer not found"}
"""The errors for an item that does not exist, by the end of the collection's name."""

Describe = Callable[[], Mapping[str, Any]]
"""Describes an item."""


def describe_path(media_server: MediaServer, path: Path, traffic: Traffic) -> PathFields:
    """Return a path."""
    stream = path.stream
    since = _moment(path.ready_since) if path.ready_since is not None else None
    online = _moment(path.online_since) if path.online_since is not None else None
    codecs = [track.codec for track in stream.descriptions] if stream is not None else []
    readers = [_reference(client) for reader in path.readers for client in reader.clients()]
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
        **path_traffic(path, traffic),
    }


def path_traffic(path: Path, traffic: Traffic) -> PathTraffic:
    """Return the fields of a path that are numbers."""
    stream = path.stream
    counters = traffic.of(path)
    return {
        "inboundBytes": counters.bytes_received,
        "outboundBytes": counters.bytes_sent,
        "inboundFramesInError": sum(track.counters.foreign for track in stream.tracks) if stream is not None else 0,
        "bytesReceived": counters.bytes_received,
        "bytesSent": counters.bytes_sent,
    }


def _source(path: Path) -> ReferenceFields | None:
    participant = path.publisher or path.source
    if participant is not None:
        return _reference(participant.reference())
    return {"type": "redirect", "id": ""} if path.configuration.source == "redirect" else None


def _reference(reference: Reference) -> ReferenceFields:
    return {"type": reference.type, "id": universal_id(reference.id)}


def collections_of(server: SessionServer) -> tuple[str, ...]:
    """Return the collections of a server."""
    return tuple(filter(None, (server.collection, server.connections_collection, server.viewers_collection)))


def fields_of_items(server: SessionServer, collection: str) -> frozenset[str]:
    """Return the names of the fields that the items of one of a server's collections have."""
    types = types_of_collections(
        server.collection, server.item, server.item_fields, server.connections_collection, server.viewers_collection
    )
    return fields_of(*types[collection])


async def list_items(server: SessionServer, collection: str) -> list[Describe]:
    """Return what describes each item of one of a server's collections, the oldest first.

    There may be thousands, of which a page has a hundred.
    """
    aged = [entry async for entry in in_slices(_entries(server, collection), _with_age)]
    return [describe for _, describe in sorted(aged, key=itemgetter(0))]


def without_secrets(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an item without the passwords and tokens in its query."""
    return {**item, "query": redact_query(item["query"])} if item.get("query") else item


def describe_items(server: SessionServer, collection: str) -> Iterator[Mapping[str, Any]]:
    """Yield the items of one of a server's collections."""
    return (describe() for _, describe in _entries(server, collection))


def _entries(server: SessionServer, collection: str) -> Iterator[tuple[Struct, Describe]]:
    if collection == server.connections_collection:
        for key, connection in server.connections().items():
            yield connection, partial(_connection, key, connection)
    elif collection == server.viewers_collection:
        for key, viewer in server.viewers().items():
            yield viewer, partial(_viewer, key, viewer)
    else:
        connections: dict[str | None, list[str]] = {}
        for key, connection in server.connections().items():
            connections.setdefault(connection.session, []).append(key)
        for key, item in server.items().items():
            if isinstance(item, SessionItem):
                yield item, partial(_session, server, key, item, connections.get(key, ()))
            else:
                yield item, partial(_muxer, server, key, item)


def _with_age(entry: tuple[Struct, Describe]) -> tuple[str, Describe]:
    item, describe = entry
    return str(msgspec.to_builtins(getattr(item, "created", None))), describe


def _muxer(server: SessionServer, key: str, item: Struct) -> dict[str, Any]:
    return {"path": key, "created": getattr(item, "created", None), **server.item_fields(item)}


def _session(server: SessionServer, key: str, item: SessionItem, connections: Sequence[str]) -> dict[str, Any]:
    common: SessionFields = {
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
    }
    described = {**common, **server.item_fields(item)}
    if server.connections_collection:
        described["conns"] = [universal_id(connection) for connection in connections]
    return described


def _connection(key: str, item: ConnectionItem) -> ConnectionFields:
    return {
        "id": universal_id(key),
        "created": item.created,
        "remoteAddr": item.address,
        "session": universal_id(item.session) if item.session is not None else None,
        "tunnel": item.tunnel,
        "inboundBytes": item.bytes_received,
        "outboundBytes": item.bytes_sent,
        "bytesReceived": item.bytes_received,
        "bytesSent": item.bytes_sent,
    }


def _viewer(key: str, item: ViewerItem) -> ViewerFields:
    return {
        "id": universal_id(key),
        "created": item.created,
        "remoteAddr": item.address,
        "path": item.path,
        "query": item.query,
        "user": item.user,
        "userAgent": item.user_agent,
        "isCDN": item.is_cdn,
        "outboundBytes": item.bytes_sent,
    }


def own_id(server: SessionServer, collection: str, identifier: str) -> str | None:
    """Return the id of a session or viewer as its server knows it; None if there is none."""
    known: Mapping[str, object] = server.viewers() if collection == server.viewers_collection else server.items()
    return next((key for key in known if universal_id(key) == identifier), None)


def _moment(unix_time: float) -> datetime:
    return datetime.fromtimestamp(unix_time, UTC).astimezone()
