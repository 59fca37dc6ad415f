"""What a request for a file of a muxer is answered with."""

from __future__ import annotations

from dataclasses import dataclass

CONTENT_TYPE_PLAYLIST = "application/vnd.apple.mpegurl"
CONTENT_TYPE_MPEGTS = "video/mp2t"
CONTENT_TYPE_MP4 = "video/mp4"
CONTENT_TYPE_AUDIO_MP4 = "audio/mp4"


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Resource:
    """A file of a muxer, whole and ready to send. Two are never equal, so that it can stand in a weak mapping."""

    body: bytes
    content_type: str
    immutable: bool
    """Whether the name will never stand for other bytes: segments, parts, init segments. Playlists are not."""


@dataclass(frozen=True, slots=True)
class WaitFor:
    """The answer does not exist yet: ask again each time the muxer publishes something.

    A request that waits longer than `timeout` is to be answered with 503 (draft-pantos-hls-rfc8216bis 6.2.5.2).
    """

    timeout: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The request cannot be answered."""

    status: int
    """HTTP status."""
    reason: str


Answer = Resource | WaitFor | Refusal
