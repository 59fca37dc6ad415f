"""Writes metrics in the text formats of Prometheus (0.0.4) and of OpenMetrics (1.0).

prometheus-client writes a sample in 10 µs, and the page of 5,000 paths in a second. Here, the labels of an item are
written once for all of its metrics, which takes a twentieth of that, and the event loop does other work in between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

# Seconds of writing before the loop does other work.
SLICE_SECONDS: Final = 0.002

# Rows, and lines, between two looks at the clock.
ROWS: Final = 20
LINES: Final = 1_000


class Family(NamedTuple):
    """A metric."""

    name: str
    """That of its samples."""
    meaning: str
    grows: bool = False
    """Whether it is a counter; else a gauge."""


Row = tuple[Sequence[str], Sequence[float | None]]
"""The values of the labels, and of each family of a table; None: the family has no sample with these labels."""


class Group(NamedTuple):
    """Families with a title."""

    title: str
    """Written before the families as a comment."""
    families: Sequence[Family]


class Table(NamedTuple):
    """Families whose samples have the same labels."""

    labels: Sequence[str]
    families: Sequence[Family | Group]
    rows: Iterable[Row]


class Page(NamedTuple):
    """What a dialect has on the page."""

    tables: Iterable[Table]
    is_whole: bool = True
    """Whether nothing is left out, so that what all dialects have follows."""


class Pauses:
    """Lets the event loop do other work when a slice is over."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, pause: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """``clock`` returns monotonic seconds; ``pause`` lets other work be done."""
        self._clock = clock
        self._pause = pause or _let_others_work
        self._until = clock() + SLICE_SECONDS

    async def check(self) -> None:
        """Pause if the slice is over."""
        if self._clock() >= self._until:
            await self._pause()
            self._until = self._clock() + SLICE_SECONDS


async def _let_others_work() -> None:
    await asyncio.sleep(0)


class Writer:
    """Writes one page."""

    def __init__(self, pauses: Pauses, *, is_openmetrics: bool = False) -> None:
        self._pauses = pauses
        self._is_openmetrics = is_openmetrics
        self._parts: list[str] = []

    async def write(self, table: Table) -> None:
        """Write the families of a table."""
        families = [family for part in table.families for family in _families_of(part)]
        # The names of labels are sorted, as in MediaMTX and in prometheus-client.
        order = sorted(range(len(table.labels)), key=table.labels.__getitem__)
        beginnings = [(index, f'{table.labels[index]}="') for index in order]
        labels: list[str] = []
        columns: list[list[float | None]] = [[] for _ in families]
        for names, values in table.rows:
            words = ",".join([f'{beginning}{_escape_label(names[index])}"' for index, beginning in beginnings])
            labels.append(f"{{{words}}}" if words else "")
            for column, value in zip(columns, values, strict=True):
                column.append(value)
            if not len(labels) % ROWS:
                await self._pauses.check()
        remaining = iter(columns)
        for part in table.families:
            title = part.title if isinstance(part, Group) and not self._is_openmetrics else ""
            if title:
                self._parts.append(f"# {title}\n")
            for family in _families_of(part):
                await self._write_family(family, labels, next(remaining))
            if title:
                self._parts.append("\n")

    async def _write_family(self, family: Family, labels: Sequence[str], column: Sequence[float | None]) -> None:
        parts = self._parts
        parts.append(self._head(family))
        for start in range(0, len(labels), LINES):
            end = start + LINES
            parts += [
                f"{family.name}{names} {number(value)}\n"
                for names, value in zip(labels[start:end], column[start:end], strict=True)
                if value is not None
            ]
            await self._pauses.check()

    def _head(self, family: Family) -> str:
        name, kind = family.name, "counter" if family.grows else "gauge"
        if family.grows and not name.endswith("_total"):
            # One of MediaMTX's. As the name of a counter it is invalid in OpenMetrics; prometheus-client would read it,
            # in either format, as that of another metric, with the suffix.
            kind = "unknown" if self._is_openmetrics else "untyped"
        elif family.grows and self._is_openmetrics:
            name = name.removesuffix("_total")
        return f"# HELP {name} {_escape(family.meaning)}\n# TYPE {name} {kind}\n"

    def add(self, text: str) -> None:
        """Add text in the same format."""
        self._parts.append(text)

    def end(self) -> str:
        """Return the page."""
        if self._is_openmetrics:
            self._parts.append("# EOF\n")
        return "".join(self._parts)


def _families_of(part: Family | Group) -> Sequence[Family]:
    return part.families if isinstance(part, Group) else (part,)


def number(value: float) -> str:
    """Return a number without exponent: scripts compare whole lines."""
    if isinstance(value, int):
        return str(int(value))
    text = repr(value)
    if text.endswith(".0"):
        return text[:-2]
    if "e" in text:
        return format(Decimal(text), "f")
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)


def _escape_label(value: str) -> str:
    if '"' in value or "\\" in value or "\n" in value:
        return _escape(value).replace('"', r"\"")
    return value


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
