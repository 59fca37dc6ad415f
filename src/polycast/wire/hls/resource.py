"""Answers to requests for files of a muxer."""

from __future__ import annotations

from dataclasses import dataclass

CONTENT_TYPE_PLAYLIST = "application/vnd.apple.mpegurl"
CONTENT_TYPE_MPEGTS = "video/mp2t"
CONTENT_TYPE_MP4 = "video/mp4"
CONTENT_TYPE_AUDIO_MP4 = "audio/mp4"


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Resource:
    """A complete file of a muxer. Compared by identity, so that it can be a key of a dictionary."""

    body: bytes
    content_type: str
    immutable: bool
    """Whether the content of this name never changes: true for segments, parts and init segments, not for playlists."""


@dataclass(frozen=True, slots=True)
class WaitFor:
    """The answer does not exist yet: ask again each time the muxer publishes something.

    Answer a request that waits longer than `timeout` with 503 (draft-pantos-hls-rfc8216bis 6.2.5.2).
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
