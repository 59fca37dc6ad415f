"""RTMP addresses: the path, query and credentials of a client's request, and the parts of a server's URL."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from polycast.errors import LocalProtocolError, RemoteProtocolError

DEFAULT_PORT = 1935
"""For rtmp, and for rtmps unless the caller knows better."""

RTMPS_PORT = 443
"""For rtmps servers that streams are sent to; those of streaming services listen there."""

MAXIMUM_QUERY_FIELDS = 100
"""Fields of a query; stream keys have a handful."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a client wants to publish or play."""

    path: str
    """Application and stream name, without leading or trailing slashes."""
    query: str
    """The query as received, without the question mark."""
    user: str = ""
    password: str = ""


def parse_targets(app: str, name: str, tc_url: str = "") -> tuple[Target, ...]:
    """Return the possible meanings of a ``publish`` or ``play`` command, most likely first; nearly always there is only
    one.

    The path is the application and the stream name, each without slashes at its ends: librtmp keeps a trailing slash
    of the server's address. The query belongs to the name (``key?user=u&pass=p``). The credentials are its ``user`` and
    ``pass``, or the user information of the URL.

    A query after the application has two possible origins. Clients that are given one URL (FFmpeg, librtmp,
    RootEncoder) split it at a slash, even at one within the query: ``rtmp://h/cam?pass=ab/cd`` becomes the application
    ``cam?pass=ab`` and the name ``cd``. Encoders with separate fields for server and key (OBS) let users write it after
    the server. If both are possible, both are returned, the joined URL first.
    """
    app_path, _, app_query = app.partition("?")
    name_path, mark, query = name.partition("?")
    separate = _separate_target(app_path, app_query.rstrip("/"), name_path, query, tc_url)
    is_whole = not (app_query and name_path.strip("/")) or mark or app_query.endswith("&") or _is_login(app_query)
    if is_whole:
        return (separate,)
    user, password, _ = _split(tc_url)
    return _target(app_path.strip("/"), f"{app_query}/{name}", user, password), separate


def _separate_target(app_path: str, app_query: str, name_path: str, query: str, tc_url: str) -> Target:
    """Return the target if the query of the application is complete and the name belongs to the path."""
    path = "/".join(part for part in (app_path.strip("/"), name_path.strip("/")) if part)
    user, password, url_query = _split(tc_url)
    queries = [part for part in (query, app_query) if part] or [url_query]
    return _target(path, "&".join(queries), user, password)


def _target(path: str, query: str, user: str, password: str) -> Target:
    fields = _fields(query)
    return Target(path, query, fields.get("user", user), fields.get("pass", password))


def _is_login(query: str) -> bool:
    """Whether the query is that of Adobe's login, which always ends before the name."""
    return query.startswith("authmod=") or "&authmod=" in query


def _fields(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAXIMUM_QUERY_FIELDS)
    except ValueError:
        raise RemoteProtocolError(f"query with more than {MAXIMUM_QUERY_FIELDS} fields") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        fields.setdefault(name, value)
    return fields


def _split(text: str) -> tuple[str, str, str]:
    """Return user, password and query of a URL, each empty if absent."""
    try:
        url = urlsplit(text)
        user, password = url.username, url.password
    except ValueError:
        raise RemoteProtocolError("invalid tcUrl") from None
    return unquote(user or ""), unquote(password or ""), url.query


def check_tc_url(text: str) -> None:
    """Refuse a ``tcUrl`` without scheme and host."""
    try:
        url = urlsplit(text)
        valid = bool(url.scheme and url.netloc)
    except ValueError:
        valid = False
    if not valid:
        raise RemoteProtocolError(f"invalid tcUrl: {text[:200]!r}")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The parsed URL of a stream on an RTMP server."""

    secure: bool
    host: str
    port: int
    app: str
    stream: str
    """The stream name with the query, which includes the credentials as ``user`` and ``pass``."""
    tc_url: str
    user: str = field(default="", compare=False)
    password: str = field(default="", compare=False)
    stream_without_credentials: str = field(default="", compare=False)
    """The stream name for a server that has received the credentials in another way."""


def parse_url(text: str, *, secure_port: int = DEFAULT_PORT) -> ServerAddress:
    """Parse an ``rtmp://`` or ``rtmps://`` URL. Raises `LocalProtocolError` if it is not one.

    The path is split as in rtsp-simple-server: of one or two segments, the first is the application; of more, the first
    two. With a fragment (``#streamKey``, as in MediaMTX), the whole path is the application, and the fragment the
    stream. The query belongs to the stream. ``secure_port`` is the default port of ``rtmps``.
    """
    try:
        url = urlsplit(text)
        port = url.port or (secure_port if url.scheme == "rtmps" else DEFAULT_PORT)
    except ValueError:
        raise LocalProtocolError(f"'{text}' is not a valid RTMP URL") from None
    if url.scheme not in ("rtmp", "rtmps") or not url.hostname:
        raise LocalProtocolError(f"'{text}' is not a valid RTMP URL")
    app, stream = (url.path.strip("/"), url.fragment) if url.fragment else _split_path(url.path)
    query = url.query
    bare = f"{stream}?{query}" if query else stream
    if url.username or url.password:
        credentials = f"user={url.username or ''}&pass={url.password or ''}"
        query = f"{query}&{credentials}" if query else credentials
    if query:
        stream = f"{stream}?{query}"
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    tc_url = f"{url.scheme}://{host}:{port}/{app}"
    user, password = unquote(url.username or ""), unquote(url.password or "")
    return ServerAddress(url.scheme == "rtmps", url.hostname, port, app, stream, tc_url, user, password, bare)


def _split_path(path: str) -> tuple[str, str]:
    """Return the application and the stream of a path without a fragment after it."""
    segments = path.lstrip("/").split("/")
    split = 1 if len(segments) <= 2 else 2
    return "/".join(segments[:split]), "/".join(segments[split:])
