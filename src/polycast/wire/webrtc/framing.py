"""Packets of an ICE connection over TCP: each after its size in two bytes (RFC 4571 section 2, RFC 6544 section 3)."""

from __future__ import annotations

from typing import Final

from polycast.errors import RemoteProtocolError

SIZE_BYTES: Final = 2

MAXIMUM_SIZE: Final = 8 * 1024
"""Bytes of a packet: those of WebRTC have at most 1,500, like datagrams."""


def frame(packet: bytes) -> bytes:
    """Return a packet, of at most 65,535 bytes, with its size."""
    return len(packet).to_bytes(SIZE_BYTES, "big") + packet


class Deframer:
    """Splits a stream of bytes into packets."""

    def __init__(self) -> None:
        self._data = b""
        self._start = 0

    @property
    def held_size(self) -> int:
        """Number of bytes that are not returned yet."""
        return len(self._data) - self._start

    def receive_data(self, data: bytes) -> None:
        """Add received bytes."""
        self._data = self._data[self._start :] + data
        self._start = 0

    def next_packet(self) -> bytes | None:
        """Return the next packet; None if it is not complete yet. Empty packets are possible.

        Raises RemoteProtocolError for one of more than `MAXIMUM_SIZE`.
        """
        data, start = self._data, self._start + SIZE_BYTES
        if start > len(data):
            return None
        size = data[start - 2] << 8 | data[start - 1]
        if size > MAXIMUM_SIZE:
            raise RemoteProtocolError(f"a packet of {size} bytes")
        end = start + size
        if end > len(data):
            return None
        self._start = end
        return data[start:end]
