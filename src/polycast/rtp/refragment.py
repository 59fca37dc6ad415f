"""Cuts fragments anew at another size. What is left of one goes in front of the next: hardly more packets come out.

For payload formats whose large units travel in fragments: H.264 (RFC 6184 section 5.8), H.265 (RFC 7798 section 4.4.3)
and JPEG (RFC 2435). All but the last packet of a unit have one size, which lets them leave in one system call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from polycast.media.codec import H264, H265, MJPEG, Codec
from polycast.media.packet import RtpPacket
from polycast.rtp.payload import h264, h265

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
    """Takes the packets of one track in order."""

    def push(self, packet: RtpPacket) -> list[Piece]:
        """Return what goes out in place of a packet: nothing where all of it waits for the next one."""
        ...


class _UnitRefragmenter:
    """FU-A and FU: fragments of a NAL unit, with a start and an end bit in the byte in front of the data."""

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
        """The packet that ``_rest`` is of."""

    def push(self, packet: RtpPacket) -> list[Piece]:
        data, payload = packet.data, packet.payload
        start = payload + self._header_size
        pieces: list[Piece] = []
        if packet.end <= start or not self._is_fragment(data, payload):
            self._flush(pieces)
            pieces.append(Piece(packet, None, packet.marker))
            return pieces
        header = data[start - 1]
        if header & _START or not self._goes_on(packet):
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

    def _goes_on(self, packet: RtpPacket) -> bool:
        source = self._source
        return (
            source is not None
            and packet.sequence == (source.sequence + 1) & 0xFFFF
            and packet.timestamp == source.timestamp
        )

    def _flush(self, pieces: list[Piece]) -> None:
        if self._rest and self._source is not None:
            self._emit(pieces, self._source, self._rest)
        self._rest = b""
        self._starts = False

    def _emit(self, pieces: list[Piece], source: RtpPacket, part: bytes, *, end: int = 0, marker: bool = False) -> None:
        header = self._kind | end | (_START if self._starts else 0)
        self._starts = False
        pieces.append(Piece(source, self._prefix + bytes((header,)) + part, marker))


_JPEG_HEADER = 8
_RESTART_HEADER = 4
_TABLE_HEADER = 4
_UNALIGNED = b"\xff\xff"
"""First and last bit, and the count that says that packets and restart intervals begin anywhere (section 3.1.7)."""


class _JpegRefragmenter:
    """Each packet has the offset of its data in the picture, and the first one the quantization tables."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._rest = b""
        self._offset = 0
        """Of ``_rest`` in the picture."""
        self._header = b""
        """Main header without offset, restart header."""
        self._restart = b""
        self._tables = b""
        """Quantization tables for the first packet."""
        self._source: RtpPacket | None = None

    def push(self, packet: RtpPacket) -> list[Piece]:
        data, payload = packet.data, packet.payload
        pieces: list[Piece] = []
        position = payload + _JPEG_HEADER
        restart = b""
        if packet.end >= position and data[payload + 4] >= 64:
            restart = data[position : position + 2] + _UNALIGNED
            position += _RESTART_HEADER
        offset = int.from_bytes(data[payload + 1 : payload + 4], "big")
        self._tables = b"" if not offset else self._tables
        if packet.end >= position + _TABLE_HEADER and not offset and data[payload + 5] >= 128:
            size = _TABLE_HEADER + int.from_bytes(data[position + 2 : position + 4], "big")
            self._tables = data[position : position + size]
            position += size
        if packet.end <= position:
            self._flush(pieces)
            pieces.append(Piece(packet, None, packet.marker))
            return pieces
        if not self._goes_on(packet, offset):
            self._flush(pieces)
            self._offset = offset
        if not self._rest and packet.end - payload <= self._room:
            self._tables = b""
            self._offset += packet.end - position
            self._source = packet
            pieces.append(Piece(packet, None, packet.marker))
            return pieces
        self._header = data[payload : payload + 1] + data[payload + 4 : payload + _JPEG_HEADER]
        self._restart = restart
        rest = self._rest + data[position : packet.end]
        while rest:
            room = self._room - _JPEG_HEADER - len(restart) - len(self._tables)
            if len(rest) <= room and not packet.marker:
                break
            self._emit(pieces, packet, rest[:room], marker=packet.marker and len(rest) <= room)
            rest = rest[room:]
        self._rest = rest
        self._source = packet
        return pieces

    def _goes_on(self, packet: RtpPacket, offset: int) -> bool:
        source = self._source
        return (
            source is not None
            and offset == self._offset + len(self._rest)
            and packet.timestamp == source.timestamp
            and packet.sequence == (source.sequence + 1) & 0xFFFF
        )

    def _flush(self, pieces: list[Piece]) -> None:
        if self._rest and self._source is not None:
            self._emit(pieces, self._source, self._rest)
        self._rest = b""

    def _emit(self, pieces: list[Piece], source: RtpPacket, part: bytes, *, marker: bool = False) -> None:
        header = self._header[:1] + self._offset.to_bytes(3, "big") + self._header[1:] + self._restart
        pieces.append(Piece(source, header + self._tables + part, marker))
        self._tables = b""
        self._offset += len(part)


def make_refragmenter(codec: Codec, room: int) -> Refragmenter | None:
    """Return what cuts a codec's fragments anew for payloads of ``room`` bytes; None where there are no fragments."""
    if isinstance(codec, H264):
        return _UnitRefragmenter(room, 2, lambda data, payload: data[payload] & 0x1F == h264.FU_A)
    if isinstance(codec, H265) and not codec.maximum_don_difference:
        return _UnitRefragmenter(room, 3, lambda data, payload: data[payload] >> 1 & 0x3F == h265.FRAGMENTATION_UNIT)
    if isinstance(codec, MJPEG):
        return _JpegRefragmenter(room)
    return None
