"""Delivery directives: the query parameters of playlist requests (draft-pantos-hls-rfc8216bis section 6.2.5)."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple
from urllib.parse import parse_qsl

from polycast.wire.hls.resource import Refusal

MAXIMUM_FIELDS = 32
"""Query parameters that are parsed: three directives, and whatever else a link contains (tokens, names)."""
MAXIMUM_DIGITS = 15
"""Digits of a number; 10**15 segments of one second are 30 million years."""
MAXIMUM_SEQUENCE_LEAD = 2
"""How many segments after the last one a request may name (section 6.2.5.2)."""

_BAD_REQUEST = 400


class DeliveryDirectives(NamedTuple):
    """The delivery directives of a playlist request. A tuple, because it is hashed in a quarter of a dataclass's
    time."""

    sequence: int | None = None
    """``_HLS_msn``: wait until the playlist contains this segment."""
    part: int | None = None
    """``_HLS_part``: or this part of it, counted from 0."""
    skip: bool = False
    """``_HLS_skip``: a delta update is sufficient."""
    gaps: bool = False
    """Whether to pad a playlist that is too short for the player with gaps; not part of the query."""
    awaited: int | None = None
    """Media sequence number of the segment for which a request is held although it did not ask for that
    (`Muxer.next_due`)."""


NO_DIRECTIVES = DeliveryDirectives()


def parse_directives(query: str) -> DeliveryDirectives | Refusal:
    """Parse the query of a request, without the question mark; other parameters are ignored."""
    if "_HLS_" not in query:
        return NO_DIRECTIVES
    try:
        fields = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=MAXIMUM_FIELDS))
    except ValueError:
        return Refusal(_BAD_REQUEST, "the query has too many parameters")
    sequence, part = fields.get("_HLS_msn"), fields.get("_HLS_part")
    if sequence is None and part is not None:
        return Refusal(_BAD_REQUEST, "_HLS_part needs _HLS_msn")
    for text in (sequence, part):
        if text is not None and not (text.isascii() and text.isdigit() and len(text) <= MAXIMUM_DIGITS):
            return Refusal(_BAD_REQUEST, "a delivery directive is not a number")
    return DeliveryDirectives(
        None if sequence is None else int(sequence),
        None if part is None else int(part),
        fields.get("_HLS_skip") in ("YES", "v2"),
    )


def is_available(
    directives: DeliveryDirectives, next_sequence: int, last_parts: int, open_parts: int, part_target: float
) -> bool | Refusal:
    """Return whether the playlist contains what is requested, False if it will soon.

    ``next_sequence`` is the number of the incomplete segment, ``open_parts`` the number of its parts, and
    ``last_parts`` that of the previous segment. ``part_target`` is in seconds.
    """
    sequence = directives.sequence
    if sequence is None:
        return True
    if sequence >= next_sequence + MAXIMUM_SEQUENCE_LEAD:
        return Refusal(_BAD_REQUEST, "_HLS_msn is too far ahead")
    part = directives.part
    if part is None:
        return sequence < next_sequence
    # at most three parts ahead, or as many as three seconds contain if they are short
    lead = ceil(3 / part_target) if 0 < part_target < 1 else 3
    ahead = part - open_parts if sequence == next_sequence else part
    if sequence >= next_sequence and ahead > lead:
        return Refusal(_BAD_REQUEST, "_HLS_part is too far ahead")
    if sequence == next_sequence - 1 and part >= last_parts:
        # a part that the segment did not get in the end means the first one of the next segment
        return open_parts > 0
    return sequence < next_sequence or (sequence == next_sequence and part < open_parts)
