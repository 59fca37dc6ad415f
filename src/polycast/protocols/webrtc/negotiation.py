"""Offer and answer: the tracks and formats for a viewer, and what a publisher may send."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from polycast.errors import RemoteProtocolError, UnsupportedCodec
from polycast.media.track import Track
from polycast.protocols.webrtc.inbound import InboundTrack
from polycast.protocols.webrtc.outgoing import OutgoingTrack
from polycast.protocols.webrtc.selection import NO_CODEC, SentTrack, names_of, supported_tracks
from polycast.rtp.payload.registry import codec_from_sdp
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

_RECEIVED_EXTENSIONS: Final = (MID_EXTENSION, TRANSPORT_SEQUENCE_EXTENSION)


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
        medias.append(_sending(*sent[media.mid]))
    return medias


def _sending(item: SentTrack, out: OutgoingTrack) -> LocalMedia:
    resent = out.retransmission_ssrc if item.format.retransmission is not None else None
    source = Source(out.ssrc, STREAM_NAME, item.track.kind, resent)
    return LocalMedia(item.track.kind, item.mid, "sendonly", [item.format], source=source)


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
    for kind, codecs in (("video", VIDEO_CODECS), ("audio", AUDIO_CODECS)):
        supported = supported_tracks(tracks, codecs, offered_formats(kind), str(len(chosen)))
        chosen += supported[:1]
    if not chosen:
        raise UnsupportedCodec(NO_CODEC)
    return chosen


def offer_to_send(chosen: Sequence[SentTrack], outgoing: Sequence[OutgoingTrack]) -> list[LocalMedia]:
    """Return the media of an offer to send these tracks. ``outgoing`` corresponds to ``chosen``."""
    return [_sending(item, out) for item, out in zip(chosen, outgoing, strict=True)]


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
