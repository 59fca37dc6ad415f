"""G.711 (Rec. ITU-T G.711): decoding to linear PCM."""

from __future__ import annotations

from typing import Final

_SEGMENT_MASK: Final = 0x70
_QUANTIZATION_MASK: Final = 0x0F
_MU_LAW_BIAS: Final = 0x84


def _mu_law(code: int) -> int:
    code = ~code & 0xFF
    magnitude = (((code & _QUANTIZATION_MASK) << 3) + _MU_LAW_BIAS) << ((code & _SEGMENT_MASK) >> 4)
    magnitude -= _MU_LAW_BIAS
    return -magnitude if code & 0x80 else magnitude


def _a_law(code: int) -> int:
    code ^= 0x55
    segment = (code & _SEGMENT_MASK) >> 4
    magnitude = ((code & _QUANTIZATION_MASK) << 4) + 8
    if segment:
        magnitude = (magnitude + 0x100) << (segment - 1)
    return magnitude if code & 0x80 else -magnitude


def _tables(samples: list[int]) -> tuple[bytes, bytes]:
    """Return the high and the low bytes of the samples of all codes."""
    return bytes(sample >> 8 & 0xFF for sample in samples), bytes(sample & 0xFF for sample in samples)


_MU_LAW_TABLES: Final = _tables([_mu_law(code) for code in range(256)])
_A_LAW_TABLES: Final = _tables([_a_law(code) for code in range(256)])


def decode(data: bytes, *, mu_law: bool) -> bytes:
    """Return samples as 16-bit linear PCM, big-endian: twice as many bytes."""
    high, low = _MU_LAW_TABLES if mu_law else _A_LAW_TABLES
    samples = bytearray(2 * len(data))
    samples[0::2] = data.translate(high)
    samples[1::2] = data.translate(low)
    return bytes(samples)
