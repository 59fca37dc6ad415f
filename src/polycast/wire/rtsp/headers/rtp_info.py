"""The RTP-Info header (RFC 2326 section 12.33)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.headers.parameters import parse_number

ENTRY_LIMIT: Final = 64
"""Streams in one header: the limit of media in a session description."""

# URLs may contain commas and semicolons, so entries are separated by the words that start them.
_NEXT_ENTRY: Final = re.compile(r",\s*(?=url\s*=)", re.IGNORECASE)
_URL: Final = re.compile(r"^\s*url\s*=\s*", re.IGNORECASE)
_PARAMETER: Final = re.compile(r";\s*(seq|rtptime)\s*=\s*([^;,\s]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RTPInfo:
    """Where the RTP of one stream starts after PLAY. None stands for a missing or invalid value."""

    url: str
    seq: int | None = None
    """Sequence number of the first packet."""
    rtptime: int | None = None
    """RTP timestamp, in the stream's clock rate, of the start of the range played."""


def parse_rtp_info(value: str) -> list[RTPInfo]:
    """Parse the header; entries without a URL are ignored. Raises RemoteProtocolError (400) above ENTRY_LIMIT."""
    texts = _NEXT_ENTRY.split(value, ENTRY_LIMIT)
    if len(texts) > ENTRY_LIMIT:
        raise RemoteProtocolError(f"RTP-Info with more than {ENTRY_LIMIT} entries")
    entries = []
    for text in texts:
        beginning = _URL.match(text)
        if beginning is None:
            continue
        text = text[beginning.end() :]
        first = _PARAMETER.search(text)
        url = text[: first.start()] if first else text
        numbers = {name.lower(): number for name, number in _PARAMETER.findall(text)}
        entries.append(
            RTPInfo(
                url.strip(' "\t;,'),
                parse_number(numbers.get("seq", ""), 0xFFFF),
                parse_number(numbers.get("rtptime", ""), 0xFFFFFFFF),
            )
        )
    return entries


def serialize_rtp_info(entries: Iterable[RTPInfo]) -> str:
    """Return the header's text."""
    texts = []
    for entry in entries:
        text = f"url={entry.url}"
        if entry.seq is not None:
            text += f";seq={entry.seq}"
        if entry.rtptime is not None:
            text += f";rtptime={entry.rtptime}"
        texts.append(text)
    return ",".join(texts)
