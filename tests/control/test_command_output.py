"""How the output of commands is taken apart."""

from __future__ import annotations

import pytest

from polycast.control.command_output import LINES_PER_SECOND, MAXIMUM_LINE, OutputLines
from polycast.control.commands import without_controls


def lines_of(data: bytes, step: int) -> list[str]:
    output = OutputLines()
    found = []
    for start in range(0, len(data), step):
        found += output.receive(data[start : start + step], 1.0)
    return found + output.end(1.0)


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\n\n \nb", ["a", "b"]),
        (b"frame=1\rframe=2\rend\n", ["frame=1", "end"]),
        (b"\xff\xc3\xa9", ["\\xff\u00e9"]),
        (b"rest\r", ["rest"]),
    ],
)
def test_lines(data: bytes, lines: list[str], step: int) -> None:
    assert lines_of(data, step) == lines


def test_long_lines_are_cut() -> None:
    text = "x" * (3 * MAXIMUM_LINE + 5)
    assert [len(line) for line in lines_of(text.encode(), 1000)] == [MAXIMUM_LINE] * 3 + [5]
    assert [len(line) for line in lines_of(text.encode() + b"\n", 10**6)] == [MAXIMUM_LINE] * 3 + [5]


def test_progress_is_shown_now_and_then() -> None:
    output = OutputLines()
    shown = [output.receive(b"frame=%d\r\0" % second, float(second)) for second in range(25)]
    assert [second for second, lines in enumerate(shown) if lines] == [0, 10, 20]


def test_more_than_enough_is_dropped_and_counted() -> None:
    output = OutputLines()
    assert len(output.receive(b"y\n" * 1000, 1.0)) == LINES_PER_SECOND
    assert output.receive(b"y\n" * 1000, 1.9) == []
    first, *others = output.receive(b"y\n" * 2, 2.0)
    assert first.startswith(f"({2000 - LINES_PER_SECOND} lines are missing here")
    assert others == ["y", "y"]
    output.receive(b"z\n" * 200, 2.1)
    assert output.end(2.2)[-1].startswith("(102 lines are missing here")
    assert output.last == "z"


def test_variables_have_no_control_characters() -> None:
    assert without_controls("a\n\0b\x1b[m\u2028\x85c\u00e9") == "ab[mc\u00e9"
