"""What AMF0 and AMF3 have in common: the values and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

MAXIMUM_DEPTH = 16
"""Levels of nested objects and arrays. Real commands and metadata have three; the limit bounds the recursion."""

MAXIMUM_VALUES = 1_000
"""Values in one message, including AMF3 parts, but not keys and arrays of numbers: half a millisecond of work.
Metadata has about fifty; FLV files add an index of key frames, which is two long arrays of numbers."""

MAXIMUM_STRING_SIZE = 1 << 18
"""Bytes of one string. Whole commands have the same limit; real ones are far smaller."""


@dataclass(frozen=True, slots=True)
class Date:
    """A date: milliseconds since 1970-01-01 UTC. The time zone on the wire is reserved and ignored."""

    milliseconds: float


Value: TypeAlias = "bool | int | float | str | bytes | Date | list[Value] | dict[str, Value] | None"
