"""Recordings in API v3 and in the metrics."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.control.support import Server, running
from tests.protocols.hls.support import FramePublisher

from polycast.record.store import SegmentStore

TEMPLATE = "%path/%Y-%m-%d_%H-%M-%S-%f"
FIRST, SECOND = "2024-01-14_16-33-17-123456", "2024-01-14_16-43-17-000000"


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> object:
    """Let the server be in a time zone."""
    monkeypatch.setenv("TZ", "Europe/Rome")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def write(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / f"{name}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"media")


def settings(folder: Path) -> dict[str, dict[str, object]]:
    common = {"recordPath": f"{folder}/{TEMPLATE}", "recordDeleteAfter": "0s"}
    return {"cam": common, "~^floor/": common, "empty": common, "other": {**common, "recordFormat": "mpegts"}}


async def error_of(server: Server, method: str, path: str) -> tuple[int, str]:
    response = await server.api.request(method, path)
    assert response.json()["status"] == "error"
    return response.status_code, response.json()["error"]


@pytest.mark.parametrize(("microseconds", "shown"), [("500000", ".5"), ("123456", ".123456"), ("000000", "")])
async def test_times_have_no_trailing_zeros(tmp_path: Path, microseconds: str, shown: str) -> None:
    write(tmp_path, f"cam/{FIRST[:-6]}{microseconds}")
    async with running(paths=settings(tmp_path)) as server:
        assert (await server.get("/v3/recordings/get/cam"))["segments"] == [
            {"start": f"2024-01-14T16:33:17{shown}+01:00"}
        ]


async def test_recordings_are_listed_by_path(tmp_path: Path) -> None:
    write(tmp_path, f"cam/{SECOND}", f"cam/{FIRST}", f"floor/door/{FIRST}", f"stranger/{FIRST}", f"other/{FIRST}")
    async with running(paths=settings(tmp_path)) as server:
        cam = {
            "name": "cam",
            "segments": [{"start": "2024-01-14T16:33:17.123456+01:00"}, {"start": "2024-01-14T16:43:17+01:00"}],
        }
        door = {"name": "floor/door", "segments": cam["segments"][:1]}
        assert await server.get("/v3/recordings/list") == {"itemCount": 2, "pageCount": 1, "items": [cam, door]}
        page = await server.get("/v3/recordings/list?itemsPerPage=1&page=1")
        assert page == {"itemCount": 2, "pageCount": 2, "items": [door]}
        assert (await server.get("/v3/recordings/list?filter=name=cam"))["items"] == [cam]
        assert await server.get("/v3/recordings/get/cam") == cam
        assert await server.get("/v3/recordings/get/floor/door") == door
        assert await server.get("/v3/recordings/get/empty") == {"name": "empty", "segments": []}
        assert await error_of(server, "GET", "/v3/recordings/get/stranger") == (
            400,
            "path 'stranger' is not configured",
        )
        status, text = await error_of(server, "GET", "/v3/recordings/get/%2E%2E/x")
        assert (status, "invalid path name" in text or "not configured" in text) == (400, True)


@pytest.mark.parametrize("start", ["2024-01-14T16:33:17.123456+01:00", "2024-01-14T15:33:17.123456Z"])
async def test_a_segment_is_deleted(tmp_path: Path, start: str) -> None:
    write(tmp_path, f"cam/{FIRST}", f"cam/{SECOND}", f"floor/door/{FIRST}")
    async with running(paths=settings(tmp_path)) as server:
        query = f"/v3/recordings/deletesegment?path=cam&start={start.replace('+', '%2B')}"
        response = await server.api.delete(query)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
        assert [file.stem for file in tmp_path.rglob("*.mp4")] in ([SECOND, FIRST], [FIRST, SECOND])
        status, text = await error_of(server, "DELETE", query)
        assert (status, text) == (400, f"remove {tmp_path}/cam/{FIRST}.mp4: no such file or directory")
        for wrong in ("", "yesterday", "2024-01-14T16:33:17"):
            status, text = await error_of(server, "DELETE", f"/v3/recordings/deletesegment?path=cam&start={wrong}")
            assert status == 400
            assert text.startswith("invalid 'start' parameter: ")
        far = "9999-12-31T23:59:59.999999-23:59"
        assert (await error_of(server, "DELETE", f"/v3/recordings/deletesegment?path=cam&start={far}"))[0] == 400
        for name, expected in (("none", "not configured"), ("../cam", "invalid path name"), ("", "invalid path name")):
            query = f"/v3/recordings/deletesegment?path={name}&start=2024-01-14T15:33:17Z"
            status, text = await error_of(server, "DELETE", query)
            assert status == 400
            assert expected in text


async def test_what_is_recorded_now_is_in_the_list_and_in_the_metrics(tmp_path: Path) -> None:
    paths = {"cam": {"record": True, "recordPath": f"{tmp_path}/{TEMPLATE}"}}
    async with running(paths=paths) as server:
        publisher = FramePublisher(server.app.hub.path("cam"))
        publisher.play(3)
        await server.until(lambda: SegmentStore(f"{tmp_path}/{TEMPLATE}", "fmp4").segments("cam"))
        ((item,), (segment,)) = (
            (listed := (await server.get("/v3/recordings/list"))["items"]),
            listed[0]["segments"],
        )
        assert item["name"] == "cam"
        assert abs(datetime.now().astimezone() - datetime.fromisoformat(segment["start"])) < timedelta(minutes=1)
        (recording,) = server.app.recorder.recordings
        await server.until(lambda: recording.writer.queued == 0)
        text = (await server.metrics.get("/metrics")).text
        values = dict(re.findall(r"^(polycast_record\w+)\{[^}]*\} (\S+)$", text, re.MULTILINE))
        assert float(values["polycast_recording_segments_total"]) == 1
        assert float(values["polycast_recording_bytes_total"]) == sum(
            file.stat().st_size for file in tmp_path.rglob("*.mp4")
        )
        assert values["polycast_recording_queued_bytes"] == values["polycast_recording_dropped_frames_total"] == "0"
        assert float(values["polycast_recordings_free_bytes"]) > 0
        publisher.stop()


async def test_events_tell_about_files(tmp_path: Path) -> None:
    paths = {"cam": {"record": True, "recordPath": f"{tmp_path}/{TEMPLATE}"}}
    events: list[tuple[str, dict[str, object]]] = []
    async with running(paths=paths) as server:

        async def listen() -> None:
            async with server.http("api").stream("GET", "/v1/events") as response:
                name = ""
                async for line in response.aiter_lines():
                    if line.startswith("event: "):
                        name = line[7:]
                    elif line.startswith("data: "):
                        events.append((name, json.loads(line[6:])))

        listening = asyncio.create_task(listen())
        await server.until(lambda: server.app.control._events is not None and server.app.control._events._subscribers)
        publisher = FramePublisher(server.app.hub.path("cam"))
        publisher.play(3)
        publisher.stop()
        await server.until(lambda: "segment_completed" in dict(events))
        listening.cancel()
    (file,) = (str(name) for name in tmp_path.rglob("*.mp4"))
    assert dict(events)["segment_created"] == {"path": "cam", "file": file}
    completed = dict(events)["segment_completed"]
    assert completed == {"path": "cam", "file": file, "duration": pytest.approx(3, abs=0.03)}


async def test_a_recording_is_started_and_stopped(tmp_path: Path) -> None:
    async with running(paths={"cam": {"recordPath": f"{tmp_path}/{TEMPLATE}"}}) as server:
        for query in ("", "?duration=1h"):
            for change in (f"start/cam{query}", "stop/cam"):
                response = await server.api.request("POST", f"/v3/recordings/{change}")
                assert (response.status_code, response.json()) == (200, {"status": "ok"})
        assert (await error_of(server, "POST", "/v3/recordings/stop/cam"))[0] == 404
        assert (await error_of(server, "POST", "/v3/recordings/start/other"))[0] == 400
        assert (await error_of(server, "POST", "/v3/recordings/start/cam?duration=soon"))[0] == 400


async def test_the_files_of_a_period_are_deleted(tmp_path: Path) -> None:
    """A file ends where the next one begins, at the latest when it was last changed."""
    names = [f"2024-01-14_16-{minute}-00-000000" for minute in ("00", "10", "20", "30")]
    write(tmp_path, *(f"cam/{name}" for name in names))
    begins = datetime.fromisoformat("2024-01-14T16:00:00+01:00").timestamp()
    for name, end in zip(names, (5, 20, 30, 40), strict=True):
        os.utime(tmp_path / f"cam/{name}.mp4", (begins + end * 60, begins + end * 60))
    query = "/v3/recordings/deleteperiod?path=cam&start=2024-01-14T15:{}:00Z&end=2024-01-14T15:{}:00Z"
    async with running(paths=settings(tmp_path)) as server:
        for start, end, deleted in (("01", "19", 0), ("00", "06", 1), ("05", "35", 2), ("29", "39", 0)):
            response = await server.api.request("DELETE", query.format(start, end))
            assert response.json() == {"deleted": deleted}, (start, end)
        assert [file.stem for file in (tmp_path / "cam").iterdir()] == names[3:]
        assert (await error_of(server, "DELETE", query.format("30", "30")))[0] == 400
        assert (await error_of(server, "DELETE", "/v3/recordings/deleteperiod?path=cam&start=now&end=then"))[0] == 400
        assert (await error_of(server, "DELETE", "/v3/recordings/deleteperiod?path=stranger"))[0] == 400


async def test_a_file_that_is_written_is_not_deleted(tmp_path: Path) -> None:
    paths = {"cam": {**settings(tmp_path)["cam"], "record": True, "recordPartDuration": "100ms"}}
    async with running(paths=paths) as server:
        publisher = FramePublisher(server.app.hub.path("cam"))
        publisher.write(publisher.frames(2))
        await server.until(lambda: any(server.app.recorder.open_files))
        query = "/v3/recordings/deleteperiod?path=cam&start=2000-01-01T00:00:00Z&end=2100-01-01T00:00:00Z"
        assert (await server.api.request("DELETE", query)).json() == {"deleted": 0}
        publisher.stop()
        await server.until(lambda: not server.app.recorder.open_files)
        assert (await server.api.request("DELETE", query)).json() == {"deleted": 1}
