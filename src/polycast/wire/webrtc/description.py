"""Parser of a peer's offer or answer in SDP (RFC 8829, RFC 8843, RFC 9143)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.sdp import Attribute, MediaDescription, SessionDescription, parse_sdp
from polycast.wire.webrtc.candidates import MAXIMUM_CANDIDATES, Candidate, parse_candidate
from polycast.wire.webrtc.ice import Credentials

FINGERPRINT_HASHES: Final = ("sha-512", "sha-384", "sha-256")
"""Accepted certificate hashes, the best first (RFC 8122 section 5)."""

MAXIMUM_SOURCES: Final = 64
"""SSRCs per medium; three simulcast layers with RTX have six."""

MID_EXTENSION: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
TRANSPORT_SEQUENCE_EXTENSION: Final = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"

DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")

_UFRAG_SIZES: Final = range(4, 257)
_PASSWORD_SIZES: Final = range(22, 257)


@dataclass(frozen=True, slots=True)
class Format:
    """One RTP format of a medium: a codec with its parameters."""

    payload_type: int
    encoding: str
    """Encoding name of the rtpmap, as written there."""
    clock_rate: int
    channels: int | None = None
    parameters: str = ""
    """Text of the fmtp line."""
    feedback: frozenset[str] = frozenset()
    """RTCP feedback messages (RFC 4585 section 4.2), such as ``nack pli``."""
    retransmission: int | None = None
    """Payload type of the RTX packets for this format (RFC 4588), or None."""

    def parameter(self, name: str) -> str | None:
        """Return a parameter, or None. Names are case-insensitive."""
        for item in self.parameters.split(";"):
            key, _, value = item.partition("=")
            if key.strip().lower() == name:
                return value.strip()
        return None


@dataclass(frozen=True, slots=True)
class RemoteMedia:
    """One medium of a peer's description."""

    kind: str
    """``audio``, ``video`` or ``application``."""
    mid: str
    direction: str
    """One of `DIRECTIONS`, from the peer's point of view."""
    formats: tuple[Format, ...]
    """In the order of the peer's preference, without RTX, RED and forward error correction."""
    extensions: Mapping[str, int]
    """Header extensions: identifiers by URI (RFC 8285)."""
    ssrcs: tuple[int, ...]
    """SSRCs of media that the peer will send, if announced."""
    retransmission_ssrcs: Mapping[int, int]
    """SSRC of the RTX packets by that of the media (ssrc-group FID, RFC 4588 section 8.1)."""
    is_rejected: bool = False

    @property
    def sends(self) -> bool:
        """Whether the peer will send."""
        return self.direction in ("sendrecv", "sendonly")

    @property
    def receives(self) -> bool:
        """Whether the peer wants to receive."""
        return self.direction in ("sendrecv", "recvonly")


@dataclass(frozen=True, slots=True)
class RemoteDescription:
    """A peer's offer or answer."""

    credentials: Credentials
    fingerprint: tuple[str, bytes]
    """(hash, digest) of the peer's certificate."""
    setup: str
    """DTLS role: ``actpass``, ``active`` or ``passive`` (RFC 8842 section 5)."""
    medias: tuple[RemoteMedia, ...]
    bundled: frozenset[str]
    """The mids that share one transport."""
    candidates: tuple[Candidate, ...] = ()
    is_ice_lite: bool = False


def parse_description(data: bytes) -> RemoteDescription:
    """Parse an offer or an answer.

    Raises RemoteProtocolError if it is not SDP, or lacks what WebRTC requires: ICE credentials, a certificate
    fingerprint, BUNDLE and rtcp-mux.
    """
    sdp = parse_sdp(data)
    if not sdp.medias:
        raise RemoteProtocolError("the description has no media")
    direction = _direction(sdp.attributes, "sendrecv")
    medias = tuple(_parse_media(media, index, direction) for index, media in enumerate(sdp.medias))
    accepted = [index for index, media in enumerate(medias) if not media.is_rejected]
    first = sdp.medias[accepted[0]] if accepted else sdp.medias[0]
    bundled = _bundled(sdp)
    if sum(media.mid not in bundled for media in medias if not media.is_rejected) and len(accepted) > 1:
        raise RemoteProtocolError("the media do not share one transport (BUNDLE)")
    return RemoteDescription(
        credentials=_parse_credentials(sdp, first),
        fingerprint=_parse_fingerprint(sdp, first),
        setup=first.attribute("setup") or sdp.attribute("setup") or "actpass",
        medias=medias,
        bundled=bundled,
        candidates=_parse_candidates(sdp),
        is_ice_lite=sdp.has_attribute("ice-lite"),
    )


@dataclass(frozen=True, slots=True)
class TrickleFragment:
    """Candidates that follow a description, or the credentials of an ICE restart (RFC 8840, RFC 9725 section 4.4)."""

    credentials: Credentials | None
    candidates: tuple[Candidate, ...]


def parse_fragment(data: bytes) -> TrickleFragment:
    """Parse an ``application/trickle-ice-sdpfrag`` body. Raises RemoteProtocolError."""
    sdp = parse_sdp(data)
    first = sdp.medias[0] if sdp.medias else MediaDescription("")
    has_credentials = any(part.has_attribute("ice-ufrag") for part in (sdp, first))
    return TrickleFragment(_parse_credentials(sdp, first) if has_credentials else None, _parse_candidates(sdp))


def _parse_credentials(sdp: SessionDescription, media: MediaDescription) -> Credentials:
    ufrag = media.attribute("ice-ufrag") or sdp.attribute("ice-ufrag") or ""
    password = media.attribute("ice-pwd") or sdp.attribute("ice-pwd") or ""
    if len(ufrag) not in _UFRAG_SIZES or len(password) not in _PASSWORD_SIZES:
        raise RemoteProtocolError("the description has no valid ICE credentials (ice-ufrag, ice-pwd)")
    return Credentials(ufrag, password)


def _parse_fingerprint(sdp: SessionDescription, media: MediaDescription) -> tuple[str, bytes]:
    found: dict[str, bytes] = {}
    for name, value in (*media.attributes, *sdp.attributes):
        if name == "fingerprint" and value is not None:
            hash_name, _, digest = value.partition(" ")
            try:
                found.setdefault(hash_name.lower(), bytes.fromhex(digest.replace(":", " ")))
            except ValueError:
                raise RemoteProtocolError("invalid certificate fingerprint") from None
    for hash_name in FINGERPRINT_HASHES:
        if hash_name in found:
            return hash_name, found[hash_name]
    raise RemoteProtocolError("the description has no certificate fingerprint with an accepted hash (SHA-256)")


def _parse_candidates(sdp: SessionDescription) -> tuple[Candidate, ...]:
    candidates: list[Candidate] = []
    for attributes in (sdp.attributes, *(media.attributes for media in sdp.medias)):
        for name, value in attributes:
            if name == "candidate" and value and len(candidates) < MAXIMUM_CANDIDATES:
                try:
                    candidate = parse_candidate(value)
                except RemoteProtocolError:
                    continue  # an unknown kind of candidate: there are others
                if candidate not in candidates:
                    candidates.append(candidate)
    return tuple(candidates)


def _bundled(sdp: SessionDescription) -> frozenset[str]:
    mids: set[str] = set()
    for name, value in sdp.attributes:
        semantics, _, rest = (value or "").partition(" ")
        if name == "group" and semantics == "BUNDLE":
            mids.update(rest.split())
    return frozenset(mids)


def _direction(attributes: Sequence[Attribute], default: str) -> str:
    """Return the direction; the one of the session is the default of its media (RFC 8866 section 6.7)."""
    return next((name for name, _ in attributes if name in DIRECTIONS), default)


def _parse_media(media: MediaDescription, index: int, direction: str) -> RemoteMedia:
    # Port 0 rejects a medium, unless it only exists within the bundle (RFC 9143 section 6).
    is_rejected = media.port == 0 and not media.has_attribute("bundle-only")
    is_rtp = media.media in ("audio", "video")
    if is_rtp and not is_rejected and not media.has_attribute("rtcp-mux"):
        raise RemoteProtocolError("RTP and RTCP do not share one transport (rtcp-mux)")
    ssrcs, retransmission_ssrcs = _parse_sources(media)
    return RemoteMedia(
        kind=media.media,
        mid=media.attribute("mid") or str(index),
        direction=_direction(media.attributes, direction),
        formats=_parse_formats(media) if is_rtp else (),
        extensions=_parse_extensions(media),
        ssrcs=ssrcs,
        retransmission_ssrcs=retransmission_ssrcs,
        is_rejected=is_rejected,
    )


_NO_CODECS: Final = frozenset({"rtx", "red", "ulpfec", "flexfec-03", "telephone-event", "cn"})
"""Encodings that protect or accompany other ones."""


def _parse_formats(media: MediaDescription) -> tuple[Format, ...]:
    # Each kind of line is read once, and not for each format: a peer chooses the numbers of both.
    texts, parameters, feedback = media.format_attributes("rtpmap"), media.format_attributes("fmtp"), _feedback(media)
    maps = {number: value for number in media.formats if (value := _rtpmap(texts, number)) is not None}
    retransmissions: dict[int, int] = {}
    for number, (encoding, _, _) in maps.items():
        protected = Format(0, "", 0, parameters=parameters.get(number, "")).parameter("apt")
        if encoding.lower() == "rtx" and protected is not None and protected.isdecimal():
            retransmissions.setdefault(int(protected), int(number))
    formats: list[Format] = []
    for number, (encoding, clock_rate, channels) in maps.items():
        if encoding.lower() not in _NO_CODECS:
            formats.append(
                Format(
                    int(number),
                    encoding,
                    clock_rate,
                    channels,
                    parameters.get(number, ""),
                    feedback.get(number, feedback["*"]),
                    retransmissions.get(int(number)),
                )
            )
    return tuple(formats)


# RFC 3551 section 6: these do not need an rtpmap line.
_STATIC_FORMATS: Final = {"0": ("PCMU", 8000, None), "8": ("PCMA", 8000, None), "9": ("G722", 8000, None)}


def _rtpmap(texts: Mapping[str, str], number: str) -> tuple[str, int, int | None] | None:
    if not (number.isascii() and number.isdigit()) or int(number) > 127:
        return None
    text = texts.get(number)
    if text is None:
        return _STATIC_FORMATS.get(number)
    encoding, _, rest = text.partition("/")
    rate, _, channels = rest.partition("/")
    if not (rate.isascii() and rate.isdigit()) or not 0 < int(rate[:9]) <= 1_000_000:
        return None
    count = int(channels) if channels.isascii() and channels.isdigit() and len(channels) <= 3 else None
    return encoding.strip(), int(rate[:9]), count


def _feedback(media: MediaDescription) -> dict[str, frozenset[str]]:
    """Return the feedback messages by format; those of ``*`` are for all, so each of the others includes them."""
    messages: dict[str, set[str]] = {"*": set()}
    for name, value in media.attributes:
        if name == "rtcp-fb":
            target, _, message = (value or "").partition(" ")
            messages.setdefault(target, set()).add(" ".join(message.split()).lower())
    wanted = {*media.formats, "*"}
    return {target: frozenset(own | messages["*"]) for target, own in messages.items() if target in wanted}


def _parse_extensions(media: MediaDescription) -> dict[str, int]:
    extensions: dict[str, int] = {}
    for name, value in media.attributes:
        words = (value or "").split()
        if name == "extmap" and len(words) >= 2:
            number = words[0].partition("/")[0]
            if number.isascii() and number.isdigit() and len(number) <= 3 and 1 <= int(number) <= 14:
                extensions.setdefault(words[1], int(number))
    return extensions


def _parse_sources(media: MediaDescription) -> tuple[tuple[int, ...], dict[int, int]]:
    ssrcs: list[int] = []
    repairs: dict[int, int] = {}
    for name, value in media.attributes:
        words = (value or "").split()
        if name == "ssrc" and words:
            ssrc = _ssrc(words[0])
            if ssrc not in ssrcs:
                ssrcs.append(ssrc)
        elif name == "ssrc-group" and len(words) == 3 and words[0] == "FID":
            repairs[_ssrc(words[1])] = _ssrc(words[2])
        if len(ssrcs) > MAXIMUM_SOURCES or len(repairs) > MAXIMUM_SOURCES:
            raise RemoteProtocolError(f"a medium with more than {MAXIMUM_SOURCES} sources")
    repaired = set(repairs.values())
    return tuple(ssrc for ssrc in ssrcs if ssrc not in repaired), repairs


def _ssrc(word: str) -> int:
    if not (word.isascii() and word.isdigit()) or len(word) > 10 or int(word) > 0xFFFFFFFF:
        raise RemoteProtocolError("invalid SSRC")
    return int(word)
