"""Changes the size of fragments. The rest of one is put before the next, so that hardly more packets result.

For payload formats that send large units in fragments. All but the last packet of a unit have the same size, so that
they can be sent in one system call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from polycast.media.packet import RtpPacket

_START = 0x80
_END = 0x40


class Piece(NamedTuple):
    """One packet to send."""

    source: RtpPacket
    """The packet that it belongs to: timestamp and SSRC are those of this one."""
    payload: bytes | None
    """None: ``source`` as it is, if it is small enough."""
    marker: bool


class Refragmenter(Protocol):
    """Processes the packets of one track in order."""

    def push(self, packet: RtpPacket) -> list[Piece]:
        """Return the packets to send instead of a packet: none if all of it waits for the next one."""
        ...


def follows(packet: RtpPacket, earlier: RtpPacket | None) -> bool:
    """Whether a packet is the next one of the same frame."""
    return (
        earlier is not None
        and packet.sequence == (earlier.sequence + 1) & 0xFFFF
        and packet.timestamp == earlier.timestamp
    )


class UnitRefragmenter:
    """FU-A (RFC 6184 section 5.8) and FU (RFC 7798 section 4.4.3): fragments of a NAL unit, with a start and an end
    bit in the byte before the data."""

    def __init__(self, room: int, header_size: int, is_fragment: Callable[[bytes, int], bool]) -> None:
        """``room``: bytes of a payload."""
        self._room = room - header_size
        self._header_size = header_size
        self._is_fragment = is_fragment
        self._prefix = b""
        self._kind = 0
        self._starts = False
        self._rest = b""
        self._source: RtpPacket | None = None
        """The packet that ``_rest`` belongs to."""

    def push(self, packet: RtpPacket) -> list[Piece]:
        data, payload = packet.data, packet.payload
        start = payload + self._header_size
        pieces: list[Piece] = []
        if packet.end <= start or not self._is_fragment(data, payload):
            self._flush(pieces)
            pieces.append(Piece(packet, None, packet.marker))
            return pieces
        header = data[start - 1]
        if header & _START or not follows(packet, self._source):
            self._flush(pieces)
            self._starts = header & _START != 0
        if not self._rest and packet.end - start <= self._room:
            pieces.append(Piece(packet, None, packet.marker))
            self._starts = False
            self._source = packet
            return pieces
        self._prefix = data[payload : start - 1]
        self._kind = header & ~(_START | _END)
        rest = self._rest + data[start : packet.end]
        while len(rest) > self._room:
            self._emit(pieces, packet, rest[: self._room])
            rest = rest[self._room :]
        if header & _END or packet.marker:
            self._emit(pieces, packet, rest, end=header & _END, marker=packet.marker)
            rest = b""
        self._rest = rest
        self._source = packet
        return pieces

    def _flush(self, pieces: list[Piece]) -> None:
        if self._rest and self._source is not None:
            self._emit(pieces, self._source, self._rest)
        self._rest = b""
        self._starts = False

    def _emit(self, pieces: list[Piece], source: RtpPacket, part: bytes, *, end: int = 0, marker: bool = False) -> None:
        header = self._kind | end | (_START if self._starts else 0)
        self._starts = False
        pieces.append(Piece(source, self._prefix + bytes((header,)) + part, marker))
