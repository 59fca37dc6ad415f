"""Redirections for readers whose protocol cannot express them: the server gets the stream itself."""

from __future__ import annotations

import httpx2
import pytest
from tests.protocols.rtmp.support import Fixture, RtmpClient, running, video_frame
from tests.protocols.rtsp.support import RtspClient
from tests.protocols.sources.camera import Camera, camera
from tests.support.waiting import PATIENCE
from tests.wire.rtmp.support import VIDEO

from polycast.wire.rtmp.client import Mode
from polycast.wire.rtmp.events import FrameReceived

QUICK = {"sourceRetryPause": "20ms", "sourceProtocol": "tcp", "sourceOnDemandCloseAfter": "50ms"}


async def play(app: Fixture, origin: Camera) -> RtmpClient:
    client = await app.client(Mode.PLAY, "cam")
    await origin.asked("PLAY")
    await app.until(lambda: bool(app.path("cam").readers))
    await client.accepted()
    for timestamp in (0, 3600, 7200):
        origin.send_key(timestamp)
    await client.until(lambda: bool(client.all(FrameReceived)))
    return client


@pytest.mark.parametrize("settings", [{"source": "redirect", "sourceRedirect": "{}"}, {"fallback": "{}"}])
async def test_an_address_is_pulled_for_rtmp(settings: dict[str, str]) -> None:
    async with camera() as origin:
        filled = {key: value.format(origin.url()) for key, value in settings.items()}
        async with running(paths={"cam": {**QUICK, **filled}}) as app:
            client = await play(app, origin)
            # RTSP readers are still redirected.
            rtsp = await app.rtsp()
            response = await rtsp.request("DESCRIBE", app.rtsp_url("cam"))
            assert (response.status, response.headers.get("Location")) == (301, origin.url())
            await client.close()
            await origin.asked("TEARDOWN")
            await app.until(lambda: app.path("cam").stream is None)
            await play(app, origin)


async def test_an_address_is_pulled_for_hls() -> None:
    hls = {"hlsDisable": False, "hlsAddress": "127.0.0.1:0", "hlsSegmentDuration": "10ms"}
    async with camera() as origin, running(paths={"cam": {**QUICK, "fallback": origin.url()}}, **hls) as app:
        port = app.app.servers["HLS"].ports["hlsAddress"]
        async with httpx2.AsyncClient(timeout=PATIENCE, verify=False) as client:
            response = await client.get(f"http://127.0.0.1:{port}/cam/index.m3u8")
        assert response.status_code == 200
        assert "stream.m3u8" in response.text


async def test_a_fallback_that_does_not_answer() -> None:
    async with camera() as origin:
        await origin.close()
        settings = {**QUICK, "fallback": origin.url(), "sourceOnDemandStartTimeout": "50ms"}
        async with running(paths={"cam": settings}) as app:
            client = await app.client(Mode.PLAY, "cam")
            assert (await client.refused()).description == "source of path 'cam' has timed out"


async def test_another_path_is_relayed() -> None:
    async with running(paths={"cam": {**QUICK, "fallback": "/other"}, "other": {}}) as app:
        publisher = await app.publisher("other", (VIDEO,))
        client = await app.reader("cam")
        publisher.send_video(range(1, 6), keys=[1])
        frames = await client.frames(3)
        assert [frame.frame.units[-1] for frame in frames] == [
            video_frame(number, key=number == 1).units[-1] for number in (1, 2, 3)
        ]
        assert app.path("cam").publisher is not None
        await publisher.close()
        await client.ended()


async def test_packets_of_another_path_are_relayed() -> None:
    paths = {"cam": {**QUICK, "fallback": "/other"}, "other": {"source": "", **QUICK}}
    async with camera() as origin:
        paths["other"]["source"] = origin.url()
        async with running(paths=paths) as app:
            await app.until(lambda: app.path("other").stream is not None)
            await play(app, origin)
            stream = app.path("cam").stream
            assert stream is not None
            assert stream.publishes_packets


async def test_paths_that_fall_back_to_each_other() -> None:
    paths = {
        "one": {"fallback": "/two", "sourceOnDemandStartTimeout": "50ms"},
        "two": {"fallback": "/one", "sourceOnDemandStartTimeout": "50ms"},
    }
    async with running(paths=paths) as app:
        client = await app.client(Mode.PLAY, "one")
        assert "has timed out" in (await client.refused()).description


@pytest.mark.parametrize("grace", ["0s", "5s"])
async def test_a_publisher_takes_the_place_of_the_fallback(grace: str) -> None:
    async with camera() as origin:
        settings = {**QUICK, "fallback": origin.url(), "publisherGrace": grace, "disablePublisherOverride": True}
        async with running(paths={"cam": settings}) as app:
            client = await play(app, origin)
            publisher = await app.publisher("cam", (VIDEO,))
            await origin.asked("TEARDOWN")
            if grace == "0s":
                await client.ended()
                client = await app.reader("cam")
            before = len(client.all(FrameReceived))
            publisher.send_video(range(1, 6), keys=[1])
            await client.until(lambda: len(client.all(FrameReceived)) >= before + 3)
            rtsp: RtspClient = await app.rtsp()
            assert (await rtsp.request("DESCRIBE", app.rtsp_url("cam"))).status == 200
            await publisher.close()
