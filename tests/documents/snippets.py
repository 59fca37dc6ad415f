"""What the documents show as code, with the marks that say how it runs, or why it does not.

Marks are HTML comments, which readers of the pages do not see, directly above a block:

- ``<!-- not run: why -->``: the block does not run.
- ``<!-- not run, words: why -->``: neither do its lines that contain these words.
- ``<!-- run with the configuration above -->``: the server has the settings of the last YAML block before it.
- ``<!-- run with {key: value} -->``: the server has these settings.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "bench" / "README.md"]

BLOCK = re.compile(
    r"(?P<marks>(?:^[ ]*<!--[^\n]*-->\n)*)^[ ]*```(?P<language>\w+)\n(?P<text>.*?)^[ ]*```", re.MULTILINE | re.DOTALL
)
NOT_RUN = re.compile(r"<!-- not run(?:, (?P<words>.+?))?: (?P<reason>.+?) -->")
WITH_CONFIGURATION = "<!-- run with the configuration above -->"
WITH_SETTINGS = re.compile(r"<!-- run with (\{.*\}) -->")
INLINE = re.compile(r"`((?:ffmpeg|ffplay|vlc|curl|gst-[a-z]+-1\.0) [^`]+)`")


@dataclass(frozen=True)
class Snippet:
    """A block of code in a page."""

    page: Path
    line: int
    language: str
    text: str
    reason: str = ""
    """Why it does not run; "" if it does."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Why lines do not run, by words in them."""
    configuration: str = ""
    """The settings of the server that it runs with."""

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{self.page.name}:{self.line}"

    @property
    def lines(self) -> list[str]:
        """Its lines, those that continue joined, without those that do not run."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if not any(words in line for words in self.left_out)]


def snippets_of(page: Path) -> list[Snippet]:
    """Return the blocks of code of a page."""
    text = page.read_text()
    found: list[Snippet] = []
    configuration = ""
    for match in BLOCK.finditer(text):
        marks = NOT_RUN.findall(match["marks"])
        settings = WITH_SETTINGS.search(match["marks"])
        above = configuration if WITH_CONFIGURATION in match["marks"] else ""
        snippet = Snippet(
            page,
            text[: match.start("text")].count("\n"),
            match["language"],
            textwrap.dedent(match["text"]),
            next((reason for words, reason in marks if not words), ""),
            {words: reason for words, reason in marks if words},
            settings[1] if settings else above,
        )
        found.append(snippet)
        if snippet.language == "yaml":
            configuration = snippet.text
    return found


def inline_commands(page: Path) -> list[Snippet]:
    """Return the commands in the sentences and tables of a page."""
    text = page.read_text()
    return [
        Snippet(page, text[: match.start()].count("\n") + 1, "sh", match[1].replace("\\|", "|"))
        for match in INLINE.finditer(text)
    ]


SNIPPETS = [snippet for page in PAGES for snippet in snippets_of(page)]
