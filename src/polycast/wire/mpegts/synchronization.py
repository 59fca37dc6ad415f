"""Finds the packets in the bytes of a transport stream (ISO/IEC 13818-1 section 2.4.3.2)."""

from __future__ import annotations

from typing import Final

from polycast.wire.mpegts.constants import PACKET_SIZE, SYNC_BYTE

STRIDES: Final = (188, 204, 192)
"""Bytes from one packet to the next: alone, with the parity bytes of DVB (ETSI EN 300 429), or after a timestamp of
four bytes (M2TS)."""


class Synchronization:
    """Where packets begin."""

    __slots__ = ("is_found", "losses", "skip", "stride")

    def __init__(self) -> None:
        self.is_found = False
        """Whether the packets are where they are expected."""
        self.stride = STRIDES[0]
        """Bytes from one packet to the next."""
        self.skip = 0
        """Bytes to come that belong to no packet."""
        self.losses = 0
        """How often bytes had to be skipped to find the next packet."""

    def check(self, data: bytes, offset: int) -> int | None:
        """Return the offset of the packet at ``offset`` or later; None if more data is needed to tell.

        It is ``offset`` itself if the packets are where they are expected.
        """
        size = len(data)
        if data[offset] == SYNC_BYTE and self.is_found:
            return offset
        if self.is_found:
            self.is_found = False
            self.losses += 1
        while offset >= 0 and offset + PACKET_SIZE <= size:
            found = self._confirm(data, offset) if data[offset] == SYNC_BYTE else False
            if found is None:
                return None
            if found:
                self.is_found = True
                return offset
            offset = data.find(SYNC_BYTE, offset + 1)
        return size if offset < 0 else offset

    def _confirm(self, data: bytes, offset: int) -> bool | None:
        """Return whether another packet follows the one at ``offset``; None if that is not known yet."""
        size = len(data)
        if offset + PACKET_SIZE >= size:
            # the first packet of a stream is taken at its word
            return None if self.losses else True
        for stride in STRIDES:
            if offset + stride < size and data[offset + stride] == SYNC_BYTE:
                self.stride = stride
                return True
        return None if offset + max(STRIDES) >= size else False
