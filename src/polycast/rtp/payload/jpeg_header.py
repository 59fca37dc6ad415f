"""Rebuilds the JPEG headers that RFC 2435 omits, from its main header (appendices A and B)."""

from __future__ import annotations

import struct
from functools import lru_cache

_ZIGZAG = (
    *(0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21),
    *(28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61),
    *(54, 47, 55, 62, 63),
)

# Rec. ITU-T T.81 tables K.1 and K.2, row by row.
_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99, *(99,) * 32),
)

# Rec. ITU-T T.81 tables K.3 to K.6: table class and number, 16 counts, symbols.
_HUFFMAN_TABLES = (
    bytes.fromhex("00 00010501010101010100000000000000 000102030405060708090a0b"),
    bytes.fromhex(
        "10 0002010303020403050504040000017d"
        "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a34"
        "35363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a9293949596"
        "9798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1"
        "f2f3f4f5f6f7f8f9fa"
    ),
    bytes.fromhex("01 00030101010101010101010000000000 000102030405060708090a0b"),
    bytes.fromhex(
        "11 00020102040403040705040400010277"
        "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a26272829"
        "2a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a929394"
        "95969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9ea"
        "f2f3f4f5f6f7f8f9fa"
    ),
)
HUFFMAN_TABLES = b"".join(_HUFFMAN_TABLES)
"""The tables as one DHT segment has them; RFC 2435 requires these in types 0 and 1."""


@lru_cache(maxsize=16)
def quantization_tables(quality: int) -> bytes:
    """Return the luminance and chrominance tables for a Q of 1 to 99, 64 bytes each in zigzag order (appendix A)."""
    scale = 5000 // quality if quality < 50 else 200 - quality * 2
    return bytes(
        max(1, min(255, (table[index] * scale + 50) // 100))
        for table in (_LUMINANCE, _CHROMINANCE)
        for index in _ZIGZAG
    )


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0xFF, marker, len(body) + 2) + body


@lru_cache(maxsize=16)
def build_header(kind: int, width: int, height: int, tables: bytes, restart_interval: int) -> bytes:
    """Return the headers of a JPEG file, up to the entropy-coded data (appendix B).

    ``kind`` is the RTP/JPEG type modulo 64: 0 for 4:2:2, 1 for 4:2:0. ``tables`` are one or two quantization tables
    of 64 bytes. Sizes are in pixels, the restart interval in MCUs (0: none).
    """
    parts = [b"\xff\xd8"]
    count = len(tables) // 64
    for index in range(count):
        parts.append(_segment(0xDB, bytes((index,)) + tables[64 * index : 64 * index + 64]))
    if restart_interval:
        parts.append(_segment(0xDD, restart_interval.to_bytes(2, "big")))
    chroma_table = min(1, count - 1)
    sampling = 0x21 if kind == 0 else 0x22
    components = bytes((3, 1, sampling, 0, 2, 0x11, chroma_table, 3, 0x11, chroma_table))
    parts.append(_segment(0xC0, b"\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + components))
    parts.append(_segment(0xC4, HUFFMAN_TABLES))
    parts.append(_segment(0xDA, bytes((3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0))))
    return b"".join(parts)
