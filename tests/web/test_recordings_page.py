"""The page of recordings in a real browser: it shows a day, plays from any moment, over gaps, and offers a download."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.browser import Page, launch
from tests.playback.support import EPOCH, Recorder, playing
from tests.playback.test_truth import packets, read_source, record, run

pytestmark = pytest.mark.interop

SPANS = "[...document.querySelectorAll('#periods span')].map((span) => [span.style.left, span.style.width])"
TIME = "document.querySelector('video').currentTime"
SHOWN = "Number(document.getElementById('timeline').getAttribute('aria-valuenow'))"
"""Seconds since midnight."""


async def click_at(page: Page, seconds: float) -> None:
    """Click the timeline at a time of the day."""
    script = f"""(() => {{
      const line = document.getElementById("timeline"), box = line.getBoundingClientRect();
      line.dispatchEvent(new MouseEvent("click", {{clientX: box.left + box.width * {seconds} / 86400, bubbles: true}}));
    }})()"""
    await page.evaluate(script)


async def play_at_speed(page: Page, speed: int) -> None:
    """Choose how fast is played."""
    await page.evaluate(f"document.getElementById('speed').value = '{speed}'; 0")
    await page.evaluate("document.getElementById('speed').dispatchEvent(new Event('change')); 0")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of video and sound."""
    folder = tmp_path_factory.mktemp("media")
    run(
        "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=320x180:r=25", "-f", "lavfi", "-i", "sine=r=48000",
        "-t", "12", "-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-pix_fmt", "yuv420p", "-c:a", "aac",
        "-movflags", "+frag_keyframe+delay_moov+default_base_moof", str(folder / "h264-aac.mp4"),
    )  # fmt: skip
    assert read_source(folder / "h264-aac.mp4").samples
    return folder


async def test_a_day(media: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "recordings", "yard/north")
    record(recorder, media, "h264-aac", "mp4")
    for file in sorted(recorder.folder.iterdir()):  # the same an hour later
        later = int(file.name.partition("-")[0]) + 3600
        content = file.read_bytes().replace(b"\xf5\xe6\xa1\xd0", b"\x11\x11\x11\x11")
        file.with_name(file.name.replace(file.name.partition("-")[0], str(later))).write_bytes(content)
    async with playing(recorder) as (server, _), launch() as browser:
        port = server.app.control.ports["playbackAddress"]
        page = await browser.open(f"http://127.0.0.1:{port}/?path={quote('yard/north')}&day=2023-11-14")
        midnight: Any = await page.evaluate("new Date(2023, 10, 14).getTime() / 1000")
        start = EPOCH - midnight
        spans = await page.wait_for(f"{SPANS}.length == 2 && {SPANS}")
        assert abs(float(spans[0][0].rstrip("%")) - 100 * start / 86_400) < 0.01

        await click_at(page, start + 5)
        await page.wait_for(f"{TIME} > 5.5 && {TIME} < 12.5 && !document.querySelector('video').paused")
        assert await page.evaluate("document.querySelector('video').videoWidth") == 320

        # a mark, a gap that is skipped, and another mark
        await page.evaluate("document.getElementById('from').click()")
        await play_at_speed(page, 4)
        await page.wait_for(f"{TIME} > 13 && {SHOWN} >= {start + 3600}")

        await play_at_speed(page, 1)  # so that a busy machine does not miss the moments in question
        await click_at(page, start + 1800)  # in the gap: what follows is played, from its start on
        await page.wait_for(f"{TIME} > 0.5 && {TIME} < 12 && {SHOWN} >= {start + 3600}")
        await page.evaluate("document.getElementById('to').click()")
        href = await page.wait_for(
            "!document.getElementById('download').hidden && document.getElementById('download').href"
        )
        assert "/export?path=yard%2Fnorth" in href
        found = await asyncio.to_thread(packets, href)
        assert found.video
        await zoom_and_step(page, start)
        await page.screenshot(tmp_path / "page.png")
        assert not page.console, page.console


async def zoom_and_step(page: Page, start: float) -> None:
    """The timeline shows less around what plays, pictures come one by one, and places show what is there."""
    for _ in range(9):
        await page.evaluate("document.getElementById('closer').click()")
    ((left, width),) = await page.wait_for(f"{SPANS}.length == 1 && {SPANS}")
    assert float(width.rstrip("%")) > 3, "twelve seconds of less than three minutes"
    assert 0 < float(left.rstrip("%")) < 100
    assert await page.evaluate("document.querySelectorAll('#ticks span').length > 2")
    await page.evaluate("document.getElementById('forth').click()")
    before = await page.evaluate(TIME)
    await page.evaluate("document.getElementById('forth').click()")
    assert 0 < await page.evaluate(TIME) - before < 0.1
    assert await page.evaluate("document.querySelector('video').paused")
    hover = f"""(() => {{
      const line = document.getElementById("timeline"), box = line.getBoundingClientRect();
      const x = box.left + box.width * ({left.rstrip("%")} + {width.rstrip("%")} / 2) / 100;
      line.dispatchEvent(new PointerEvent("pointermove", {{clientX: x, pointerId: 1, bubbles: true}}));
    }})()"""
    await page.evaluate(hover)
    await page.wait_for("!document.getElementById('preview').hidden && document.getElementById('preview').naturalWidth")
    drag = """(() => {
      const line = document.getElementById("timeline");
      const send = (kind, x) => line.dispatchEvent(new PointerEvent(kind, {clientX: x, pointerId: 7, bubbles: true}));
      send("pointerdown", 400), send("pointermove", 370), send("pointermove", 340), send("pointerup", 340);
      line.dispatchEvent(new MouseEvent("click", {clientX: 340, bubbles: true}));
    })()"""
    await page.evaluate(drag)
    ((moved, _),) = await page.evaluate(SPANS)
    assert float(moved.rstrip("%")) < float(left.rstrip("%"))
    assert await page.evaluate("document.querySelector('video').paused"), "what ends with a drag is no click"
    await page.evaluate("document.getElementById('whole').click()")
    await page.wait_for(f"{SPANS}.length == 2")


async def test_a_day_without_recordings(tmp_path: Path) -> None:
    async with playing(Recorder(tmp_path)) as (server, client), launch() as browser:
        port = server.app.control.ports["playbackAddress"]
        page = await browser.open(f"http://127.0.0.1:{port}/?path=cam&day=2023-11-14")
        await page.wait_for("document.getElementById('trouble').textContent.startsWith('Nothing was recorded')")
        response = await client.get("/")
        assert "default-src 'none'" in response.headers["content-security-policy"]
        asset = response.text.partition('src="./')[2].partition('"')[0]
        assert (await client.get(f"/{asset}")).headers["cache-control"].startswith("public")
        assert (await client.get("/_polycast/other.js")).status_code == 404
        tag = {"If-None-Match": response.headers["etag"]}
        assert (await client.get("/", headers=tag)).status_code == 304


async def test_a_path_is_chosen(media: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "recordings", "yard/north")
    record(recorder, media, "h264-aac", "mp4")
    async with playing(recorder) as (server, _), launch() as browser:
        port = server.app.control.ports["playbackAddress"]
        page = await browser.open(f"http://127.0.0.1:{port}/?day=2023-11-14")
        choice = "document.querySelector('#choice a')"
        assert await page.wait_for(f"{choice}?.textContent") == "yard/north"
        await page.screenshot(tmp_path / "choice.png")
        await page.evaluate(f"{choice}.click()")
        await page.wait_for(f"document.title === 'Recordings of yard/north' && {SPANS}.length == 1")
