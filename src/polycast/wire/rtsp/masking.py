"""Masks the credentials in messages for the log."""

from __future__ import annotations

import re

from polycast.wire.rtsp.message import Request, Response

_SECRETS = re.compile(
    r"(?P<header>^(?:proxy-)?authorization:[ \t]*\w*)[^\r\n]*|(?P<url>\brtsps?(?:\+(?:http|ws))?://)[^/\s?]*@",
    re.IGNORECASE | re.MULTILINE,
)


def without_secrets(text: str) -> str:
    """Return a text with the credentials of Authorization headers and RTSP URLs replaced by asterisks."""
    return _SECRETS.sub(lambda found: f"{found['header']} ***" if found["header"] else f"{found['url']}***@", text)


def dump(message: Request | Response) -> str:
    """Return a message as shown in the debug log."""
    return without_secrets(message.serialize().decode(errors="replace").replace("\r\n", "\n"))
