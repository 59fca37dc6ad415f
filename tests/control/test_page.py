"""The status page: complete by itself, strict about scripts, and working in a real browser where there is one."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from tests.browser import launch
from tests.control.support import Server, running
from tests.support.rtp import key_unit, rtp

from polycast.media.codec import COMMON_NAMES
from polycast.protocols.registry import server_kinds


async def test_the_page_needs_nothing_from_elsewhere() -> None:
    async with running() as server:
        page = await server.api.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        files = re.findall(r'(?:src|href)="(static/[^"]+)"', page.text)
        assert len(files) == 2
        texts = [page.text]
        for name in files:
            response = await server.api.get(f"/{name}")
            assert response.status_code == 200
            assert response.headers["etag"]
            texts.append(response.text)
        for text in texts:
            assert not re.search(r"(https?:)?//\w", re.sub(r"^\s*// .*$", "", text, flags=re.MULTILINE))
        assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=", page.text)


async def test_the_page_names_codecs_as_the_server_does() -> None:
    async with running() as server:
        script = (await server.api.get("/static/status.js")).text
    table = re.search(r"const CODECS = \{(.*?)\};", script, re.DOTALL)
    assert table is not None
    assert dict(re.findall(r'(\w+): "([^"]+)"', table[1])) == COMMON_NAMES


async def test_the_page_knows_the_names_of_all_servers_and_where_a_browser_can_play() -> None:
    async with running() as server:
        port = server.app.servers["HLS"].ports["hlsAddress"]
        names = {kind.collection: kind.name for kind in server_kinds()}
        assert names["rtspssessions"] == "RTSPS"
        assert await page_data(server) == {"names": names, "preview": {"scheme": "http", "port": port}}
        await server.changed("/v1/config/set", {"hlsDisable": True})
        assert await page_data(server) == {"names": names, "preview": None}


async def page_data(server: Server) -> object:
    """Return what the page is told of the servers."""
    found = re.search(r'data-servers="([^"]+)"', (await server.api.get("/")).text)
    assert found is not None
    return json.loads(html.unescape(found[1]))


@pytest.mark.interop
async def test_a_browser_shows_what_is_live(tmp_path: Path) -> None:
    async with running(paths={"all": {}}, readTimeout="300s") as server, launch(tmp_path) as browser:
        publisher = await server.publisher("yard/north")
        await server.reader("yard/north")
        publisher.send_frame(0, rtp(1, key_unit()))
        url = f"http://127.0.0.1:{server.app.control.ports['apiAddress']}/"
        page = await browser.open(url)
        await page.wait_for("document.body.innerText.includes('1 of 1 paths ready, 2 sessions')")
        shown = await page.evaluate("document.documentElement.outerHTML")
        assert re.search(r'<td data-label="Path">(<a [^>]*>)?yard/north<', shown)
        assert '<td data-label="Tracks">H264</td>' in shown
        assert len(re.findall(r'title="Disconnect \d+">Disconnect</button>', shown)) == 2
        assert "does not answer" not in shown
