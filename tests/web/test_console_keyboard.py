"""The main tasks of the console with the keyboard alone: Tab, Enter, space and typing, as those without a mouse do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.browser import Page, launch
from tests.control.support import running_file
from tests.web.test_console import CONFIGURATION, DESK, address, has, has_no_errors

pytestmark = pytest.mark.interop

MAXIMUM_TABS = 400

IS_SEEN = """(() => {
  const it = document.activeElement;
  if (it === document.body || it === document.documentElement || it.tagName === "IFRAME") return true;
  const isOutlined = (each) => {
    const {outlineStyle, outlineWidth} = getComputedStyle(each);
    return outlineStyle !== "none" && parseFloat(outlineWidth) > 0;
  };
  const box = it.getBoundingClientRect(), card = it.closest(".card");
  return (isOutlined(it) || card && isOutlined(card)) && box.width > 0 && box.height > 0
    && box.bottom > 0 && box.top < innerHeight;
})()"""
"""JavaScript: whether the focused element, or the card that it opens, has an outline and is on the screen."""


PLAIN_HTTP = """
navigator.clipboard.writeText = () => Promise.reject(new Error("not over plain HTTP"));
document.addEventListener("copy", () => { window.copied = String(document.activeElement.value); });
0"""
"""JavaScript: copying works as in pages that came over plain HTTP from another machine."""


async def tab_to(page: Page, condition: str) -> None:
    """Press Tab until the focused element ``it`` meets a condition; all that have the focus on the way must be seen."""
    for _ in range(MAXIMUM_TABS):
        await page.press("Tab")
        assert await page.evaluate(IS_SEEN), await page.evaluate("document.activeElement.outerHTML.slice(0, 300)")
        if await page.evaluate(f"((it) => Boolean({condition}))(document.activeElement)"):
            return
    raise AssertionError(f"Tab does not lead to: {condition}\n{await page.describe()}")


async def enter(page: Page, condition: str) -> None:
    """Tab to an element, and press Enter."""
    await tab_to(page, condition)
    await page.press("Enter")


async def write(page: Page, text: str) -> None:
    """Type into the focused field, in the place of what is there."""
    await page.evaluate("document.activeElement.select()")
    for letter in text:
        await page.press(letter)


async def test_find_a_stream_copy_an_address_disconnect_and_change_a_setting(tmp_path: Path) -> None:
    file = tmp_path / "polycast.yml"
    text = CONFIGURATION + "  all_others:\n"
    async with running_file(file, text) as server, launch() as browser:
        await server.publisher("door")
        publisher = await server.publisher("yard/north")
        page = await browser.open(address(server))
        await page.resize(*DESK)
        await page.wait_for("document.querySelector('.tile strong')?.innerText === '2'")

        await enter(page, "it.getAttribute('href') === '#/streams'")
        await has(page, "2 of")
        await tab_to(page, "it.type === 'search'")
        await write(page, "north")
        await page.wait_for("document.querySelectorAll('.card').length === 1")
        await enter(page, "it.matches('.card h2 a')")
        await page.wait_for("document.title.startsWith('yard/north')")
        await page.evaluate(PLAIN_HTTP)
        await enter(page, "it.innerText === 'Copy'")
        await page.wait_for(f"window.copied === {json.dumps(server.url('yard/north'))}")
        assert await page.evaluate("document.activeElement.innerText") == "Copy"

        await enter(page, "it.getAttribute('href') === '#/sessions'")
        row = "it.dataset.kick && /yard\\/north/.test(it.closest('tr').innerText)"
        await page.wait_for("document.querySelectorAll('[data-kick]').length >= 2")
        for answer in ("no", "yes"):
            await enter(page, row)
            await page.wait_for("document.querySelector('dialog[open]')?.contains(document.activeElement)")
            if not await page.evaluate(f"document.activeElement.dataset.answer === '{answer}'"):
                await tab_to(page, f"it.dataset.answer === '{answer}'")
            await page.press("Enter")
            await page.wait_for("!document.querySelector('dialog')")
            assert await page.evaluate("document.activeElement !== document.body") or answer == "yes"
        assert await publisher.ended()

        await enter(page, "it.getAttribute('href')?.startsWith('#/configuration')")
        await page.wait_for("document.getElementById('setting-readTimeout')")
        await tab_to(page, "it.id === 'setting-readTimeout'")
        await write(page, "20s")
        await enter(page, "it.id === 'review'")
        await has(page, "+ readTimeout: 20s")
        if not await page.evaluate("document.activeElement.id === 'save'"):
            await tab_to(page, "it.id === 'save'")
        await page.press("Enter")
        await has(page, "The configuration was changed.")
        assert "readTimeout: 20s" in file.read_text()
        has_no_errors(page, "404")  # the publishers send no pictures


CAUSES = """(async () => {
  const {causesOf} = await import("/static/causes.js");
  const path = {sourceReady: true, uptime: 60, source: {type: "rtspSession"}, trackDetails: [{codec: "H264"}]};
  const history = {packetsLost: [9, 0, 0, 0, 0, 0, 0], keyFrameInterval: [1]};
  const titles = (path, history, dropped = 0) => causesOf(path, history, dropped).map(([title]) => title).join(" ");
  return [
    titles(path, history),
    titles(path, {...history, packetsLost: [0, 3, null]}),
    titles(path, history, 8),
    titles(path, {...history, keyFrameInterval: [0]}),
    titles({...path, uptime: 20}, {...history, keyFrameInterval: [0]}),
    titles({...path, source: {type: "webRTCSession"}}, {...history, keyFrameInterval: [0]}),
    titles({...path, trackDetails: [{codec: "Opus"}]}, {...history, keyFrameInterval: [0]}),
    titles(path, {...history, keyFrameInterval: [12.5]}),
    titles({...path, sourceReady: false}, history, 8),
  ];
})()"""


async def test_causes_of_bad_pictures_are_named(tmp_path: Path) -> None:
    async with running_file(tmp_path / "polycast.yml", CONFIGURATION) as server, launch() as browser:
        page = await browser.open(address(server))
        assert await page.evaluate(CAUSES.replace("/static/", await static_folder(page))) == [
            "",
            "Packets are lost on the way to the server.",
            "A reader is too slow.",
            "Key frames are missing.",
            "",
            "",
            "",
            "Key frames are rare.",
            "",
        ]


async def static_folder(page: Page) -> str:
    """Return the address of the folder of the console's scripts."""
    script: str = await page.wait_for("document.querySelector('script[type=module]')?.src")
    return script.rpartition("/")[0] + "/"
