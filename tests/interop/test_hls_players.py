"""hls.js, video.js and Shaka on other people's pages, in Chromium: they begin with a new stream, play without a stall,
and go on when the publisher comes back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.browser import Page, launch
from tests.interop import players, tools
from tests.interop.hls_server import VARIANTS, run_hls_server
from tests.interop.players import HLS_JS, PLAYERS, SHAKA, WATCH, Player
from tests.support import made
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.interop

RATE = 15
SECONDS_OF_MEDIA = 60
MEDIA = (
    "-f", "lavfi", "-i", f"testsrc2=size=320x180:rate={RATE}",
    "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", f"{SECONDS_OF_MEDIA}",
    "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", f"{RATE}",
    "-x264-params", "scenecut=0", "-b:v", "400k", "-c:a", "aac", "-b:a", "64k",
)  # fmt: skip
FRAMES = (
    "[...Array(frames.length).keys()].map((index) =>"
    " frames[index].video?.getVideoPlaybackQuality().totalVideoFrames ?? 0)"
)
PLAYED = RATE * 2
"""Pictures shown by a player that plays."""
RESUME_SECONDS = 6.0
"""From the publisher's return to the moving picture, at most, beyond the time that the same player took to begin with
the stream before: that says how fast the machine is, where several players decode at once."""


def stream() -> tuple[str | Path, ...]:
    """Return FFmpeg's arguments that send the media in real time."""
    tools.require("ffmpeg")
    return "-re", "-stream_loop", "-1", "-i", made.by_ffmpeg(".mp4", *MEDIA), "-c", "copy"


async def watch(page: Page, wanted: list[Player], begin: float) -> dict[str, float]:
    """Wait until each player has shown `PLAYED` more pictures; return the seconds since ``begin`` that each took before
    the first of them, by name."""
    loop = asyncio.get_running_loop()
    before = await page.evaluate(FRAMES)
    took: dict[str, float] = {}
    while len(took) < len(wanted) and loop.time() - begin < 2 * PATIENCE:
        for index, (player, shown) in enumerate(zip(wanted, await page.evaluate(FRAMES), strict=True)):
            before[index] = min(before[index], shown)  # a player that loads the stream again counts from 0
            if shown - before[index] >= PLAYED:
                took.setdefault(str(player), round(loop.time() - begin - PLAYED / RATE, 1))
        await asyncio.sleep(0.1)
    return took


async def describe(page: Page) -> str:
    troubles = await page.evaluate("[...Array(frames.length).keys()].map((index) => frames[index].troubles)")
    return f"{troubles}\n{await page.describe()}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", VARIANTS)
async def test_players_continue_when_the_publisher_returns(variant: str, tmp_path: Path) -> None:
    """Each played to its buffer's end meanwhile. The playlist's numbers decreased once, so they stood still for as long
    as the stream before had lasted; that is always longer than they may take."""
    wanted = [HLS_JS[0], HLS_JS[2], HLS_JS[-1], PLAYERS[-3], SHAKA[-1]]
    loop = asyncio.get_running_loop()
    with run_hls_server(tmp_path, variant) as server, players.web_site(tmp_path) as site:
        pages = [site.page(player, server.url("cam")) for player in wanted]
        async with launch(ignore_certificates=True) as browser:
            with server.publishing("cam", "rtsp", *stream()):
                opened = loop.time()
                page = await browser.open(site.wall(pages))
                await page.wait_for(f"frames.length === {len(pages)}")
                began = await watch(page, wanted, opened)
                assert len(began) == len(wanted), f"{began}\n{await describe(page)}"
                await asyncio.sleep(RESUME_SECONDS)
            await asyncio.sleep(3)
            with server.publishing("cam", "rtsp", *stream()):
                took = await watch(page, wanted, loop.time())
                print(f"{variant}: began after {began}, went on after {took}")
                assert len(took) == len(wanted), f"{took}\n{await describe(page)}"
                late = {name: seconds for name, seconds in took.items() if seconds > RESUME_SECONDS + began[name]}
                assert not late, f"{late}\n{await describe(page)}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("low_latency", ["false", "true"])
async def test_hls_js_begins_with_a_new_low_latency_stream(low_latency: str, tmp_path: Path) -> None:
    """Gaps at its beginning, which Apple's players want, keep hls.js from it for seconds, or for good."""
    with run_hls_server(tmp_path, "lowLatency") as server, players.web_site(tmp_path) as site:
        async with launch(ignore_certificates=True) as browser:
            with server.publishing("cam", "rtsp", *stream()):
                options = f"{{lowLatencyMode: {low_latency}}}"
                pages = [site.page(player, server.url("cam"), options) for player in HLS_JS]
                page = await browser.open(site.wall(pages))
                await page.wait_for(f"frames.length === {len(pages)}")
                for index in range(len(pages)):
                    video = f"frames[{index}].video"
                    await page.wait_for(f"{video} && {video}.currentTime > 0 && {video}.readyState > 2")
                    await page.evaluate(f"frames[{index}].eval({json.dumps(WATCH)})")
                await asyncio.sleep(4)
                found = await page.evaluate("Array.from(frames, (frame) => [frame.found.longest, `${frame.troubles}`])")
    for player, (longest, troubles) in zip(HLS_JS, found, strict=True):
        print(f"{player}: stood still for {longest} ms; {troubles}")
        assert longest < 3000, player
        assert "fragGap" not in troubles, player


@pytest.mark.timeout(300)
@pytest.mark.parametrize("player", SHAKA, ids=str)
async def test_shaka_plays_fmp4_without_a_stall(player: Player, tmp_path: Path) -> None:
    """It stood still for half a second to one second with every second segment: the sound stood first in fragments."""
    with run_hls_server(tmp_path, "fmp4") as server, players.web_site(tmp_path) as site:
        async with launch(ignore_certificates=True) as browser:
            with server.publishing("cam", "rtsp", *stream()):
                page = await browser.open(site.page(player, server.url("cam")))
                await page.wait_for("self.video.currentTime > 2")
                await page.evaluate(WATCH)
                await asyncio.sleep(8)
                found = await page.evaluate("found")
                ahead = await page.evaluate("self.video.buffered.end(self.video.buffered.length - 1)")
                live = await page.evaluate("self.player.seekRange().end")
    print(f"{player}: {found}")
    assert len(found["stalls"]) <= 1, found
    assert ahead < live + 4, "what is buffered grows as fast as time"
