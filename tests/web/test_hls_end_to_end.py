"""From FFmpeg through the server into the page in Chromium: it plays without a stall, shows the picture, is near live,
and goes on when the publisher comes back.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
from tests.browser import CLOCK, Browser, Page, launch
from tests.interop import tools
from tests.interop.hls_server import HlsServer, run_hls_server
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.interop

FULL = os.environ.get("POLYCAST_SOAK") == "full"
WATCH_SECONDS = 30 if FULL else 4
# A shared machine may stand still for a moment; how smoothly it plays is judged by the long run.
LONGEST_STALL_MS = 500 if FULL else 2000
"""Time for which the picture may stand still. On a busy machine the browser's own timers come late."""
SHORTEST_PLAYED = 0.95 if FULL else 0.8
"""Part of the time that is played at least, apart from the longest stand, which may last as long as said above. The
browser's sound output is its clock, and that is late, too, when others have the processor; a player that falls behind
for good shows in the delay."""

SIZE = "640x360" if FULL else "320x180"
RATE = 25 if FULL else 15
PICTURE = ("-re", "-f", "lavfi", "-i", f"smptebars=size={SIZE}:rate={RATE}")
SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000")
ENCODERS = (
    "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", str(RATE),
    "-x264-params", "scenecut=0", "-b:v", "800k", "-c:a", "aac", "-b:a", "64k",
)  # fmt: skip
BARS = ((192, 192, 192), (192, 192, 0), (0, 192, 192), (0, 192, 0), (192, 0, 192), (192, 0, 0), (0, 0, 192))
"""Colours of the upper part of FFmpeg's ``smptebars``, from the left."""
COLOUR_TOLERANCE = 45
"""Per component; the picture is converted twice and compressed."""

DELAYS = {"mpegts": 5.0, "fmp4": 5.0, "lowLatency": 1.5}
"""Seconds from the moment when the server got a picture to the moment when it is on the screen, at most."""

DELAY = """const delay = () => {
  const { hls, playingDate } = polycast.supervisor.source, { buffered, currentTime } = polycast.video;
  const age = (Date.now() - playingDate.getTime()) / 1000;
  const holdBack = hls.latestLevelDetails?.partHoldBack;
  return holdBack ? age - (buffered.end(buffered.length - 1) - currentTime) + holdBack : age;
};"""
"""JavaScript: returns by how many seconds the picture is late. With Low-Latency playlists, that is the age of the
newest picture that the page has got, and how far behind it the playlist wants the page to be: hls.js stays further back
once it ran dry, for which a busy machine is enough."""

SETTLED = f"""(() => {{
  {DELAY}
  const {{ played }} = polycast.video, last = played.length - 1;
  const seconds = last < 0 ? 0 : played.end(last) - played.start(last);
  return seconds > 2 && polycast.supervisor.source?.playingDate && delay() < %f;
}})()"""
"""JavaScript, ``%`` the seconds by which the picture may be late: whether it moves since 2 s and has caught up."""

WATCH = f"""(() => {{
  {CLOCK}
  {DELAY}
  const video = polycast.video, frames = () => video.getVideoPlaybackQuality().totalVideoFrames;
  const found = {{
    done: false, seconds: 0, stall: 0, waits: 0, delays: [], time: video.currentTime, frames: frames(),
  }};
  let last = video.currentTime, still = 0;
  video.addEventListener("waiting", () => found.waits++);
  const stop = ticking(40, (step) => {{
    found.seconds += step / 1000;
    still = video.currentTime === last ? still + step : 0;
    last = video.currentTime;
    found.stall = Math.max(found.stall, still);
    if (polycast.supervisor.source?.playingDate) found.delays.push(delay());
    if (found.seconds > %f) {{
      stop();
      found.time = video.currentTime - found.time;
      found.frames = frames() - found.frames;
      found.done = true;
    }}
  }});
  self.found = found;
}})()"""


async def watch(page: Page, seconds: float) -> dict[str, Any]:
    """Watch the video for some seconds; return what was seen."""
    await page.evaluate(WATCH % seconds)
    found: dict[str, Any] = await page.wait_for("self.found.done && self.found", seconds + PATIENCE)
    return found


def check(found: dict[str, Any], page: Page, what: str, longest_delay: float) -> None:
    delays = sorted(found["delays"])
    delay = delays[len(delays) // 2] if delays else float("nan")
    print(
        f"{what}: {found['time']:.1f} s played in {found['seconds']:.1f} s, {found['frames']} frames, longest stand "
        f"{found['stall']:.0f} ms, {found['waits']} waits, "
        f"delay {delays[0]:.2f} to {delays[-1]:.2f} s, median {delay:.2f} s"
    )
    assert found["stall"] <= LONGEST_STALL_MS
    seconds = found["seconds"] - found["stall"] / 1000
    assert found["time"] >= SHORTEST_PLAYED * seconds
    assert found["frames"] >= 0.95 * SHORTEST_PLAYED * RATE * seconds
    assert delay < longest_delay
    # What the browser says of playlists that were not there (404) or whose stream ended while it waited (503).
    expected = re.compile(r"info:|error: Failed to load resource: .* status of (404|503) ")
    assert [line for line in page.console if not expected.match(line)] == []


async def check_screenshot(page: Page, file: Path) -> None:
    """Check that the screen shows the bars in their colours."""
    av = pytest.importorskip("av")
    picture = await page.screenshot(file)
    with av.open(io.BytesIO(picture)) as container:
        pixels = next(container.decode(video=0)).to_ndarray(format="rgb24")
    height, width = pixels.shape[:2]
    for index, colour in enumerate(BARS):
        shown = pixels[height // 3, int((index + 0.5) * width / len(BARS))]
        assert all(abs(int(one) - other) <= COLOUR_TOLERANCE for one, other in zip(shown, colour, strict=True)), (
            f"bar {index} is {shown.tolist()}, not {colour}; see {file}"
        )


async def play(server: HlsServer, browser: Browser, protocol: str, folder: Path) -> Page:
    """Open the page, watch, stop the publisher, start it again, watch again."""
    page = await browser.open(f"{server.base}/live/cam/?controls=0")
    await page.resize(640, 360)
    limit = DELAYS[server.variant]
    for run in ("first", "again"):
        with server.publishing("live/cam", protocol, *PICTURE, *SOUND, *ENCODERS):
            for moment, seconds in (("from the start", WATCH_SECONDS), ("joined later", WATCH_SECONDS / 2)):
                await page.wait_for("polycast.supervisor.state === 'playing' && polycast.video.currentTime > 0")
                await page.wait_for(SETTLED % limit)
                found = await watch(page, seconds)
                check(found, page, f"{server.variant} over {protocol}, {run}, {moment}", limit)
                await check_screenshot(page, folder / f"{server.variant}-{run}.png")
                if moment == "from the start" and run == "first":
                    await page.call("Page.reload")
                else:
                    break
        if run == "first":
            await page.wait_for("document.getElementById('title').textContent === 'The stream has stopped'")
    return page


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("variant", "protocol"), [("mpegts", "rtmp"), ("fmp4", "rtsp"), ("lowLatency", "rtsp")])
async def test_the_page_plays(variant: str, protocol: str, tmp_path: Path) -> None:
    tools.require("ffmpeg")
    with run_hls_server(tmp_path, variant) as server:
        async with launch(ignore_certificates=True) as browser:
            page = await play(server, browser, protocol, tmp_path)
            protocols = {version for _, version, address in page.requests if address.startswith(server.base)}
            assert protocols == ({"h2"} if variant == "lowLatency" else {"http/1.1"})
            if variant == "lowLatency":
                addresses = [address for _, _, address in page.requests]
                assert any("_HLS_msn=" in address for address in addresses)
                assert any("_part" in address for address in addresses)
