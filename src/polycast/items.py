"""What is said about sessions: each field is defined here once, with its type, its description and its metric.

The API's JSON, its OpenAPI document, the metrics and the library's statistics are made of these definitions. A server
whose sessions have more to say extends `SessionItem`; one whose items are no sessions declares its own struct.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta, Struct


class Metric(Struct, frozen=True):
    """The metric of Polycast that a field is."""

    name: str
    """Follows ``polycast_session_`` or ``polycast_path_``."""
    meaning: str
    grows: bool = False
    """Whether it is a counter; else a gauge."""


DateTime = Annotated[datetime, Meta(tz=True)]
"""Written as RFC 3339 has it."""

Count = Annotated[int, Meta(ge=0)]

BytesReceived = Annotated[Count, Metric("received_bytes", "Bytes received", grows=True)]
BytesSent = Annotated[Count, Metric("sent_bytes", "Bytes sent", grows=True)]
PacketsReceived = Annotated[Count, Metric("received_packets", "Packets received", grows=True)]
PacketsSent = Annotated[Count, Metric("sent_packets", "Packets sent", grows=True)]
PacketsLost = Annotated[Count, Metric("lost_packets", "Packets lost on the way", grows=True)]
PacketsDropped = Annotated[
    Count, Metric("dropped_packets", "Packets not sent because a reader was too slow", grows=True)
]

SessionState = Literal["idle", "read", "publish"]


class SessionItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """One session. Its id is the key under which it is listed."""

    created: DateTime
    address: Annotated[str, Meta(description="ip:port of the client.")] = msgspec.field(name="remoteAddr")
    state: SessionState
    """``idle``, ``read`` or ``publish``."""
    path: str
    query: Annotated[str, Meta(description="Query of the URL.")]
    user: str
    user_agent: Annotated[str, Meta(description="The program, as far as the client tells.")]
    transport: str
    uptime: Annotated[
        float, Meta(description="Seconds since the session began."), Metric("connected_seconds", "Age of a session")
    ]
    bytes_received: BytesReceived
    bytes_sent: BytesSent
    packets_received: PacketsReceived
    packets_sent: PacketsSent
    packets_lost: PacketsLost
    """Packets that the client sent and that did not arrive, or that it reported as lost."""
    packets_dropped: PacketsDropped
    """Packets not sent because the client was too slow."""
    packets_invalid: Annotated[Count, Metric("invalid_packets", "Packets received that were ignored", grows=True)]
    """Packets received that were ignored: invalid, or of a kind that cannot be forwarded."""
    reports_received: Annotated[Count, Metric("received_reports", "RTCP packets received", grows=True)]
    """RTCP packets."""
    reports_sent: Annotated[Count, Metric("sent_reports", "RTCP packets sent", grows=True)]
    """RTCP packets."""
    jitter: Annotated[float, Meta(description="Seconds."), Metric("jitter_seconds", "Interarrival jitter")]
    round_trip: Annotated[
        float | None,
        Meta(description="Seconds; null while unknown."),
        Metric("round_trip_seconds", "Round-trip time"),
    ]
    """Seconds; None while unknown."""


class ConnectionItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """A connection on which sessions are controlled. Its id is the key under which it is listed."""

    created: DateTime
    address: Annotated[str, Meta(description="ip:port of the client.")] = msgspec.field(name="remoteAddr")
    session: str | None
    """The id of its session; None while there is none."""
    tunnel: str
    """``none``, ``http`` or ``websocket``."""
    bytes_received: BytesReceived
    bytes_sent: BytesSent


class ViewerItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """A client that is known by its requests, not by a connection. Its id is the key under which it is listed."""

    created: DateTime
    address: Annotated[str, Meta(description="ip:port of its first request.")] = msgspec.field(name="remoteAddr")
    path: str
    query: Annotated[str, Meta(description="Query of the URL.")]
    user: str
    user_agent: Annotated[str, Meta(description="The program, as far as the client tells.")]
    is_cdn: Annotated[bool, Meta(description="Whether it is a content delivery network.")] = msgspec.field(name="isCDN")
    bytes_sent: BytesSent


_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Where a word of a name in camel case begins; several capital letters in a row are one word."""


class Column(Struct, frozen=True):
    """A metric of MediaMTX that is a field of items in API v3."""

    field: str
    """``inboundRTPPackets``."""
    meaning: str
    grows: bool = True
    """Whether it is a counter; else a gauge."""
    name: str = ""
    """Follows the name of the block; empty: that of the field (``inbound_rtp_packets``)."""

    @property
    def suffix(self) -> str:
        """What follows the name of the block."""
        return self.name or _WORD.sub("_", self.field).lower()


class MetricBlock(Struct, frozen=True, kw_only=True):
    """Metrics of MediaMTX: each item of a collection in API v3 is one sample of every metric."""

    title: str
    """``RTSP sessions``."""
    name: str
    """The metric that is 1 for each item; the names of the others begin with it: ``rtsp_sessions``."""
    collection: str
    """In the URLs of API v3: ``rtspsessions``."""
    labels: Mapping[str, str]
    """Fields of the items, by label."""
    columns: tuple[Column, ...]
    former: tuple[Column, ...] = ()
    """Deprecated names."""
    key: str = "id"
    """The field by which one item can be asked for."""

    @property
    def parameter(self) -> str:
        """The parameter of the query that asks for one item: ``rtsp_session``."""
        return self.name.removesuffix("s")


CONNECTION_LABELS: Final = {"id": "id"}
"""The labels of connections."""

VIEWER_LABELS: Final = {**CONNECTION_LABELS, "path": "path", "remoteAddr": "remoteAddr"}
"""The labels of viewers."""

SESSION_LABELS: Final = {**VIEWER_LABELS, "state": "state"}
"""The labels of sessions."""


ForwardState = Literal["idle", "forwarding", "error"]


class ForwardSettings(Struct, frozen=True, kw_only=True, rename="camel"):
    """The settings of a destination, without secrets."""

    dest: str
    dest_fingerprint: str
    whip_bearer_token: Annotated[str, Meta(description="`<redacted>` if there is one.")]


class ForwardItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """A server that the stream of a path is sent to."""

    id: str
    pos: Annotated[int, Meta(ge=1, description="Its place in the list.")]
    created: DateTime
    conf: ForwardSettings
    protocol: Annotated[str, Meta(description="The scheme of its address.")]
    state: Annotated[
        ForwardState,
        Meta(description="`idle` while the path has no stream, `error` between two attempts to connect."),
    ]
    last_error: Annotated[str, Meta(description="Empty unless the state is `error`.")]
    outbound_bytes: Annotated[Count, Meta(description="Sent since it was created, over all connections.")]


Item = TypeVar("Item", bound=Struct, covariant=True)


class LazyItems(Mapping[str, Item], Generic[Item]):
    """Items by id, each made when it is looked up: the event loop may do other work between thousands of them."""

    def __init__(self, makers: Mapping[str, Callable[[], Item]]) -> None:
        """``makers`` make the items, by id."""
        self._makers = makers

    def __getitem__(self, key: str) -> Item:
        return self._makers[key]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@cache
def metrics_of(item: type[Struct]) -> Mapping[str, Metric]:
    """Return the metrics of an item by the names of its fields."""
    found = {info.name: _metric(info.type) for info in msgspec.structs.fields(item)}
    return {name: metric for name, metric in found.items() if metric is not None}


def _metric(annotation: Any) -> Metric | None:
    marks = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, Metric)), None)
