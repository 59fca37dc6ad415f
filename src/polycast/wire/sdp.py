"""Session descriptions (SDP, RFC 8866; in RTSP: RFC 2326 appendix C).

The parser accepts what cameras send: missing lines, wrong order, unknown lines, any line end, any charset, surrounding
spaces. It only refuses a description without any valid line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from polycast.errors import LocalProtocolError, RemoteProtocolError

SIZE_LIMIT: Final = 128 * 1024
"""Bytes of a description: the limit of the RTSP body that contains it."""
MEDIA_LIMIT: Final = 64
"""Media in one description; cameras send 1 to 4, multi-channel recorders up to 32."""
ATTRIBUTE_LIMIT: Final = 1000
"""Attributes in the whole description; about 10 per medium are usual."""
LINE_COUNT_LIMIT: Final = 4000
"""Lines, known or not, so that a body of line ends does not cost more than one of text."""
FORMAT_LIMIT: Final = 128
"""Formats of one medium: RTP has 128 payload types."""

DEFAULT_ORIGIN: Final = "- 0 0 IN IP4 127.0.0.1"
DEFAULT_NAME: Final = "-"
DEFAULT_TIMES: Final = ("0 0",)

_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_LINE_BREAKERS: Final = frozenset("\r\n\0")
# These belong to the session wherever they appear (RFC 8866 section 5 has them before the first medium).
_SESSION_ONLY: Final = frozenset("vosteuprz")
# The names of media types are not case-sensitive (RFC 6838 section 4.2), but usually written like this.
_LOWER_CASE_MEDIA: Final = frozenset(("video", "audio"))

Attribute = tuple[str, str | None]


def _first_value(attributes: tuple[Attribute, ...], name: str) -> str | None:
    for key, value in attributes:
        if key == name:
            return value
    return None


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """One ``m=`` line and what follows it (RFC 8866 section 5.14)."""

    media: str
    """``video``, ``audio``, ``application`` or another word; the first two always in lower case."""
    port: int = 0
    protocol: str = "RTP/AVP"
    formats: tuple[str, ...] = ()
    """The formats; for RTP the payload types, as text."""
    connection: str | None = None
    """Text of the ``c=`` line, such as ``IN IP4 224.1.0.0/127``."""
    bandwidth: tuple[str, ...] = ()
    """Texts of the ``b=`` lines, such as ``AS:2000``."""
    attributes: tuple[Attribute, ...] = ()
    """(name, value) of the ``a=`` lines; the value is None without a colon."""
    title: str | None = None
    """Text of the ``i=`` line."""

    def attribute(self, name: str) -> str | None:
        """Return the first value of the attribute; also None if it has no value."""
        return _first_value(self.attributes, name)

    def has_attribute(self, name: str) -> bool:
        """Return whether the attribute exists, with or without a value."""
        return any(key == name for key, _ in self.attributes)

    @property
    def control(self) -> str | None:
        """The control URL, absolute or relative (RFC 2326 appendix C.1.1)."""
        return self.attribute("control")

    def rtpmap(self, payload_type: int | str) -> str | None:
        """Return the encoding of a payload type, such as ``H264/90000`` (RFC 8866 section 6.6)."""
        return self.format_attributes("rtpmap").get(str(payload_type))

    def fmtp(self, payload_type: int | str) -> str | None:
        """Return the format parameters of a payload type as text (RFC 8866 section 6.15)."""
        return self.format_attributes("fmtp").get(str(payload_type))

    def format_attributes(self, name: str) -> dict[str, str]:
        """Return the first value of an attribute for each payload type that has one; all values of ``fmtp``, which some
        devices spread over several lines."""
        found: dict[str, str] = {}
        for key, value in self.attributes:
            if key == name and value is not None:
                number, _, rest = value.strip().replace("\t", " ", 1).partition(" ")
                if number in found and name == "fmtp":
                    found[number] = f"{found[number].rstrip('; ')}; {rest.strip()}"
                else:
                    found.setdefault(number, rest.strip())
        return found


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A whole description (RFC 8866 section 5). None means that a line is missing."""

    origin: str | None = None
    """Text of the ``o=`` line."""
    name: str | None = None
    """Text of the ``s=`` line."""
    connection: str | None = None
    """Text of the ``c=`` line."""
    times: tuple[str, ...] = ()
    """Texts of the ``t=`` lines."""
    attributes: tuple[Attribute, ...] = ()
    """The attributes before the first medium."""
    medias: tuple[MediaDescription, ...] = ()
    bandwidth: tuple[str, ...] = ()
    """Texts of the ``b=`` lines before the first medium."""
    information: str | None = None
    """Text of the ``i=`` line before the first medium."""

    def attribute(self, name: str) -> str | None:
        """Return the first value of the attribute; also None if it has no value."""
        return _first_value(self.attributes, name)

    def has_attribute(self, name: str) -> bool:
        """Return whether the attribute exists, with or without a value."""
        return any(key == name for key, _ in self.attributes)

    @property
    def control(self) -> str | None:
        """The control URL of the whole session (RFC 2326 appendix C.1.1)."""
        return self.attribute("control")

    def serialize(self) -> bytes:
        """Return the description in the order of RFC 8866; missing mandatory lines get defaults.

        Raises LocalProtocolError if a text contains a line break.
        """
        lines = ["v=0", f"o={self.origin or DEFAULT_ORIGIN}", f"s={self.name or DEFAULT_NAME}"]
        _add_common(lines, self.information, self.connection, self.bandwidth)
        lines += [f"t={text}" for text in self.times or DEFAULT_TIMES]
        _add_attributes(lines, self.attributes)
        for media in self.medias:
            lines.append(" ".join([f"m={media.media}", str(media.port), media.protocol, *media.formats]))
            _add_common(lines, media.title, media.connection, media.bandwidth)
            _add_attributes(lines, media.attributes)
        for line in lines:
            if not _LINE_BREAKERS.isdisjoint(line):
                raise LocalProtocolError(f"line break inside a session description: {line!r}")
        lines.append("")
        return "\r\n".join(lines).encode("utf-8", "replace")


def _add_common(lines: list[str], title: str | None, connection: str | None, bandwidth: tuple[str, ...]) -> None:
    if title is not None:
        lines.append(f"i={title}")
    if connection is not None:
        lines.append(f"c={connection}")
    lines += [f"b={text}" for text in bandwidth]


def _add_attributes(lines: list[str], attributes: tuple[Attribute, ...]) -> None:
    lines += [f"a={name}" if value is None else f"a={name}:{value}" for name, value in attributes]


@dataclass(slots=True)
class _Section:
    """The session or one medium while it is parsed."""

    head: str = ""
    title: str | None = None
    connection: str | None = None
    bandwidth: list[str] = field(default_factory=list)
    attributes: list[Attribute] = field(default_factory=list)


def parse_sdp(data: bytes) -> SessionDescription:
    """Read a description.

    Raises RemoteProtocolError (400) if no line is valid, a medium has no name, or a limit is exceeded.
    """
    if len(data) > SIZE_LIMIT:
        raise RemoteProtocolError(f"session description larger than {SIZE_LIMIT} bytes")
    lines = _LINE_END.split(_decode(data), LINE_COUNT_LIMIT + 1)
    if len(lines) > LINE_COUNT_LIMIT:
        raise RemoteProtocolError(f"session description with more than {LINE_COUNT_LIMIT} lines")
    session_texts: dict[str, list[str]] = {}
    sections = [_Section()]
    attribute_count = 0
    for line in lines:
        key, equals, text = line.partition("=")
        key = key.strip()
        text = text.strip()
        if not equals or len(key) != 1 or not key.isascii():
            continue
        if key == "m":
            sections.append(_Section(text))
            if len(sections) > MEDIA_LIMIT + 1:
                raise RemoteProtocolError(f"more than {MEDIA_LIMIT} media")
        elif key in _SESSION_ONLY:
            session_texts.setdefault(key, []).append(text)
        else:
            attribute_count += key == "a"
            if attribute_count > ATTRIBUTE_LIMIT:
                raise RemoteProtocolError(f"more than {ATTRIBUTE_LIMIT} attributes")
            _add_line(sections[-1], key, text)
    session = sections[0]
    if len(sections) == 1 and not session_texts and session == _Section():
        raise RemoteProtocolError("invalid session description")
    return SessionDescription(
        origin=_first(session_texts, "o"),
        name=_first(session_texts, "s"),
        connection=session.connection,
        times=tuple(session_texts.get("t", ())),
        attributes=tuple(session.attributes),
        medias=tuple(map(_parse_media, sections[1:])),
        bandwidth=tuple(session.bandwidth),
        information=session.title,
    )


def _decode(data: bytes) -> str:
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _first(texts: dict[str, list[str]], key: str) -> str | None:
    return texts[key][0] if texts.get(key) and texts[key][0] else None


def _add_line(section: _Section, key: str, text: str) -> None:
    match key:
        case "a":
            name, colon, value = text.partition(":")
            section.attributes.append((name.strip(), value.strip() if colon else None))
        case "b":
            section.bandwidth.append(text)
        case "c" if section.connection is None:
            section.connection = text
        case "i" if section.title is None:
            section.title = text
        case _:
            pass


def _parse_media(section: _Section) -> MediaDescription:
    words = section.head.split()
    if not words:
        raise RemoteProtocolError("medium without a name")
    if len(words) > FORMAT_LIMIT + 3:
        raise RemoteProtocolError(f"medium with more than {FORMAT_LIMIT} formats")
    media = words[0].lower()
    # "49170/2" announces two port pairs; RTSP negotiates ports in SETUP, so the number is only informative.
    port = words[1].partition("/")[0] if len(words) > 1 else "0"
    return MediaDescription(
        media=media if media in _LOWER_CASE_MEDIA else words[0],
        port=int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0,
        protocol=words[2] if len(words) > 2 else "RTP/AVP",
        formats=tuple(words[3:]),
        connection=section.connection,
        bandwidth=tuple(section.bandwidth),
        attributes=tuple(section.attributes),
        title=section.title,
    )
