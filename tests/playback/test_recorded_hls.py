"""Recordings as HLS: playlists of periods, and their media segments."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.playback.support import (
    AUDIO,
    OTHER_ENTRY,
    OTHER_STREAM,
    SECOND,
    VIDEO,
    Recorder,
    Sample,
    boxes,
    camera,
    fragment,
    head,
    playing,
    read_fragments,
)
from tests.playback.test_get import at, names


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


def tags(text: str, name: str) -> list[str]:
    """Return the values of all tags of a name."""
    return re.findall(rf"^#{name}:?(.*)$", text, re.MULTILINE)


def addresses(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


async def playlist_of(client: httpx2.AsyncClient, **query: Any) -> str:
    response = await client.get("/index.m3u8", params={"path": "cam", **query})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/vnd.apple.mpegurl"
    assert response.headers["cache-control"] == "no-cache"
    return response.text


async def samples_of(client: httpx2.AsyncClient, text: str) -> dict[int, list[Sample]]:
    """Return the samples of all media segments, in order."""
    body = b""
    for address in addresses(text):
        response = await client.get(f"/{address}")
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "video/mp4"
        body += response.content
    return read_fragments(body)


async def test_a_period_over_files(recorder: Recorder) -> None:
    for number in range(3):
        recorder.write(20 * number, 20, number)
    async with playing(recorder) as (_, client):
        text = await playlist_of(client, start=at(9), end=at(50))
        assert tags(text, "EXT-X-PLAYLIST-TYPE") == ["VOD"]
        assert tags(text, "EXT-X-ENDLIST") == [""]
        assert tags(text, "EXT-X-DISCONTINUITY") == []
        assert tags(text, "EXT-X-START") == ["TIME-OFFSET=3.000,PRECISE=YES"]
        assert tags(text, "EXT-X-PROGRAM-DATE-TIME") == [at(6)[:19] + "Z", at(20)[:19] + "Z", at(40)[:19] + "Z"]
        durations = [float(value.rstrip(",")) for value in tags(text, "EXTINF")]
        assert durations == [6, 6, 2, 6, 6, 6, 2, 6, 6]
        assert tags(text, "EXT-X-TARGETDURATION") == ["6"]
        assert len(tags(text, "EXT-X-MAP")) == 1
        init = re.search('URI="(.+)"', tags(text, "EXT-X-MAP")[0])
        assert init is not None
        response = await client.get(f"/{init[1]}")
        assert [kind for kind, _, _ in boxes(response.content)] == [b"ftyp", b"moov"]
        assert response.headers["cache-control"].startswith("private")
        samples = await samples_of(client, text)
        video, audio = samples[VIDEO], samples[AUDIO]
        assert names(video) == list(range(60, 520))
        assert [sample.time for sample in video] == [9000 * index for index in range(460)]
        assert names(audio) == list(range(300, 2600))
        assert [sample.time for sample in audio] == [960 * index for index in range(2300)]
        for address in addresses(text):
            first = read_fragments((await client.get(f"/{address}")).content)[VIDEO][0]
            assert first.key


async def test_gaps_are_skipped(recorder: Recorder) -> None:
    recorder.write(0, 8, 0)
    recorder.write(8, 8, 1)
    recorder.write(40, 8, 0, stream=OTHER_STREAM, video=OTHER_ENTRY)
    recorder.write(50, 8, 2, stream=OTHER_STREAM, video=OTHER_ENTRY)
    async with playing(recorder) as (_, client):
        text = await playlist_of(client, start=at(0), duration="100")
        assert len(tags(text, "EXT-X-DISCONTINUITY")) == 2
        assert len(tags(text, "EXT-X-MAP")) == 2
        before, middle, _ = text.split("#EXT-X-DISCONTINUITY\n")
        assert len(addresses(before)) == 4
        assert middle.startswith("#EXT-X-MAP")
        assert tags(middle, "EXT-X-PROGRAM-DATE-TIME") == [at(40)[:19] + "Z"]
        samples = await samples_of(client, text)
        assert [sample.time for sample in samples[VIDEO]] == [9000 * index for index in range(320)]
        assert names(samples[VIDEO]) == [*range(160), *range(400, 480), *range(500, 580)]
        assert tags(await playlist_of(client, start=at(20), end=at(41)), "EXT-X-PROGRAM-DATE-TIME") == [
            at(40)[:19] + "Z"
        ]


async def test_several_days_in_one_playlist(recorder: Recorder) -> None:
    for day in range(3):
        recorder.write(86_400 * day, 60, day)
    async with playing(recorder) as (_, client):
        text = await playlist_of(client, start=at(0), duration="72h")
    assert [value[:10] for value in tags(text, "EXT-X-PROGRAM-DATE-TIME")] == ["2023-11-14", "2023-11-15", "2023-11-16"]
    durations = [float(value.rstrip(",")) for value in tags(text, "EXTINF")]
    assert sum(durations) == 180
    assert durations[0] == 30  # so that the playlist is not too large


async def test_a_recording_that_grows(recorder: Recorder) -> None:
    start = int(time.time()) - 20
    file = recorder.folder / f"{start}-000000.mp4"
    seconds = camera(60)
    file.write_bytes(head() + b"".join(fragment(number, seconds[number]) for number in range(15)))
    query = {"start": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start))}
    async with playing(recorder) as (_, client):
        text = await playlist_of(client, **query)
        assert tags(text, "EXT-X-PLAYLIST-TYPE") == ["EVENT"]
        assert tags(text, "EXT-X-ENDLIST") == []
        assert [float(value.rstrip(",")) for value in tags(text, "EXTINF")] == [6, 6]
        with file.open("ab") as writer:
            writer.write(b"".join(fragment(number, seconds[number]) for number in range(15, 20)))
        longer = await playlist_of(client, **query)
        assert longer.startswith(text)
        assert [float(value.rstrip(",")) for value in tags(longer, "EXTINF")] == [6, 6, 6]
        assert names((await samples_of(client, longer))[VIDEO]) == list(range(180))
        # a period that has passed is whole, even if its file is still being written
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start + 19))
        whole = await playlist_of(client, **query, end=end)
        assert tags(whole, "EXT-X-ENDLIST") == [""]
        assert [float(value.rstrip(",")) for value in tags(whole, "EXTINF")] == [6, 6, 6, 2]


async def test_sound_alone(recorder: Recorder) -> None:
    parts = [[sample for sample in second if sample.track == AUDIO] for second in camera(20)]
    content = head(tracks=[AUDIO], duration=20_000) + b"".join(map(fragment, range(20), parts))
    recorder.name(0).write_bytes(content)
    async with playing(recorder) as (_, client):
        text = await playlist_of(client, start=at(7), duration="3")
        assert names((await samples_of(client, text))[AUDIO]) == list(range(300, 600))


async def test_damaged_files_are_left_out(recorder: Recorder) -> None:
    recorder.write(0, 8, 0)
    recorder.name(8).write_bytes(b"damaged")
    recorder.write(16, 8, 2)
    async with playing(recorder) as (_, client):
        text = await playlist_of(client, start=at(0), end=at(30))
        assert names((await samples_of(client, text))[VIDEO]) == [*range(80), *range(160, 240)]


async def test_credentials_in_the_query_are_those_of_segments(recorder: Recorder) -> None:
    recorder.write(0, 8, 0)
    async with playing(recorder) as (_, client):
        text = await playlist_of(client, start=at(0), end=at(30), token="a&b", jwt="c", other="d")
    assert all("token=a%26b&jwt=c&" in line and "other" not in line for line in addresses(text))
    assert "token=a%26b" in tags(text, "EXT-X-MAP")[0]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/index.m3u8?path=cam", 400),
        ("/index.m3u8?path=cam&start=2023-11-14T22:13:20Z&end=now", 400),
        ("/index.m3u8?path=cam&start=2023-11-14T22:13:20Z&duration=x", 400),
        ("/index.m3u8?path=cam&start=2023-11-14T22:14:20Z&duration=100", 404),
        ("/index.m3u8?path=cam&start=2023-11-14T22:13:00Z&duration=1", 404),
        ("/index.m3u8?path=other&start=2023-11-14T22:13:20Z", 404),
        ("/init.mp4?path=cam", 400),
        ("/init.mp4?path=cam&file=x", 400),
        ("/init.mp4?path=cam&file=1700000000000000001", 404),
        ("/segment.m4s?path=cam&file=1700000000000000000&from=0&to=1000000000", 400),
        ("/segment.m4s?path=cam&file=1700000000000000000&from=1000000000&to=0&time=0", 400),
        ("/segment.m4s?path=cam&file=1700000000000000000&from=-1&to=1&time=0", 400),
        ("/segment.m4s?path=cam&file=1700000000000000000&from=0&to=99999999999999999999&time=0", 400),
        ("/segment.m4s?path=cam&file=1700000000000000000&from=0&to=4000000000000000000&time=0", 400),
        ("/segment.m4s?path=cam&file=1700000000000000000&from=9000000000&to=10000000000&time=0", 404),
        ("/segment.m4s?path=cam&file=1700000001000000000&from=0&to=1000000000&time=0", 404),
        ("/segment.m4s?path=cam&file=1700000000000000000&from=0&to=1000000000&time=-4000000000000000000", 200),
    ],
)
async def test_wrong_parameters(recorder: Recorder, address: str, status: int) -> None:
    recorder.write(0, 8, 0)
    async with playing(recorder) as (_, client):
        assert (await client.get(address)).status_code == status


async def test_where_segments_begin_is_remembered(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder.write(0, 20, 0)
    recorder.write(20, 20, 1)
    async with playing(recorder) as (_, client):
        first = await playlist_of(client, start=at(0), end=at(40))

    def refuse(self: object) -> None:
        raise AssertionError

    monkeypatch.setattr("polycast.playback.fmp4_file.Fmp4File.key_times", refuse)
    async with playing(recorder) as (_, client):
        assert await playlist_of(client, start=at(0), end=at(40)) == first


def test_the_recordings_begin_when_the_tests_say() -> None:
    assert at(0) == "2023-11-14T22:13:20.000000Z"
    assert SECOND == 10**9
