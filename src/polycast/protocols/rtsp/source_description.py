"""What a camera or server describes, as far as it can be pulled: its tracks, and the URLs to set them up with."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from polycast.errors import RemoteProtocolError
from polycast.media.track import Track
from polycast.protocols.pull import PullError
from polycast.protocols.rtsp.description import track_of
from polycast.wire.rtsp.headers.rtp_info import parse_rtp_info
from polycast.wire.rtsp.message import Response
from polycast.wire.rtsp.url import RtspUrl, join_control
from polycast.wire.sdp import SessionDescription, parse_sdp


@dataclass(frozen=True, slots=True)
class SourceTrack:
    """A track that is pulled."""

    track: Track
    url: str
    """For SETUP."""
    connection: str | None
    """Address of the ``c=`` line, for multicast; without time to live."""
    port: int
    """Port of the ``m=`` line, 0 when none is told."""


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """The answer to DESCRIBE."""

    tracks: tuple[SourceTrack, ...]
    base: str
    """URL of the whole presentation, for PLAY and TEARDOWN."""
    skipped: tuple[str, ...]
    """Why media are left out, for the log."""


def read_description(response: Response, url: RtspUrl) -> SourceDescription:
    """Take apart the answer to DESCRIBE of ``url``. Raises PullError when there is nothing to pull."""
    try:
        description = parse_sdp(response.body)
    except RemoteProtocolError as error:
        raise PullError(f"invalid session description: {error}") from error
    base = _base_url(response, description, url)
    tracks: list[SourceTrack] = []
    skipped: list[str] = []
    has_receivers = any(media.has_attribute("recvonly") for media in description.medias)
    for number, media in enumerate(description.medias, 1):
        if media.has_attribute("sendonly") and has_receivers:
            skipped.append(f"media {number} is a back channel")  # ONVIF Streaming Specification section 5.3
            continue
        try:
            track = track_of(len(tracks), media)
        except RemoteProtocolError as error:
            skipped.append(f"media {number} ({media.media}) is skipped: {error}")
            continue
        tracks.append(
            SourceTrack(
                track,
                _local(join_control(base, media.control), url),
                _address_of(media.connection or description.connection),
                media.port,
            )
        )
    if not tracks:
        raise PullError("; ".join(["the session description has no usable track", *skipped]))
    return SourceDescription(tuple(tracks), base, tuple(skipped))


def read_moment(response: Response, description: SourceDescription) -> dict[int, int]:
    """Return the RTP timestamps that the tracks have at one moment, by index, out of the answer to PLAY.

    Empty where the server does not tell them for two tracks at least.
    """
    try:
        entries = parse_rtp_info(",".join(response.headers.get_all("RTP-Info")))
    except RemoteProtocolError:
        return {}
    # The last part is enough: servers write what comes before it in other ways than in the session description.
    indexes = {_last_part(track.url): index for index, track in enumerate(description.tracks)}
    if len(indexes) < len(description.tracks):
        return {}
    moment: dict[int, int] = {}
    for entry in entries:
        index = indexes.get(_last_part(entry.url))
        if index is not None and entry.rtptime is not None:
            moment[index] = entry.rtptime
    return moment if len(moment) > 1 else {}


def _last_part(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]


def _base_url(response: Response, description: SessionDescription, url: RtspUrl) -> str:
    """The session's ``a=control``, else Content-Base or Content-Location, else the request's URL (RFC 2326 C.1.1)."""
    for name in ("Content-Base", "Content-Location"):
        header = response.headers.get(name)
        if header:
            base = _absolute(header.strip(), url)
            break
    else:
        base = url.serialize()
    control = description.control
    if control and control != "*":
        base = _local(join_control(base, control), url)
    return base


def _absolute(text: str, url: RtspUrl) -> str:
    """A URL out of a header; cameras write relative ones, and ones with the address of their inner network."""
    if text.startswith("/"):
        path, _, query = text[1:].partition("?")
        return dataclasses.replace(url, path=path, query=query).serialize()
    return _local(text, url)


def _local(text: str, url: RtspUrl) -> str:
    """The URL with the scheme, host and port that we are connected to: what a camera knows of its own may not hold."""
    try:
        parsed = RtspUrl.parse(text)
    except RemoteProtocolError:
        return url.serialize()
    return dataclasses.replace(
        parsed, scheme=url.scheme, host=url.host, port=url.port, user=None, password=None
    ).serialize()


def _address_of(connection: str | None) -> str | None:
    words = (connection or "").split()
    return words[2].partition("/")[0] if len(words) >= 3 else None
