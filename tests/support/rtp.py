"""RTP packets and H.264 NAL units for tests, made without the code under test."""

from __future__ import annotations

import struct

SPS = bytes.fromhex("6742c00dda0507ec0440000003004000000f03c50aa8")
"""Sequence parameter set of x264: Constrained Baseline, 320x240."""
PPS = bytes.fromhex("68ce3c80")


def rtp(
    sequence: int,
    payload: bytes,
    *,
    timestamp: int = 0,
    marker: bool = True,
    payload_type: int = 96,
    ssrc: int = 0x1234,
) -> bytes:
    """Return an RTP packet (RFC 3550 section 5.1)."""
    second = payload_type | marker << 7
    return struct.pack("!BBHII", 0x80, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload


def slice_unit(size: int = 200) -> bytes:
    """Return an H264 NAL unit of an ordinary picture."""
    return b"\x41\x9a" + bytes(size)


def key_unit(size: int = 200) -> bytes:
    """Return an H264 NAL unit of an IDR picture."""
    return b"\x65\x88" + bytes(size)
