"""Boxes of the ISO base media file format (ISO/IEC 14496-12 section 4.2): writing and iterating."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from polycast.errors import RemoteProtocolError

MAXIMUM_BOXES = 4096
"""Boxes on one level. A fragment has a handful, a moov two per track; files with thousands are rejected."""
MAXIMUM_DEPTH = 12
"""Nesting of boxes. A sample entry's configuration is at depth 8."""


def box(kind: bytes, *content: bytes) -> bytes:
    """Return a box with the given type (4 bytes) and content."""
    body = b"".join(content)
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def full_box(kind: bytes, version: int, flags: int, *content: bytes) -> bytes:
    """Return a box with a version and 24 bits of flags."""
    return box(kind, bytes((version,)) + flags.to_bytes(3, "big"), *content)


class Box(NamedTuple):
    """A box in a buffer: its type and the position of its content."""

    kind: bytes
    start: int
    """Offset of the first byte of the header."""
    content: int
    """Offset of the first byte after size and type."""
    end: int


def read_header(data: bytes, start: int, end: int) -> Box | None:
    """Return the box that starts at ``start``; None if its header is incomplete. Its end may be after ``end``.

    Raises RemoteProtocolError when the size is smaller than the header.
    """
    if end - start < 8:
        return None
    size = int.from_bytes(data[start : start + 4], "big")
    kind = data[start + 4 : start + 8]
    content = start + 8
    if size == 1:
        if end - start < 16:
            return None
        size = int.from_bytes(data[content : content + 8], "big")
        content += 8
    elif size == 0:  # up to the end of the enclosing box or file
        return Box(kind, start, content, end)
    if size < content - start:
        raise RemoteProtocolError("an MP4 box is smaller than its header")
    return Box(kind, start, content, start + size)


def iterate(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between ``start`` and ``end``.

    Raises RemoteProtocolError for a box that extends beyond the end, or for too many.
    """
    for _ in range(MAXIMUM_BOXES):
        found = read_header(data, start, end)
        if found is None:
            return
        if found.end > end:
            raise RemoteProtocolError("an MP4 box extends beyond its parent")
        yield found
        start = found.end
    raise RemoteProtocolError("an MP4 file has too many boxes")


def find(data: bytes, parent: Box, *path: bytes) -> Box | None:
    """Return the first box at a path of types below ``parent`` (at most `MAXIMUM_DEPTH` long), or None."""
    current = parent
    for kind in path[:MAXIMUM_DEPTH]:
        for child in iterate(data, current.content, current.end):
            if child.kind == kind:
                current = child
                break
        else:
            return None
    return current
