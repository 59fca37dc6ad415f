"""Reasons for refusing a request, as machine-readable problem details (RFC 9457).

The player page requests them and shows the reason as text; other clients get one line of text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Final
from urllib.parse import quote

import msgspec

from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import MEDIAMTX
from polycast.config.schema import Configuration
from polycast.hub.access_request import AccessRequest
from polycast.hub.errors import (
    AccessDenied,
    Denial,
    InvalidPathName,
    PathError,
    PathNotConfigured,
    RedirectedToNode,
    SourceTimedOut,
)
from polycast.hub.path import Path
from polycast.media.track import Track
from polycast.net.http.file import ResponseFactory
from polycast.protocols.hls.configuration import HlsConfiguration
from polycast.protocols.webrtc.configuration import WebRtcConfiguration
from polycast.security.addresses import parse_address
from polycast.wire.hls.muxer import select_tracks
from polycast.wire.hls.options import Variant
from polycast.wire.http.message import Header, Request
from polycast.wire.http.response import Response
from polycast.wire.webrtc.codecs import VIDEO_CODECS

REALM: Final = "rtsp-simple-server"
PROBLEM_TYPE: Final = b"application/problem+json"

# Codecs named in a response: a publisher chooses their number, and proxies refuse long headers.
MAXIMUM_NAMED_CODECS: Final = 8

# Seconds without a frame after which a publisher counts as sending nothing, rather than sending no key frames.
SILENCE: Final = 2.0


class Reason(StrEnum):
    """Values of the member ``reason``. The page has a text for each."""

    NO_PUBLISHER = "no-publisher"
    SOURCE_FAILED = "source-failed"
    SOURCE_CONNECTING = "source-connecting"
    SOURCE_TIMED_OUT = "source-timed-out"
    COMMAND_TIMED_OUT = "command-timed-out"
    NOT_CONFIGURED = "not-configured"
    UNSUPPORTED_CODECS = "unsupported-codecs"
    CREDENTIALS_REQUIRED = "credentials-required"
    CREDENTIALS_REFUSED = "credentials-refused"
    ADDRESS_REFUSED = "address-refused"
    EXTERNALLY_REFUSED = "externally-refused"
    HOST_REFUSED = "host-refused"
    NO_MEDIA = "no-media"
    NO_KEY_FRAMES = "no-key-frames"
    OTHER = "other"


LOGGED_REASONS: Final = frozenset(
    {Reason.NOT_CONFIGURED, Reason.UNSUPPORTED_CODECS, Reason.CREDENTIALS_REQUIRED, Reason.HOST_REFUSED}
)
"""What an operator can find out only from the log of this server."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A refusal: the members of RFC 9457 and additional ones. Times are durations, independent of the viewer's
    clock."""

    status: int
    detail: str
    """One line for people; also the body for clients that do not ask for problem details."""
    reason: Reason = Reason.OTHER
    error: str = ""
    """Why the source failed."""
    failed_for: float | None = None
    """Seconds since the source failed."""
    next_attempt_in: float | None = None
    """Seconds until the source is tried again."""
    timeout: float | None = None
    """Seconds that the server waited."""
    codecs: tuple[str, ...] = ()
    """The codecs that cannot be carried."""
    variant: str = ""
    """The ``hlsVariant`` in use."""
    target: str = ""
    """URL to which the client is redirected."""
    other_variants: tuple[str, ...] = ()
    """Values of ``hlsVariant`` that carry the codecs."""
    webrtc_port: int | None = None
    """Port of the server's WebRTC page, if it can show one of the codecs."""
    webrtc_is_encrypted: bool = False
    """Whether that page is served over HTTPS."""
    address: str = ""
    """The client's address as the server sees it."""


def path_problem(error: PathError, path: Path | None) -> Problem:
    """Return why the path cannot be read."""
    detail = str(error)
    if isinstance(error, RedirectedToNode):
        return Problem(status=307, detail=detail, target=error.target)
    if isinstance(error, PathNotConfigured | InvalidPathName):
        return Problem(status=404, detail=detail, reason=Reason.NOT_CONFIGURED)
    if path is None:
        return Problem(status=404, detail=detail, reason=Reason.NO_PUBLISHER)
    timed_out = isinstance(error, SourceTimedOut)
    configuration = path.configuration
    if timed_out and path.source is None and configuration.run_on_demand:
        timeout = float(configuration.run_on_demand_start_timeout)
        return Problem(status=404, detail=detail, reason=Reason.COMMAND_TIMED_OUT, timeout=timeout)
    failure = path.source_failure
    if failure is not None:
        now = time.time()
        next_attempt = failure.next_attempt
        return Problem(
            status=404,
            detail=detail,
            reason=Reason.SOURCE_FAILED,
            error=failure.error,
            failed_for=round(max(0.0, now - failure.since), 1),
            next_attempt_in=None if next_attempt is None else round(max(0.0, next_attempt - now), 1),
        )
    if timed_out:
        timeout = float(configuration.source_on_demand_start_timeout)
        return Problem(status=404, detail=detail, reason=Reason.SOURCE_TIMED_OUT, timeout=timeout)
    if path.source is not None:
        return Problem(status=404, detail=detail, reason=Reason.SOURCE_CONNECTING)
    return Problem(status=404, detail=detail, reason=Reason.NO_PUBLISHER)


def codec_problem(detail: str, tracks: Sequence[Track], configuration: Configuration) -> Problem:
    """Return that the variant carries none of the tracks, and which variants do."""
    variant = Variant(configuration[HlsConfiguration].hls_variant.value)
    webrtc = configuration[WebRtcConfiguration]
    is_on_webrtc = webrtc.webrtc and any(isinstance(track.codec, VIDEO_CODECS) for track in tracks)
    return Problem(
        status=404,
        detail=detail,
        reason=Reason.UNSUPPORTED_CODECS,
        codecs=tuple(dict.fromkeys(track.codec_name for track in tracks))[:MAXIMUM_NAMED_CODECS],
        variant=variant.value,
        other_variants=tuple(other.value for other in Variant if select_tracks(other, tracks)[0]),
        webrtc_port=parse_address(webrtc.webrtc_address)[1] if is_on_webrtc else None,
        webrtc_is_encrypted=is_on_webrtc and webrtc.webrtc_encryption,
    )


def access_problem(denied: AccessDenied, access: AccessRequest, *, has_credentials: bool) -> Problem:
    """Return why the client may not read."""
    if denied.denial is Denial.ADDRESS:
        return Problem(
            status=403,
            detail="this address may not read the stream",
            reason=Reason.ADDRESS_REFUSED,
            address=access.address,
        )
    if not has_credentials:
        return Problem(status=401, detail="authentication is needed", reason=Reason.CREDENTIALS_REQUIRED)
    is_external = denied.denial in (Denial.EXTERNAL, Denial.UNDECIDED)
    reason = Reason.EXTERNALLY_REFUSED if is_external else Reason.CREDENTIALS_REFUSED
    return Problem(status=401, detail="authentication is needed", reason=reason)


def host_problem(host: str, detail: str) -> Problem:
    """Return that a protected stream was requested with a host name that is not the server's; ``detail`` says so."""
    return Problem(
        status=403,
        detail=detail,
        reason=Reason.HOST_REFUSED,
        address=host,
    )


def stall_problem(status: int, detail: str, silence: float) -> Problem:
    """Return why a stream has stalled; ``silence`` is the time in seconds since the publisher's last frame."""
    return Problem(status=status, detail=detail, reason=Reason.NO_MEDIA if silence > SILENCE else Reason.NO_KEY_FRAMES)


def refuse(responses: ResponseFactory, request: Request, problem: Problem, dialect: Dialect) -> Response:
    """Return the response to a refused request: problem details for clients that accept them, otherwise one line of
    text, or the form of MediaMTX."""
    if problem.target:
        target = (b"location", problem.target.encode())
        return responses.empty(problem.status, [target, (b"cache-control", b"no-store")])
    headers = [(b"vary", b"accept"), *_challenge(problem, dialect)]
    if PROBLEM_TYPE in request.fields.get(b"accept", b""):
        return responses.document(problem.status, PROBLEM_TYPE, msgspec.json.encode(problem), headers)
    if dialect is not MEDIAMTX:
        return responses.text(problem.status, problem.detail, headers)
    status = 500 if problem.reason is Reason.NOT_CONFIGURED else problem.status
    text = "authentication error" if status == 401 else problem.detail
    body = msgspec.json.encode({"status": "error", "error": text})
    return responses.document(status, b"application/json; charset=utf-8", body, headers)


def refuse_page(
    responses: ResponseFactory, problem: Problem, page: bytes, headers: Sequence[Header], dialect: Dialect
) -> Response:
    """Return the response to a refused request for a page: the page itself, with the problem."""
    fields = [*headers, *_challenge(problem, dialect)]
    return responses.document(problem.status, b"text/html; charset=utf-8", page, fields)


def _challenge(problem: Problem, dialect: Dialect) -> list[Header]:
    """Return the header that asks for credentials. MediaMTX asks only those who have given none."""
    if problem.status != 401 or (dialect is MEDIAMTX and problem.reason is not Reason.CREDENTIALS_REQUIRED):
        return []
    return [(b"www-authenticate", f'Basic realm="{dialect.realm or REALM}"'.encode())]


def skipped_header(skipped: Sequence[Track]) -> list[Header]:
    """Return the header that lists the tracks that HLS does not carry; empty if there are none."""
    if not skipped:
        return []
    named = skipped[:MAXIMUM_NAMED_CODECS]
    names = ", ".join(f"{track.kind} {quote(track.codec_name, safe=' ')}" for track in named)
    return [(b"polycast-skipped-tracks", names.encode("ascii"))]
