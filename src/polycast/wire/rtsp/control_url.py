"""The URLs of a presentation and its tracks, derived from the answer to DESCRIBE (RFC 2326 appendix C.1.1).

Scheme, host and port are always those of the connection: cameras write the address of their internal network, or none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from polycast.wire.rtsp.url import RtspUrl, encode_blanks, join_control, split_path_query

_WRAPPERS: Final = " \t\"'<>"
# Some have the scheme twice (Content-Base: rtsp://rtsp://camera.lan:554/stream/), or no host.
_ADDRESS: Final = re.compile(r"(?:rtsps?://)+(?P<authority>[^/?]*)(?P<rest>.*)", re.IGNORECASE)
_NOT_IN_URLS: Final = re.compile(r"[\s\x00-\x1f\x7f]")


def presentation_urls(bases: Sequence[str], control: str | None, url: RtspUrl) -> list[str]:
    """Return the possible URLs of the presentation, the most likely first.

    ``bases`` are the values of Content-Base and Content-Location, ``control`` is the session's ``a=control`` and
    ``url`` the requested one. The last resort is always ``url`` itself: there are cameras that reject their own
    Content-Base.
    """
    found = [local for local in (_local(text, url) for text in bases) if local is not None]
    asked = url.without_credentials().serialize()
    base = found[0] if found else asked
    candidates = [track_url(base, control, url)] if control else [base]
    return list(dict.fromkeys((*candidates, base, asked)))


def track_url(base: str, control: str | None, url: RtspUrl) -> str:
    """Return the URL to set up a track with, given its ``a=control``."""
    control = (control or "").strip(_WRAPPERS)
    if _ADDRESS.match(control):
        return _local(control, url) or base
    path = RtspUrl.parse(base).path.strip("/")
    if path and f"{control}/".startswith(f"/{path}/"):
        # Not relative to the base but to the host (RFC 3986 section 5.2.2).
        return _local(control, url) or base
    return join_control(base, encode_blanks(control))


def _local(text: str, url: RtspUrl) -> str | None:
    """Return a URL or absolute path with scheme, host and port of ``url``; None if it is neither."""
    text = text.strip(_WRAPPERS)
    found = _ADDRESS.fullmatch(text)
    if found is not None:
        text = found["rest"] or "/" if found["authority"] else found["rest"]
    if not text.startswith(("/", "?")) or _NOT_IN_URLS.search(text):
        return None
    path, query = split_path_query(text.removeprefix("/"))
    return replace(url.without_credentials(), path=path, query=query).serialize()
