"""JPEG in RTP (RFC 2435)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from polycast.errors import RemoteProtocolError
from polycast.media.codec import MJPEG
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.rtp.header import TARGET_PACKET_SIZE
from polycast.rtp.payload.base import KEY, NO_FRAMES, BaseDepacketizer, BasePacketizer, Peek
from polycast.rtp.payload.jpeg_header import HUFFMAN_TABLES, build_header, quantization_tables
from polycast.rtp.payload.rtp_payload import RtpPayload
from polycast.rtp.refragment import Piece, Refragmenter, follows

_MAXIMUM_SCAN_SIZE = 1 << 24
"""Bytes of an image: offsets have 24 bits (RFC 2435 section 3.1.2)."""
MAXIMUM_SEGMENTS = 64
"""Segments before the image data of one JPEG frame; cameras write about 10."""

_HEADER_SIZE = 8
_RESTART_HEADER_SIZE = 4
_TABLE_HEADER_SIZE = 4
_FIRST_TYPE_WITH_RESTART = 64
_FIRST_QUALITY_WITH_TABLES = 128
_DYNAMIC_TABLES = 255
_LARGEST_SIZE = 2040
_END_OF_IMAGE = b"\xff\xd9"
_UNALIGNED = b"\xff\xff"
"""First and last bit, and the count for packets that are not aligned with restart intervals (section 3.1.7)."""


def peek(data: bytes, payload: int, end: int) -> int:
    """Return KEY at the first packet of a frame."""
    return KEY if end - payload >= _HEADER_SIZE and not any(data[payload + 1 : payload + 4]) else 0


class MJPEGDepacketizer(BaseDepacketizer):
    """See `Depacketizer`. The JPEG headers, which are not in the packets, are rebuilt."""

    def __init__(self) -> None:
        super().__init__()
        self._header = b""
        self._timestamp = -1
        self._tables_by_quality: dict[int, bytes] = {}

    def on_loss(self) -> None:
        self._drop_frame()

    def reset(self) -> None:
        self._fragments.clear()
        self._timestamp = -1

    def _drop_frame(self) -> None:
        if self._timestamp >= 0:
            self.lost_frames += 1
        self.reset()

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        data, payload, end = packet.data, packet.payload, packet.end
        if end - payload < _HEADER_SIZE:
            raise RemoteProtocolError("JPEG packet is too short")
        offset = int.from_bytes(data[payload + 1 : payload + 4], "big")
        position = payload + _HEADER_SIZE
        restart_interval = 0
        if data[payload + 4] >= _FIRST_TYPE_WITH_RESTART:
            restart_interval = int.from_bytes(data[position : position + 2], "big")
            position += _RESTART_HEADER_SIZE
        if offset == 0:
            if self._timestamp >= 0:
                self._drop_frame()
            position = self._begin_frame(data, payload, position, end, restart_interval)
            self._timestamp = packet.timestamp
        elif self._timestamp < 0:
            return NO_FRAMES
        elif packet.timestamp != self._timestamp or offset != self._fragments.size:
            self._drop_frame()
            return NO_FRAMES
        if position > end:
            raise RemoteProtocolError("JPEG packet is too short")
        self._fragments.append(data[position:end])
        if not packet.marker:
            return NO_FRAMES
        self._timestamp = -1
        image = self._header + self._fragments.take()
        if not image.endswith(_END_OF_IMAGE):
            image += _END_OF_IMAGE
        return (Frame((image,), pts, pts, key=True),)

    def _begin_frame(self, data: bytes, payload: int, position: int, end: int, restart_interval: int) -> int:
        kind, quality = data[payload + 4], data[payload + 5]
        width, height = data[payload + 6] * 8, data[payload + 7] * 8
        if kind % _FIRST_TYPE_WITH_RESTART > 1 or kind >= 2 * _FIRST_TYPE_WITH_RESTART:
            raise RemoteProtocolError(f"unsupported JPEG type: {kind}")
        if not width or not height:
            raise RemoteProtocolError("JPEG frame without size")
        if quality >= _FIRST_QUALITY_WITH_TABLES:
            tables, position = self._read_tables(data, position, end, quality)
        elif 1 <= quality <= 99:
            tables = quantization_tables(quality)
        else:
            raise RemoteProtocolError(f"invalid JPEG quality: {quality}")
        self._header = build_header(kind % _FIRST_TYPE_WITH_RESTART, width, height, tables, restart_interval)
        return position

    def _read_tables(self, data: bytes, position: int, end: int, quality: int) -> tuple[bytes, int]:
        if end - position < _TABLE_HEADER_SIZE:
            raise RemoteProtocolError("JPEG quantization table header is cut off")
        precision = data[position + 1]
        size = int.from_bytes(data[position + 2 : position + 4], "big")
        position += _TABLE_HEADER_SIZE
        if size == 0:
            # RFC 2435 section 3.1.8: the tables of an earlier frame with this Q, except for 255.
            tables = self._tables_by_quality.get(quality, b"")
            if not tables or quality == _DYNAMIC_TABLES:
                raise RemoteProtocolError("JPEG quantization tables are missing")
            return tables, position
        if precision or size not in (64, 128) or position + size > end:
            raise RemoteProtocolError("JPEG quantization tables are cut off or not 8 bits deep")
        tables = data[position : position + size]
        self._tables_by_quality[quality] = tables
        return tables, position + size


@dataclass(frozen=True, slots=True)
class JpegImage:
    """The parts of a JPEG image that RFC 2435 carries."""

    kind: int
    """0 for 4:2:2, 1 for 4:2:0."""
    width: int
    height: int
    tables: bytes
    """Quantization tables, 64 bytes each, luminance first."""
    restart_interval: int
    scan: bytes
    """The entropy-coded data."""


def parse_image(data: bytes) -> JpegImage:
    """Parse a baseline JPEG image. Raises `RemoteProtocolError` for one that RFC 2435 cannot carry."""
    if not data.startswith(b"\xff\xd8"):
        raise RemoteProtocolError("not a JPEG image")
    position = 2
    tables: dict[int, bytes] = {}
    frame = b""
    restart_interval = 0
    for _ in range(MAXIMUM_SEGMENTS):
        if position + 4 > len(data) or data[position] != 0xFF:
            break
        marker = data[position + 1]
        size = int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : position + 2 + size]
        if size < 2 or len(body) != size - 2:
            break
        position += 2 + size
        if marker == 0xDB:
            _read_quantization_tables(body, tables)
        elif marker == 0xC0:
            frame = body
        elif marker in (0xC1, 0xC2, 0xC3) or 0xC5 <= marker <= 0xCB:
            raise RemoteProtocolError("only baseline JPEG can be sent over RTP")
        elif marker == 0xC4:
            _check_huffman_tables(body)
        elif marker == 0xDD and len(body) == 2:
            restart_interval = int.from_bytes(body, "big")
        elif marker == 0xDA:
            scan = data[position:]
            return _image(frame, tables, restart_interval, scan.removesuffix(_END_OF_IMAGE))
    raise RemoteProtocolError("JPEG image has no scan")


def _read_quantization_tables(body: bytes, tables: dict[int, bytes]) -> None:
    for position in range(0, len(body), 65):
        if body[position] > 3 or position + 65 > len(body):
            raise RemoteProtocolError("JPEG quantization tables are cut off or not 8 bits deep")
        tables[body[position]] = body[position + 1 : position + 65]


def _check_huffman_tables(body: bytes) -> None:
    position = 0
    while position + 17 <= len(body):
        size = 17 + sum(body[position + 1 : position + 17])
        if body[position : position + size] not in HUFFMAN_TABLES:
            raise RemoteProtocolError("JPEG with its own Huffman tables cannot be sent over RTP")
        position += size


def _image(frame: bytes, tables: dict[int, bytes], restart_interval: int, scan: bytes) -> JpegImage:
    if len(frame) < 15 or frame[0] != 8 or frame[5] != 3:
        raise RemoteProtocolError("only JPEG with 3 components of 8 bits can be sent over RTP")
    height, width = struct.unpack_from("!HH", frame, 1)
    if not 0 < width <= _LARGEST_SIZE or not 0 < height <= _LARGEST_SIZE:
        raise RemoteProtocolError(f"JPEG of {width}x{height} cannot be sent over RTP")
    kinds = {0x21: 0, 0x22: 1}
    if frame[7] not in kinds or frame[10] != 0x11 or frame[13] != 0x11 or frame[11] != frame[14]:
        raise RemoteProtocolError("only JPEG in 4:2:2 and 4:2:0 can be sent over RTP")
    try:
        selected = tables[frame[8]] + tables[frame[11]]
    except KeyError:
        raise RemoteProtocolError("JPEG quantization tables are missing") from None
    return JpegImage(kinds[frame[7]], width, height, selected, restart_interval, scan)


class MJPEGPacketizer(BasePacketizer):
    """Q is 255: every frame contains the quantization tables."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        image = parse_image(frame.units[0])
        if len(image.scan) >= _MAXIMUM_SCAN_SIZE:
            raise RemoteProtocolError("JPEG image is too large for the fragment offset")
        kind = image.kind + (_FIRST_TYPE_WITH_RESTART if image.restart_interval else 0)
        tail = bytes((kind, _DYNAMIC_TABLES, (image.width + 7) // 8, (image.height + 7) // 8))
        if image.restart_interval:
            # F and L set, count 0x3FFF: frames are decoded whole (section 3.1.7).
            tail += image.restart_interval.to_bytes(2, "big") + _UNALIGNED
        tables = struct.pack("!BBH", 0, 0, len(image.tables)) + image.tables
        payloads: list[bytes] = []
        position = 0
        while position < len(image.scan) or not payloads:
            header = b"\x00" + position.to_bytes(3, "big") + tail + (b"" if position else tables)
            size = self._maximum_payload - len(header)
            payloads.append(header + image.scan[position : position + size])
            position += size
        return payloads


class JpegRefragmenter:
    """Each packet has the offset of its data in the image, and the first one the quantization tables."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._rest = b""
        self._offset = 0
        """Offset of ``_rest`` in the image."""
        self._header = b""
        """Main header without offset, restart header."""
        self._restart = b""
        self._tables = b""
        """Quantization tables for the first packet."""
        self._source: RtpPacket | None = None

    def push(self, packet: RtpPacket) -> list[Piece]:
        data, payload = packet.data, packet.payload
        pieces: list[Piece] = []
        position = payload + _HEADER_SIZE
        restart = b""
        if packet.end >= position and data[payload + 4] >= _FIRST_TYPE_WITH_RESTART:
            restart = data[position : position + 2] + _UNALIGNED
            position += _RESTART_HEADER_SIZE
        offset = int.from_bytes(data[payload + 1 : payload + 4], "big")
        self._tables = b"" if not offset else self._tables
        has_tables = not offset and packet.end >= position + _TABLE_HEADER_SIZE
        if has_tables and data[payload + 5] >= _FIRST_QUALITY_WITH_TABLES:
            size = _TABLE_HEADER_SIZE + int.from_bytes(data[position + 2 : position + 4], "big")
            self._tables = data[position : position + size]
            position += size
        if packet.end <= position:
            self._flush(pieces)
            pieces.append(Piece(packet, None, packet.marker))
            return pieces
        if not follows(packet, self._source) or offset != self._offset + len(self._rest):
            self._flush(pieces)
            self._offset = offset
        if not self._rest and packet.end - payload <= self._room:
            self._tables = b""
            self._offset += packet.end - position
            self._source = packet
            pieces.append(Piece(packet, None, packet.marker))
            return pieces
        self._header = data[payload : payload + 1] + data[payload + 4 : payload + _HEADER_SIZE]
        self._restart = restart
        rest = self._rest + data[position : packet.end]
        if self._offset + len(rest) > _MAXIMUM_SCAN_SIZE:
            self._rest = b""
            raise RemoteProtocolError("a JPEG image is too large for RTP")
        while rest:
            room = self._room - _HEADER_SIZE - len(restart) - len(self._tables)
            if len(rest) <= room and not packet.marker:
                break
            self._emit(pieces, packet, rest[:room], marker=packet.marker and len(rest) <= room)
            rest = rest[room:]
        self._rest = rest
        self._source = packet
        return pieces

    def _flush(self, pieces: list[Piece]) -> None:
        if self._rest and self._source is not None:
            self._emit(pieces, self._source, self._rest)
        self._rest = b""

    def _emit(self, pieces: list[Piece], source: RtpPacket, part: bytes, *, marker: bool = False) -> None:
        header = self._header[:1] + self._offset.to_bytes(3, "big") + self._header[1:] + self._restart
        pieces.append(Piece(source, header + self._tables + part, marker))
        self._tables = b""
        self._offset += len(part)


class MJPEGPayload(RtpPayload[MJPEG]):
    """See `RtpPayload`."""

    codec_type = MJPEG
    encodings = ("JPEG",)
    static_type = 26
    marker_ends_frame = True
    # live555 cannot forward larger packets of JPEG, as it does not fragment them again.
    maximum_packet_size = TARGET_PACKET_SIZE
    is_self_describing = True
    depacketizer_type = MJPEGDepacketizer
    packetizer_type = MJPEGPacketizer

    def peek_for(self, codec: MJPEG) -> Peek:
        return peek

    def refragmenter(self, codec: MJPEG, room: int) -> Refragmenter:
        return JpegRefragmenter(room)


PAYLOAD = MJPEGPayload()
