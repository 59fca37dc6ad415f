"""Stream ids: what a caller wants, as a text in its handshake.

There are two forms: the one of the draft's appendix B, ``#!::r=path,m=publish``, and the shorter one of servers like
MediaMTX, ``publish:path:user:password:query``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from polycast.errors import RemoteProtocolError

_STANDARD: Final = "#!::"
_DEVICE_SUFFIX: Final = "#feedbackplay"
"""Some encoders append it to every stream id."""

_MODES: Final = {"request": False, "publish": True}
_ACTIONS: Final = {"read": False, "publish": True}

_FORMS: Final = (
    "stream ID must be 'action:pathname[:query]' or 'action:pathname:user:pass[:query]', where action is either read "
    "or publish, pathname is the path name, user and pass are the credentials, query is an optional token containing "
    "additional information"
)


@dataclass(frozen=True, slots=True)
class StreamId:
    """What a caller wants."""

    path: str
    publishes: bool
    user: str = ""
    password: str = ""
    query: str = ""
    """Without ``?``."""


def parse_stream_id(text: str) -> StreamId:
    """Return what a stream id says. Raises RemoteProtocolError."""
    if not text.isprintable():
        raise RemoteProtocolError("it has characters that cannot be printed")
    return _parse_standard(text[len(_STANDARD) :]) if text.startswith(_STANDARD) else _parse_short(text)


def _parse_standard(text: str) -> StreamId:
    values = {"m": "request"}
    for item in text.split(","):
        key, separator, value = item.partition("=")
        if separator:
            values[key.strip()] = value
        elif item.strip():  # some clients end the list with a comma
            raise RemoteProtocolError(f"invalid value '{item}'")
    publishes = _MODES.get(values["m"].strip())
    if publishes is None:
        raise RemoteProtocolError(f"unsupported mode '{values['m']}'")
    path, separator, query = values.get("r", "").partition("?")
    return StreamId(path.strip("/"), publishes, values.get("u", ""), values.get("s", ""), query)


def _parse_short(text: str) -> StreamId:
    action, *parts = text.removesuffix(_DEVICE_SUFFIX).split(":")
    publishes = _ACTIONS.get(action)
    if publishes is None or not 1 <= len(parts) <= 4:
        raise RemoteProtocolError(_FORMS)
    path, *rest = parts
    # Names have neither a question mark nor a slash at an end, but in URLs, from which many ids are copied, paths do.
    path, _, query = path.partition("?")
    path = path.strip("/")
    if query and len(rest) == 1:  # a colon within the query, as in ?token=a:b
        return StreamId(path, publishes, query=f"{query}:{rest[0]}")
    queries = [each for each in (query, *(rest if len(rest) < 2 else rest[2:])) if each]
    user, password = rest[:2] if len(rest) >= 2 else ("", "")
    return StreamId(path, publishes, user, password, "&".join(queries))
