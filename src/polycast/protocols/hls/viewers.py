"""Viewers who are known: each is authenticated once, not for each file that its player requests.

The session of a viewer is named by a cookie; for players that keep no cookies, by the query of each address in the
playlists. Both are those of MediaMTX.
"""

from __future__ import annotations

import re
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from polycast.hub.access_request import AccessRequest
from polycast.net.address import join_host_port
from polycast.net.http.file import IMMUTABLE
from polycast.protocols.hls.audience import MAXIMUM_VIEWERS, Visit, Visits
from polycast.wire.hls.resource import CONTENT_TYPE_PLAYLIST
from polycast.wire.http.message import Request
from polycast.wire.http.response import Response

COOKIE: Final = "hlsSession"
QUERY_FIELD: Final = "session"

COOKIE_CHECK: Final = "cookieCheck"
"""Cookie and field of the query that tell whether the player keeps cookies."""

# Characters of their queries and credentials together: with a token of 3 KiB, there is room for all.
MAXIMUM_SIZE: Final = 64 * 1024 * 1024

# Sent to the path of the stream only; also from pages of other sites, over HTTPS.
_ATTRIBUTES: Final = "; SameSite=None; Secure; Partitioned; HttpOnly"

CONDITIONS: Final = frozenset({b"range", b"if-range", b"if-none-match", b"accept-encoding"})
"""Headers of requests for a playlist that are ignored if a query is added to its addresses. FFmpeg asks for the range
of all bytes."""

_ADDRESS: Final = re.compile(rb'^([^#\r\n][^\r\n]*)|(URI="[^"\r\n]*)', re.MULTILINE)


class Viewer:
    """A viewer of a stream."""

    __slots__ = ("access", "is_trusted", "secret", "size", "used", "visit")

    def __init__(self, access: AccessRequest, now: float, user: str, port: int) -> None:
        address = join_host_port(access.address, port)
        self.visit = Visit(access.path, address, access.query, user, access.user_agent)
        self.secret = str(uuid.uuid4())
        self.access = access
        """What was allowed: asked again after a change of the settings."""
        self.size = len(access.query) + sum(map(len, access.credentials.plain())) + len(access.credentials.token)
        """Characters of the query and the credentials."""
        self.is_trusted = True
        """Whether the settings have not changed since."""
        self.used = now
        """When the last file was requested; monotonic seconds."""

    @property
    def id(self) -> str:
        """Its id in the API; the secret is not shown there."""
        return self.visit.id


class Viewers:
    """The known viewers of a server."""

    def __init__(self, visits: Visits) -> None:
        self._visits = visits
        self._viewers: OrderedDict[str, Viewer] = OrderedDict()
        """By secret, in the order of their last requests."""
        self._by_credentials: dict[tuple[object, ...], Viewer] = {}
        """Those who send credentials with each request."""
        self._size = 0
        """Characters of what they sent, over all viewers."""

    def __len__(self) -> int:
        return len(self._viewers)

    def add(self, access: AccessRequest, now: float, user: str = "", port: int = 0) -> Viewer:
        """Return a new viewer, who was authorised as ``user``; ``port`` is that of the client."""
        viewer = Viewer(access, now, user, port)
        self._viewers[viewer.secret] = viewer
        self._visits.add(viewer.visit)
        self._size += viewer.size
        key = _key(access)
        if key is not None:
            self._by_credentials[key] = viewer
        while len(self._viewers) > MAXIMUM_VIEWERS or self._size > MAXIMUM_SIZE:
            self.remove(next(iter(self._viewers.values())))
        return viewer

    def find(self, secrets: Sequence[str], path: str, address: str, now: float) -> Viewer | None:
        """Return the viewer of a stream with one of these secrets, at this IP address."""
        for secret in secrets:
            viewer = self._viewers.get(secret)
            if viewer is not None and (viewer.access.path, viewer.access.address) == (path, address):
                self._touch(viewer, now)
                return viewer
        return None

    def find_same(self, access: AccessRequest, now: float) -> Viewer | None:
        """Return the viewer of the same stream with the same credentials, at the same IP address."""
        viewer = self._by_credentials.get(_key(access) or ())
        if viewer is not None:
            self._touch(viewer, now)
        return viewer

    def _touch(self, viewer: Viewer, now: float) -> None:
        viewer.used = now
        self._viewers.move_to_end(viewer.secret)

    def remove(self, viewer: Viewer) -> None:
        """Forget a viewer, who then has to authenticate again."""
        if self._viewers.pop(viewer.secret, None) is None:
            return
        self._size -= viewer.size
        self._visits.remove(viewer.visit)
        key = _key(viewer.access)
        if key is not None and self._by_credentials.get(key) is viewer:
            del self._by_credentials[key]

    def kick(self, viewer_id: str) -> bool:
        """Forget the viewer with this id; return whether there is one."""
        viewer = next((viewer for viewer in self._viewers.values() if viewer.id == viewer_id), None)
        if viewer is not None:
            self.remove(viewer)
        return viewer is not None

    def distrust(self) -> None:
        """The settings have changed: what each viewer was allowed must be asked again."""
        for viewer in self._viewers.values():
            viewer.is_trusted = False

    def forget_idle(self, now: float, patience: float) -> None:
        """Forget those who have not requested anything for so many seconds."""
        while self._viewers:
            viewer = next(iter(self._viewers.values()))
            if now - viewer.used < patience:
                break
            self.remove(viewer)


def _key(access: AccessRequest) -> tuple[object, ...] | None:
    """Return what identifies a viewer who sends credentials in the header of each request."""
    given = access.credentials
    return (access.path, access.address, given.plain(), given.token) if given.is_given else None


def cookies_of(request: Request) -> dict[str, str]:
    """Return the cookies of a request (RFC 6265 section 5.4)."""
    text = request.fields.get(b"cookie", b"").decode("latin-1")
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return {name: value for name, _, value in pairs}


def secrets_of(request: Request, query: str) -> tuple[str, ...]:
    """Return the secrets that may name the session of a request: of its query, of its cookie."""
    named = field_of(query, QUERY_FIELD)
    kept = cookies_of(request).get(COOKIE, "") if b"cookie" in request.fields else ""
    return tuple(filter(None, (named, kept)))


def field_of(query: str, name: str) -> str:
    """Return a field of a query; empty if it is missing."""
    return next((value for key, _, value in (part.partition("=") for part in query.split("&")) if key == name), "")


def plain_query(query: str) -> str:
    """Return a query without what is only meant for the server: the session, the check, delivery directives."""
    own = (QUERY_FIELD, COOKIE_CHECK)
    fields = [part for part in query.split("&") if part and part.partition("=")[0] not in own]
    return "&".join(part for part in fields if not part.startswith("_HLS_"))


def query_for(query: str, secret: str) -> str:
    """Return the query for the addresses in a playlist: that of the request, with the session."""
    return "&".join(filter(None, (plain_query(query), f"{QUERY_FIELD}={secret}")))


def cookie(name: str, value: str) -> tuple[bytes, bytes]:
    """Return a header that sets a cookie."""
    return b"set-cookie", f"{name}={value}{_ATTRIBUTES}".encode("latin-1", "replace")


def with_cookie(response: Response, secret: str) -> Response:
    """Return a response that also names the session in a cookie."""
    headers = [field for field in response.headers if field[0] != b"content-length"]
    return Response(response.status, [*headers, cookie(COOKIE, secret)], response.body)


def as_private(response: Response) -> Response:
    """Return a response that no shared cache stores, since a cookie is needed for it."""
    cached = (b"cache-control", IMMUTABLE.encode())
    if cached not in response.headers:
        return response
    headers = [field for field in response.headers if field != cached and field[0] != b"content-length"]
    return Response(response.status, [*headers, (b"cache-control", b"private, " + cached[1])], response.body)


def with_query(response: Response, query: str) -> Response:
    """Return a playlist with a query in each of its addresses; other responses as they are.

    The request must have been without `CONDITIONS`.
    """
    kept = dict(response.headers)
    if response.status != 200 or kept.get(b"content-type") != CONTENT_TYPE_PLAYLIST.encode():
        return response
    addition = b"?" + query.replace('"', "%22").encode("latin-1", "replace")
    body = _ADDRESS.sub(lambda match: match[0] + addition, bytes(response.body))
    dropped = (b"content-length", b"etag")
    return Response(response.status, [field for field in response.headers if field[0] not in dropped], body)
