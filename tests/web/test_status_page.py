"""The status page in a real browser: it lists what is live, plays a preview, and disconnects a session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.browser import BrowserError, Page, launch
from tests.control.support import running
from tests.interop import tools

pytestmark = pytest.mark.interop

PATH = "yard/north"
ROWS = "[...document.querySelectorAll('#{table} tbody tr')].map((row) => [...row.cells].map((cell) => cell.innerText))"
PLAYED = "document.querySelector('video')?.currentTime ?? 0"
SIZE = "[document.querySelector('video').videoWidth, document.querySelector('video').videoHeight]"


async def rows(page: Page, table: str) -> list[list[str]]:
    """Return the text of a table's cells."""
    found: list[list[str]] = await page.evaluate(ROWS.replace("{table}", table))
    return found


async def in_preview(page: Page, expression: str) -> Any:
    """Return the value of an expression in the page of the preview, which comes from another port."""
    frames = (await page.call("Page.getFrameTree"))["frameTree"].get("childFrames", [])
    assert frames, "there is no preview"
    world = await page.call("Page.createIsolatedWorld", frameId=frames[0]["frame"]["id"])
    result = await page.call(
        "Runtime.evaluate", expression=expression, contextId=world["executionContextId"], returnByValue=True
    )
    return result["result"].get("value")


async def test_it_shows_plays_and_disconnects(tmp_path: Path) -> None:
    tools.require("ffmpeg")
    hls = tools.free_port()
    async with running(paths={"all": {}}, hlsAddress=f"127.0.0.1:{hls}") as server:
        publish = tools.ffmpeg(
            "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25",
            "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-pix_fmt", "yuv420p",
            "-f", "rtsp", "-rtsp_transport", "tcp", server.url(PATH),
        )  # fmt: skip
        with tools.start("publish", publish, tmp_path) as publisher:
            await server.until(lambda: (path := server.app.hub.paths.get(PATH)) and path.stream)
            reader = await server.reader(PATH)
            async with launch(tmp_path) as browser:
                page = await browser.open(f"http://127.0.0.1:{server.app.control.ports['apiAddress']}/")
                await page.wait_for("document.querySelectorAll('#sessions tbody tr').length == 2")
                (shown,) = await rows(page, "paths")
                assert shown[:2] == [PATH, "ready"]
                assert re.fullmatch(r"RTSP session \d+", shown[2])
                assert shown[3:5] == ["H264", "1"]
                await page.wait_for("!document.querySelector('#paths tbody tr').cells[5].innerText.startsWith('0 ')")

                await page.evaluate("document.querySelector('#paths tbody button').click()")
                await plays(page)
                assert await in_preview(page, SIZE) == [320, 180]
                await page.screenshot(tmp_path / "page.png")

                sessions = await rows(page, "sessions")
                reading = next(row[0] for row in sessions if row[2] == "reading")
                button = f"button[title={json.dumps(f'Disconnect {reading}')}]"
                for answer in ("no", "yes"):
                    await page.evaluate(f"document.querySelector({json.dumps(button)}).click()")
                    asked = await page.evaluate("document.getElementById('confirm').innerText")
                    assert "Disconnect this client?" in asked
                    assert re.search(rf"RTSP client 127\.0\.0\.1:\d+ reads the path “{PATH}”", asked)
                    await page.evaluate(f"document.getElementById('confirm-{answer}').click()")
                    assert not await page.evaluate("document.getElementById('confirm').open")
                    assert answer == "yes" or len(server.app.hub.paths[PATH].readers) == 2, "the preview and the reader"
                assert await reader.ended()
                await page.wait_for(f"!document.querySelector({json.dumps(button)})")
                await page.wait_for("!document.querySelector('#paths tbody tr').cells[6].innerText.startsWith('0 ')")
                assert "publishing" in [row[2] for row in await rows(page, "sessions")]
                assert publisher.process.poll() is None
                assert await page.evaluate("document.getElementById('trouble').hidden")
                assert not [line for line in page.console if line.startswith(("error", "exception"))], page.console


async def test_it_says_why_a_source_failed(tmp_path: Path) -> None:
    # Nothing listens on port 1.
    async with running(paths={"cam": {"source": "rtsp://127.0.0.1:1/x"}}) as server:
        await server.until(lambda: server.app.hub.paths["cam"].source_failure)
        async with launch(tmp_path) as browser:
            page = await browser.open(f"http://127.0.0.1:{server.app.control.ports['apiAddress']}/")
            await page.wait_for("document.querySelectorAll('#paths tbody tr').length == 1")
            (shown,) = await rows(page, "paths")
            assert shown[1] == "failed"
            assert re.match(r".*refused \(for 00:00:\d\d, next attempt in \d+ s\)", shown[2])


async def plays(page: Page) -> None:
    """Wait until the preview has played for two seconds."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(BrowserError):  # the frame is being loaded
                if (await in_preview(page, PLAYED) or 0) > 2:
                    return
            await asyncio.sleep(0.1)  # a page cannot set an event
