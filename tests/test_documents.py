"""What the documents for users show: configurations that load, links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from polycast.config import load

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = [
    (path.name, number, snippet)
    for path in DOCUMENTS
    for number, snippet in enumerate(re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL))
]


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub and others make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("name", "number", "snippet"), SNIPPETS, ids=[f"{name}-{n}" for name, n, _ in SNIPPETS])
def test_configurations_are_valid(name: str, number: int, snippet: str, tmp_path: Path) -> None:
    file = tmp_path / "polycast.yml"
    file.write_text(snippet)
    loaded = load(str(file), {})
    assert not loaded.warnings


def test_there_are_configurations() -> None:
    assert len(SNIPPETS) >= 8


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text()), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_tables_have_all_their_cells(path: Path) -> None:
    columns = 0
    is_code = False
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        if is_code or not line.startswith("|"):
            columns = 0
            continue
        cells = re.sub(r"`[^`]*`", "code", line).replace("\\|", "").count("|") - 1
        columns = columns or cells
        assert cells == columns, f"line {number} has {cells} cells, not {columns}: {line}"
