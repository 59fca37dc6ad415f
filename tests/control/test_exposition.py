"""The text of metrics: numbers, escapes, titles, and how long the event loop is held."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.control.support import running_file

from polycast.control.metrics import exposition
from polycast.control.metrics.exposition import SLICE_SECONDS, Family, Group, Pauses, Row, Table, Writer, number

HITS = Family("hits_total", "Hits, by\nname \\ place.", True)
HEAT = Family("heat", "Heat.")
BYTES = Family("bytes", "Bytes.", True)


async def page(*tables: Table, is_openmetrics: bool = False) -> str:
    writer = Writer(Pauses(), is_openmetrics=is_openmetrics)
    for table in tables:
        await writer.write(table)
    return writer.end()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (True, "1"),
        (-1, "-1"),
        (12_345_678_901_234_567_890, "12345678901234567890"),
        (1.0, "1"),
        (0.5, "0.5"),
        (1.25e-07, "0.000000125"),
        (1e16, "10000000000000000"),
        (1_790_000_000.25, "1790000000.25"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


async def test_titles_and_order() -> None:
    rows: Sequence[Row] = [(("b", "x"), (1, 2.5)), (("a", "x"), (3, None))]
    text = await page(Table(("name", "city"), (Group("Places", (HITS,)), HEAT), rows))
    assert text == (
        "# Places\n"
        "# HELP hits_total Hits, by\\nname \\\\ place.\n"
        "# TYPE hits_total counter\n"
        'hits_total{city="x",name="b"} 1\n'
        'hits_total{city="x",name="a"} 3\n'
        "\n"
        "# HELP heat Heat.\n"
        "# TYPE heat gauge\n"
        'heat{city="x",name="b"} 2.5\n'
    )


async def test_openmetrics_has_no_titles_and_ends() -> None:
    table = Table((), (Group("Places", (HITS, BYTES)),), [((), (1, 2))])
    text = await page(table, is_openmetrics=True)
    families = {family.name: (family.type, family.samples[0].name) for family in parse_openmetrics(text)}
    assert families == {"hits": ("counter", "hits_total"), "bytes": ("unknown", "bytes")}
    assert "# Places" not in text


@pytest.mark.parametrize(
    "value", ['a"b', "back\\slash", "line\nbreak", "\\n", '"', "\\", "\u00e9\U0001f600", "{}=,", ""]
)
@pytest.mark.parametrize("is_openmetrics", [False, True])
async def test_labels_survive(value: str, is_openmetrics: bool) -> None:
    text = await page(Table(("name",), (HITS,), [((value,), (1,))]), is_openmetrics=is_openmetrics)
    parse = parse_openmetrics if is_openmetrics else text_string_to_metric_families
    (family,) = parse(text)
    assert family.samples[0].labels == {"name": value}
    assert family.documentation == "Hits, by\nname \\ place."


class Clock:
    """Each look at it takes half a slice."""

    def __init__(self) -> None:
        self.value = 0.0
        self.pauses = 0

    def __call__(self) -> float:
        self.value += SLICE_SECONDS / 2
        return self.value

    async def pause(self) -> None:
        self.pauses += 1


async def test_the_loop_does_other_work_in_between() -> None:
    clock = Clock()
    taken = 0
    most = 0
    since_pause = 0

    def rows() -> Iterator[Row]:
        nonlocal taken
        for index in range(5_000):
            taken += 1
            yield (str(index),), (index, index)

    async def pause() -> None:
        nonlocal most, since_pause
        most, since_pause = max(most, taken - since_pause), taken
        await clock.pause()

    writer = Writer(Pauses(clock=clock, pause=pause))
    await writer.write(Table(("name",), (HITS, HEAT), rows()))
    assert writer.end().count("\n") == 10_004
    assert most <= 2 * exposition.ROWS
    assert clock.pauses >= 5_000 / exposition.ROWS / 2


async def test_a_page_of_many_paths_comes_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With slices that are over at once, the loop turns again after every few paths."""
    file = tmp_path / "mediamtx.yml"
    paths = "".join(f"  cam{number}:\n" for number in range(1_000))
    file.write_text(
        "rtsp: no\nrtmp: no\nhls: no\nwebrtc: no\nsrt: no\nmoq: no\napi: yes\napiAddress: 127.0.0.1:0\n"
        f"metrics: yes\nmetricsAddress: 127.0.0.1:0\npaths:\n{paths}"
    )
    async with running_file(file) as server:
        monkeypatch.setattr(exposition, "SLICE_SECONDS", 0.0)
        turns = 0
        is_over = False

        async def count() -> None:
            nonlocal turns
            while not is_over:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        text = (await server.metrics.get("/metrics")).text
        is_over = True
        await counting
        assert text.count('\npaths{name="cam') == 1_000
        assert turns > 3 * 1_000 / exposition.ROWS
