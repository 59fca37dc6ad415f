"""RTSP URLs (RFC 2326 section 3.2): their parts, and which path, query and track a request means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal
from urllib.parse import quote, unquote

from polycast.errors import RemoteProtocolError

DEFAULT_PORTS: Final = {"rtsp": 554, "rtsps": 322}
TUNNEL_PORTS: Final = {"rtsp": 80, "rtsps": 443}
"""The ports of HTTP, for servers that are reached through a tunnel."""

VLC_TEXT: Final = (
    "path of a SETUP request must end with a slash. This typically happens when VLC fails a request, "
    "and then switches to an unsupported RTSP dialect"
)

_LARGEST_PORT: Final = 0xFFFF
_SCHEMES: Final[dict[str, Literal["rtsp", "rtsps"]]] = {"rtsp": "rtsp", "rtsps": "rtsps"}
_TUNNELS: Final[dict[str, Literal["", "http", "ws"]]] = {"": "", "http": "http", "ws": "ws"}
# The last track in path or query; clients that rebuild the URL put the query after it.
_TRACK: Final = re.compile(r"(?P<before>.*)/trackID=(?P<number>[^/?&]*)/?(?P<query>\?.*)?", re.DOTALL)
_BLANK: Final = re.compile(r"[\x00-\x20\x7f]")
_TRACK_NUMBER: Final = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class RtspUrl:
    """The parts of an RTSP URL."""

    scheme: Literal["rtsp", "rtsps"]
    host: str
    """Name or address; an IPv6 address without its brackets."""
    port: int | None = None
    """None if not given; see :attr:`effective_port`."""
    path: str = ""
    """As sent, without the leading slash; percent-encoded. Everything up to the first ``?``."""
    query: str = ""
    """As sent, without the ``?``."""
    user: str | None = None
    """Percent-decoded; None without credentials."""
    password: str | None = None
    """Percent-decoded; None if there is no colon."""
    tunnel: Literal["", "http", "ws"] = ""
    """What the connection to the server is tunnelled through. Not part of the serialised URL: it is not for the server.
    """

    @classmethod
    def parse(cls, text: str) -> RtspUrl:
        """Parse an absolute RTSP URL. Raises RemoteProtocolError (400) if it is not one; neither is ``*``."""
        scheme_text, separator, rest = text.partition("://")
        scheme = _SCHEMES.get(scheme_text.lower())
        if scheme is None or not separator:
            raise RemoteProtocolError(f"invalid URL: {text[:200]!r}")
        end = min(position for position in (rest.find("/"), rest.find("?"), len(rest)) if position >= 0)
        userinfo, at, address = rest[:end].rpartition("@")
        user_text, colon, password_text = userinfo.partition(":")
        host, port = _parse_address(address, text)
        path, query = split_path_query(rest[end:].removeprefix("/"))
        return cls(
            scheme,
            host,
            port,
            path,
            query,
            unquote(user_text) if at else None,
            unquote(password_text) if at and colon else None,
        )

    @classmethod
    def parse_source(cls, text: str) -> RtspUrl:
        """Parse the URL of a server to connect to, whose scheme may name a tunnel: ``rtsp+http``, ``rtsps+ws``.

        Raises RemoteProtocolError (400).
        """
        scheme, separator, rest = text.partition("://")
        plain, _, tunnel_text = scheme.partition("+")
        tunnel = _TUNNELS.get(tunnel_text.lower())
        if tunnel is None:
            raise RemoteProtocolError(f"invalid URL: {text[:200]!r}")
        return replace(cls.parse(plain + separator + rest), tunnel=tunnel)

    @property
    def effective_port(self) -> int:
        """The port to connect to. If none is given: 554, or 322 for ``rtsps``; through a tunnel 80, or 443."""
        if self.port is not None:
            return self.port
        return (TUNNEL_PORTS if self.tunnel else DEFAULT_PORTS)[self.scheme]

    @property
    def path_and_query(self) -> str:
        """Path and query as given, without the leading slash."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def authority(self) -> str:
        """Host and port, as in the Host header; without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """Path and query as sent, with the leading slash."""
        return "/" + encode_blanks(self.path_and_query)

    def without_credentials(self) -> RtspUrl:
        """Return the URL as sent: user and password belong in the Authorization header."""
        return replace(self, user=None, password=None)

    def serialize(self) -> str:
        """Return the URL's text."""
        userinfo = ""
        if self.user is not None:
            password = "" if self.password is None else ":" + quote(self.password, safe="")
            userinfo = quote(self.user, safe="") + password + "@"
        return f"{self.scheme}://{userinfo}{self.authority}{self.target}"

    def __str__(self) -> str:
        return self.serialize()


def encode_blanks(text: str) -> str:
    """Percent-encode what would end a URL in a request line: spaces and control characters. Users and cameras write
    them.
    """
    return _BLANK.sub(lambda found: f"%{ord(found[0]):02X}", text)


def _parse_address(address: str, text: str) -> tuple[str, int | None]:
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise RemoteProtocolError(f"invalid URL: {text[:200]!r}")
        port_text = rest[1:]
    else:
        host, _, port_text = address.partition(":")
    if not host:
        raise RemoteProtocolError(f"URL without a host: {text[:200]!r}")
    if not port_text:
        return host, None
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and int(port_text) <= _LARGEST_PORT):
        raise RemoteProtocolError(f"invalid port in URL: {text[:200]!r}")
    return host, int(port_text)


def resolve_location(location: str, url: RtspUrl) -> RtspUrl:
    """Return the address that a redirection of ``url`` leads to (RFC 2326 section 11.2).

    A path alone refers to the same server. Raises RemoteProtocolError (400) if it is not an RTSP address.
    """
    if location.startswith("/") and not location.startswith("//"):
        path, query = split_path_query(location[1:])
        return replace(url.without_credentials(), path=path, query=query)
    return RtspUrl.parse(location)


def split_path_query(text: str) -> tuple[str, str]:
    """Split at the first question mark, which belongs to neither part."""
    path, _, query = text.partition("?")
    return path, query


def strip_one_trailing_slash(text: str) -> str:
    """Remove one trailing slash, if there is one."""
    return text.removesuffix("/")


def names_same_resource(signed: str, requested: str, method: str) -> bool:
    """Whether ``uri`` of Digest credentials means the resource of the request line (RFC 7616 section 3.4.6).

    Behind a NAT or a proxy a client may know another host name, scheme or port than we see; others sign the path alone,
    omit the query, or add a trailing slash. VLC (live555) signs SETUP with the URL of the whole presentation.
    """
    signed_path, signed_query, signed_track = _resource(signed)
    path, query, track = _resource(requested)
    same_query = signed_query == query or not (signed_query and query)
    same_track = signed_track == track or (signed_track is None and method == "SETUP")
    return signed_path == path and same_query and same_track


def _resource(text: str) -> tuple[str, str, str | None]:
    """Return (path, query, number of track) of a URL or of a path alone."""
    if "://" in text:
        rest = text.partition("://")[2]
        start = min(position for position in (rest.find("/"), rest.find("?"), len(rest)) if position >= 0)
        text = rest[start:]
    text = text.removeprefix("/")
    found = _TRACK.fullmatch(text)
    if found is not None:
        text = found["before"] + (found["query"] or "")
    return *_split_base(strip_one_trailing_slash(text)), found["number"] if found is not None else None


def strip_track_id(text: str) -> str:
    """Remove ``/trackID=N`` from the end of a URL, if it is there."""
    found = _TRACK.fullmatch(text)
    return found["before"] + (found["query"] or "") if found else text


def decode_path(path: str) -> str:
    """Percent-decode a path; an encoded slash stays encoded, since it is not a separator."""
    return "%2F".join(unquote(part) for part in re.split("%2F", path, flags=re.IGNORECASE))


def describe_path(url: RtspUrl) -> tuple[str, str]:
    """Return (path, query) of a DESCRIBE; one trailing slash of the path is ignored."""
    return decode_path(strip_one_trailing_slash(url.path)), url.query


def announce_path(url: RtspUrl) -> tuple[str, str]:
    """Return (path, query) that ANNOUNCE means. Raises RemoteProtocolError (400) for a slash at the end of the path,
    as rtsp-simple-server and MediaMTX do.
    """
    if url.path.endswith("/"):
        raise RemoteProtocolError("invalid path name: can't end with a slash")
    return decode_path(url.path), url.query


def control_path(url: RtspUrl) -> tuple[str, str]:
    """Return (path, query) that PLAY, RECORD, PAUSE, TEARDOWN or GET_PARAMETER means.

    Clients send the base URL, which ends in a slash after path or query, or the URL of one track.
    """
    return _split_base(strip_one_trailing_slash(strip_track_id(url.path_and_query)))


def setup_play_path(url: RtspUrl) -> tuple[str, str, int]:
    """Return (path, query, track number) that SETUP for reading means.

    The track is ``/trackID=N`` at the end, behind the path or behind the query. A URL without it must end in a slash
    and means track 0. Raises RemoteProtocolError (400) otherwise.
    """
    text = url.path_and_query
    found = _TRACK.fullmatch(text)
    if found is None:
        if not text.endswith("/"):
            raise RemoteProtocolError(VLC_TEXT)
        return *_split_base(strip_one_trailing_slash(text)), 0
    if not _TRACK_NUMBER.fullmatch(found["number"]):
        raise RemoteProtocolError(f"unable to parse track ID: {found['number'][:100]!r}")
    path, query = _split_base(found["before"] + (found["query"] or ""))
    return path, strip_one_trailing_slash(query), int(found["number"])


def _split_base(text: str) -> tuple[str, str]:
    """Return (path, query) of a base URL, from which the slash at its end is gone already."""
    path, query = split_path_query(text)
    # Before a query stands the slash that a client put between path and track.
    return decode_path(strip_one_trailing_slash(path) if query else path), query


def join_control(base: str, control: str | None) -> str:
    """Return the URL of a track: its ``a=control`` applied to the base URL (RFC 2326 appendix C.1.1).

    A relative control goes behind a slash at the very end, behind the query if there is one: what FFmpeg, GStreamer
    and VLC do, although RFC 3986 would have it replace the last segment.
    """
    if not control or control == "*":
        return base
    if control.partition("://")[0].lower() in _SCHEMES:
        return control
    if control.startswith("?") or base.endswith("/"):
        return base + control
    return f"{base}/{control.removeprefix('/')}"


def match_record_control(url: RtspUrl, base: RtspUrl, controls: Sequence[str | None]) -> int | None:
    """Return the index of the announced track that SETUP for recording means; None if it is none of them.

    ``base`` is the URL of ANNOUNCE and ``controls`` are the ``a=control`` values of its tracks. Scheme, host and
    credentials do not count: publishers behind NAT write their own idea of them into absolute controls.
    """
    wanted = strip_one_trailing_slash(url.path_and_query)
    for index, control in enumerate(controls):
        if wanted in _record_targets(base, control):
            return index
    return None


def check_record_controls(base: RtspUrl, controls: Sequence[str | None]) -> None:
    """Raise RemoteProtocolError (400) when an announced track has a control that is not below the URL of ANNOUNCE: no
    SETUP would find it.
    """
    path = strip_one_trailing_slash(base.path)
    for control in controls:
        if control is None or "://" not in control:
            continue  # relative to the URL of ANNOUNCE, and so below it
        targets = _record_targets(base, control)
        if not any(target == path or target.startswith((f"{path}/", f"{path}?")) for target in targets):
            raise RemoteProtocolError(f"invalid track control {control[:200]!r}: it is not below '{path}'")


def _record_targets(base: RtspUrl, control: str | None) -> set[str]:
    plain = replace(base, path=strip_one_trailing_slash(base.path), query=strip_one_trailing_slash(base.query))
    joined = join_control(plain.serialize(), control)
    try:
        targets = {strip_one_trailing_slash(RtspUrl.parse(joined).path_and_query)}
    except RemoteProtocolError:
        return set()
    if plain.query and control and joined != control:
        # Clients that resolve the URL by RFC 3986 keep the query at the end.
        targets.add(strip_one_trailing_slash(f"{plain.path}/{control}?{plain.query}"))
    return targets
