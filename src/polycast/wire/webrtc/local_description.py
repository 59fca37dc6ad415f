"""The local offer or answer, serialised as SDP (RFC 8829 sections 5.2 and 5.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from polycast.wire.sdp import Attribute, MediaDescription, SessionDescription
from polycast.wire.webrtc.candidates import Candidate
from polycast.wire.webrtc.description import Format
from polycast.wire.webrtc.ice import Credentials

_PORT: Final = 9
"""The placeholder port of a medium with candidates (RFC 8829 section 5.2.1)."""
_PROTOCOL: Final = "UDP/TLS/RTP/SAVPF"
_ANY_ADDRESS: Final = "IN IP4 0.0.0.0"
_RETRANSMISSION_TIME: Final = 3000
"""Milliseconds for which packets are retransmitted, announced for RTX formats (RFC 4588 section 8.6)."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source that is sent in a medium."""

    ssrc: int
    stream: str
    """Name shared by media that are played in sync (RFC 8830)."""
    track: str
    retransmission_ssrc: int | None = None


@dataclass(frozen=True, slots=True)
class LocalMedia:
    """One local medium. One without formats is rejected."""

    kind: str
    mid: str
    direction: str
    formats: Sequence[Format] = ()
    extensions: Mapping[str, int] = field(default_factory=dict)
    """Identifiers by URI."""
    source: Source | None = None
    rejected_protocol: str = _PROTOCOL
    rejected_formats: Sequence[str] = ("0",)
    """The formats in the line of a rejected medium."""


@dataclass(frozen=True, slots=True)
class LocalDescription:
    """The local offer or answer."""

    session_id: int
    credentials: Credentials
    fingerprint: str
    """Fingerprint of the local certificate: ``sha-256 AB:CD:...``."""
    setup: str
    medias: Sequence[LocalMedia]
    candidates: Sequence[Candidate] = ()
    is_ice_lite: bool = True
    cname: str = "polycast"

    def serialize(self) -> bytes:
        """Return the SDP."""
        bundled = [media.mid for media in self.medias if media.formats]
        attributes: list[Attribute] = [("ice-lite", None)] if self.is_ice_lite else []
        attributes += [("group", " ".join(["BUNDLE", *bundled])), ("extmap-allow-mixed", None)]
        attributes.append(("msid-semantic", "WMS *"))
        return SessionDescription(
            origin=f"- {self.session_id} 1 IN IP4 0.0.0.0",
            attributes=tuple(attributes),
            medias=tuple(self._media(media, is_first=media.mid == next(iter(bundled), "")) for media in self.medias),
        ).serialize()

    def _media(self, media: LocalMedia, *, is_first: bool) -> MediaDescription:
        if not media.formats:
            return MediaDescription(
                media.kind,
                0,
                media.rejected_protocol,
                tuple(media.rejected_formats),
                _ANY_ADDRESS,
                attributes=(("mid", media.mid), ("inactive", None)),
            )
        attributes: list[Attribute] = [
            ("mid", media.mid),
            ("ice-ufrag", self.credentials.ufrag),
            ("ice-pwd", self.credentials.password),
            ("fingerprint", self.fingerprint),
            ("setup", self.setup),
            ("rtcp-mux", None),
            ("rtcp-rsize", None),
            (media.direction, None),
        ]
        attributes += [("extmap", f"{number} {uri}") for uri, number in media.extensions.items()]
        for item in media.formats:
            attributes += _format_attributes(item)
        if media.source is not None:
            attributes += self._source_attributes(media.source)
        if is_first:  # the others share its transport
            attributes += [("candidate", candidate.serialize()) for candidate in self.candidates]
            attributes.append(("end-of-candidates", None))
        numbers = [number for item in media.formats for number in (item.payload_type, item.retransmission)]
        formats = tuple(dict.fromkeys(str(number) for number in numbers if number is not None))
        return MediaDescription(media.kind, _PORT, _PROTOCOL, formats, _ANY_ADDRESS, attributes=tuple(attributes))

    def _source_attributes(self, source: Source) -> list[Attribute]:
        attributes: list[Attribute] = [("msid", f"{source.stream} {source.track}")]
        ssrcs = [source.ssrc]
        if source.retransmission_ssrc is not None:
            ssrcs.append(source.retransmission_ssrc)
            attributes.append(("ssrc-group", f"FID {source.ssrc} {source.retransmission_ssrc}"))
        for ssrc in ssrcs:
            attributes += [
                ("ssrc", f"{ssrc} cname:{self.cname}"),
                ("ssrc", f"{ssrc} msid:{source.stream} {source.track}"),
            ]
        return attributes


def _format_attributes(item: Format) -> list[Attribute]:
    channels = f"/{item.channels}" if item.channels is not None else ""
    number = item.payload_type
    attributes: list[Attribute] = [("rtpmap", f"{number} {item.encoding}/{item.clock_rate}{channels}")]
    if item.parameters:
        attributes.append(("fmtp", f"{number} {item.parameters}"))
    attributes += [("rtcp-fb", f"{number} {message}") for message in sorted(item.feedback)]
    if item.retransmission is not None:
        attributes += [
            ("rtpmap", f"{item.retransmission} rtx/{item.clock_rate}"),
            ("fmtp", f"{item.retransmission} apt={number};rtx-time={_RETRANSMISSION_TIME}"),
        ]
    return attributes
