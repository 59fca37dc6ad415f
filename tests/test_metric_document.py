"""The page about metrics names all of them, and no name has two meanings."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from polycast.app.metric_document import updated

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"


def generated(name: str) -> str:
    found = re.search(rf"<!-- generated: {name} -->\n(.*?)<!-- end -->", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_document_says_what_the_code_does() -> None:
    text = DOCUMENT.read_text()
    assert text == updated(text), "run: python -m polycast.app.metric_document docs"


def test_no_name_has_two_meanings() -> None:
    names = Counter(re.findall(r"`([a-z][a-z_]+)(?:\{[^`]*)?`", generated("mediamtx") + generated("own")))
    filters = set(re.findall(r"`(\w+)=<", generated("mediamtx")))
    assert len(names) > 120
    assert max(names.values()) == 1
    assert not filters & set(names)
    assert all(name.startswith("polycast_") for name in re.findall(r"(?m)^\| `(\w+)", generated("own")))
