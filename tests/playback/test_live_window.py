"""Live streams whose viewers can go back over what was recorded (hlsDVR)."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from tests.playback.support import VIDEO, Recorder, Sample, camera, movie, playing, read_fragments
from tests.playback.test_recorded_hls import addresses, tags
from tests.protocols.hls.support import FramePublisher
from tests.support.waiting import PATIENCE, until

from polycast.config.values import Duration
from polycast.playback import windows
from polycast.playback.recordings import Recordings
from polycast.playback.window import LiveWindow


@contextlib.asynccontextmanager
async def live(folder: Path, **values: Any) -> AsyncIterator[tuple[Any, httpx2.AsyncClient, Recorder]]:
    """Run a server that records a path, whose viewers can go back a minute, with a client for HLS."""
    recorder = Recorder(folder)
    cam = {**recorder.settings, "record": True, "hlsDVR": "1m"}
    keys = {"hlsDisable": False, "hlsAddress": "127.0.0.1:0", "hlsVariant": "fmp4", "playback": False}
    async with playing(recorder, **{**keys, "paths": {"cam": cam}, **values}) as (server, _):
        port = server.app.servers["HLS"].ports["hlsAddress"]
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False, verify=False
        ) as client:
            yield server, client, recorder


async def samples_of(client: httpx2.AsyncClient, names: list[str]) -> dict[int, list[Sample]]:
    body = b""
    for name in names:
        response = await client.get(f"/cam/{name}")
        assert response.status_code == 200, (name, response.text)
        body += response.content
    return read_fragments(body)


async def test_what_is_on_disk_and_what_is_live(tmp_path: Path) -> None:
    old = Recorder(tmp_path)
    begin = time.time() - 50
    file = old.folder / f"{int(begin)}-{round(begin % 1 * 1e6):06}.mp4"
    file.write_bytes(movie(camera(10), duration=10_000))
    async with live(tmp_path) as (server, client, _):
        publisher = FramePublisher(server.app.hub.path("cam"))
        publisher.play(9)
        index = (await client.get("/cam/index.m3u8")).text
        assert '#EXT-X-SESSION-DATA:DATA-ID="polycast.dvr",VALUE="dvr.m3u8"' in index
        text = (await client.get("/cam/dvr.m3u8")).text
        first = int(tags(text, "EXT-X-MEDIA-SEQUENCE")[0])
        wanted = first + 7
        response = await client.get(f"/cam/dvr.m3u8?_HLS_msn={wanted}")  # it waits for the third segment that is live
        assert response.status_code == 200
        text = response.text
        assert [float(each.rstrip(",")) for each in tags(text, "EXTINF")] == [2] * 8
        assert text.splitlines().count("#EXT-X-DISCONTINUITY") == 1
        assert "#EXT-X-ENDLIST" not in text
        assert "#EXT-X-PLAYLIST-TYPE" not in text
        names = addresses(text)
        before = await samples_of(client, names[:5])
        expected = [each.data for second in camera(10) for each in second if each.track == VIDEO]
        assert [each.data for each in before[VIDEO]] == expected
        pictures = (await samples_of(client, names[5:]))[1]
        assert len(pictures) == 6 * 30
        assert pictures[0].time / 90_000 == pytest.approx(10, abs=0.01), "on one timeline"
        assert all(earlier.time + earlier.duration == later.time for earlier, later in pairwise(pictures))
        initial = re.findall('EXT-X-MAP:URI="(.+)"', text)
        assert len(initial) == 2
        head = await client.get(f"/cam/{initial[1]}")
        assert head.headers["content-type"] == "video/mp4"
        assert b"moov" in head.content
        delta = (await client.get(f"/cam/dvr.m3u8?_HLS_msn={wanted}&_HLS_skip=YES")).text
        assert tags(delta, "EXT-X-SKIP") == ["SKIPPED-SEGMENTS=2"]
        assert (await client.get(f"/cam/dvr.m3u8?_HLS_msn={wanted + 9}")).status_code == 400
        for name in ("dvr-0-1.m4s", "dvr-x.mp4", names[0].replace("dvr-", "dvr-0")):
            assert (await client.get(f"/cam/{name}")).status_code == 404


async def test_a_new_recording_is_waited_for(tmp_path: Path) -> None:
    async with live(tmp_path) as (server, client, _):
        publisher = FramePublisher(server.app.hub.path("cam"))
        asking = asyncio.create_task(client.get("/cam/dvr.m3u8"))
        publisher.play(1)
        await until(lambda: server.app.hub.paths["cam"].readers, server.log.lines)
        publisher.play(4)
        assert len(addresses((await asking).text)) >= 1


@pytest.mark.parametrize("expression", ["~^c(am)$", "all"])
async def test_a_path_that_matches_an_expression(tmp_path: Path, expression: str) -> None:
    cam = {**Recorder(tmp_path, "new").settings, "record": True, "hlsDVR": "1m"}
    async with live(tmp_path, paths={expression: cam}, playback=True) as (server, client, _):
        publisher = FramePublisher(server.app.hub.path("cam"))
        publisher.play(7)
        first = int(tags((await client.get("/cam/dvr.m3u8")).text, "EXT-X-MEDIA-SEQUENCE")[0])
        text = (await client.get(f"/cam/dvr.m3u8?_HLS_msn={first + 1}")).text
        assert len((await samples_of(client, addresses(text)))[1]) >= 120
        listed = await server.http("playback").get("/list?path=cam")
        assert [each["duration"] > 3 for each in listed.json()] == [True]
        # of another name that the expression does not match, or that nobody has published
        for name in ("xcam", "new"):
            assert (await client.get(f"/{name}/dvr.m3u8")).status_code == 404
            assert (await server.http("playback").get(f"/list?path={name}")).status_code in (400, 404)


async def test_nothing_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "FIRST_WAIT", 0.05)
    async with live(tmp_path) as (server, client, _):
        publisher = FramePublisher(server.app.hub.path("cam"))
        response = await client.get("/cam/dvr.m3u8")
        assert (response.status_code, "nothing of this path is recorded yet" in response.text) == (404, True)
        publisher.play(5)
        await until(lambda: [*tmp_path.rglob("*.mp4")], server.log.lines)
        monkeypatch.setattr(windows, "FIRST_WAIT", PATIENCE)
        response = await client.get("/cam/dvr.m3u8")
        monkeypatch.setattr(windows, "WAIT_TARGETS", 0.01)
        number = int(tags(response.text, "EXT-X-MEDIA-SEQUENCE")[0]) + len(addresses(response.text))
        assert (await client.get(f"/cam/dvr.m3u8?_HLS_msn={number}")).status_code == 503


async def test_the_setting_changes_while_the_server_runs(tmp_path: Path) -> None:
    async with live(tmp_path) as (server, client, _):
        FramePublisher(server.app.hub.path("cam")).play(5)
        assert (await client.get("/cam/dvr.m3u8")).status_code == 200
        configuration = server.app.configuration
        cam = msgspec.structs.replace(configuration.paths["cam"], hls_dvr=Duration(0))
        await server.app.reload(msgspec.structs.replace(configuration, paths={"cam": cam}))
        assert "SESSION-DATA" not in (await client.get("/cam/index.m3u8")).text
        response = await client.get("/cam/dvr.m3u8")
        assert (response.status_code, "hlsDVR" in response.text) == (404, True)


async def test_a_playlist_that_nobody_uses_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(windows, "UPDATE_SECONDS", 0.05)
    async with live(tmp_path) as (server, client, _):
        FramePublisher(server.app.hub.path("cam")).play(5)
        text = (await client.get("/cam/dvr.m3u8")).text
        found = server.app.control.recorded.windows
        await until(lambda: not found._watched, server.log.lines)
        again = (await client.get("/cam/dvr.m3u8")).text
        assert int(tags(again, "EXT-X-MEDIA-SEQUENCE")[0]) >= int(tags(text, "EXT-X-MEDIA-SEQUENCE")[0]) + len(
            addresses(text)
        ), "players merge playlists by the numbers of segments"


async def test_only_who_may_read(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    cam = {**recorder.settings, "record": True, "hlsDVR": "1m", "readUser": "anna", "readPass": "secret"}
    async with live(tmp_path, paths={"cam": cam}) as (server, client, _):
        FramePublisher(server.app.hub.path("cam")).play(5)
        assert (await client.get("/cam/dvr.m3u8")).status_code == 401
        response = await client.get("/cam/dvr.m3u8", auth=("anna", "secret"))
        name = addresses(response.text)[0]
        assert (await client.get(f"/cam/{name}", auth=("anna", "secret"))).status_code == 200
        async with httpx2.AsyncClient(base_url=client.base_url, trust_env=False, verify=False) as other:
            assert (await other.get(f"/cam/{name}")).status_code == 401


async def test_names_of_no_file_are_not_kept(tmp_path: Path) -> None:
    """Viewers can make up as many as they like."""
    async with live(tmp_path) as (server, client, _):
        FramePublisher(server.app.hub.path("cam")).play(5)
        name = addresses((await client.get("/cam/dvr.m3u8")).text)[0]
        prefix = name.rpartition("-")[0]
        assert (await client.get(f"/cam/{name}")).status_code == 200
        for number in range(20):
            assert (await client.get(f"/cam/{prefix}-{number}.m4s")).status_code == 404
        (watched,) = server.app.control.recorded.windows._watched.values()
        assert [*watched.files._files] == [name]


async def test_a_playlist_is_sent_once_it_has_the_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread is just about to write the next one."""
    async with live(tmp_path) as (server, client, _):
        publisher = FramePublisher(server.app.hub.path("cam"))
        publisher.play(5)
        text = (await client.get("/cam/dvr.m3u8")).text
        number = int(tags(text, "EXT-X-MEDIA-SEQUENCE")[0]) + len(addresses(text))
        (watched,) = server.app.control.recorded.windows._watched.values()
        write, may_write = LiveWindow.write, threading.Event()

        def late(window: LiveWindow, *, skips: bool = False) -> bytes:
            may_write.wait(PATIENCE)
            return write(window, skips=skips)

        monkeypatch.setattr(LiveWindow, "write", late)
        try:
            publisher.play(5)
            await until(lambda: watched._window._next_number > number, server.log.lines)
            asking = asyncio.create_task(client.get(f"/cam/dvr.m3u8?_HLS_msn={number}"))
            await until(lambda: watched.waiting or asking.done(), server.log.lines)
            assert not asking.done()
        finally:
            may_write.set()
        text = (await asking).text
        assert int(tags(text, "EXT-X-MEDIA-SEQUENCE")[0]) + len(addresses(text)) > number


async def test_an_index_that_fails_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segments, failures = Recordings.segments, [sqlite3.OperationalError("disk I/O error")]

    async def fails(*values: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return await segments(*values, **options)

    monkeypatch.setattr(windows, "UPDATE_SECONDS", 0.05)
    monkeypatch.setattr(Recordings, "segments", fails)
    async with live(tmp_path) as (server, client, _):
        FramePublisher(server.app.hub.path("cam")).play(5)
        assert (await client.get("/cam/dvr.m3u8")).status_code == 200
        await server.log.wait("WARNING .*the recordings of cam cannot be read: disk I/O error")


async def test_only_so_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are looked at for each playlist, and short ones may be many."""
    monkeypatch.setattr(windows, "MAXIMUM_FILES", 2)
    old, now = Recorder(tmp_path), time.time()
    for begin in (now - 50, now - 40, now - 30, now - 20):
        file = old.folder / f"{int(begin)}-{round(begin % 1 * 1e6):06}.mp4"
        file.write_bytes(movie(camera(10), duration=10_000))
    async with live(tmp_path) as (server, client, _):
        FramePublisher(server.app.hub.path("cam"))
        text = (await client.get("/cam/dvr.m3u8")).text
        assert len(addresses(text)) == 10


async def test_segments_that_are_too_large_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MAXIMUM_BODY", 1)
    async with live(tmp_path) as (server, client, _):
        FramePublisher(server.app.hub.path("cam")).play(5)
        name = addresses((await client.get("/cam/dvr.m3u8")).text)[0]
        assert (await client.get(f"/cam/{name}")).status_code == 404
        await server.log.wait("WARNING .*a part of the recordings of cam cannot be played: a segment is larger than")
