"""axe-core, which looks for what people with disabilities cannot use, fetched with npm for tests only."""

from __future__ import annotations

from typing import Final

from tests.browser import Page
from tests.interop.players import Player, download

AXE: Final = Player("axe-core", "4.12.0", "axe.min.js", "")

_RUN: Final = """axe.run(document, {resultTypes: ["violations"], iframes: false}).then(({violations}) => violations.map(
  ({id, help, nodes}) => `${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`))"""


async def violations(page: Page) -> list[str]:
    """Return what is wrong with what a page shows now."""
    if not await page.evaluate("typeof axe === 'object'"):
        # Through the debugger: the Content-Security-Policy of the page stays as it is.
        await page.evaluate(f"{download(AXE).read_text()}; true")
    found: list[str] = await page.evaluate(_RUN)
    return found
