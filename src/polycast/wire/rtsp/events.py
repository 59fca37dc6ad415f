"""The requests of an RTSP server's client: the events of `ServerConnection`.

Media are reported as an `InterleavedRun` of the parser: all frames that were received together.
"""

from __future__ import annotations

from dataclasses import dataclass

from polycast.wire.rtsp.authentication import GivenCredentials
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.server_session import ServerSession
from polycast.wire.rtsp.url import RtspUrl
from polycast.wire.sdp import SessionDescription


@dataclass(frozen=True, slots=True)
class DescribeRequested:
    """DESCRIBE. Answer with `accept_describe`, `redirect`, `challenge`, `deny` or `refuse`."""

    url: RtspUrl
    path: str
    query: str
    credentials: GivenCredentials


@dataclass(frozen=True, slots=True)
class AnnounceRequested:
    """ANNOUNCE. Answer with `accept_announce`, `challenge`, `deny` or `refuse`."""

    session: ServerSession
    path: str
    query: str
    description: SessionDescription
    credentials: GivenCredentials


@dataclass(frozen=True, slots=True)
class SetupRequested:
    """SETUP. Call `choose_transport`, then answer with `accept_setup`; or as `DescribeRequested`."""

    session: ServerSession
    path: str
    query: str
    track: int
    """Of a reader: as sent by the client; it may not exist."""
    records: bool
    """Whether the track was announced by the client, which is then already authorized."""
    credentials: GivenCredentials


@dataclass(frozen=True, slots=True)
class PlayRequested:
    """PLAY. Answer with `accept_play` or `refuse`."""

    session: ServerSession


@dataclass(frozen=True, slots=True)
class RecordRequested:
    """RECORD, with all announced tracks set up. Answer with `accept_record` or `refuse`."""

    session: ServerSession


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """PAUSE. Answer with `accept_pause`, once no more media is sent or received."""

    session: ServerSession


@dataclass(frozen=True, slots=True)
class TeardownRequested:
    """TEARDOWN. Answer with `accept_teardown`, then end the session."""

    session: ServerSession


@dataclass(frozen=True, slots=True)
class HttpReceived:
    """The connection begins with an HTTP request (`wire.rtsp.tunnel`). The engine continues with what the tunnel
    carries."""

    data: bytes
    """The bytes from the start of the request on, as far as they were received."""


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """A request was answered with an error; for the log."""

    status: int
    reason: str
    """Without credentials."""


@dataclass(frozen=True, slots=True)
class MethodUnknown:
    """A request was answered with 501; for the log."""

    method: str


@dataclass(frozen=True, slots=True)
class ConnectionEnded:
    """The socket must be closed after all data was sent. The engine accepts nothing more."""

    reason: str


Event = (
    DescribeRequested
    | AnnounceRequested
    | SetupRequested
    | PlayRequested
    | RecordRequested
    | PauseRequested
    | TeardownRequested
    | HttpReceived
    | RequestRefused
    | MethodUnknown
    | ConnectionEnded
    | InterleavedRun
)
