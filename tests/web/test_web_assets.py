"""The files of the web pages: complete, cached rightly, accessible, and allowed by the strict policy they come with."""

from __future__ import annotations

import gzip
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from polycast import web
from polycast.protocols.hls.reasons import Reason

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "src" / "polycast" / "web"
OWN_SCRIPTS = sorted(path.name for path in FOLDER.glob("*.js") if path.name != "hls.min.js")
STYLES = sorted(path.name for path in FOLDER.glob("*.css"))
PICTURES = sorted(path.name for path in FOLDER.glob("*.svg"))

VOID = {"meta", "link", "input", "img", "br", "path", "rect", "circle", "use"}
"""Elements without an end tag here, those of SVG spelled ``<path .../>``."""


class Document(HTMLParser):
    """An HTML page, flat: each element with its attributes and the text in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.ancestors: list[list[str]] = []
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open, [self.elements[index][0] for index in self._open]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"attribute twice: {tag} {names}"
        self.ancestors.append([self.elements[index][0] for index in self._open])
        self.elements.append((tag, {name: value or "" for name, value in attributes}, []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self.elements[self._open[-1]][0] == tag, f"</{tag}> closes {self.elements[self._open[-1]][0]}"
        self._open.pop()

    def handle_data(self, text: str) -> None:
        for index in self._open:
            self.elements[index][2].append(text)

    def all(self, *tags: str) -> list[tuple[dict[str, str], str]]:
        return [(attributes, "".join(text).strip()) for tag, attributes, text in self.elements if tag in tags]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes, _ in self.elements if "id" in attributes]


@pytest.fixture(params=web.PAGES)
def document(request: pytest.FixtureRequest) -> Document:
    return Document(web.page(request.param, 2).body.decode())


def own(name: str) -> str:
    return (FOLDER / name).read_text()


def test_every_file_of_the_folder_is_served() -> None:
    files = {path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py"}
    assert {name for name in files if web.asset(name) is not None} == files - set(web.PAGES)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("player.js", "text/javascript; charset=utf-8"),
        ("player.css", "text/css; charset=utf-8"),
        ("favicon.svg", "image/svg+xml"),
        ("hls.LICENSE.txt", "text/plain; charset=utf-8"),
    ],
)
def test_an_asset_has_what_a_response_needs(name: str, content_type: str) -> None:
    asset = web.asset(f"{web.version()}/{name}")
    assert asset is not None
    assert asset.body == (FOLDER / name).read_bytes() == gzip.decompress(asset.gzip_body)
    assert len(asset.gzip_body) < len(asset.body)
    assert asset.content_type == content_type
    assert re.fullmatch(r'W/"[0-9a-f]{20}"', asset.etag)
    assert asset.cache_control == "public, max-age=31536000, immutable"


def test_the_etag_follows_the_content_alone() -> None:
    first, again = web.asset("player.js"), web.asset(f"{web.version()}/player.js")
    assert first is not None
    assert again is not None
    assert first.etag == again.etag
    # A process of its own compresses to the same bytes: no time of day in them.
    assert first.gzip_body == gzip.compress(first.body, 6, mtime=0)
    etags = {asset.etag for name in (*OWN_SCRIPTS, *STYLES) if (asset := web.asset(name)) is not None}
    assert len(etags) == len(OWN_SCRIPTS) + len(STYLES)


def test_the_version_changes_with_any_file(monkeypatch: pytest.MonkeyPatch) -> None:
    before = web.version()
    read = web._read
    monkeypatch.setattr(web, "_read", lambda name: read(name) + (b" " if name == "index.css" else b""))
    assert web.version.__wrapped__() != before


@pytest.mark.parametrize("name", ["player.js", "0123456789ab/player.js"])
def test_without_its_version_an_asset_is_revalidated(name: str) -> None:
    asset = web.asset(name)
    assert asset is not None
    assert asset.cache_control == "no-cache"


@pytest.mark.parametrize(
    "name",
    ["", "/", "player", "player.html", "__init__.py", "../__init__.py", "..", "x/../player.js", "x/y/player.js",
     "/player.js/", "player.js/", "PLAYER.JS", "player.js\0", "a" * 100_000],
)  # fmt: skip
def test_nothing_else_is_served(name: str) -> None:
    assert web.asset(name) is None


@pytest.mark.parametrize(
    ("depth", "start"), [(0, "./_polycast/"), (1, "../_polycast/"), (3, "../../../_polycast/"), (40, "../" * 40)]
)
@pytest.mark.parametrize("name", web.PAGES)
def test_pages_find_their_assets_from_any_depth(name: str, depth: int, start: str) -> None:
    page = web.page(name, depth)
    text = page.body.decode()
    assert "{{" not in text
    references = re.findall(r'(?:src|href)="([^"#][^"]*)"', text)
    assert references
    for reference in references:
        assert reference.startswith(start)
        assert web.asset(reference.rpartition("_polycast/")[2]) is not None, reference
    assert f'data-depth="{depth}"' in text
    assert page.cache_control == "no-cache"
    assert page.content_type == "text/html; charset=utf-8"
    assert gzip.decompress(page.gzip_body) == page.body


def test_there_are_two_pages() -> None:
    with pytest.raises(ValueError, match="no such page"):
        web.page("player.js")


def test_the_policy_is_strict() -> None:
    directives = dict(part.strip().split(" ", 1) for part in web.CONTENT_SECURITY_POLICY.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == directives["connect-src"] == "'self'"
    assert "unsafe" not in web.CONTENT_SECURITY_POLICY
    assert "http" not in web.CONTENT_SECURITY_POLICY
    assert "frame-ancestors" not in directives, "other sites may embed the player"


def test_pages_have_nothing_inline(document: Document) -> None:
    for tag, attributes, text in document.elements:
        assert tag != "style"
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "script":
            assert attributes["src"]
            assert not text


def test_pages_have_the_basics(document: Document) -> None:
    assert document.elements[0][0] == "html"
    assert document.elements[0][1]["lang"] == "en"
    assert [text for _, text in document.all("title")] != [""]
    assert len(document.all("h1")) == 1
    assert len(document.all("main")) == 1
    metas = {attributes.get("name", "charset"): attributes for attributes, _ in document.all("meta")}
    assert metas["charset"]["charset"] == "utf-8"
    assert "user-scalable" not in metas["viewport"]["content"]
    assert len(document.ids) == len(set(document.ids))
    assert document.all("noscript")


def test_everything_to_operate_has_a_name(document: Document) -> None:
    for index, (tag, attributes, text) in enumerate(document.elements):
        if tag == "button":
            assert attributes["type"] == ("submit" if "form" in document.ancestors[index] else "button")
            assert attributes.get("aria-label") or text, attributes
        if tag == "input":
            assert "aria-label" in attributes or "label" in document.ancestors[index], attributes
        if tag == "svg":
            assert attributes["aria-hidden"] == "true"
        for reference in ("aria-controls", "aria-labelledby", "for"):
            assert attributes.get(reference, document.ids[0]) in document.ids
    assert any(attributes.get("aria-live") == "polite" for _, attributes, _ in document.elements)
    symbols = {attributes["href"][1:] for attributes, _ in document.all("use")}
    assert symbols <= set(document.ids)


@pytest.mark.parametrize(
    ("script", "page"),
    [("player.js", web.PLAYER_PAGE), ("index.js", web.INDEX_PAGE), ("recordings.js", web.RECORDINGS_PAGE)],
)
def test_scripts_find_their_elements(script: str, page: str) -> None:
    declared = re.search(r"const IDS = \[(.*?)\]", own(script), re.DOTALL)
    assert declared is not None
    wanted = set(re.findall(r'"(\w+)"', declared[1]))
    assert wanted <= set(Document(web.page(page).body.decode()).ids)
    assert len(wanted) > 5


@pytest.mark.parametrize("name", OWN_SCRIPTS)
def test_scripts_import_files_that_exist(name: str) -> None:
    for module in re.findall(r'^import .* from "(.*)";$', own(name), re.MULTILINE):
        assert module.startswith("./")
        assert web.asset(module[2:]) is not None


@pytest.mark.parametrize("name", [*OWN_SCRIPTS, *STYLES, *web.PAGES, *PICTURES])
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", re.sub(r'xmlns="[^"]*"', "", own(name)))
    assert not found


@pytest.mark.parametrize("name", OWN_SCRIPTS)
def test_scripts_make_no_markup_out_of_text(name: str) -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", own(name))


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of a colour such as #0d1014."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("text", ["text", "quiet"])
@pytest.mark.parametrize("ground", ["ground", "raised"])
def test_text_stands_out(text: str, ground: str) -> None:
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", own("common.css")))
    brighter, darker = luminance(colours[text]), luminance(colours[ground])
    assert (brighter + 0.05) / (darker + 0.05) >= 4.5


def test_movement_can_be_turned_off() -> None:
    assert "prefers-reduced-motion: reduce" in own("common.css")


def test_third_party_code_is_what_is_declared() -> None:
    declared = (ROOT / "THIRD_PARTY.md").read_text()
    body = (FOLDER / "hls.min.js").read_bytes()
    assert hashlib.sha256(body).hexdigest() in declared
    version = re.search(r"## hls\.js (\d+\.\d+\.\d+)", declared)
    assert version is not None
    assert f'"{version[1]}"'.encode() in body
    assert "Apache License" in own("hls.LICENSE.txt")


def test_the_page_has_words_for_every_reason() -> None:
    texts = re.findall(r'^  "([a-z-]+)": \(', (FOLDER / "problems.js").read_text(), re.MULTILINE)
    assert set(texts) == {reason.value for reason in Reason} - {Reason.OTHER.value}
