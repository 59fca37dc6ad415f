"""Attribute lists and values of playlist tags (RFC 8216 section 4.2)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from polycast.errors import RemoteProtocolError
from polycast.media.timebase import WallTime

MAXIMUM_ATTRIBUTES = 64
"""Attributes of one tag; the specification defines at most about 20."""

Attributes: TypeAlias = dict[str, str]
"""Attribute values by name, without quotes."""

# Spaces are not allowed there, nor small letters and underscores in names. They are tolerated, because attributes of a
# server's own are to be ignored (section 6.3.1); spaces in a way that cannot make the match slow.
_ATTRIBUTE = re.compile(r'[ \t]{0,8}([A-Za-z0-9_-]{1,64})[ \t]{0,8}=(?:[ \t]{0,8}"([^"]*)"[ \t]{0,8}|([^",]*))(?:,|$)')
_CONTINUED = re.compile(r"[ \t]{0,8}([^\"=, \t][^\"=,]{0,255})(?:,|$)")
"""What belongs to the value before it, of a list that should be in quotes: ``CODECS=avc1.64001f,mp4a.40.2``."""
_INTEGER = re.compile(r"[0-9]{1,20}")
_DECIMAL = re.compile(r"[0-9]{1,15}(?:\.[0-9]{0,20})?|\.[0-9]{1,20}")
_RESOLUTION = re.compile(r"([0-9]{1,6})x([0-9]{1,6})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_attributes(text: str) -> Attributes:
    """Parse an attribute list. Raises RemoteProtocolError."""
    attributes: Attributes = {}
    unquoted = ""
    continuations = 0
    position = 0
    while position < len(text):
        match = _ATTRIBUTE.match(text, position)
        is_continued = match is None and unquoted and continuations < MAXIMUM_ATTRIBUTES
        if is_continued and (continued := _CONTINUED.match(text, position)) is not None:
            attributes[unquoted] += f",{continued.group(1)}"
            continuations += 1
            position = continued.end()
            continue
        if match is None or len(attributes) == MAXIMUM_ATTRIBUTES:
            raise RemoteProtocolError("an attribute list of a playlist is not valid")
        quoted = match.group(2)
        unquoted = match.group(1) if quoted is None else ""
        attributes[match.group(1)] = quoted if quoted is not None else match.group(3).strip()
        position = match.end()
    return attributes


def parse_integer(text: str) -> int:
    """Parse a decimal-integer. Raises RemoteProtocolError."""
    text = text.strip()
    if _INTEGER.fullmatch(text) is None:
        raise RemoteProtocolError("a number of a playlist is not valid")
    return int(text)


def parse_decimal(text: str) -> float:
    """Parse a decimal-floating-point. Raises RemoteProtocolError."""
    text = text.strip()
    if _DECIMAL.fullmatch(text) is None:
        raise RemoteProtocolError("a number of a playlist is not valid")
    return float(text)


def parse_resolution(text: str) -> tuple[int, int]:
    """Parse a decimal-resolution. Raises RemoteProtocolError."""
    match = _RESOLUTION.fullmatch(text)
    if match is None:
        raise RemoteProtocolError("a resolution of a playlist is not valid")
    return int(match.group(1)), int(match.group(2))


def parse_date(text: str) -> WallTime | None:
    """Parse an ISO 8601 date; None if it is not one, because a bad date should not make the playlist unusable."""
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return WallTime((moment - _EPOCH) // timedelta(microseconds=1) * 1000)
    except (ValueError, OverflowError):
        return None
