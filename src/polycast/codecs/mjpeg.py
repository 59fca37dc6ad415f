"""JPEG images as RFC 2435 carries them: taken apart for sending, put together again after receiving."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

from polycast.errors import RemoteProtocolError
from polycast.media.codec import MJPEG

MAXIMUM_SEGMENTS = 256
"""Marker segments in front of the scan. A camera's image has about 10; each application segment holds up to 64 KiB."""

MAXIMUM_DIMENSION = 65_535
"""Pixels in one direction, by the JPEG format. RFC 2435 carries 2040 at most."""

TYPE_422 = 0
TYPE_420 = 1
"""RTP/JPEG types (RFC 2435 section 4.1). Images with restart markers have 64 more."""

END_OF_IMAGE = b"\xff\xd9"
"""What ends an image; RTP may leave it out."""

_START_OF_IMAGE = b"\xff\xd8"
_START_OF_FRAME = 0xC0
_HUFFMAN_TABLES = 0xC4
_START_OF_SCAN = 0xDA
_QUANTIZATION_TABLES = 0xDB
_RESTART_INTERVAL = 0xDD
_OTHER_FRAMES = frozenset(range(0xC1, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Image:
    """A baseline JPEG image in the parts that RTP carries."""

    type: int
    """`TYPE_422` or `TYPE_420`, without the 64 for restart markers."""
    width: int
    """In pixels."""
    height: int
    quantization_tables: tuple[bytes, bytes]
    """Of luma and chroma, in zigzag order: 64 bytes, or 128 where a table has 16 bits per value."""
    restart_interval: int
    """In blocks; 0 without restart markers."""
    standard_huffman_tables: bool
    """The tables are those of RFC 2435 appendix B, which the receiver puts in. Otherwise RTP cannot carry the image."""
    scan: bytes
    """The entropy-coded data, without the end of image marker."""


def parse_image(frame: bytes) -> Image:
    """Take a JPEG image apart. Raises `RemoteProtocolError`, also for images that RFC 2435 cannot carry.

    Those are: progressive ones, ones with other than 3 components, other chroma subsampling than 4:2:2 and 4:2:0.
    """
    parser = _Parser()
    scan_start = parser.read_segments(frame)
    if parser.sampling is None or parser.components is None:
        raise RemoteProtocolError("a JPEG image has no frame header")
    if parser.sampling not in _TYPES:
        raise RemoteProtocolError("a JPEG image has a chroma subsampling that RTP cannot carry")
    luma, first_chroma, second_chroma = (parser.tables.get(number) for number in parser.components)
    if luma is None or first_chroma is None or first_chroma != second_chroma:
        raise RemoteProtocolError("a JPEG image has quantization tables that RTP cannot carry")
    end = frame.rfind(END_OF_IMAGE, scan_start)
    return Image(
        type=_TYPES[parser.sampling],
        width=parser.width,
        height=parser.height,
        quantization_tables=(luma, first_chroma),
        restart_interval=parser.restart_interval,
        standard_huffman_tables=all(table in _standard_huffman_tables() for table in parser.huffman_tables),
        scan=frame[scan_start : end if end >= 0 else len(frame)],
    )


# Sampling factors of the three components.
_TYPES = {(0x21, 0x11, 0x11): TYPE_422, (0x22, 0x11, 0x11): TYPE_420}


class _Parser:
    def __init__(self) -> None:
        self.width = 0
        self.height = 0
        self.sampling: tuple[int, ...] | None = None
        self.components: tuple[int, ...] | None = None
        """Number of the quantization table of each component."""
        self.tables: dict[int, bytes] = {}
        self.huffman_tables: list[bytes] = []
        self.restart_interval = 0

    def read_segments(self, frame: bytes) -> int:
        """Read everything in front of the scan; return where that starts."""
        if not frame.startswith(_START_OF_IMAGE):
            raise RemoteProtocolError("not a JPEG image")
        position = 2
        for _ in range(MAXIMUM_SEGMENTS):
            while position < len(frame) and frame[position : position + 2] == b"\xff\xff":
                position += 1  # fill byte
            if position + 4 > len(frame) or frame[position] != 0xFF:
                break
            marker, size = frame[position + 1], int.from_bytes(frame[position + 2 : position + 4], "big")
            end = position + 2 + size
            if size < 2 or end > len(frame):
                break
            self._read_segment(marker, frame[position + 4 : end])
            position = end
            if marker == _START_OF_SCAN:
                return position
        raise RemoteProtocolError("a JPEG image is broken or ends too early")

    def _read_segment(self, marker: int, data: bytes) -> None:
        if marker == _START_OF_FRAME:
            self._read_frame_header(data)
        elif marker == _QUANTIZATION_TABLES:
            self._read_quantization_tables(data)
        elif marker == _HUFFMAN_TABLES:
            self._read_huffman_tables(data)
        elif marker == _RESTART_INTERVAL:
            if len(data) < 2:
                raise RemoteProtocolError("a JPEG restart interval ends too early")
            self.restart_interval = int.from_bytes(data[:2], "big")
        elif marker in _OTHER_FRAMES:
            raise RemoteProtocolError("a JPEG image is not baseline coded")

    def _read_frame_header(self, data: bytes) -> None:
        if len(data) < 15:
            raise RemoteProtocolError("a JPEG frame header ends too early")
        precision, self.height, self.width, count = struct.unpack_from(">BHHB", data)
        if precision != 8 or count != 3 or self.width == 0 or self.height == 0:
            raise RemoteProtocolError(
                "a JPEG image has a size, precision or number of components that is not supported"
            )
        self.sampling = (data[7], data[10], data[13])
        self.components = (data[8], data[11], data[14])

    def _read_quantization_tables(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            size = 128 if data[position] >> 4 else 64
            table = data[position + 1 : position + 1 + size]
            if len(table) < size:
                raise RemoteProtocolError("a JPEG quantization table ends too early")
            self.tables[data[position] & 0xF] = table
            position += 1 + size

    def _read_huffman_tables(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            end = position + 17 + sum(data[position + 1 : position + 17])
            if end > len(data):
                raise RemoteProtocolError("a JPEG Huffman table ends too early")
            self.huffman_tables.append(data[position:end])
            position = end


def build_header(
    image_type: int, width: int, height: int, quantization_tables: tuple[bytes, bytes], restart_interval: int = 0
) -> bytes:
    """Return everything in front of the scan of an image (RFC 2435 appendix B).

    ``quantization_tables`` have 64 bytes, or 128 where a table has 16 bits per value. The whole image is this, the
    scan, and `END_OF_IMAGE`. Raises `RemoteProtocolError` when a value is not possible.
    """
    if (
        image_type not in (TYPE_422, TYPE_420)
        or not 0 < width <= MAXIMUM_DIMENSION
        or not 0 < height <= MAXIMUM_DIMENSION
    ):
        raise RemoteProtocolError(f"a JPEG image of type {image_type}, {width} by {height} pixels, is not valid")
    if any(len(table) not in (64, 128) for table in quantization_tables):
        raise RemoteProtocolError("a JPEG quantization table has a size that is not valid")
    parts = [_START_OF_IMAGE]
    if restart_interval:
        parts.append(struct.pack(">HHH", 0xFF00 | _RESTART_INTERVAL, 4, restart_interval & 0xFFFF))
    for number, table in enumerate(quantization_tables):
        kind = (0x10 if len(table) == 128 else 0) | number
        parts.append(struct.pack(">HHB", 0xFF00 | _QUANTIZATION_TABLES, 3 + len(table), kind) + table)
    parts.append(struct.pack(">HHBHHB", 0xFF00 | _START_OF_FRAME, 17, 8, height, width, 3))
    parts.append(bytes((1, 0x21 if image_type == TYPE_422 else 0x22, 0, 2, 0x11, 1, 3, 0x11, 1)))
    for table in _standard_huffman_tables():
        parts.append(struct.pack(">HH", 0xFF00 | _HUFFMAN_TABLES, 2 + len(table)) + table)
    parts.append(struct.pack(">HHB", 0xFF00 | _START_OF_SCAN, 12, 3) + bytes((1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0)))
    return b"".join(parts)


@lru_cache(maxsize=100)
def make_quantization_tables(quality: int) -> tuple[bytes, bytes]:
    """Return the tables of luma and chroma for a Q value of 1 to 99 (RFC 2435 section 4.2, appendix A).

    Raises `RemoteProtocolError` for any other.
    """
    if not 1 <= quality <= 99:
        raise RemoteProtocolError(f"RTP/JPEG has no quantization tables for a Q of {quality}")
    factor = 5000 // quality if quality < 50 else 200 - quality * 2
    luma, chroma = (
        bytes([min(max((value * factor + 50) // 100, 1), 255) for value in table])
        for table in (_LUMA_QUANTIZERS, _CHROMA_QUANTIZERS)
    )
    return luma, chroma


# ISO/IEC 10918-1 tables K.1 and K.2, in zigzag order.
_LUMA_QUANTIZERS = (
    *(16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51),
    *(61, 60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62),
    *(77, 113, 121, 112, 100, 120, 92, 101, 103, 99),
)
_CHROMA_QUANTIZERS = (
    *(17, 18, 18, 24, 21, 24, 47, 26, 26, 47, 99, 66, 56, 66, 99, 99),
    *(99,) * 48,
)


@lru_cache(maxsize=1)
def _standard_huffman_tables() -> tuple[bytes, ...]:
    """ISO/IEC 10918-1 tables K.3 to K.6: class and number, 16 counts of codes by length, values."""
    return tuple(
        bytes((kind,)) + bytes.fromhex(counts) + bytes.fromhex(values)
        for kind, counts, values in (
            (0x00, "00010501010101010100000000000000", _DC_VALUES),
            (0x10, "0002010303020403050504040000017d", _LUMA_AC_VALUES),
            (0x01, "00030101010101010101010000000000", _DC_VALUES),
            (0x11, "00020102040403040705040400010277", _CHROMA_AC_VALUES),
        )
    )


_DC_VALUES = "000102030405060708090a0b"
_LUMA_AC_VALUES = (
    "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a"
    "3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a929394"
    "95969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8"
    "e9eaf1f2f3f4f5f6f7f8f9fa"
)
_CHROMA_AC_VALUES = (
    "0001020311040521310612415107617113223281081442"
    "91a1b1c109233352f0156272d10a162434e125f11718191a262728292a35363738393a434445464748494a53545556575859"
    "5a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7"
    "b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
)


def resolution(frame: bytes) -> tuple[int, int] | None:
    """Return width and height of an image in pixels; None when it is broken or RTP cannot carry it."""
    try:
        image = parse_image(frame)
    except RemoteProtocolError:
        return None
    return image.width, image.height


def codec_string(codec: MJPEG) -> str:
    """Return the codec's name for the Web."""
    return "mjpeg"
