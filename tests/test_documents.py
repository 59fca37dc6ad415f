"""What the documents for users show: configurations that load, links that lead somewhere."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import textwrap
from pathlib import Path

import pytest

from polycast.cli import completion as completion_command
from polycast.cli import crypto, discover, doctor, make_parser, migrate, service, top
from polycast.config import load

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = [
    (path.name, number, textwrap.dedent(snippet))
    for path in DOCUMENTS
    for number, snippet in enumerate(re.findall(r"^ *```yaml\n(.*?)^ *```", path.read_text(), re.MULTILINE | re.DOTALL))
]
COMMANDS = [
    (path.name, number, textwrap.dedent(commands))
    for path in DOCUMENTS
    for number, commands in enumerate(re.findall(r"^ *```sh\n(.*?)^ *```", path.read_text(), re.MULTILINE | re.DOTALL))
]
PARSERS: dict[str, argparse.ArgumentParser] = {
    "encrypt": crypto.make_parser("encrypt"),
    "decrypt": crypto.make_parser("decrypt"),
    "migrate": migrate.make_parser(),
    "top": top.make_parser(),
    "service": service.make_parser(),
    "doctor": doctor.make_parser(),
    "discover": discover.make_parser(),
    "completion": completion_command.make_parser(),
}
ENDS_A_COMMAND = {"|", "||", "&&", ";", ">", ">>", "<", "&", ")"}


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


def test_every_page_has_its_place_in_the_site() -> None:
    """And in the list of pages: `make site` fails otherwise, which takes longer."""
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} | {"api-reference.md"}
    listed = set(re.findall(r"^ +- (\S+\.md)$", navigation, re.MULTILINE))
    assert {page for page in listed if not page.startswith("repository/")} == pages
    contents = (ROOT / "docs" / "README.md").read_text()
    assert {page for page in pages - {"README.md", "api-reference.md"} if f"]({page})" not in contents} == set()


def test_the_comparison_has_the_tables_of_the_readme() -> None:
    readme, comparison = (path.read_text() for path in (ROOT / "README.md", ROOT / "docs" / "comparison.md"))
    tables = re.findall(r"^\| \| Polycast \|.*\n(?:\|.*\n)+", readme, re.MULTILINE)
    assert len(tables) == 2
    assert re.findall(r"^\| \| Polycast \|.*\n(?:\|.*\n)+", comparison, re.MULTILINE) == tables


@pytest.mark.parametrize("name", ["docs/design.md", "CONTRIBUTING.md"])
def test_files_that_developers_are_told_to_look_in_exist(name: str) -> None:
    """In the package or in the repository. Names with ``<protocol>`` stand for many."""
    named = set(re.findall(r"`((?:[\w-]+/)+(?:[\w-]+\.\w+)?)`", (ROOT / name).read_text()))
    assert len(named) > 5
    assert {
        each for each in named if not any((base / each).exists() for base in (ROOT / "src/polycast", ROOT))
    } == set()


def test_there_are_configurations() -> None:
    assert len(SNIPPETS) >= 8


@pytest.mark.parametrize("name", sorted({name for name, _, _ in COMMANDS}))
def test_commands_are_what_a_shell_understands(name: str) -> None:
    """Most need cameras, other machines or root: they are not run, but read by a shell."""
    for document, number, commands in COMMANDS:
        if document == name:
            done = subprocess.run(
                ["bash", "-n"], input=commands, capture_output=True, text=True, check=False, timeout=60
            )
            assert done.returncode == 0, f"block {number}: {done.stderr}"


def polycast_commands(commands: str) -> list[list[str]]:
    """Return the arguments of each call of polycast in a block of commands."""
    found: list[list[str]] = []
    for line in commands.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # a quoted text of several lines
            continue
        for position, word in enumerate(words):
            is_first = position == 0 or words[position - 1] in {*ENDS_A_COMMAND, "sudo"} or "=" in words[position - 1]
            if is_first and re.fullmatch(r"(\S*/)?polycast", word):
                rest = words[position + 1 :]
                ends = [index for index, each in enumerate(rest) if each in ENDS_A_COMMAND]
                found.append(rest[: ends[0]] if ends else rest)
    return found


CALLS = [(name, call) for name, _, commands in COMMANDS for call in polycast_commands(commands)]


@pytest.mark.parametrize(("name", "call"), CALLS, ids=[f"{name}-{' '.join(call)}" for name, call in CALLS])
def test_commands_have_the_options_that_documents_show(name: str, call: list[str]) -> None:
    parser = PARSERS.get(call[0]) if call else None
    if parser is not None:
        parser.parse_args(call[1:])
    elif call != ["--version"]:
        make_parser().parse_args(call)


def test_calls_are_found() -> None:
    assert len(CALLS) > 20
    assert {call[0] for _, call in CALLS if call} >= set(PARSERS) - {"completion", "decrypt", "encrypt"}


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
