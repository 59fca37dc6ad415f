"""The programs in Python of the documents run beside a server; those of the library's guide in tests/api."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.documents.laboratory import Laboratory, laboratory
from tests.documents.snippets import SNIPPETS, Snippet

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

PROGRAMS = [
    each
    for each in SNIPPETS
    # Those of library.md run in tests/api/test_library_document.py; the README has some of them.
    if each.language == "python" and not each.reason and each.page.name not in ("library.md", "README.md")
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("laboratory")) as made:
        yield made


def with_words(words: str) -> Snippet:
    """Return the program that contains words."""
    (found,) = [each for each in PROGRAMS if words in each.text]
    return found


def settings_of(snippet: Snippet, words: str) -> str:
    """Return the configuration of the same page that contains words."""
    page = [each.text for each in SNIPPETS if each.page == snippet.page and each.language == "yaml"]
    (found,) = [text for text in page if words in text]
    return found


def test_a_program_that_reads_with_opencv(place: Laboratory) -> None:
    place.serve()
    with place.program(with_words("capture.read()").text, "(") as line:
        assert line == "(240, 320, 3)\n"


def test_a_program_that_publishes_with_opencv(place: Laboratory) -> None:
    program = with_words("rawvideo").text
    assert "10 * rate" in program
    place.serve()
    with place.program(program.replace("10 * rate", "rate") + "\nprint('code', encoder.returncode)\n", "code ") as line:
        assert line == "code 0\n"


def test_a_program_that_publishes_over_webrtc(place: Laboratory) -> None:
    place.serve()
    first = "import numpy, polycast\npicture = numpy.zeros((480, 640, 3), numpy.uint8)\n"
    with place.program(f"{first}{with_words('whip://').text}print(repr(video))\n", "Writer"):
        pass


def test_a_program_that_issues_tokens(place: Laboratory) -> None:
    snippet = with_words("jwt.encode")
    settings = settings_of(snippet, "authMethod: jwt")
    assert "authJWTJWKS" in settings
    settings = re.sub(r"(?m)^authJWTJWKS.*", "authJWTJWKS: http://localhost:9000/", settings)
    settings = re.sub(r"(?m)^authJWTIssuer.*\n", "", settings)
    with place.program(snippet.text, "eyJ") as line:
        token = line.strip()
        place.serve(settings)
        addresses = re.findall(r"`((?:rtsp|rtmp)://localhost[^`]*TOKEN[^`]*)`", snippet.page.read_text())
        assert len(addresses) == 2
        for address in addresses:
            form = "flv" if address.startswith("rtmp:") else "rtsp"
            place.run(f"ffmpeg -re -i file.mp4 -c copy -f {form} '{address.replace('TOKEN', token)}'")
        place.run(f"curl -H 'Authorization: Bearer {token}' http://localhost:9997/v3/paths/list")
        with pytest.raises(AssertionError, match="401"):
            place.run("curl http://localhost:9997/v3/paths/list")


def test_a_program_that_authenticates(place: Laboratory) -> None:
    snippet = with_words('parse_qs(request["query"])')
    settings = settings_of(snippet, "externalAuthenticationURL")
    program = snippet.text.replace("HTTPServer((", "server = HTTPServer((")
    program = program.replace(".serve_forever()", "\nprint('ready', flush=True)\nserver.serve_forever()")
    with place.program(program, "ready"):
        place.serve(settings)
        place.run("ffmpeg -re -i file.mp4 -c copy -f rtsp 'rtsp://localhost:8554/mystream?token=abc'")
        with pytest.raises(AssertionError, match="401"):
            place.run("ffmpeg -re -i file.mp4 -c copy -f rtsp 'rtsp://localhost:8554/mystream?token=wrong'")


def test_every_program_runs() -> None:
    assert len(PROGRAMS) == 5, "write a test for it, or a mark above it that says why it cannot run"
