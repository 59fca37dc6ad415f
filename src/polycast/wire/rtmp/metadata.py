"""``onMetaData``: read as hints about a publisher's tracks, and written for readers.

It is often wrong (wrong codec numbers, tracks that never arrive, zero sizes), so received media is never judged by it.
It only tells which tracks to wait for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from polycast.codecs.registry import resolution
from polycast.media.codec import Codec
from polycast.media.track import Track
from polycast.wire.rtmp.amf import Value
from polycast.wire.rtmp.amf0 import EcmaArray
from polycast.wire.rtmp.messages import Data
from polycast.wire.rtmp.supported import CODECS

MAXIMUM_TRACK_HINTS = 32
"""Additional tracks that metadata may announce."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """The content of ``onMetaData``."""

    video: bool | None = None
    """Whether there will be video; None if unknown."""
    audio: bool | None = None
    additional: frozenset[tuple[str, int]] = frozenset()
    """Kind and number of further tracks (Enhanced RTMP v2, ``videoTrackIdInfoMap`` and ``audioTrackIdInfoMap``)."""
    encoder: str = ""
    values: dict[str, Value] = field(default_factory=dict)
    """All members, as received."""

    @property
    def complete(self) -> bool:
        """Whether it says which tracks exist."""
        return self.video is True or self.audio is True

    @property
    def announced(self) -> frozenset[tuple[str, int]]:
        """Kind and number of the expected tracks."""
        main = {(kind, 0) for kind, present in (("video", self.video), ("audio", self.audio)) if present}
        return self.additional | main


def parse_metadata(values: Sequence[Value]) -> Metadata | None:
    """Return the metadata in a data message, with or without ``@setDataFrame``; None if it is another message."""
    remaining = list(values)
    if remaining and remaining[0] == "@setDataFrame":
        del remaining[0]
    if len(remaining) < 2 or remaining[0] != "onMetaData":
        return None
    members = remaining[1]
    if not isinstance(members, dict):
        return Metadata()
    encoder = members.get("encoder")
    return Metadata(
        _announces(members, "videocodecid"),
        _announces(members, "audiocodecid"),
        frozenset((*_track_ids(members, "video"), *_track_ids(members, "audio"))),
        encoder if isinstance(encoder, str) else "",
        members,
    )


def _announces(members: dict[str, Value], name: str) -> bool | None:
    value = members.get(name)
    if isinstance(value, str):
        return bool(value) or None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value != 0
    return None


def _track_ids(members: dict[str, Value], kind: str) -> list[tuple[str, int]]:
    tracks = members.get(f"{kind}TrackIdInfoMap")
    if not isinstance(tracks, dict):
        return []
    names = (name for name in tracks if name.isascii() and name.isdigit() and len(name) <= 3)
    return [(kind, int(name)) for name in names if int(name) <= 255][:MAXIMUM_TRACK_HINTS]


def codec_identifier(codec: Codec) -> int:
    """Return the codec's number in metadata: the legacy one, or the fourCC as a number (Enhanced RTMP v1)."""
    mapping = CODECS[codec]
    if mapping.legacy_identifier is not None:
        return mapping.legacy_identifier(codec)
    return int.from_bytes(mapping.four_cc, "big")


def build_metadata(tracks: Iterable[tuple[Track, int]]) -> Data:
    """Return the ``onMetaData`` message for tracks, each with its number among those of the same kind.

    The data rates are 0, because they are unknown for a live stream.
    """
    members: EcmaArray = EcmaArray()
    for track, number in tracks:
        if number == 0:
            members.update(_members(track))
            continue
        name = f"{track.kind}TrackIdInfoMap"
        more = members.setdefault(name, {})
        if isinstance(more, dict):
            more[str(number)] = _members(track)
    return Data(("onMetaData", members))


def _members(track: Track) -> dict[str, Value]:
    codec = track.codec
    kind = track.kind
    members: dict[str, Value] = {f"{kind}datarate": 0.0, f"{kind}codecid": float(codec_identifier(codec))}
    if kind == "video":
        size = resolution(codec)
        if size is not None:
            members["width"], members["height"] = float(size[0]), float(size[1])
        return members
    channels = getattr(codec, "channels", 1)
    sample_rate = getattr(codec, "sample_rate", codec.clock_rate)
    if sample_rate:
        members["audiosamplerate"] = float(sample_rate)
    if channels:
        members["audiochannels"] = float(channels)
        members["stereo"] = channels > 1
    return members
