"""The names under which streams are requested as one long response."""

from __future__ import annotations

from enum import StrEnum


class StreamFile(StrEnum):
    """A name in the folder of a path."""

    FLV = "stream.flv"
    TRANSPORT = "stream.ts"
    PICTURES = "stream.mjpeg"
    PICTURE = "frame.jpeg"
