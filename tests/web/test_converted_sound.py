"""Opus in the players that need AAC: Chromium's in HLS with MPEG-TS, and one of RTMP; Chromium also publishes."""

from __future__ import annotations

import pytest
from tests.browser import launch
from tests.protocols.webrtc.support import running
from tests.support.waiting import PATIENCE
from tests.transcode.programs import watched
from tests.web.test_webrtc_in_browsers import FLAGS, H264, RTSP, address, ffmpeg, published

pytestmark = pytest.mark.interop

HLS = {"hlsDisable": False, "hlsAddress": "127.0.0.1:0", "hlsVariant": "mpegts"}
RTMP = {"rtmpDisable": False, "rtmpAddress": "127.0.0.1:0"}
DECODED = "document.querySelector('video').webkitAudioDecodedByteCount"
RUNS = "document.querySelector('video').currentTime > 2"


@pytest.mark.parametrize("is_converted", [False, True])
async def test_chromium_hears_opus_over_mpegts_only_if_it_is_converted(is_converted: bool) -> None:
    paths = {"all": {"transcodeAudio": is_converted}}
    async with running(**RTSP, **HLS, paths=paths) as fixture:
        with ffmpeg(fixture.app.servers["RTSP"].ports["rtspAddress"], "cam", *H264):
            await published(fixture, "cam")
            async with launch(*FLAGS) as browser:
                page = await browser.open(f"http://localhost:{fixture.app.servers['HLS'].ports['hlsAddress']}/cam/")
                await page.wait_for(RUNS, PATIENCE)
                if is_converted:
                    await page.wait_for(f"{DECODED} > 10000", PATIENCE)
                assert (await page.evaluate(DECODED) > 0) == is_converted


async def test_what_chromium_publishes_is_heard_over_rtmp_and_hls() -> None:
    paths = {"all": {"transcodeAudio": True}}
    async with running(**RTMP, **HLS, paths=paths) as fixture, launch(*FLAGS) as browser:
        publisher = await browser.open(f"{address(fixture, 'cam')}publish?autostart=yes&video-codec=h264")
        await publisher.wait_for("document.querySelector('#status').dataset.state === 'running'", PATIENCE)
        await published(fixture, "cam")
        stream = fixture.path("cam").stream
        assert stream is not None
        assert {track.codec_name for track in stream.descriptions} == {"H264", "Opus"}
        page = await browser.open(f"http://localhost:{fixture.app.servers['HLS'].ports['hlsAddress']}/cam/")
        await page.wait_for(f"{RUNS} && {DECODED} > 10000", PATIENCE)
        url = f"rtmp://127.0.0.1:{fixture.app.servers['RTMP'].ports['rtmpAddress']}/cam"
        assert (await watched(url, 10))["codecs"] == ["aac", "h264"]
