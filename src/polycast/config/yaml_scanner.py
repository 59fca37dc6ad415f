"""A YAML parser that takes tabs where YAML allows them: between tokens and within texts, but not as indentation."""

from __future__ import annotations

from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.scanner import Scanner

_BLANKS: Final = " \t"
_AFTER_CONTENT: Final = "#\0\r\n\x85\u2028\u2029"
"""What ends the content of a line: a comment, the end of the text, a line break."""


class _TabScanner(Scanner):
    """ruamel.yaml takes tabs in brackets only (YAML 1.2 sections 6.1 and 6.2)."""

    def scan_to_next_token(self) -> Any:
        """Skip what separates tokens."""
        peek, forward = self.reader.peek, self.reader.forward
        while True:
            super().scan_to_next_token()
            length = self._count_blanks()
            if not length or (self.allow_simple_key and peek(length) not in _AFTER_CONTENT):
                return  # a key or an entry may begin here, so that this is indentation
            forward(length)

    def scan_plain_spaces(self, indent: Any, start_mark: Any) -> Any:
        """Return what separates two words of a plain text."""
        length = self._count_blanks()
        is_last = self.reader.peek(length) in _AFTER_CONTENT
        blanks = self.reader.prefix(length)
        self.reader.forward(length)
        if is_last:
            return super().scan_plain_spaces(indent, start_mark)
        return [blanks] if blanks else []

    def _count_blanks(self) -> int:
        length = 0
        while self.reader.peek(length) in _BLANKS:
            length += 1
        return length


def parser() -> YAML:
    """Return a parser of YAML; one is used once."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner = _TabScanner
    return yaml
