"""Paths, sessions and connections as API v3 has them; the answers are made with these types, and the document of them.

What sessions of a protocol have in addition is the type that the function ``ServerKind.v3`` returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, TypedDict, get_type_hints

from msgspec import Meta, Struct

from polycast.control.contract import FieldsOfItem
from polycast.items import Count, DateTime, SessionItem, SessionState

Deprecated = Meta(extra_json_schema={"deprecated": True})


class InfoFields(TypedDict):
    """The program."""

    version: str
    started: DateTime


class ReferenceFields(TypedDict):
    """The publisher, source or a reader of a path."""

    type: str
    id: Annotated[str, Meta(description="A UUID; empty for a source that the server runs itself.")]


class TrackFields(TypedDict):
    """A track of a stream."""

    codec: str
    codecProps: Annotated[
        dict[str, Any] | None, Meta(description="What is known about the codec, such as width and height.")
    ]


class PathTraffic(TypedDict):
    """The numbers of a path."""

    inboundBytes: Count
    outboundBytes: Count
    inboundFramesInError: Count
    bytesReceived: Annotated[Count, Deprecated]
    bytesSent: Annotated[Count, Deprecated]


class PathFields(PathTraffic, TypedDict):
    """A path that exists."""

    name: str
    confName: Annotated[str, Meta(description="The entry of the configuration that the path belongs to.")]
    ready: Annotated[bool, Deprecated]
    readyTime: Annotated[DateTime | None, Deprecated]
    available: Annotated[bool, Meta(description="Whether the stream can be read.")]
    availableTime: DateTime | None
    online: Annotated[bool, Meta(description="Whether a publisher or source delivers the stream.")]
    onlineTime: DateTime | None
    source: ReferenceFields | None
    tracks: Annotated[list[str], Deprecated]
    tracks2: list[TrackFields]
    readers: list[ReferenceFields]


class SessionFields(TypedDict):
    """What the sessions of all protocols have."""

    id: Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
    created: DateTime
    remoteAddr: Annotated[str, Meta(description="ip:port of the client.")]
    state: SessionState
    path: str
    query: Annotated[str, Meta(description="Query of the URL; passwords and tokens are shown as ***.")]
    user: str
    userAgent: Annotated[str, Meta(description="The program, as far as the client tells.")]
    inboundBytes: Count
    outboundBytes: Count
    bytesReceived: Annotated[Count, Deprecated]
    bytesSent: Annotated[Count, Deprecated]


class OtherFields(TypedDict):
    """What items have that are no sessions."""

    path: str
    created: DateTime


class ConnectionFields(TypedDict):
    """A connection on which sessions are controlled."""

    id: Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
    created: DateTime
    remoteAddr: Annotated[str, Meta(description="ip:port of the client.")]
    session: str | None
    tunnel: Annotated[str, Meta(description="'none', 'http' or 'websocket'.")]
    inboundBytes: Count
    outboundBytes: Count
    bytesReceived: Annotated[Count, Deprecated]
    bytesSent: Annotated[Count, Deprecated]


class ViewerFields(TypedDict):
    """A viewer that has no connection of its own."""

    id: Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
    created: DateTime
    remoteAddr: Annotated[str, Meta(description="ip:port of the client.")]
    path: str
    query: Annotated[str, Meta(description="Query of the URL; passwords and tokens are shown as ***.")]
    user: str
    userAgent: Annotated[str, Meta(description="The program, as far as the client tells.")]
    isCDN: bool
    outboundBytes: Count


class SessionsWithConnections(TypedDict):
    """What sessions have in addition whose connections are listed as well."""

    conns: Annotated[list[str], Meta(description="The ids of its connections.")]


@cache
def types_of_collections(
    name: str, item: type[Struct], fields: FieldsOfItem, connections: str, viewers: str
) -> Mapping[str, tuple[type, ...]]:
    """Return the types whose fields the items of a server's collections have, given what it declares; see `ServerKind`.

    Raises TypeError if ``fields`` does not declare what it returns.
    """
    own = get_type_hints(fields, include_extras=True).get("return")
    if not isinstance(own, type) or not hasattr(own, "__required_keys__"):
        raise TypeError(f"{fields.__module__}.{fields.__qualname__} must declare the TypedDict that it returns")
    common: tuple[type, ...] = (SessionFields,) if issubclass(item, SessionItem) else (OtherFields,)
    types: dict[str, tuple[type, ...]] = {name: (*common, own)}
    if connections:
        types = {name: (*common, own, SessionsWithConnections), connections: (ConnectionFields,)}
    if viewers:
        types[viewers] = (ViewerFields,)
    return types


@cache
def fields_of(*types: type) -> frozenset[str]:
    """Return the names of the fields of types."""
    return frozenset(name for each in types for name in names_of(each))


def names_of(fields: type) -> Sequence[str]:
    """Return the names of the fields of a type, in its order."""
    return fields.__struct_encode_fields__ if issubclass(fields, Struct) else tuple(get_type_hints(fields))
