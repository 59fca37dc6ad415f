"""Writes profiles in pprof's format: gzip'ed ``profile.proto`` (github.com/google/pprof, proto/profile.proto).

It has its own small protocol-buffer writer, because no maintained library writes this format.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

_VARINT: Final = 0
_BYTES: Final = 2

COMPRESSION_LEVEL: Final = 5


@dataclass(frozen=True, slots=True)
class Frame:
    """One entry of a call stack."""

    function: str
    """Qualified name, including the module."""
    file: str
    line: int
    first_line: int = 0
    """Line at which the function begins; 0 if unknown."""


Stack = tuple[Frame, ...]
"""Innermost call first."""


@dataclass(frozen=True, slots=True)
class SampleType:
    """The meaning of a value of each sample, such as ``cpu`` in ``nanoseconds``."""

    name: str
    unit: str


@dataclass(slots=True)
class Profile:
    """Values by stack."""

    sample_types: Sequence[SampleType]
    samples: dict[Stack, list[int]] = field(default_factory=dict)
    labels: dict[Stack, Mapping[str, str]] = field(default_factory=dict)
    time_nanoseconds: int = 0
    """Unix time of the start."""
    duration_nanoseconds: int = 0
    period_type: SampleType | None = None
    period: int = 0
    default_sample_type: str = ""
    comments: Sequence[str] = ()

    def add(self, stack: Stack, values: Sequence[int]) -> None:
        """Add values to those of a stack."""
        known = self.samples.get(stack)
        if known is None:
            self.samples[stack] = list(values)
        else:
            for index, value in enumerate(values):
                known[index] += value

    def encode(self) -> bytes:
        """Return the profile in pprof's format."""
        return gzip.compress(_Encoder(self).encode(), COMPRESSION_LEVEL, mtime=0)


class _Encoder:
    """Numbers strings, functions and locations, and writes the messages. Field numbers are those of profile.proto."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._strings: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str], tuple[int, int]] = {}
        self._locations: dict[Frame, int] = {}

    def encode(self) -> bytes:
        profile = self._profile
        head = bytearray()
        for sample_type in profile.sample_types:
            head += _message(1, self._value_type(sample_type))
        for stack, values in profile.samples.items():
            head += _message(2, self._sample(stack, values))
        # One mapping, which declares that names are included, so that pprof does not look for a binary.
        mapping = _integer(1, 1) + _integer(5, self._string("python"))
        mapping += b"".join(_integer(number, 1) for number in (7, 8, 9))
        head += _message(3, mapping)
        for frame, number in self._locations.items():
            function = self._functions[frame.function, frame.file][0]
            line = _integer(1, function) + _integer(2, frame.line)
            head += _message(4, _integer(1, number) + _integer(2, 1) + _message(4, line))
        for (name, file), (number, first_line) in self._functions.items():
            names = _integer(2, self._string(name)) + _integer(3, self._string(name))
            head += _message(5, _integer(1, number) + names + _integer(4, self._string(file)) + _integer(5, first_line))
        tail = _integer(9, profile.time_nanoseconds) + _integer(10, profile.duration_nanoseconds)
        if profile.period_type is not None:
            tail += _message(11, self._value_type(profile.period_type)) + _integer(12, profile.period)
        for comment in profile.comments:
            tail += _integer(13, self._string(comment))
        if profile.default_sample_type:
            tail += _integer(14, self._string(profile.default_sample_type))
        table = b"".join(_message(6, text.encode("utf-8", "replace")) for text in self._strings)
        return bytes(head) + table + tail

    def _sample(self, stack: Stack, values: Sequence[int]) -> bytes:
        data = _packed(1, [self._location(frame) for frame in stack]) + _packed(2, values)
        for key, text in self._profile.labels.get(stack, {}).items():
            data += _message(3, _integer(1, self._string(key)) + _integer(2, self._string(text)))
        return data

    def _location(self, frame: Frame) -> int:
        number = self._locations.get(frame)
        if number is None:
            number = self._locations[frame] = len(self._locations) + 1
            key = (frame.function, frame.file)
            if key not in self._functions:
                self._functions[key] = (len(self._functions) + 1, frame.first_line)
        return number

    def _value_type(self, sample_type: SampleType) -> bytes:
        return _integer(1, self._string(sample_type.name)) + _integer(2, self._string(sample_type.unit))

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value) if value else b""


def _message(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _packed(number: int, values: Iterable[int]) -> bytes:
    return _message(number, b"".join(map(_varint, values)))
