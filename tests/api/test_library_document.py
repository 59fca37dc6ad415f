"""The library's document: its programs run and print what they say, its reference is that of the docstrings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.api.conftest import EMBEDDED, Loop, picture
from tests.documents.snippets import snippets_of

import polycast
from polycast.api.document import SECTIONS, updated

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "library.md"

SECTION = re.compile(r"<!-- readme: begin -->\n(.*?)<!-- readme: end -->", re.DOTALL)
EXPECTED = re.compile(r"# prints (.*)$", re.MULTILINE)


def programs() -> list[str]:
    """Return the programs of the guide, without those that a comment gives a reason not to run.

    The README's section on the library is a part of it.
    """
    end = DOCUMENT.read_text().partition("## Reference")[0].count("\n")
    guide = [each for each in snippets_of(DOCUMENT) if each.line < end and each.language == "python"]
    assert all(each.text.startswith("import") for each in guide)
    return [each.text for each in guide if not each.reason]


def test_there_are_programs() -> None:
    assert len(programs()) >= 12


@pytest.mark.parametrize("program", programs(), ids=lambda program: program.splitlines()[-1].strip()[:30])
def test_programs_print_the_documented_output(
    program: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = picture(640, 480)
    path = "demo" if "8554/demo" in program else "camera"
    with polycast.Server(EMBEDDED) as server, server.publish(path, size=(640, 480), pace=True) as video:
        here = program.replace("rtsp://localhost:8554/", server.url())
        here = here.replace("polycast.Server(", f"polycast.Server({EMBEDDED!r}, ").replace(", )", ")")
        # Programs that bring their own configuration.
        here = here.replace(f"({EMBEDDED!r}, {{", "({")
        here = here.replace(f"({EMBEDDED!r}, settings)", f"({{**{EMBEDDED!r}, **settings}})")
        with Loop(lambda: video.write(image)):
            exec(compile(here, "program", "exec"), {"__name__": "program"})
    assert capsys.readouterr().out.splitlines() == EXPECTED.findall(program)


def test_the_reference_is_that_of_the_docstrings() -> None:
    text = DOCUMENT.read_text()
    assert text == updated(text), "run: python -m polycast.api.document docs"


def test_the_reference_is_complete() -> None:
    described = {name for names in SECTIONS.values() for name in names}
    assert described == set(polycast.__all__) - {"__version__"}
    for name in described:
        assert (getattr(polycast, name).__doc__ or "").strip(), name


def test_the_readme_has_the_section_of_the_document() -> None:
    readme = SECTION.search((ROOT / "README.md").read_text())
    if readme is None:
        pytest.skip("the README has no section between the marks")
    document = SECTION.search(DOCUMENT.read_text())
    assert document is not None
    assert readme[1] == document[1]
