"""dash.js and Shaka in Chromium, and FFmpeg, play the manifest of DASH."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.browser import launch
from tests.interop import players, tools
from tests.interop.copies import AUDIO, VIDEO
from tests.interop.hls_server import run_hls_server
from tests.interop.players import DASH_JS, SHAKA, WATCH
from tests.interop.test_hls_players import RATE, describe, stream, watch

pytestmark = pytest.mark.interop

TRIES = 10
"""Of FFmpeg, one of which has to succeed. It begins with the oldest segment of the list, for which each track asks when
the list has been loaded again: on a busy machine, the segment has gone from it by then, and FFmpeg skips it."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", ["fmp4", "lowLatency"])
async def test_players_of_dash(variant: str, tmp_path: Path) -> None:
    """They begin with a running stream, and play it without a stall."""
    wanted = [DASH_JS, SHAKA[-1]]
    with run_hls_server(tmp_path, variant, "dash: yes\n") as server, players.web_site(tmp_path) as site:
        address = server.url("cam", "index.mpd")
        pages = [site.page(player, address) for player in wanted]
        with server.publishing("cam", "rtsp", *stream()):
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
            # A manifest with a gap would make it skip segments each time.
            copies = []
            while not copies or not is_whole(copies[-1]):
                assert len(copies) < TRIES, copies
                copies.append(copy_of(address, insecure, tmp_path / f"{len(copies)}.md5"))
            print(f"{variant}: {copies}")


def copy_of(address: str, options: list[str], file: Path) -> tuple[int, int]:
    """Let FFmpeg copy three seconds of a stream; return the number of pictures and of sounds."""
    command = tools.ffmpeg(*options, "-i", address, "-t", "3", "-map", "0", "-c", "copy", "-f", "framemd5", file)
    reader = tools.run("read-dash", command, file.parent)
    assert reader.process.returncode == 0, reader.describe()
    assert "404" not in reader.errors
    tracks = [packet.stream for packet in tools.read_framemd5(file.read_text())]
    return tracks.count(VIDEO), tracks.count(AUDIO)


def is_whole(counted: tuple[int, int]) -> bool:
    """Return whether there are three seconds of both."""
    pictures, sounds = counted
    return abs(pictures - 3 * RATE) <= 1 and abs(sounds - 3 * 48_000 / 1024) <= 2
