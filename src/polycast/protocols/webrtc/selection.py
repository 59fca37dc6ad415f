"""Which tracks of a stream a viewer gets, which of them are converted for it, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.media.codec import Codec, Opus, common_name, label
from polycast.media.track import Track
from polycast.protocols.transcoding import Target
from polycast.transcode.audio import CHANNELS, OPUS
from polycast.transcode.video import BASELINE
from polycast.wire.webrtc.codecs import AUDIO_CODECS, VIDEO_CODECS, format_for
from polycast.wire.webrtc.description import Format, RemoteDescription, RemoteMedia


def name_of(codec: Codec) -> str:
    """Return the name of a codec for people, with the channels of surround sound, which few clients support."""
    if isinstance(codec, Opus) and codec.channels > CHANNELS:
        return f"Opus with {codec.channels} channels"
    return common_name(codec)


def _no_b_frames(track: Track) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is converted for viewers that cannot play it as it is."""

    audio: bool = False
    """Sound, to Opus."""
    video: bool = False
    """Pictures, to H264."""
    has_b_frames: Callable[[Track], bool] = _no_b_frames
    """Whether a track has B-frames, which no browser can show."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What there is to know of video, or audio."""

    name: str
    medium: str
    """For people: ``picture``."""
    codecs: tuple[type[Codec], ...]
    """What WebRTC carries, in the order in which one is chosen."""
    target: Target
    """What others are converted to."""
    target_name: str
    key: str
    """The setting for that."""
    is_converted: Callable[[Conversion], bool]

    def advice(self, offer: RemoteDescription, tracks: Sequence[Track], conversion: Conversion) -> str:
        """Return that the setting would convert one of the tracks, as the end of a sentence; empty if it would not."""
        names = [name_of(track.codec) for track in tracks if self.target.can_be_made_of(track.codec)]
        media = _receiving(offer, self.name)
        is_of_use = media is not None and format_for(self.target.codec, media.formats) is not None
        if not names or not is_of_use or self.is_converted(conversion):
            return ""
        result = "stereo" if names[0].startswith(self.target_name) else self.target_name
        return f"; {self.key}: yes converts {names[0]} to {result}"

    def reason(self, track: Track) -> str:
        """Return why a viewer does not get a track as it is."""
        verb = "the viewer does not support" if isinstance(track.codec, self.codecs) else "WebRTC does not carry"
        return f"{verb} {name_of(track.codec)}"


_VIDEO: Final = _Kind(
    "video", "picture", VIDEO_CODECS, BASELINE, "H264", "webrtcTranscodeVideo", lambda conversion: conversion.video
)
_AUDIO: Final = _Kind(
    "audio", "sound", AUDIO_CODECS, OPUS, "Opus", "webrtcTranscodeAudio", lambda conversion: conversion.audio
)
_KINDS: Final = (_VIDEO, _AUDIO)


def names_of(codecs: Sequence[type[Codec]]) -> str:
    """Return codec names for a text."""
    return ", ".join(codec.name for codec in codecs)


NO_CODEC: Final = (
    "the stream doesn't contain any supported codec, which are currently "
    f"{names_of(VIDEO_CODECS)}, {names_of(AUDIO_CODECS)}"
)


@dataclass(frozen=True, slots=True)
class SentTrack:
    """A track that is sent to a viewer or a server."""

    track: Track
    mid: str
    format: Format
    target: Target | None = None
    """What it is converted to first."""
    notice: str = ""
    """What is done to it and why, if the viewer should know."""


def choose_tracks(
    offer: RemoteDescription, tracks: Sequence[Track], conversion: Conversion = Conversion()
) -> list[SentTrack]:
    """Return the tracks of a stream for the viewer who sent this offer: at most one video and one audio track.

    Raises RemoteProtocolError if there is none; its text tells whether the stream or the viewer is the reason.
    """
    chosen: list[SentTrack] = []
    refused: list[Track] = []
    for kind in _KINDS:
        media = _receiving(offer, kind.name)
        sent = _choose(kind, media, tracks, conversion, refused) if media is not None else None
        if sent is not None:
            chosen.append(sent)
    if chosen:
        return chosen
    if refused:
        names = ", ".join(_refused_name(track.codec) for track in refused)
        advice = _VIDEO.advice(offer, refused, conversion) or _AUDIO.advice(offer, refused, conversion)
        raise RemoteProtocolError(f"codecs not supported by client: {names}{advice}")
    advice = _AUDIO.advice(offer, tracks, conversion) or _VIDEO.advice(offer, tracks, conversion)
    raise RemoteProtocolError(f"{NO_CODEC}{advice}")


def _refused_name(codec: Codec) -> str:
    return name_of(codec) if isinstance(codec, Opus) else label(codec)


def supported_tracks(
    tracks: Sequence[Track],
    codecs: tuple[type[Codec], ...],
    formats: Sequence[Format],
    mid: str,
    refused: list[Track] | None = None,
) -> list[SentTrack]:
    """Return the tracks with one of these codecs for which there is a format, the best first; ``refused`` gets the
    others."""
    candidates = [track for track in tracks if isinstance(track.codec, codecs)]
    candidates.sort(key=lambda track: codecs.index(type(track.codec)))
    supported: list[SentTrack] = []
    for track in candidates:
        found = format_for(track.codec, formats)
        if found is not None:
            supported.append(SentTrack(track, mid, found))
        elif refused is not None:
            refused.append(track)
    return supported


def _choose(
    kind: _Kind, media: RemoteMedia, tracks: Sequence[Track], conversion: Conversion, refused: list[Track]
) -> SentTrack | None:
    """Return the track of a kind for a viewer: the first one that it can play, or else one that is converted.

    ``refused`` gets the tracks that WebRTC carries, but not to this viewer.
    """
    supported = supported_tracks(tracks, kind.codecs, media.formats, media.mid, refused)
    if kind is _VIDEO and conversion.video:
        plain = [item for item in supported if not conversion.has_b_frames(item.track)]
    else:
        plain = supported
    if plain:
        return plain[0]
    with_b_frames = supported[0] if supported else None
    return _convert(kind, media, tracks, conversion, with_b_frames) or with_b_frames


def _convert(
    kind: _Kind, media: RemoteMedia, tracks: Sequence[Track], conversion: Conversion, with_b_frames: SentTrack | None
) -> SentTrack | None:
    target = kind.target
    found = format_for(target.codec, media.formats)
    sources = [track for track in tracks if target.can_be_made_of(track.codec)]
    if found is None or not sources or not kind.is_converted(conversion):
        return None
    if kind is _AUDIO:
        is_surround = isinstance(sources[0].codec, Opus)
        notice = f"the sound is mixed down to stereo, because {kind.reason(sources[0])}" if is_surround else ""
        return SentTrack(sources[0], media.mid, found, target, notice)
    if with_b_frames is not None:
        notice = "the picture is converted to H264 without B-frames, which browsers cannot show in WebRTC"
        return SentTrack(with_b_frames.track, media.mid, found, target, notice)
    source = sources[0]
    notice = f"the picture is converted from {source.codec_name} to H264, because {kind.reason(source)}"
    return SentTrack(source, media.mid, found, target, notice)


def _receiving(offer: RemoteDescription, kind: str) -> RemoteMedia | None:
    """Return the first medium of a kind in which the peer receives."""
    media = next((media for media in offer.medias if media.kind == kind and media.receives), None)
    return media if media is not None and not media.is_rejected else None


def missing(
    offer: RemoteDescription, tracks: Sequence[Track], chosen: Sequence[SentTrack], conversion: Conversion
) -> list[str]:
    """Return why a viewer gets no picture or no sound although the stream has some, and which setting changes that."""
    texts: list[str] = []
    for kind in _KINDS:
        own = [track for track in tracks if track.kind == kind.name]
        is_sent = any(item.track.kind == kind.name for item in chosen)
        if own and not is_sent and _receiving(offer, kind.name) is not None:
            texts.append(
                f"there is no {kind.medium}, because {kind.reason(own[0])}{kind.advice(offer, own, conversion)}"
            )
    return texts
