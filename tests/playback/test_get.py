"""Periods of recordings as files: /get."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.playback.support import (
    AUDIO,
    OTHER_ENTRY,
    OTHER_STREAM,
    SECOND,
    STREAM,
    VIDEO,
    Recorder,
    Sample,
    camera,
    movie,
    playing,
    read_fragments,
    read_indexed,
)
from tests.support.waiting import PATIENCE

from polycast.playback import application, downloads, output, recordings
from polycast.playback.index import RecordingIndex, Segment
from polycast.playback.output import Abandoned, indexed

NOTHING = {"status": "error", "error": "no recording segments found"}


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


def at(seconds: float) -> str:
    """Return the time this many seconds after the start of the recordings."""
    minute, second = divmod(20 + seconds, 60)
    return f"2023-11-14T22:{13 + int(minute)}:{second:09.6f}Z"


def names(samples: list[Sample]) -> list[int]:
    """Return the numbers of samples, and check that their bytes are complete."""
    found = []
    for sample in samples:
        text = sample.data.decode().split(";")
        assert text[-1] == ""
        assert len(set(text[:-1])) == 1
        found.append(int(text[0].rpartition("-")[2]))
    return found


async def test_a_period_begins_with_the_key_frame_before_it_without_duration(recorder: Recorder) -> None:
    recorder.write(0, 6, 0)
    async with playing(recorder) as (_, client):
        response = await client.get("/get", params={"path": "cam", "start": at(2.55), "duration": "2"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "video/mp4"
    assert response.headers["accept-ranges"] == "none"
    tracks = read_fragments(response.content)
    video, audio = tracks[VIDEO], tracks[AUDIO]
    assert names(video) == list(range(20, 46))
    assert [sample.key for sample in video] == [number in (20, 40) for number in range(20, 46)]
    lead, shown = video[:6], video[6:]
    assert {sample.duration for sample in lead} == {0}
    assert [sample.time for sample in shown] == [4500 + 9000 * index for index in range(20)]
    assert {sample.time for sample in lead} == {4500}
    assert names(audio) == list(range(128, 228))
    assert audio[0].time == 480  # 2.56 s is 10 ms after the start
    assert {sample.composition for sample in video} == {9000}


async def test_a_period_that_begins_at_a_key_frame_begins_with_it(recorder: Recorder) -> None:
    recorder.write(0, 6, 0)
    async with playing(recorder) as (_, client):
        response = await client.get("/get", params={"path": "cam", "start": at(2), "duration": "0.3"})
    tracks = read_fragments(response.content)
    assert names(tracks[VIDEO]) == [20, 21, 22]
    assert tracks[VIDEO][0].time == 0
    assert names(tracks[AUDIO]) == list(range(100, 115))


@pytest.mark.parametrize("is_placed", [True, False], ids=["mtxi", "no-mtxi"])
@pytest.mark.parametrize("form", ["fmp4", "mp4"])
async def test_a_period_continues_over_files(recorder: Recorder, is_placed: bool, form: str) -> None:
    for index in range(3):
        recorder.write(4 * index, 4, index if is_placed else None)
    query = {"path": "cam", "start": at(2), "duration": "8.5", "format": form}
    async with playing(recorder) as (_, client):
        body = (await client.get("/get", params=query)).content
    if form == "fmp4":
        video, audio = (read_fragments(body)[track] for track in (VIDEO, AUDIO))
    else:
        video, audio = (read_indexed(body)[track].samples for track in (VIDEO, AUDIO))
    assert names(video) == list(range(20, 105))
    assert names(audio) == list(range(100, 525))
    assert [sample.time for sample in video] == [9000 * index for index in range(85)]
    assert [sample.time for sample in audio] == [960 * index for index in range(425)]


async def test_the_timeline_of_a_recording_is_more_exact_than_the_clock(recorder: Recorder) -> None:
    recorder.write(0, 4, 0)
    place = (STREAM, 1, 4 * SECOND, 0)
    recorder.name(4.3).write_bytes(movie(camera(4, first=4), place=place, duration=4000))
    async with playing(recorder) as (_, client):
        body = (await client.get("/get", params={"path": "cam", "start": at(2), "duration": "4"})).content
    assert [sample.time for sample in read_fragments(body)[VIDEO]] == [9000 * index for index in range(40)]


@pytest.mark.parametrize("reason", ["number", "stream", "codec", "gap", "no place"])
async def test_a_period_ends_at_a_gap(recorder: Recorder, reason: str) -> None:
    recorder.write(0, 4, None if reason in ("gap", "codec") else 0)
    start = 6 if reason == "gap" else 4
    number = {"number": 2, "stream": 1}.get(reason)
    stream = OTHER_STREAM if reason == "stream" else STREAM
    options = {"video": OTHER_ENTRY} if reason == "codec" else {}
    recorder.write(start, 4, number, stream=stream, **options)
    async with playing(recorder) as (_, client):
        body = (await client.get("/get", params={"path": "cam", "start": at(1), "duration": "20"})).content
        assert names(read_fragments(body)[VIDEO])[-1] == 39
        listed = (await client.get("/list", params={"path": "cam"})).json()
    assert [entry["duration"] for entry in listed] == [4, 4]


@pytest.mark.parametrize("form", ["fmp4", "mp4"])
@pytest.mark.parametrize(
    ("start", "duration", "first", "last"),
    [(1, 40, 10, 259), (-5, 60, 0, 259), (5, 40, 100, 259), (2, 8.5, 20, 104), (11, 12.5, 110, 234)],
)
async def test_gaps_are_skipped_when_asked(
    recorder: Recorder, form: str, start: float, duration: float, first: int, last: int
) -> None:
    recorder.write(0, 4, 0)
    recorder.write(10, 4, 0, stream=OTHER_STREAM)
    recorder.write(14, 4, 1, stream=OTHER_STREAM)
    recorder.write(22, 4, 5, stream=OTHER_STREAM)
    recorder.write(30, 4, 6, stream=OTHER_STREAM, video=OTHER_ENTRY)
    query = {"path": "cam", "start": at(start), "duration": str(duration), "format": form, "gaps": "skip"}
    async with playing(recorder) as (_, client):
        body = (await client.get("/get", params=query)).content
    if form == "fmp4":
        video, audio = (read_fragments(body)[track] for track in (VIDEO, AUDIO))
    else:
        video, audio = (read_indexed(body)[track].samples for track in (VIDEO, AUDIO))
    recorded = [*range(40), *range(100, 180), *range(220, 260)]
    expected = [number for number in recorded if first <= number <= last]
    lead = names(video).index(expected[0])
    assert names(video)[lead:] == expected
    times = [sample.time for sample in video[lead:]]
    assert [time - times[0] for time in times] == [9000 * index for index in range(len(times))]
    times = [sample.time for sample in audio]
    assert [time - times[0] for time in times] == [960 * index for index in range(len(times))]


@pytest.mark.parametrize("form", ["fmp4", "mp4"])
@pytest.mark.parametrize(("start", "duration"), [(-10, 5), (4.5, 1), (20, 5), (3.95, 0.01), (1, 0), (1, -1)])
async def test_nothing_was_recorded(recorder: Recorder, start: float, duration: float, form: str) -> None:
    recorder.write(0, 4, 0)
    recorder.write(5, 4, 0, stream=OTHER_STREAM)
    query = {"path": "cam", "start": at(start), "duration": str(duration), "format": form}
    async with playing(recorder) as (_, client):
        response = await client.get("/get", params=query)
    assert response.status_code == 404
    assert response.json() == NOTHING


async def test_a_file_with_an_index_hides_what_precedes_its_start(recorder: Recorder) -> None:
    recorder.write(0, 6, 0)
    query = {"path": "cam", "start": at(2.55), "duration": "2", "format": "mp4"}
    async with playing(recorder) as (_, client):
        response = await client.get("/get", params=query)
    tracks = read_indexed(response.content)
    video, audio = tracks[VIDEO], tracks[AUDIO]
    assert names(video.samples) == list(range(20, 46))
    assert video.edits == [(2050, 49_500)]  # 0.55 s after the first sample; the last one ends 2.05 s after the start
    assert [sample.key for sample in video.samples] == [number in (20, 40) for number in range(20, 46)]
    assert {sample.composition for sample in video.samples} == {9000}
    assert names(audio.samples) == list(range(128, 228))
    assert audio.edits == [(10, -1), (2000, 0)]


async def test_parts_of_a_file_with_an_index(recorder: Recorder) -> None:
    for index in range(3):
        recorder.write(4 * index, 4, index)
    query = {"path": "cam", "start": at(1), "duration": "9", "format": "mp4"}
    async with playing(recorder) as (_, client):
        whole = await client.get("/get", params=query)
        size = len(whole.content)
        assert whole.headers["content-length"] == str(size)
        assert whole.headers["accept-ranges"] == "bytes"
        for text, first, last in (
            ("0-0", 0, 0),
            ("10-4000", 10, 4000),
            (f"{size // 2}-", size // 2, size - 1),
            ("-7", size - 7, size - 1),
            (f"{size - 5}-{size + 100}", size - 5, size - 1),
        ):
            response = await client.get("/get", params=query, headers={"Range": f"bytes={text}"})
            assert response.status_code == 206
            assert response.headers["content-range"] == f"bytes {first}-{last}/{size}"
            assert response.headers["content-length"] == str(last + 1 - first)
            assert response.content == whole.content[first : last + 1]
        response = await client.get("/get", params=query, headers={"Range": f"bytes={size}-"})
        assert response.status_code == 416
        assert response.headers["content-range"] == f"bytes */{size}"
        other = {"Range": "bytes=0-1", "If-Range": '"other"'}
        assert (await client.get("/get", params=query, headers=other)).content == whole.content
        same = {"Range": "bytes=0-1", "If-Range": whole.headers["etag"]}
        assert (await client.get("/get", params=query, headers=same)).status_code == 206
        response = await client.head("/get", params=query)
        assert (response.headers["content-length"], response.content) == (str(size), b"")


@pytest.mark.parametrize("target", ["/export", "/get?format=mp4"])
async def test_a_file_that_nobody_wants_any_more_is_not_made(
    recorder: Recorder, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.write(0, 4, 0)
    name, _, form = target.partition("?format=")
    query = {"path": "cam", "start": at(1), "duration": "2"} | ({"format": form} if form else {})
    begun, ended = threading.Event(), threading.Event()

    def make(files: Any, segments: Any, wanted: Any, is_abandoned: Callable[[], bool]) -> Any:
        begun.set()
        give_up = time.monotonic() + PATIENCE
        while not is_abandoned() and time.monotonic() < give_up:
            time.sleep(0.001)
        with pytest.raises(Abandoned):
            indexed(files, segments, wanted, is_abandoned)
        ended.set()
        raise Abandoned

    monkeypatch.setattr(application, "indexed", make)
    async with playing(recorder) as (server, client):
        request = asyncio.create_task(client.get(name, params=query))
        await server.until(begun.is_set)
        request.cancel()
        await server.until(ended.is_set)
        assert not any("ERROR" in line for line in server.log.lines)


@pytest.mark.parametrize(
    ("parameters", "status", "error"),
    [
        ({"path": ""}, 400, "invalid path name: cannot be empty ()"),
        ({"path": "../cam"}, 400, "invalid path name: can't contain dot path segments (../cam)"),
        ({"path": "other"}, 400, "path 'other' is not configured"),
        ({"start": "yesterday"}, 400, "invalid start: 'yesterday' is not a time"),
        ({"start": ""}, 400, "invalid start: '' is not a time"),
        # in UTC, the year is one that there is not
        ({"start": "0001-01-01T00:00:00+23:59"}, 400, "invalid start: '0001-01-01T00:00:00+23:59' is no valid time"),
        ({"start": "9999-12-31T23:59:59-23:59"}, 400, "invalid start: '9999-12-31T23:59:59-23:59' is no valid time"),
        ({"start": "2023-02-30T00:00:00Z"}, 400, "invalid start: '2023-02-30T00:00:00Z' is no valid time"),
        ({"duration": ""}, 400, "invalid duration: "),
        ({"duration": "1x"}, 400, "invalid duration: "),
        ({"duration": "nan"}, 400, "invalid duration: "),
        ({"format": "avi"}, 400, "invalid format: avi"),
        ({"gaps": "fill"}, 400, "invalid gaps: fill"),
    ],
)
async def test_wrong_parameters(recorder: Recorder, parameters: dict[str, str], status: int, error: str) -> None:
    recorder.write(0, 4, 0)
    query = {"path": "cam", "start": at(1), "duration": "2", **parameters}
    async with playing(recorder, paths={"cam": recorder.settings}) as (_, client):
        response = await client.get("/get", params=query)
    assert response.status_code == status
    assert response.json()["status"] == "error"
    assert response.json()["error"].startswith(error)


@pytest.mark.parametrize("duration", ["2", "2.0", "2s", "2000ms", "0h0m2s", "+2s"])
async def test_forms_of_durations(recorder: Recorder, duration: str) -> None:
    recorder.write(0, 4, 0)
    async with playing(recorder) as (_, client):
        body = (await client.get("/get", params={"path": "cam", "start": at(1), "duration": duration})).content
    assert names(read_fragments(body)[VIDEO])[-1] == 29


async def test_the_format_may_be_given(recorder: Recorder) -> None:
    recorder.write(0, 4, 0)
    query = {"path": "cam", "start": at(1), "duration": "1"}
    async with playing(recorder) as (_, client):
        default = await client.get("/get", params=query)
        explicit = await client.get("/get", params={**query, "format": "fmp4"})
    assert default.content == explicit.content


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_not_found(recorder: Recorder, method: str) -> None:
    async with playing(recorder) as (_, client):
        assert (await client.request(method, "/get")).status_code == 404
        assert (await client.get("/other")).status_code == 404


async def test_one_address_leaves_room_for_others(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MAXIMUM_OF_CLIENT", 2)
    monkeypatch.setattr(output, "BLOCK", 1)  # so that there are several blocks
    recorder.write(0, 6, 0)
    parameters = {"path": "cam", "start": at(0), "duration": "5"}
    held = threading.Event()
    read = output.fragmented

    def waiting(*arguments: Any) -> Iterator[bytes]:
        blocks = read(*arguments)
        yield next(blocks)
        held.wait(PATIENCE)
        yield from blocks

    monkeypatch.setattr(application, "fragmented", waiting)
    async with playing(recorder) as (_, client):
        async with client.stream("GET", "/get", params=parameters), client.stream("GET", "/get", params=parameters):
            response = await client.get("/get", params=parameters)
            assert (response.status_code, response.json()["error"]) == (503, "too many downloads of this address")
            held.set()
        response = await client.get("/get", params=parameters)
    assert response.status_code == 200


async def test_a_long_period_is_looked_up_in_parts(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "PAGE", 2, raising=False)
    for index in range(7):
        recorder.write(2 * index, 2, index)
    sizes = []
    look_up = RecordingIndex.segments

    def counting(*arguments: Any, **options: Any) -> list[Segment]:
        found = look_up(*arguments, **options)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(RecordingIndex, "segments", counting)
    async with playing(recorder) as (_, client):
        body = (await client.get("/get", params={"path": "cam", "start": at(3), "duration": "10.5"})).content
    video = read_fragments(body)[VIDEO]
    assert names(video) == list(range(20, 135))
    assert [sample.time for sample in video if sample.duration] == [9000 * index for index in range(105)]
    assert max(sizes) == 2


@pytest.mark.parametrize(
    "target", ["/list?path=cam", "/get?path=cam&format=mp4&duration=5&start=", "/export?path=cam&duration=5&start="]
)
async def test_one_address_cannot_have_many_whole_periods_looked_up(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(downloads, "MAXIMUM_LOOKUPS_OF_CLIENT", 1, raising=False)
    recorder.write(0, 6, 0)
    if target.endswith("="):
        target += at(0)
    held, begun = threading.Event(), threading.Event()
    ask = RecordingIndex._ask

    def waiting(*arguments: Any) -> list[Any]:
        begun.set()
        held.wait(2 * PATIENCE)
        return ask(*arguments)

    monkeypatch.setattr(RecordingIndex, "_ask", waiting)
    async with playing(recorder) as (_, client):
        first = asyncio.create_task(client.get(target))
        await asyncio.to_thread(begun.wait, PATIENCE)
        try:
            response = await client.get(target, timeout=PATIENCE)
        finally:
            held.set()
        assert response.status_code == 503
        assert response.json()["error"] == "too many requests for all of a period of this address"
        assert (await first).status_code == 200
        assert (await client.get(target)).status_code == 200


async def test_one_address_has_few_downloads_with_a_large_index(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "MAXIMUM_LARGE_OF_CLIENT", 0, raising=False)
    recorder.write(0, 6, 0)
    query = {"path": "cam", "start": at(0), "duration": "5", "format": "mp4"}
    async with playing(recorder) as (_, client):
        assert (await client.get("/get", params=query)).status_code == 200
        monkeypatch.setattr(application, "MAXIMUM_KEPT_HEAD", 100)
        response = await client.get("/get", params=query)
    assert (response.status_code, response.json()["error"]) == (
        503,
        "too many downloads of long periods of this address",
    )
