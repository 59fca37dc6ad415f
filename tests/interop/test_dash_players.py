"""dash.js and Shaka in Chromium, and FFmpeg, play the manifest of DASH."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.browser import launch
from tests.interop import players, tools
from tests.interop.hls_server import run_hls_server
from tests.interop.players import DASH_JS, SHAKA, WATCH
from tests.interop.test_hls_players import RATE, STREAM, describe, watch

pytestmark = pytest.mark.interop

TRIES = 3
"""Of FFmpeg, one of which has to succeed."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", ["fmp4", "lowLatency"])
async def test_players_of_dash(variant: str, tmp_path: Path) -> None:
    """They begin with a running stream, and play it without a stall."""
    tools.require("ffmpeg")
    wanted = [DASH_JS, SHAKA[-1]]
    with run_hls_server(tmp_path, variant, "dash: yes\n") as server, players.web_site(tmp_path) as site:
        address = server.url("cam", "index.mpd")
        pages = [site.page(player, address) for player in wanted]
        with server.publishing("cam", "rtsp", *STREAM):
            async with launch(ignore_certificates=True) as browser:
                page = await browser.open(site.wall(pages))
                await page.wait_for(f"frames.length === {len(pages)}")
                began = await watch(page, wanted, asyncio.get_running_loop().time())
                assert len(began) == len(wanted), f"{began}\n{await describe(page)}"
                for index in range(len(pages)):
                    await page.evaluate(f"frames[{index}].eval({json.dumps(WATCH)})")
                await asyncio.sleep(4)
                longest = [await page.evaluate(f"frames[{index}].found.longest") for index in range(len(pages))]
                assert max(longest) < 3000, f"{longest}\n{await describe(page)}"
            insecure = ["-tls_verify", "0"] if variant == "lowLatency" else []
            # FFmpeg skips segments when the machine is busy: a manifest with a gap would make it skip them each time.
            assert any(is_whole(copy_of(address, insecure, tmp_path / f"{number}.mp4")) for number in range(TRIES))


def copy_of(address: str, options: list[str], file: Path) -> tuple[int, int]:
    """Let FFmpeg copy three seconds of a stream; return the number of pictures and of sounds."""
    command = tools.ffmpeg(*options, "-i", address, "-t", "3", "-c", "copy", file)
    reader = tools.run("read-dash", command, file.parent)
    assert reader.process.returncode == 0, reader.describe()
    assert "404" not in reader.errors
    count = ["ffprobe", "-v", "error", "-show_entries", "stream=nb_frames", "-of", "csv=p=0", file]
    pictures, sounds = map(int, tools.run("count", count, file.parent).output.split())
    return pictures, sounds


def is_whole(counted: tuple[int, int]) -> bool:
    """Return whether there are three seconds of both."""
    pictures, sounds = counted
    return abs(pictures - 3 * RATE) <= 1 and abs(sounds - 3 * 48_000 / 1024) <= 2
