"""Recordings and files as arrays: from the disk, from a playback server, and by name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import EMBEDDED, np, settle

import polycast

SIZE = (64, 64)
RATE = 25
START = 1_790_000_000.0
"""When the first picture is taken, by the clock of its publisher."""
PICTURES = 75
TICK = timedelta(seconds=1 / 90_000)
"""In which the times of recorded pictures are counted."""


def shades(frames: Any) -> list[int]:
    """Return the numbers of pictures, which their brightness tells."""
    return [round((float(frame.image.mean()) - 17.2) / 3) for frame in frames]


@pytest.fixture(scope="module")
def record_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where three seconds of the path ``cam`` are recorded, in files of a second: pictures of rising brightness."""
    name = str(tmp_path_factory.mktemp("recordings") / "%path" / "%s-%f")
    entry = {
        "record": True,
        "recordDeleteAfter": "0s",
        "recordPath": name,
        "recordPartDuration": "200ms",
        "recordSegmentDuration": "1s",
    }
    settings = {**EMBEDDED, "paths": {"all": {**entry, "useAbsoluteTimestamp": True}}}
    with polycast.Server(settings) as server, server.publish("cam", size=SIZE, rate=RATE, key_interval=0.4) as video:
        for number in range(PICTURES):
            video.write(np.full((64, 64, 3), 20 + number * 3, np.uint8), time=START + number / RATE)
    return name


def numbers(first: int, last: int) -> list[int]:
    return list(range(first, last))


def test_periods(record_path: str) -> None:
    (period,) = polycast.recordings("cam", record_path).periods
    assert period.start == datetime.fromtimestamp(START, UTC)
    assert period.duration == pytest.approx(PICTURES / RATE, abs=0.05)
    assert polycast.recordings("other", record_path).periods == []


def test_a_period_has_exactly_its_frames_over_several_files(record_path: str) -> None:
    recordings = polycast.recordings("cam", record_path)
    assert len(list(Path(record_path).parents[1].glob("cam/*.mp4"))) >= 3
    frames = list(recordings.read())
    assert shades(frames) == numbers(0, PICTURES)
    assert [frame.time for frame in frames] == pytest.approx(
        [START + each / RATE for each in range(PICTURES)], abs=0.001
    )
    assert [frame.pts for frame in frames] == pytest.approx([each / RATE for each in range(PICTURES)], abs=0.001)
    middle = recordings.read(START + 13 / RATE, datetime.fromtimestamp(START + 60 / RATE, UTC))
    assert shades(middle) == numbers(13, 60), "it begins between two key frames"
    with pytest.raises(polycast.NotFound):
        recordings.read(START + 100)


def test_the_frames_of_a_file(record_path: str) -> None:
    first, second = sorted(Path(record_path).parents[1].glob("cam/*.mp4"))[:2]
    whole = shades(polycast.read(first))
    assert whole == numbers(0, len(whole))
    assert shades(polycast.read(str(second), start=0.2, end=0.6)) == numbers(len(whole) + 5, len(whole) + 15)
    moment = datetime.fromtimestamp(START + (len(whole) + 3) / RATE, UTC)
    (frame, *_) = polycast.read(second, start=moment)
    assert abs(frame.datetime - moment) <= TICK


def test_a_playback_server(record_path: str) -> None:
    settings = {
        **EMBEDDED,
        "playback": True,
        "playbackAddress": "127.0.0.1:0",
        "paths": {"all": {"recordPath": record_path, "recordDeleteAfter": "0s"}},
    }
    with polycast.Server(settings) as server:
        address = f"http://127.0.0.1:{server.ports['playbackAddress']}/?path="
        frames = list(polycast.read(f"{address}cam", start=START + 13 / RATE, end=START + 60 / RATE))
        assert shades(frames) == numbers(13, 60)
        assert frames[0].time == pytest.approx(START + 13 / RATE, abs=0.001)
        with pytest.raises(polycast.NotFound):
            list(polycast.read(f"{address}other", start=START))
        assert shades(server.recordings("cam").read(end=START + 3 / RATE)) == numbers(0, 3)
    with pytest.raises(polycast.ConnectionFailed):
        list(polycast.read(f"{address}cam", start=START))


def test_in_an_asyncio_program(record_path: str) -> None:
    async def read() -> list[Any]:
        return [frame async for frame in polycast.recordings("cam", record_path).read(end=START + 0.2)]

    assert shades(asyncio.run(read())) == numbers(0, 5)


async def test_closing_in_an_event_loop(record_path: str) -> None:
    async with polycast.recordings("cam", record_path).read() as frames:
        async for frame in frames:
            assert shades([frame]) == [0]
            break
    assert repr(frames) == "<RecordedFrames of video>"
    assert list(frames) == []


def test_closing_ends_the_iteration(record_path: str) -> None:
    with polycast.recordings("cam", record_path).read() as frames:
        next(frames)
    assert list(frames) == []


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (("clip.mp4",), {}, polycast.NotFound),
        (("clip.mp4",), {"decode": False}, ValueError),
        (("rtsp://127.0.0.1/cam",), {"start": 1.0}, ValueError),
        (("http://127.0.0.1/cam",), {"start": 1.0}, ValueError),
    ],
)
def test_wrong_arguments(arguments: Sequence[Any], options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        polycast.read(*arguments, **options)


def test_a_file_that_does_not_say_when_it_was_recorded(tmp_path: Path) -> None:
    with polycast.Server(EMBEDDED) as server, server.publish("cam", size=SIZE, rate=RATE) as video:
        frames = server.read("cam", timeout=30, history=5)
        video.write(np.zeros((64, 64, 3), np.uint8))
        next(frames)
        clip = frames.record(tmp_path / "clip.ts", before=5)
        settle(server)
        clip.close()
    assert all(frame.time is None for frame in polycast.read(tmp_path / "clip.ts"))
    with pytest.raises(ValueError, match="seconds from its beginning"):
        polycast.read(tmp_path / "clip.ts", start="2026-11-30T14:00:00Z")


def test_a_recording_begins_when_the_program_says_so(tmp_path: Path) -> None:
    entry = {"recordPath": str(tmp_path / "%path" / "%s-%f"), "recordBefore": "10s", "recordPartDuration": "200ms"}
    with polycast.Server({**EMBEDDED, "paths": {"cam": entry}}) as server:
        with server.publish("cam", size=SIZE, rate=RATE) as video:
            for number in range(5):
                video.write(np.full((64, 64, 3), 20 + number * 3, np.uint8))
            with server.record("cam"):
                video.write(np.full((64, 64, 3), 20 + 5 * 3, np.uint8))
                settle(server)
            video.write(np.full((64, 64, 3), 255, np.uint8))
        with pytest.raises(polycast.NotFound):
            server.record("other")
        recording = server.record("cam", duration=60)
    recording.stop()  # the server has done so
    assert shades(polycast.recordings("cam", entry["recordPath"]).read()) == numbers(0, 6)
