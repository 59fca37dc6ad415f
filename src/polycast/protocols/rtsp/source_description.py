"""The description of a camera or server, as far as it can be pulled: its tracks and their URLs for SETUP."""

from __future__ import annotations

from dataclasses import dataclass

from polycast.errors import RemoteProtocolError
from polycast.media.track import Track
from polycast.protocols.described_tracks import track_of
from polycast.protocols.pull import PullError
from polycast.wire.rtsp.control_url import presentation_urls, track_url
from polycast.wire.rtsp.headers.key_mgmt import read_attribute
from polycast.wire.rtsp.headers.rtp_info import parse_rtp_info
from polycast.wire.rtsp.message import Response
from polycast.wire.rtsp.url import RtspUrl
from polycast.wire.sdp import parse_sdp


@dataclass(frozen=True, slots=True)
class SourceTrack:
    """A track that is pulled."""

    track: Track
    control: str | None
    """Its ``a=control``, from which `SourceDescription.track_url` derives the URL for SETUP."""
    connection: str | None
    """Address of the ``c=`` line, for multicast; without time to live."""
    port: int
    """Port of the ``m=`` line, 0 if there is none."""
    is_secure: bool = False
    """Whether the server offers SRTP."""
    key: str | None = None
    """The MIKEY message in base64 with its key, which SETUP may give as well."""


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """The answer to DESCRIBE."""

    tracks: tuple[SourceTrack, ...]
    url: RtspUrl
    """The requested URL."""
    bases: tuple[str, ...]
    """Possible URLs of the presentation, for PLAY and TEARDOWN, the most likely first."""
    skipped: tuple[str, ...]
    """Why media are skipped, for the log."""

    @property
    def is_secure(self) -> bool:
        """Whether the server offers SRTP for all tracks."""
        return all(track.is_secure for track in self.tracks)

    def track_url(self, index: int, base: str) -> str:
        """Return the URL for SETUP of a track; ``base`` is the URL of the presentation."""
        return track_url(base, self.tracks[index].control, self.url)


def read_description(response: Response, url: RtspUrl) -> SourceDescription:
    """Parse the answer to DESCRIBE of ``url``. Raises PullError if there is nothing to pull."""
    try:
        description = parse_sdp(response.body)
    except RemoteProtocolError as error:
        raise PullError(f"invalid session description: {error}") from error
    headers = [*response.headers.get_all("Content-Base"), *response.headers.get_all("Content-Location")]
    bases = presentation_urls(headers, description.control, url)
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
                media.control,
                _address_of(media.connection or description.connection),
                media.port,
                media.protocol.upper().startswith("RTP/SAVP"),
                read_attribute(media.attribute("key-mgmt") or description.attribute("key-mgmt")),
            )
        )
    if not tracks:
        raise PullError("; ".join(["the session description has no usable track", *skipped]))
    return SourceDescription(tuple(tracks), url, tuple(bases), tuple(skipped))


def read_sync_point(response: Response, description: SourceDescription) -> dict[int, int]:
    """Return the RTP timestamps of the tracks at one sync point, by index, from the answer to PLAY.

    Empty unless the server gives them for at least two tracks.
    """
    try:
        entries = parse_rtp_info(",".join(response.headers.get_all("RTP-Info")))
    except RemoteProtocolError:
        return {}
    # The last part is enough: servers write the rest differently than in the session description.
    urls = [description.track_url(index, description.bases[0]) for index in range(len(description.tracks))]
    indexes = {_last_part(url): index for index, url in enumerate(urls)}
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


def _address_of(connection: str | None) -> str | None:
    words = (connection or "").split()
    return words[2].partition("/")[0] if len(words) >= 3 else None
