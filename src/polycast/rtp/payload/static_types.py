"""Static RTP payload types (RFC 3551 section 6)."""

from __future__ import annotations

from typing import Final, NamedTuple


class StaticType(NamedTuple):
    """What a payload type means by itself."""

    encoding: str
    clock_rate: int
    channels: int | None


STATIC_TYPES: Final[dict[int, StaticType]] = {
    0: StaticType("PCMU", 8_000, 1),
    3: StaticType("GSM", 8_000, 1),
    4: StaticType("G723", 8_000, 1),
    5: StaticType("DVI4", 8_000, 1),
    6: StaticType("DVI4", 16_000, 1),
    7: StaticType("LPC", 8_000, 1),
    8: StaticType("PCMA", 8_000, 1),
    9: StaticType("G722", 8_000, 1),
    10: StaticType("L16", 44_100, 2),
    11: StaticType("L16", 44_100, 1),
    12: StaticType("QCELP", 8_000, 1),
    13: StaticType("CN", 8_000, 1),
    14: StaticType("MPA", 90_000, None),
    15: StaticType("G728", 8_000, 1),
    16: StaticType("DVI4", 11_025, 1),
    17: StaticType("DVI4", 22_050, 1),
    18: StaticType("G729", 8_000, 1),
    25: StaticType("CelB", 90_000, None),
    26: StaticType("JPEG", 90_000, None),
    28: StaticType("nv", 90_000, None),
    31: StaticType("H261", 90_000, None),
    32: StaticType("MPV", 90_000, None),
    33: StaticType("MP2T", 90_000, None),
    34: StaticType("H263", 90_000, None),
}
"""Tables 4 and 5."""
