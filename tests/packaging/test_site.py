"""The documentation as a site (`make site`, POLYCAST_SITE): it needs nothing from elsewhere, and is complete."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.browser import launch, require_chromium

import polycast

SITE = Path(os.environ.get("POLYCAST_SITE", ""))
DOCS = Path(__file__).resolve().parents[2] / "docs"

pytestmark = pytest.mark.skipif("POLYCAST_SITE" not in os.environ, reason="POLYCAST_SITE is not set")


class _Loaded(HTMLParser):
    """What a browser loads with a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        source = given.get("src") if tag in ("script", "img", "iframe", "video", "source") else None
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            source = given.get("href")
        if source:
            self.found.append(source)


def test_pages_load_nothing_from_other_servers() -> None:
    pages = list(SITE.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = _Loaded()
        loaded.feed(page.read_text())
        for source in loaded.found:
            assert not re.match(r"(https?:)?//", source), f"{page.relative_to(SITE)}: {source}"
            # The page for errors is shown at any address, so its links begin with a slash.
            folder = SITE if source.startswith("/") else page.parent
            assert (folder / source.lstrip("/").partition("?")[0]).exists(), f"{page.relative_to(SITE)}: {source}"


def test_every_document_is_a_page_that_the_search_knows() -> None:
    index = json.loads((SITE / "search" / "search_index.json").read_text())
    known = {entry["location"].partition("#")[0] for entry in index["docs"]}
    for document in DOCS.glob("*.md"):
        page = "index.html" if document.name == "README.md" else f"{document.stem}.html"
        assert (SITE / page).exists()
        assert page in known or (page == "index.html" and known & {"", "index.html"})


def test_the_reference_of_the_api_has_every_request() -> None:
    text = (SITE / "api-reference.html").read_text()
    document = json.loads((DOCS / "openapi-v3.json").read_text())
    for path, operations in document["paths"].items():
        for method in operations.keys() & {"get", "post", "put", "patch", "delete"}:
            assert f"{method.upper()} {path}</code>" in text
    for name in document["components"]["schemas"]:
        assert f'id="{name.lower()}"' in text


def test_the_reference_of_the_library_has_every_name() -> None:
    text = (SITE / "library.html").read_text()
    for name in set(polycast.__all__) - {"__version__"}:
        assert f"polycast.{name}</code>" in text


@pytest.fixture
def address() -> Iterator[str]:
    """What any web server for files makes of the site."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def test_the_search_finds_pages(address: str) -> None:
    require_chromium()
    async with launch() as browser:
        page = await browser.open(f"{address}/index.html?q=firewall")
        await page.wait_for("document.querySelectorAll('.md-search-result__link').length > 0", 60)
        links = await page.evaluate("[...document.querySelectorAll('.md-search-result__link')].map(link => link.href)")
    assert any(link.startswith(f"{address}/ports.html") for link in links)
