"""The commands of the documents run as they are written, beside a server with the ports that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.documents.laboratory import Laboratory, laboratory
from tests.documents.snippets import PAGES, SNIPPETS, Snippet, inline_commands

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400)]

COMMANDS = [snippet for snippet in SNIPPETS if snippet.language == "sh"]
STARTS_SERVER = re.compile(r"^(?:[A-Z_0-9]+=\S+ )*polycast(?: [\w./]+\.yml)?(?: +#.*)?$", re.MULTILINE)
"""A command that starts a server: the other one must not have its ports."""

ELSEWHERE = {
    "vlc --rtsp-tcp": "Debian's VLC cannot play RTSP",
    "vlc --network-caching": "Debian's VLC cannot play RTSP",
}
"""Why commands in sentences and tables do not run, by words in them."""
INLINE = {
    snippet.text: snippet
    for page in PAGES
    for snippet in inline_commands(page)
    if "://" in snippet.text and not any(words in snippet.text for words in ELSEWHERE)
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("laboratory")) as made:
        yield made


def by_name(snippet: Snippet) -> str:
    return snippet.name


@pytest.mark.parametrize("snippet", [each for each in COMMANDS if not each.reason], ids=by_name)
def test_commands(snippet: Snippet, place: Laboratory) -> None:
    run(snippet, place)


@pytest.mark.parametrize("snippet", INLINE.values(), ids=by_name)
def test_commands_in_sentences(snippet: Snippet, place: Laboratory) -> None:
    run(snippet, place)


def run(snippet: Snippet, place: Laboratory) -> None:
    commands = "\n".join(snippet.lines)
    if STARTS_SERVER.search(commands):
        place.stop()
    else:
        place.serve(snippet.configuration)
    if "/paths/get/" in commands:  # somebody has to read it
        commands = f"ffplay rtsp://localhost:8554/mystream\n{commands}"
    place.run(commands)
    if "/config/" in commands:  # the next one needs the settings as they were
        place.stop()


@pytest.mark.parametrize("snippet", [each for each in SNIPPETS if each.left_out], ids=by_name)
def test_marks_name_lines(snippet: Snippet) -> None:
    for words in snippet.left_out:
        assert words in snippet.text, f"{snippet.name} has no line with {words!r}"
    assert any(line.strip() for line in snippet.lines), "the mark of the whole block is shorter"


def test_commands_are_found() -> None:
    assert len([each for each in COMMANDS if not each.reason]) > 40
    assert len(INLINE) > 4
