"""Converts between session descriptions (SDP) and the tracks of a stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from polycast.errors import RemoteProtocolError
from polycast.media.codec import MPEGTS, Generic
from polycast.media.track import RtpFormat, Track
from polycast.protocols.described_tracks import VIDEO_CLOCK_RATE, payload_types_of, track_of
from polycast.rtp.payload.registry import format_parameters
from polycast.wire.rtsp.url import RtspUrl
from polycast.wire.sdp import MediaDescription, SessionDescription

# Session name that readers see; rtsp-simple-server's.
SESSION_NAME = "Stream"

# Address that VLC needs in order to ask for multicast (``?vlcmulticast``).
MULTICAST_HINT_ADDRESS = "224.1.0.0"


@dataclass(frozen=True, slots=True)
class AnnouncedTracks:
    """What a publisher announced."""

    tracks: tuple[Track, ...]
    notes: tuple[str, ...]
    """For the log: which media are not supported, and why."""


def tracks_of(description: SessionDescription) -> AnnouncedTracks:
    """Return the tracks that a publisher announced, in order.

    Media whose format is missing or invalid are forwarded unchanged: cameras and drones also announce and set up data
    of their own. Raises RemoteProtocolError (400) if there are no media, or some that are not RTP.
    """
    tracks: list[Track] = []
    notes: list[str] = []
    for index, media in enumerate(description.medias):
        try:
            tracks.append(track_of(index, media))
        except RemoteProtocolError as error:
            tracks.append(_opaque_track(index, media))
            notes.append(f"media {index + 1} ({media.media}) is carried as it is: {error}")
    if not tracks:
        raise RemoteProtocolError("no tracks have been announced")
    return AnnouncedTracks(tuple(tracks), tuple(notes))


def _opaque_track(index: int, media: MediaDescription) -> Track:
    payload_types = payload_types_of(media)
    if not payload_types:
        raise RemoteProtocolError(f"media {index + 1} has no payload type")
    codec = Generic(encoding="", media_type=media.media, rate=VIDEO_CLOCK_RATE)
    return Track(index, codec, RtpFormat(payload_types[0], "", VIDEO_CLOCK_RATE))


def describe(
    tracks: Sequence[Track],
    url: RtspUrl,
    *,
    over_ipv6: bool = False,
    multicast_hint: bool = False,
    keys: Sequence[str] = (),
) -> bytes:
    """Return the SDP of a stream for a DESCRIBE of ``url``.

    ``over_ipv6``: the client is connected over IPv6. GStreamer opens its UDP sockets in the address family of the
    connection data (RFC 8866 section 5.7), and fails if the one of the server's address differs. ``keys``: the MIKEY
    message in base64 of each track, to offer SRTP (RFC 4567).
    """
    connection = "IP6 ::" if over_ipv6 else "IP4 0.0.0.0"
    if multicast_hint:
        connection = f"IP4 {MULTICAST_HINT_ADDRESS}"
    lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", f"s={SESSION_NAME}", f"c=IN {connection}", "t=0 0"]
    for position, track in enumerate(tracks):
        if track.rtp is not None and is_described(track):
            key = keys[position] if keys else None
            lines += _media_lines(position, track, track.rtp, _control(url, position), key)
    return "".join(f"{line}\r\n" for line in lines).encode()


def is_described(track: Track) -> bool:
    """Whether a track is announced: FFmpeg probes audio or video of an unknown format for seconds. Other data may be
    for a receiver that knows the format.
    """
    codec = track.codec
    if track.rtp is None:
        return False
    return not (isinstance(codec, Generic) and not codec.encoding and codec.media_type in ("audio", "video"))


def _control(url: RtspUrl, position: int) -> str:
    control = f"trackID={position}"
    if not url.query:
        return control
    # GStreamer resolves a relative control by RFC 3986, which drops the query and the last segment of the path.
    return dataclasses.replace(url.without_credentials(), path=f"{url.path.removesuffix('/')}/{control}").serialize()


def _media_lines(position: int, track: Track, rtp_format: RtpFormat, control: str, key: str | None) -> list[str]:
    payload_type = rtp_format.payload_type
    lines = [f"m={_media_type(track)} 0 RTP/{'AVP' if key is None else 'SAVP'} {payload_type}"]
    if key is not None:
        lines.append(f"a=key-mgmt:mikey {key}")
    if rtp_format.encoding:
        channels = f"/{rtp_format.channels}" if rtp_format.channels and rtp_format.channels > 1 else ""
        lines.append(f"a=rtpmap:{payload_type} {rtp_format.encoding}/{rtp_format.clock_rate}{channels}")
    parameters = format_parameters(track)
    if parameters:
        lines.append(f"a=fmtp:{payload_type} {parameters}")
    lines.append(f"a=control:{control}")
    return lines


def _media_type(track: Track) -> str:
    codec = track.codec
    if isinstance(codec, Generic):
        return codec.media_type or "application"
    return "video" if isinstance(codec, MPEGTS) else track.kind
