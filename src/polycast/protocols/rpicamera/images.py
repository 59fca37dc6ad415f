"""Splits a sequence of JPEG images (ISO/IEC 10918-1) into images."""

from __future__ import annotations

from typing import Final

from polycast.codecs.nal import MAXIMUM_FRAME_SIZE
from polycast.errors import RemoteProtocolError

_START_OF_IMAGE: Final = b"\xff\xd8"
_END_OF_IMAGE: Final = b"\xff\xd9"
"""In coded data, 0xFF is followed by zero (section F.1.2.3), and the program writes no thumbnails: so this is the
end."""

Image = tuple[bytes, ...]
"""One image: one item, as other codecs have several units."""


class ImageReader:
    """Splits a byte stream. Call `receive` with received data."""

    is_pending: Final = False
    """Whether the end of an image is only known from what follows."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0

    def receive(self, data: bytes) -> list[Image]:
        """Process received bytes; return the images that are complete.

        Raises RemoteProtocolError if the bytes are no images, or one exceeds the limit.
        """
        self._buffer += data
        found: list[Image] = []
        while (end := self._buffer.find(_END_OF_IMAGE, self._searched)) >= 0:
            end += len(_END_OF_IMAGE)
            found.append((bytes(self._buffer[:end]),))
            del self._buffer[:end]
            self._searched = 0
        self._searched = max(0, len(self._buffer) - 1)
        start = bytes(self._buffer[: len(_START_OF_IMAGE)])
        is_image = _START_OF_IMAGE.startswith(start) and all(each[0].startswith(_START_OF_IMAGE) for each in found)
        if not is_image or len(self._buffer) > MAXIMUM_FRAME_SIZE:
            raise RemoteProtocolError("the bytes are not JPEG images")
        return found

    def flush(self) -> list[Image]:
        """Return what is complete without more data: nothing."""
        return []
