"""Headers of packetized elementary streams (ISO/IEC 13818-1 section 2.4.3.6)."""

from __future__ import annotations

from typing import NamedTuple

from polycast.wire.mpegts.constants import STREAM_ID_VIDEO, TIMESTAMP_MASK

MAXIMUM_PES_LENGTH = 0xFFFF
"""The largest PES_packet_length; video packets beyond it are written with length 0, which means unbounded."""

# Stream identifiers without the optional header: program stream map, padding, private 2, ECM, EMM, DSM-CC, H.222.1 E.
_WITHOUT_HEADER = frozenset((0xBC, 0xBE, 0xBF, 0xF0, 0xF1, 0xF2, 0xF8, 0xFF))


class PesHeader(NamedTuple):
    """The parts of a PES header that the demuxer needs."""

    stream_id: int
    packet_size: int
    """Size of the whole PES packet in bytes, 0 if unbounded."""
    payload: int
    """Offset of the first payload byte."""
    pts: int | None
    """33 bits, 90 kHz."""
    dts: int | None
    """Like ``pts``; the PTS if the header has no DTS."""


def _timestamp(prefix: int, value: int) -> bytes:
    value &= TIMESTAMP_MASK
    return bytes(
        (
            prefix << 4 | value >> 29 & 0x0E | 1,
            value >> 22 & 0xFF,
            value >> 14 & 0xFE | 1,
            value >> 7 & 0xFF,
            value << 1 & 0xFE | 1,
        )
    )


def _read_timestamp(data: bytes, offset: int) -> int:
    return (
        (data[offset] & 0x0E) << 29
        | data[offset + 1] << 22
        | (data[offset + 2] & 0xFE) << 14
        | data[offset + 3] << 7
        | data[offset + 4] >> 1
    )


def build_pes_header(stream_id: int, payload_size: int, pts: int, dts: int) -> bytes:
    """Return the header of a PES packet; ``pts`` and ``dts`` in 90 kHz ticks of any size, written modulo 2**33."""
    if pts == dts:
        flags, times = 0x80, _timestamp(0b0010, pts)
    else:
        flags, times = 0xC0, _timestamp(0b0011, pts) + _timestamp(0b0001, dts)
    length = 3 + len(times) + payload_size
    if length > MAXIMUM_PES_LENGTH or stream_id == STREAM_ID_VIDEO:
        length = 0
    # '10', data_alignment_indicator set: a frame starts with the first payload byte.
    return b"\x00\x00\x01%c%c%c\x84%c%c" % (stream_id, length >> 8, length & 0xFF, flags, len(times)) + times


def parse_pes_header(data: bytes) -> PesHeader | None:
    """Return the header at the start of ``data``; None if there is none or it is incomplete."""
    if len(data) < 9 or data[0] or data[1] or data[2] != 1:
        return None
    stream_id = data[3]
    length = data[4] << 8 | data[5]
    packet_size = 6 + length if length else 0
    if stream_id in _WITHOUT_HEADER:
        return PesHeader(stream_id, packet_size, 6, None, None)
    if data[6] & 0xC0 != 0x80:
        return None
    flags = data[7]
    payload = 9 + data[8]
    if len(data) < payload:
        return None
    pts = dts = None
    if flags & 0x80 and data[8] >= 5:
        pts = dts = _read_timestamp(data, 9)
        if flags & 0x40 and data[8] >= 10:
            dts = _read_timestamp(data, 14)
    return PesHeader(stream_id, packet_size, payload, pts, dts)
