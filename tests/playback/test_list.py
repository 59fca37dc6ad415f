"""What is recorded of a path: /list, and who may ask."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.playback.support import OTHER_STREAM, Recorder, playing
from tests.support.waiting import PATIENCE, until

from polycast.playback import application
from polycast.playback.requests import unreadable
from polycast.record.entries import Entries

NOTHING = {"status": "error", "error": "no recording segments found"}
REFUSED = {"status": "error", "error": "authentication error"}


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the server be in Berlin, one hour ahead in winter."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("zone")
async def test_a_list(recorder: Recorder) -> None:
    recorder.write(0.123456, 4, 0)
    recorder.write(4.123456, 4, 1)
    recorder.write(60, 2, 0, stream=OTHER_STREAM, duration=2500)
    async with playing(recorder) as (_, client):
        response = await client.get("/list", params={"path": "cam"}, headers={"Host": "localhost:1234"})
        assert response.headers["content-type"] == "application/json"
        first, second = response.json()
        assert first == {
            "start": "2023-11-14T23:13:20.123456+01:00",
            "duration": 8,
            "url": "http://localhost:1234/get?duration=8&path=cam&start=2023-11-14T23%3A13%3A20.123456%2B01%3A00",
        }
        assert (second["start"], second["duration"]) == ("2023-11-14T23:14:20+01:00", 2.5)
        assert parse_qs(urlsplit(second["url"]).query)["duration"] == ["2.5"]
        assert (await client.get("/get?" + urlsplit(second["url"]).query)).status_code == 200


@pytest.mark.parametrize("at_once", [1, 2, 3, 1000])
async def test_a_long_list_is_written_in_parts(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(application, "ENTRIES_AT_ONCE", at_once)
    for index in range(3):
        recorder.write(10 * index, 2, 0)
    async with playing(recorder) as (_, client):
        response = await client.get("/list", params={"path": "cam"})
    assert [entry["start"][17:19] for entry in response.json()] == ["20", "30", "40"]


@pytest.mark.parametrize("year", ["0001", "1600", "2200", "9999"])
@pytest.mark.parametrize("request_of", ["/list?path=cam&start={}", "/list?path=cam&end={}", "/get?path=cam&start={}"])
async def test_any_year(recorder: Recorder, year: str, request_of: str) -> None:
    recorder.write(0, 4, 0)
    async with playing(recorder) as (_, client):
        response = await client.get(request_of.format(f"{year}-01-01T00:00:00Z") + "&duration=9999999h")
        assert response.status_code in (200, 404)
        if response.status_code == 404:
            assert response.json() == NOTHING


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("start=2023-11-14T22:13:22.5Z", [("2023-11-14T22:13:22.5Z", 5.5), ("2023-11-14T23:14:20+01:00", 2)]),
        ("start=2023-11-14T22:13:20Z", [("2023-11-14T23:13:20+01:00", 8), ("2023-11-14T23:14:20+01:00", 2)]),
        ("start=2023-11-14T16:43:22-05:30", [("2023-11-14T16:43:22-05:30", 6), ("2023-11-14T23:14:20+01:00", 2)]),
        ("start=2023-11-14T22:13:40Z", [("2023-11-14T23:14:20+01:00", 2)]),
        ("start=2023-11-14T23:14:21%2B01:00", [("2023-11-14T23:14:21+01:00", 1)]),
        ("start=2023-11-14T23:14:21+01:00", [("2023-11-14T23:14:21+01:00", 1)]),  # the plus sign became a space
        ("end=2023-11-14T22:13:25Z", [("2023-11-14T23:13:20+01:00", 5)]),
        ("end=2023-11-14T22:13:50Z", [("2023-11-14T23:13:20+01:00", 8)]),
        ("start=2023-11-14T22:13:21Z&end=2023-11-14T22:13:21.000000001Z", [("2023-11-14T22:13:21Z", 1e-9)]),
    ],
)
async def test_parts_of_a_list(recorder: Recorder, query: str, expected: list[tuple[str, float]]) -> None:
    recorder.write(0, 4, 0)
    recorder.write(4, 4, 1)
    recorder.write(60, 2, 0, stream=OTHER_STREAM)
    async with playing(recorder) as (_, client):
        found = (await client.get(f"/list?path=cam&{query}")).json()
    assert [(entry["start"], entry["duration"]) for entry in found] == expected


@pytest.mark.parametrize("query", ["start=2023-11-14T22:13:24Z", "end=2023-11-14T22:13:19Z", "path=none"])
async def test_nothing_is_recorded(recorder: Recorder, query: str) -> None:
    recorder.write(0, 4, 0)
    async with playing(recorder) as (_, client):
        response = await client.get(f"/list?{query}&path=cam")
    assert (response.status_code, response.json()) == (404, NOTHING)


async def test_the_directory_may_be_missing(recorder: Recorder) -> None:
    recorder.record_path = str(recorder.root / "missing" / "%path" / "%s-%f")
    async with playing(recorder) as (_, client):
        response = await client.get("/list?path=cam")
    assert (response.status_code, response.json()) == (404, NOTHING)
    assert not (recorder.root / "missing").exists()


async def test_wrong_parameters(recorder: Recorder) -> None:
    async with playing(recorder, paths={"cam": recorder.settings}) as (_, client):
        for query, error in (
            ("", "invalid path name: cannot be empty ()"),
            ("path=/cam", "invalid path name: can't begin with a slash (/cam)"),
            ("path=cam&start=now", "invalid start: "),
            ("path=cam&end=now", "invalid end: "),
            ("path=other", "path 'other' is not configured"),
            ("&".join(f"f{number}=1" for number in range(200)) + "&path=cam", "Max number of fields exceeded"),
        ):
            response = await client.get(f"/list?{query}")
            assert response.status_code == 400, query
            assert response.json()["status"] == "error"
            assert response.json()["error"].startswith(error), query


async def test_recordings_of_expressions(recorder: Recorder) -> None:
    recorder.write(0, 4, 0)
    async with playing(recorder, paths={"~^c": recorder.settings}) as (_, client):
        assert len((await client.get("/list?path=cam")).json()) == 1
        assert (await client.get("/list?path=dam")).json()["error"] == "path 'dam' is not configured"


async def test_recorded_in_both_formats(recorder: Recorder) -> None:
    recorder.write(0, 4, 0)
    (recorder.folder / "notes.txt").write_text("no recording")
    recorder.name(0).rename(recorder.name(8))
    recorder.name(4, "ts").write_bytes(b"no transport stream" * 50)
    os.utime(recorder.name(4, "ts"), (1, 1))
    async with playing(recorder) as (server, client):
        assert len((await client.get("/list?path=cam")).json()) == 1
        assert server.log.find(r"WARNING .*\.ts cannot be played: it is no MPEG transport stream")


# Access

USERS: dict[str, Any] = {
    "authInternalUsers": [
        {"user": "any", "permissions": [{"action": "playback", "path": "open"}]},
        {"user": "u", "pass": "p", "permissions": [{"action": "playback", "path": "cam"}]},
        {"user": "reader", "pass": "p", "permissions": [{"action": "read"}]},
    ]
}
REQUESTS = [
    "/list?path=",
    "/get?start=2023-11-14T22:13:20Z&duration=1&path=",
    "/index.m3u8?start=2023-11-14T22:13:20Z&path=",
    "/init.mp4?file=1700000000000000000&path=",
    "/segment.m4s?file=1700000000000000000&from=0&to=1000000000&time=0&path=",
]


@pytest.mark.parametrize("request_of", REQUESTS, ids=lambda text: text.partition("?")[0])
async def test_recordings_need_permission_for_playback(recorder: Recorder, request_of: str) -> None:
    for path in ("cam", "open", "other"):
        Recorder(recorder.root, path).write(0, 4, 0)
    async with playing(recorder, **USERS) as (server, client):
        for path, user, status in (
            ("cam", None, 401),
            ("cam", ("u", "wrong"), 401),
            ("cam", ("reader", "p"), 401),
            ("cam", ("u", "p"), 200),
            ("other", ("u", "p"), 401),
            ("open", None, 200),
        ):
            response = await client.get(request_of + path, auth=user)
            assert response.status_code == status, (path, user)
            if status == 401:
                assert response.json() == REFUSED
                assert response.headers["www-authenticate"].startswith("Basic")
        assert (await client.get(request_of + "..", auth=None)).status_code == 400
        # many other fields do not hide the path from the check
        many = "&".join(f"f{number}=1" for number in range(99))
        assert (await client.get(f"{request_of}cam&{many}")).status_code in (400, 401)
        assert (await client.get(request_of.replace("?", f"?{many}&") + "cam")).status_code in (400, 401)
        assert not server.log.find("internal error")


async def test_the_users_of_readers_are_those_of_playback(recorder: Recorder) -> None:
    recorder.write(0, 4, 0)
    path = {**recorder.settings, "readUser": "u", "readPass": "p"}
    async with playing(recorder, paths={"cam": path}) as (_, client):
        assert (await client.get("/list?path=cam")).status_code == 401
        assert (await client.get("/list?path=cam", auth=("u", "p"))).status_code == 200
        foreign = {"Host": "evil.example"}
        assert (await client.get("/list?path=cam", auth=("u", "p"), headers=foreign)).status_code == 403


async def test_pages_of_other_sites(recorder: Recorder) -> None:
    recorder.write(0, 4, 0)
    page = {"Origin": "https://page.example"}
    asked = {**page, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    async with playing(recorder, playbackAllowOrigins=["https://*.example"], **USERS) as (_, client):
        response = await client.options("/list?path=cam", headers=asked)
        assert response.status_code == 204
        assert response.headers["access-control-allow-origin"] == "https://page.example"
        assert response.headers["access-control-allow-methods"] == "OPTIONS, GET"
        assert response.headers["access-control-allow-headers"] == "authorization"
        response = await client.get("/list?path=cam", headers=page, auth=("u", "p"))
        assert response.headers["access-control-allow-origin"] == "https://page.example"
        response = await client.get("/list?path=cam", headers={"Origin": "https://other"}, auth=("u", "p"))
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(("proxies", "scheme"), [([], "http"), (["127.0.0.1"], "https")])
async def test_addresses_behind_a_proxy(recorder: Recorder, proxies: list[str], scheme: str) -> None:
    recorder.write(0, 4, 0)
    headers = {"X-Forwarded-Proto": "https", "Host": "video.example"}
    async with playing(recorder, playbackTrustedProxies=proxies) as (_, client):
        entry = (await client.get("/list?path=cam", headers=headers)).json()[0]
    assert entry["url"].startswith(f"{scheme}://video.example/get?")


async def test_the_server_is_off_by_default(recorder: Recorder) -> None:
    async with playing(recorder, playback=False) as (server, _):
        assert "playback" not in server.app.control.services


async def test_the_server_is_switched_while_it_runs(recorder: Recorder) -> None:
    recorder.write(0, 4, 0)
    async with playing(recorder, api=True) as (server, client):
        for _ in range(2):
            assert (await client.get("/list?path=cam")).status_code == 200
            await server.changed("/v1/config/set", {"playback": False})
            assert "playback" not in server.app.control.services
            await server.changed("/v1/config/set", {"playback": True})


async def test_the_paths_that_have_recordings(tmp_path: Path) -> None:
    recorders = {name: Recorder(tmp_path, name) for name in ("cam", "yard/north", "yard", "hidden", "foreign.d")}
    for recorder in recorders.values():
        for number in range(3):
            recorder.write(4 * number, 4, number)
    Recorder(tmp_path, "empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("no recording")
    (tmp_path / "linked").symlink_to(tmp_path / "cam")
    settings = recorders["cam"].settings
    protected = {**settings, "readUser": "anna", "readPass": "secret"}
    paths = {"cam": settings, "hidden": protected, "~^(yard|linked|empty|other)": settings}
    async with playing(recorders["cam"], paths=paths) as (_, client):
        assert (await client.get("/paths")).json() == ["cam", "yard", "yard/north"]


async def test_whoever_asks_for_the_paths_meanwhile_gets_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path)
    recorder.write(0, 4)
    names, may_go_on = Entries.names, threading.Event()
    calls: list[Entries] = []

    def slow(entries: Entries) -> set[str]:
        calls.append(entries)
        may_go_on.wait(PATIENCE)
        return names(entries)

    monkeypatch.setattr(Entries, "names", slow)
    async with playing(recorder) as (server, client):
        asking = [asyncio.create_task(client.get("/paths")) for _ in range(9)]
        await until(lambda: calls, server.log.lines)
        response = await client.get("/list?path=cam")  # many threads that look at all directories would hold it up
        assert (response.status_code, len(calls)) == (200, 1)
        may_go_on.set()
        assert [(await each).json() for each in asking] == [["cam"]] * 9


async def test_paths_whose_files_are_in_one_directory(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    settings = {**recorder.settings, "recordPath": f"{tmp_path}/%path-%s-%f"}
    for name in ("a", "b", "a"):
        file = recorder.write(len([*tmp_path.glob("?-*")]), 4)
        file.rename(tmp_path / f"{name}-{file.name}")
    async with playing(recorder, paths={"all": settings}) as (_, client):
        assert (await client.get("/paths")).json() == ["a", "b"]


def test_errors_of_a_disk_do_not_tell_where_it_is() -> None:
    error = unreadable(OSError(errno.EIO, "Input/output error", "/srv/recordings/cam"))
    assert (error.status, str(error)) == (400, "the recordings cannot be read: Input/output error")
