"""What a track of a stream is: its codec and, where it has been or will be carried in RTP, its RTP format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from polycast.media.codec import Codec, common_name, label


@dataclass(frozen=True, slots=True)
class RtpFormat:
    """How a track is described in SDP (RFC 8866 section 6.6) and numbered in RTP.

    Kept as the publisher wrote it, so that a reader over RTP gets what was announced; only parameter sets are updated.
    """

    payload_type: int
    """0 to 127."""
    encoding: str = ""
    """Encoding name of the rtpmap, empty for a static payload type without one."""
    clock_rate: int = 90_000
    channels: int | None = None
    parameters: str = ""
    """The fmtp line after the payload type, without the parameter sets' live values applied; may be empty."""


@dataclass(frozen=True, slots=True)
class Track:
    """One track: its index in the stream, its codec and its RTP format (None if the publisher does not use RTP)."""

    index: int
    codec: Codec
    rtp: RtpFormat | None = None
    language: str | None = field(default=None)
    """BCP 47 language tag, if the publisher sent one."""
    title: str | None = field(default=None)

    @property
    def clock_rate(self) -> int:
        """Ticks per second of the track's RTP timestamps and frame times."""
        return self.rtp.clock_rate if self.rtp is not None else self.codec.clock_rate

    @property
    def kind(self) -> str:
        """``video``, ``audio`` or ``application``."""
        return self.codec.kind.value

    @property
    def codec_name(self) -> str:
        """The display name of the codec."""
        return common_name(self.codec)

    def __str__(self) -> str:
        return label(self.codec)


def describe_tracks(tracks: Sequence[Track]) -> str:
    """Return the phrase that logs use: ``1 track (H264)``, ``2 tracks (H264, AAC)``."""
    names = ", ".join(track.codec_name for track in tracks)
    return f"{len(tracks)} track{'' if len(tracks) == 1 else 's'} ({names})"
