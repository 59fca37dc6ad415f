"""Pages that are generated in part: the parts are between comments, which name them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

_PART: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def with_parts(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Return a page with its generated parts as they are now. Raises KeyError if one is unknown."""
    return _PART.sub(lambda match: f"{match[1]}\n{parts[match[2]]()}\n{match[3]}", text)


def update_page(name: str, updated: Callable[[str], str], arguments: list[str] | None = None) -> None:
    """Update a page as the command line demands (``arguments``, by default those of the process): in a directory."""
    parser = argparse.ArgumentParser(description=f"Update the generated parts of {name}.")
    parser.add_argument("directory", type=Path, help="directory of the documentation")
    page = parser.parse_args(arguments).directory / name
    page.write_text(updated(page.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
