"""``name=value`` lists, with quoted values (RFC 2326 section 15.1, RFC 7616 section 3.3)."""

from __future__ import annotations


def split_unquoted(text: str, separator: str) -> list[str]:
    """Split at each ``separator`` outside of double quotes; the parts are stripped, empty ones omitted."""
    parts = []
    start = 0
    quoted = False
    escaped = False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[start:position].strip())
            start = position + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def parse_parameter(text: str) -> tuple[str, str | None]:
    """Return (name in lower case, value without quotes); None without an equals sign."""
    name, equals, value = text.partition("=")
    return name.strip().lower(), unquote(value.strip()) if equals else None


def unquote(text: str) -> str:
    """Remove double quotes.

    Only ``\\"`` and ``\\\\`` count as escapes: clients send names such as ``DOMAIN\\user`` as they are.
    """
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text.strip('"')
    text = text[1:-1]
    if "\\" not in text:
        return text
    result = []
    escaped = False
    for character in text:
        if escaped:
            result.append(character if character in '"\\' else "\\" + character)
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            result.append(character)
    return "".join(result) + ("\\" if escaped else "")


def quote(text: str) -> str:
    """Quote a value."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_number(text: str, largest: int, base: int = 10) -> int | None:
    """Return the number, or None if ``text`` is not one or it is larger than ``largest``."""
    if not text.isascii() or not text.isalnum() or len(text) > 20:
        return None
    try:
        number = int(text, base)
    except ValueError:
        return None
    return number if number <= largest else None
