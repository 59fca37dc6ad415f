"""axe-core, which looks for what people with disabilities cannot use, fetched with npm for tests only."""

from __future__ import annotations

from typing import Final

from tests.browser import Page
from tests.interop.players import Player, download

AXE: Final = Player("axe-core", "4.12.0", "axe.min.js", "")

_RUN: Final = """axe.run(document, {...%s, resultTypes: ["violations"], iframes: false}).then(
  ({violations}) => violations.map(({id, help, nodes}) =>
    `${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`))"""
_ALL: Final = "{}"
_COLOURS: Final = "{runOnly: {type: 'rule', values: ['color-contrast', 'link-in-text-block']}}"
"""The rules of the category of colours that are on by themselves."""


async def violations(page: Page, *, only_colours: bool = False) -> list[str]:
    """Return what is wrong with what a page shows now, or with its colours alone."""
    if not await page.evaluate("typeof axe === 'object'"):
        # Through the debugger: the Content-Security-Policy of the page stays as it is.
        await page.evaluate(f"{download(AXE).read_text()}; true")
    found: list[str] = await page.evaluate(_RUN % (_COLOURS if only_colours else _ALL))
    return found
