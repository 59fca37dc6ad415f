"""Events of RTMP connections, returned by `ServerConnection` and `ClientConnection`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from polycast.media.codec import Codec
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.rtmp.address import Target
from polycast.wire.rtmp.amf import Value
from polycast.wire.rtmp.login import Response


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Capabilities that a peer announced in ``connect``: Adobe RTMP 1.0 section 7.2.1.1, and Enhanced RTMP v2,
    "Enhancing NetConnection connect Command"."""

    four_ccs: frozenset[str] = frozenset()
    """Enhanced codecs that it can decode or forward; ``*`` is any. Empty if it announced none."""
    sound_formats: int = 0
    """Legacy audio codecs that it can decode, as the bits of ``audioCodecs``; 0 if it announced none."""
    reconnect: bool = False
    multitrack: bool = False
    mod_ex: bool = False
    timestamp_nano_offset: bool = False

    @property
    def enhanced(self) -> bool:
        """Whether it announced anything of Enhanced RTMP."""
        return replace(self, sound_formats=0) != Capabilities()


@dataclass(frozen=True, slots=True)
class ConnectRequested:
    """A client connected to an application. It has been answered."""

    app: str
    tc_url: str
    object_encoding: int
    flash_version: str
    """The name of the client, such as ``FMLE/3.0 (compatible; FMSc/1.0)``."""
    capabilities: Capabilities
    values: dict[str, Value] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class PublishRequested:
    """A client wants to publish. Answer with ``accept_publish`` or ``refuse``."""

    app: str
    stream_key: str
    """As sent by the client, with its query."""
    targets: tuple[Target, ...]
    """Its possible meanings, most likely first; see `parse_targets`."""
    publish_type: str
    """``live``, ``record`` or ``append``; all mean live here."""
    login: Response | None = None
    """The client's response to a login request; then the query has no password."""


@dataclass(frozen=True, slots=True)
class LoginRequested:
    """The server rejected the connection so that the client reconnects and logs in. Close the socket then."""


@dataclass(frozen=True, slots=True)
class PlayRequested:
    """A client wants to read. Answer with ``accept_play`` or ``refuse``."""

    app: str
    stream_key: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class RequestAccepted:
    """The server accepted the request to publish or play (client only)."""


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """The server refused to connect, publish or play (client only)."""

    code: str
    description: str


@dataclass(frozen=True, slots=True)
class TracksKnown:
    """The peer's tracks are known; frames follow, with indexes into ``tracks``."""

    tracks: tuple[Track, ...]


class FrameReceived:
    """A frame of a track. Created for each frame, so it is a plain class with slots."""

    __slots__ = ("frame", "track")

    def __init__(self, track: int, frame: Frame) -> None:
        self.track = track
        """Index of the track."""
        self.frame = frame

    def __repr__(self) -> str:
        return f"FrameReceived({self.track}, {self.frame!r})"


@dataclass(frozen=True, slots=True)
class TrackChanged:
    """The parameters of a track's codec changed; frames after this event have the new ones."""

    track: int
    codec: Codec


@dataclass(frozen=True, slots=True)
class TrackIgnored:
    """The peer sends a track that is not used. Returned once per track."""

    kind: str
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class PeerClosedStream:
    """The peer ended its stream: ``deleteStream``, ``closeStream``, ``FCUnpublish``, or a server's end of stream."""

    reason: str


Event: TypeAlias = (
    ConnectRequested
    | LoginRequested
    | PublishRequested
    | PlayRequested
    | RequestAccepted
    | RequestRefused
    | TracksKnown
    | FrameReceived
    | TrackChanged
    | TrackIgnored
    | PeerClosedStream
)
