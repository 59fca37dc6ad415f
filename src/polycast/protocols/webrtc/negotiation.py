"""Offer and answer: the tracks and formats for a viewer, and what a publisher may send."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from polycast.errors import RemoteProtocolError, UnsupportedCodec
from polycast.media.codec import Codec, common_name, label
from polycast.media.track import Track
from polycast.protocols.webrtc.inbound import InboundTrack
from polycast.protocols.webrtc.outgoing import OutgoingTrack
from polycast.rtp.payload.registry import codec_from_sdp
from polycast.transcode.audio import OPUS
from polycast.wire.webrtc.codecs import (
    AUDIO_CODECS,
    VIDEO_CODECS,
    answered_format,
    format_for,
    offered_formats,
    supported_formats,
)
from polycast.wire.webrtc.description import (
    MID_EXTENSION,
    TRANSPORT_SEQUENCE_EXTENSION,
    Format,
    RemoteDescription,
    RemoteMedia,
)
from polycast.wire.webrtc.local_description import LocalMedia, Source

STREAM_NAME: Final = "polycast"

NOT_ACCEPTABLE: Final = 406
"""Status for an offer whose media cannot be accepted."""

TRANSCODE_KEY: Final = "webrtcTranscodeAudio"
"""The setting for converting sound to Opus."""

_CODECS: Final = (("video", VIDEO_CODECS), ("audio", AUDIO_CODECS))
_RECEIVED_EXTENSIONS: Final = (MID_EXTENSION, TRANSPORT_SEQUENCE_EXTENSION)


def names_of(codecs: Sequence[type[Codec]]) -> str:
    """Return codec names for a text."""
    return ", ".join(codec.name for codec in codecs)


_NO_CODEC: Final = (
    "the stream doesn't contain any supported codec, which are currently "
    f"{names_of(VIDEO_CODECS)}, {names_of(AUDIO_CODECS)}"
)


@dataclass(frozen=True, slots=True)
class SentTrack:
    """A track that is sent to a viewer or a server."""

    track: Track
    mid: str
    format: Format
    is_transcoded: bool = False
    """Whether it is converted to Opus first."""


def choose_tracks(
    offer: RemoteDescription, tracks: Sequence[Track], *, transcodes_audio: bool = False
) -> list[SentTrack]:
    """Return the tracks of a stream for the viewer who sent this offer: at most one video and one audio track.

    ``transcodes_audio``: whether sound that cannot be sent as it is is converted to Opus.

    Raises RemoteProtocolError if there is none; its text tells whether the stream or the viewer is the reason.
    """
    chosen: list[SentTrack] = []
    refused: list[str] = []
    for kind, codecs in _CODECS:
        media = _receiving(offer, kind)
        if media is None:
            continue
        sent = _first_supported(tracks, codecs, media.formats, media.mid, refused)
        if sent is not None:
            chosen.append(sent)
        else:
            transcodable = next((track for track in tracks if OPUS.can_be_made_of(track.codec)), None)
            found = format_for(OPUS.codec, media.formats)
            if kind == "audio" and transcodes_audio and transcodable is not None and found is not None:
                chosen.append(SentTrack(transcodable, media.mid, found, is_transcoded=True))
    if not chosen:
        if refused:
            raise RemoteProtocolError(f"codecs not supported by client: {', '.join(refused)}")
        raise RemoteProtocolError(f"{_NO_CODEC}{_advice(tracks, transcodes_audio)}")
    return chosen


def _first_supported(
    tracks: Sequence[Track], codecs: tuple[type[Codec], ...], formats: Sequence[Format], mid: str, refused: list[str]
) -> SentTrack | None:
    """Return the best track with one of these codecs for which there is a format; the others go to ``refused``."""
    candidates = [track for track in tracks if isinstance(track.codec, codecs)]
    candidates.sort(key=lambda track: codecs.index(type(track.codec)))
    for track in candidates:
        found = format_for(track.codec, formats)
        if found is not None:
            return SentTrack(track, mid, found)
        refused.append(label(track.codec))
    return None


def _receiving(offer: RemoteDescription, kind: str) -> RemoteMedia | None:
    """Return the first medium of a kind in which the peer receives."""
    media = next((media for media in offer.medias if media.kind == kind and media.receives), None)
    return media if media is not None and not media.is_rejected else None


def _advice(tracks: Sequence[Track], transcodes_audio: bool) -> str:
    """Return which setting would make sound audible, as the end of a sentence; empty if there is none."""
    names = [common_name(track.codec) for track in tracks if OPUS.can_be_made_of(track.codec)]
    return f"; {TRANSCODE_KEY}: yes converts {names[0]} to Opus" if names and not transcodes_audio else ""


def missing_sound(
    offer: RemoteDescription, tracks: Sequence[Track], chosen: Sequence[SentTrack], *, transcodes_audio: bool
) -> str:
    """Return why a viewer gets no sound although the stream has some, and which setting changes that; else empty."""
    sound = [track for track in tracks if track.kind == "audio"]
    if not sound or _receiving(offer, "audio") is None or any(item.track.kind == "audio" for item in chosen):
        return ""
    is_carried = isinstance(sound[0].codec, AUDIO_CODECS)
    reason = "the viewer does not support" if is_carried else "WebRTC does not carry"
    return f"there is no sound, because {reason} {sound[0].codec_name}{_advice(sound, transcodes_audio)}"


def answer_to_viewer(
    offer: RemoteDescription, chosen: Sequence[SentTrack], outgoing: Sequence[OutgoingTrack]
) -> list[LocalMedia]:
    """Return the media of the answer, in the order of the offer. ``outgoing`` corresponds to ``chosen``."""
    sent = {item.mid: (item, out) for item, out in zip(chosen, outgoing, strict=True)}
    medias: list[LocalMedia] = []
    for media in offer.medias:
        if media.mid not in sent:
            medias.append(_unused(media))
            continue
        item, out = sent[media.mid]
        resent = out.retransmission_ssrc if item.format.retransmission is not None else None
        source = Source(out.ssrc, STREAM_NAME, media.kind, resent)
        medias.append(LocalMedia(media.kind, media.mid, "sendonly", [item.format], source=source))
    return medias


def _unused(media: RemoteMedia) -> LocalMedia:
    """Return a medium that is accepted, but in which nothing is sent: if it is rejected, browsers sometimes show no
    picture. A medium that cannot be accepted is rejected."""
    formats = supported_formats(media)[:1] if not media.is_rejected else []
    plain = [dataclasses.replace(item, feedback=frozenset(), retransmission=None) for item in formats]
    return LocalMedia(media.kind, media.mid, "inactive", plain)


@dataclass(frozen=True, slots=True)
class ReceivedTrack:
    """A track that a publisher sends in one medium."""

    inbound: InboundTrack
    track: Track


def accept_tracks(offer: RemoteDescription) -> list[ReceivedTrack]:
    """Return what a publisher may send: in each medium, the first supported format, which is the one it prefers.

    Raises RemoteProtocolError with `NOT_ACCEPTABLE`.
    """
    received: list[ReceivedTrack] = []
    for media in offer.medias:
        if media.is_rejected or (media.kind in ("audio", "video") and not media.sends):
            continue
        if media.kind not in ("audio", "video"):
            raise RemoteProtocolError(f"unsupported media '{media.kind}'", NOT_ACCEPTABLE)
        if any(item.inbound.kind == media.kind for item in received):
            raise RemoteProtocolError("only a single video and a single audio track are supported", NOT_ACCEPTABLE)
        formats = supported_formats(media)
        if formats:
            received.append(_accept(len(received), media, formats[0]))
    if not received:
        raise RemoteProtocolError(
            f"no valid tracks found: supported are {names_of(VIDEO_CODECS)}, {names_of(AUDIO_CODECS)}", NOT_ACCEPTABLE
        )
    return received


def _accept(index: int, media: RemoteMedia, chosen: Format) -> ReceivedTrack:
    chosen = answered_format(chosen, media.kind)
    codec, rtp = codec_from_sdp(
        media.kind, chosen.payload_type, chosen.encoding, chosen.clock_rate, chosen.channels, chosen.parameters
    )
    inbound = InboundTrack(index, media.kind, media.mid, chosen, media.ssrcs)
    return ReceivedTrack(inbound, Track(index, codec, rtp))


def answer_to_publisher(offer: RemoteDescription, received: Sequence[ReceivedTrack]) -> list[LocalMedia]:
    """Return the media of the answer, in the order of the offer."""
    accepted = {item.inbound.mid: item for item in received}
    medias: list[LocalMedia] = []
    for media in offer.medias:
        item = accepted.get(media.mid)
        if item is None:
            medias.append(_unused(media))
            continue
        extensions = {uri: media.extensions[uri] for uri in _RECEIVED_EXTENSIONS if uri in media.extensions}
        medias.append(LocalMedia(media.kind, media.mid, "recvonly", [item.inbound.format], extensions))
    return medias


def received_extension(offer: RemoteDescription, uri: str) -> int | None:
    """Return the identifier of a negotiated header extension, which is the same in all bundled media."""
    return next((media.extensions[uri] for media in offer.medias if uri in media.extensions), None)


def offer_to_receive() -> list[LocalMedia]:
    """Return the media of an offer to receive one video and one audio track, in all supported codecs."""
    extensions = {TRANSPORT_SEQUENCE_EXTENSION: 1, MID_EXTENSION: 2}
    return [
        LocalMedia("video", "0", "recvonly", offered_formats("video"), extensions),
        LocalMedia("audio", "1", "recvonly", offered_formats("audio"), extensions),
    ]


def tracks_to_offer(tracks: Sequence[Track]) -> list[SentTrack]:
    """Return the tracks of a stream for another server: at most one video and one audio track.

    Raises UnsupportedCodec if there is none.
    """
    chosen: list[SentTrack] = []
    for kind, codecs in _CODECS:
        sent = _first_supported(tracks, codecs, offered_formats(kind), str(len(chosen)), [])
        if sent is not None:
            chosen.append(sent)
    if not chosen:
        raise UnsupportedCodec(_NO_CODEC)
    return chosen


def offer_to_send(chosen: Sequence[SentTrack], outgoing: Sequence[OutgoingTrack]) -> list[LocalMedia]:
    """Return the media of an offer to send these tracks. ``outgoing`` corresponds to ``chosen``."""
    medias: list[LocalMedia] = []
    for item, out in zip(chosen, outgoing, strict=True):
        resent = out.retransmission_ssrc if item.format.retransmission is not None else None
        source = Source(out.ssrc, STREAM_NAME, item.track.kind, resent)
        medias.append(LocalMedia(item.track.kind, item.mid, "sendonly", [item.format], source=source))
    return medias


def accept_sending(answer: RemoteDescription, chosen: Sequence[SentTrack]) -> list[SentTrack]:
    """Return those of the offered tracks that the other side receives, with the formats of its answer."""
    medias = {media.mid: media for media in answer.medias if media.receives and not media.is_rejected}
    return [
        dataclasses.replace(item, format=found)
        for item in chosen
        if item.mid in medias and (found := format_for(item.track.codec, medias[item.mid].formats)) is not None
    ]


def accept_answer(answer: RemoteDescription) -> list[ReceivedTrack]:
    """Return what the other side sends according to its answer. Raises RemoteProtocolError if that is nothing."""
    received: list[ReceivedTrack] = []
    for media in answer.medias:
        formats = supported_formats(media) if media.sends and not media.is_rejected else []
        if formats and all(item.inbound.kind != media.kind for item in received):
            received.append(_accept(len(received), media, formats[0]))
    if not received:
        raise RemoteProtocolError("the answer has no supported media")
    return received
