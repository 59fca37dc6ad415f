"""Variables of playlists: EXT-X-DEFINE and references to it (draft-pantos-hls-rfc8216bis sections 4.3 and 4.4.2.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from polycast.errors import RemoteProtocolError
from polycast.wire.hls.attributes import Attributes, parse_attributes

TAG: Final = "#EXT-X-DEFINE:"

MAXIMUM_VARIABLES: Final = 64
MAXIMUM_SUBSTITUTED_SIZE: Final = 4 * 1024 * 1024
"""Characters of all values that are put into a playlist."""

_REFERENCE: Final = re.compile(r"\{\$([A-Za-z0-9_-]{1,256})\}")


def substitute(lines: Iterable[str], url: str, imported: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the lines of a playlist with the values of its variables, and these variables.

    ``url`` is the address of the playlist, ``imported`` has the variables of the multivariant playlist that led to it.

    Raises RemoteProtocolError if a variable is not defined, or a limit is exceeded.
    """
    variables: dict[str, str] = {}
    size = 0

    def value_of(match: re.Match[str]) -> str:
        nonlocal size
        value = _look_up(variables, match.group(1))
        size += len(value)
        if size > MAXIMUM_SUBSTITUTED_SIZE:  # before it is put into a line that would be too large to make
            raise RemoteProtocolError("the variables of a playlist are too large")
        return value

    result: list[str] = []
    for line in lines:
        # not in comments, nor in the titles of segments
        is_tag_or_address = line.startswith("#EXT-X-") or not line.startswith("#")
        substituted = _REFERENCE.sub(value_of, line) if is_tag_or_address else line
        if substituted.startswith(TAG):
            name, value = _definition(parse_attributes(substituted.removeprefix(TAG)), url, imported)
            variables[name] = value
            if len(variables) > MAXIMUM_VARIABLES:
                raise RemoteProtocolError("a playlist has too many variables")
        result.append(substituted)
    return result, variables


def _definition(attributes: Attributes, url: str, imported: Mapping[str, str]) -> tuple[str, str]:
    if "NAME" in attributes:
        return attributes["NAME"], attributes.get("VALUE", "")
    if "IMPORT" in attributes:
        return attributes["IMPORT"], _look_up(imported, attributes["IMPORT"])
    name = attributes.get("QUERYPARAM", "")
    try:
        query = urlsplit(url).query.replace("+", "%2B")  # it is no space there, but part of many tokens
        parameters = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=MAXIMUM_VARIABLES))
    except ValueError:
        raise RemoteProtocolError("the address of a playlist is not valid") from None
    return name, _look_up(parameters, name)


def _look_up(variables: Mapping[str, str], name: str) -> str:
    value = variables.get(name)
    if value is None:
        raise RemoteProtocolError(f"a playlist refers to a variable that is not defined: {name[:64]}")
    return value
