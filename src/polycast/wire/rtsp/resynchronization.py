"""Finds the next message or interleaved frame after stray bytes.

Cameras send such bytes between two frames: padding to a multiple of four (Canon VB-H47), a block of another protocol
(TP-Link Tapo C110), the rest of a packet whose length was too small.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.message import Method

SKIP_LIMIT: Final = 256 * 1024
"""Maximum number of consecutive skipped bytes, four of the largest interleaved frames: a peer that sends more without a
frame or a message no longer uses RTSP."""

FALSE_START_LIMIT: Final = 32
"""Maximum number of consecutive false starts of a message. There is hardly ever one by chance, and each costs parsing a
whole line."""

_FRAME_HEADER_SIZE: Final = 4

# A frame after stray bytes must have at least the 8 bytes of the shortest RTCP packet, and version 2 of RTP or RTCP in
# the first two bits.
_LENGTH_AND_VERSION: Final = rb"(?:\x00[\x08-\xff]|[\x01-\xff].)[\x80-\xbf]"
_METHODS: Final = "|".join(Method).encode()
_MESSAGE: Final = rb"RTSP/1\.0 [1-5]|(?:" + _METHODS + rb") (?:\*|/|rtsps?://)"

_PARTIAL_SIZE: Final = 32
"""At least the length of the longest partial start of a frame or message that `_PARTIAL` finds."""
_PARTIAL: Final = re.compile(
    rb"(?:\$.{0,4}|[A-Z_]{1,20}(?: [rtsp:/]{0,7})?|RTSP/[0-9. ]{0,4})\Z",
    re.DOTALL,
)

# If nothing was skipped, any word may be a method: unknown ones are answered with 501.
_FIRST_WORD: Final = re.compile(rb"(?:RTSP/[0-9.]{3,8}|[A-Za-z0-9_-]{3,64}) ")
_PARTIAL_FIRST_WORD: Final = re.compile(rb"(?:RTSP/[0-9.]{0,8}|[A-Za-z0-9_-]{1,64})\Z")


class Resynchronizer:
    """Finds where an RTSP connection continues after stray bytes, given the interleaved channels in use."""

    __slots__ = (
        "_false_starts",
        "_frame_or_message",
        "_skipped_in_row",
        "channels",
        "has_skipped",
        "is_lost",
        "skipped",
    )

    def __init__(self, channels: Collection[int], skipped: int = 0) -> None:
        self.channels = frozenset(channels)
        self.skipped = skipped
        """Bytes skipped so far."""
        self.has_skipped = False
        """Whether bytes were skipped since the last frame or message."""
        self._skipped_in_row = 0
        self._false_starts = 0
        self.is_lost = False
        """Whether it is searching for the next frame or message."""
        known = b"".join(b"\\x%02x" % channel for channel in sorted(self.channels))
        self._frame_or_message = re.compile(rb"\$[" + known + rb"]" + _LENGTH_AND_VERSION + rb"|" + _MESSAGE, re.DOTALL)

    def is_usual(self, buffer: bytes, position: int) -> bool:
        """Whether the dollar sign at ``position`` certainly starts a frame, as nearly always."""
        return not self.is_lost and len(buffer) > position + 1 and buffer[position + 1] in self.channels

    def begins(self, buffer: bytes, position: int, *, is_frame: bool) -> bool | None:
        """Whether a frame (``is_frame``: there is a dollar sign) or else a message may start at ``position``; None
        if more bytes are needed.

        Frames of channels that were not set up are accepted if they contain RTP or RTCP: some servers send these.
        """
        if self.is_lost:
            return False
        if not is_frame:
            if _FIRST_WORD.match(buffer, position):
                return True
            return None if _PARTIAL_FIRST_WORD.match(buffer, position) else False
        if len(buffer) < position + 2:
            return None
        if buffer[position + 1] in self.channels:
            return True
        if len(buffer) <= position + _FRAME_HEADER_SIZE:
            return None
        return buffer[position + _FRAME_HEADER_SIZE] >> 6 == 2

    def skip(self, buffer: bytes, position: int) -> tuple[int, bool]:
        """Search for the next frame or message after the stray byte at ``position``.

        Return its position, or where to continue the search with more bytes; and whether it was found. Raises
        RemoteProtocolError (400) over SKIP_LIMIT or FALSE_START_LIMIT.
        """
        start = position
        if not self.is_lost:
            start += 1
            self._false_starts += 1
        found = self._frame_or_message.search(buffer, start)
        if found is not None:
            end = found.start()
        else:
            partial = _PARTIAL.search(buffer, max(start, len(buffer) - _PARTIAL_SIZE))
            end = len(buffer) if partial is None else partial.start()
        self.is_lost = found is None
        self.skipped += end - position
        self.has_skipped = True
        self._skipped_in_row += end - position
        if self._skipped_in_row > SKIP_LIMIT or self._false_starts > FALSE_START_LIMIT:
            raise RemoteProtocolError("too many bytes between two frames")
        return end, found is not None

    def on_event(self) -> None:
        """A frame or message was found."""
        self.has_skipped = False
        self._skipped_in_row = self._false_starts = 0
