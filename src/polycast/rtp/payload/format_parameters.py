"""The text of an SDP fmtp line (RFC 8866 section 6.15): reading and replacing its parameters."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

MAXIMUM_PARAMETERS = 64
"""Parameters in one fmtp line; the longest registered formats have about 30."""

MAXIMUM_PARAMETER_SETS = 64
"""Items of a base64 list of parameter sets; two to four are usual."""

_PARAMETER_SETS = frozenset(("sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps"))
_START_CODES = (b"\0\0\1", b"\0\0\0\1")


def parse_parameters(text: str) -> dict[str, str]:
    """Return the parameters by lower-case name; the first one of duplicates. Never fails."""
    parameters: dict[str, str] = {}
    for part in text.split(";", MAXIMUM_PARAMETERS)[:MAXIMUM_PARAMETERS]:
        name, _, value = part.partition("=")
        parameters.setdefault(name.strip().lower(), value.strip())
    return parameters


def normalized(text: str) -> str:
    """Return ``text`` as readers understand it: without the double quotes that some devices put around values, and
    without their start codes in front of parameter sets. The same text if there are none."""
    parts = text.split(";", MAXIMUM_PARAMETERS)
    for index, part in enumerate(parts[:MAXIMUM_PARAMETERS]):
        name, _, written = part.partition("=")
        value = written = written.strip()
        if len(value) >= 2 and value[0] == value[-1] == '"':
            value = value[1:-1]
        if name.strip().lower() in _PARAMETER_SETS and _has_start_codes(value):
            value = encode_base64_list(decode_base64_list(value)) or value
        if value != written:
            parts[index] = f"{name}={value}"
    return ";".join(parts)


def _has_start_codes(text: str) -> bool:
    items = text.split(",", MAXIMUM_PARAMETER_SETS)
    return any(decode_base64(item).startswith(_START_CODES) for item in items)


def replace_parameters(text: str, values: Mapping[str, str]) -> str:
    """Return ``text`` with the given parameters set; the same text if they are already set.

    Existing parameters keep their position, new ones are appended.
    """
    present = parse_parameters(text)
    if all(present.get(name) == value for name, value in values.items()):
        return text
    missing = dict(values)
    parts: list[str] = []
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        new_value = missing.pop(name.lower(), None)
        if new_value is not None:
            parts.append(f"{name}={new_value}")
        elif name and name.lower() not in values:
            parts.append(f"{name}={value}" if "=" in part else name)
    parts += [f"{name}={value}" for name, value in missing.items()]
    return "; ".join(parts)


def decode_base64(text: str) -> bytes:
    """Return the bytes of a base64 text, with or without its padding; empty if it is invalid."""
    text = text.strip().rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def decode_base64_list(text: str) -> list[bytes]:
    """Return the valid, non-empty parts of a comma-separated list of base64 texts, which are NAL units.

    At most MAXIMUM_PARAMETER_SETS. Start codes, which some devices put in front, are removed.
    """
    items = text.split(",", MAXIMUM_PARAMETER_SETS)[:MAXIMUM_PARAMETER_SETS]
    return [part for item in items if (part := _without_start_code(decode_base64(item)))]


def _without_start_code(unit: bytes) -> bytes:
    return unit.partition(b"\1")[2] if unit.startswith(_START_CODES) else unit


def encode_base64_list(parts: list[bytes]) -> str:
    """Return the parts as a comma-separated list of base64 texts."""
    return ",".join(base64.b64encode(part).decode() for part in parts)


def decode_hexadecimal(text: str) -> bytes:
    """Return the bytes of a hexadecimal text; empty if it is invalid."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def decode_integer(text: str | None, default: int) -> int:
    """Return a decimal number of at most nine digits, or ``default``."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else default
