"""G.711: mu-law and A-law to 16-bit linear samples and back (Rec. ITU-T G.711)."""

from __future__ import annotations

import sys
from array import array
from functools import cache

from polycast.codecs.bitstream import Bitstream
from polycast.errors import RemoteProtocolError
from polycast.media.codec import G711

_MU_LAW_BIAS = 0x84
_MU_LAW_CLIP = 0x7FFF - _MU_LAW_BIAS


def _mu_law_sample(code: int) -> int:
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + _MU_LAW_BIAS << (code >> 4 & 7)) - _MU_LAW_BIAS
    return -magnitude if code & 0x80 else magnitude


def _a_law_sample(code: int) -> int:
    code ^= 0x55
    exponent, mantissa = code >> 4 & 7, code & 0x0F
    magnitude = (mantissa << 4) + 8 if exponent == 0 else (mantissa << 4) + 0x108 << exponent - 1
    return magnitude if code & 0x80 else -magnitude


def _mu_law_code(sample: int) -> int:
    sign = 0x80 if sample < 0 else 0
    magnitude = min(sample if sample >= 0 else ~sample, _MU_LAW_CLIP) + _MU_LAW_BIAS
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | magnitude >> exponent + 3 & 0x0F) & 0xFF


def _a_law_code(sample: int) -> int:
    sign = 0x80 if sample >= 0 else 0
    magnitude = min(sample if sample >= 0 else ~sample, 0x7FFF)
    exponent = max(magnitude.bit_length() - 8, 0)
    mantissa = magnitude >> (exponent + 3 if exponent else 4) & 0x0F
    return (sign | exponent << 4 | mantissa) ^ 0x55


MU_LAW_TO_LINEAR: tuple[int, ...] = tuple(_mu_law_sample(code) for code in range(256))
"""Sample by mu-law code, -32124 to 32124."""
A_LAW_TO_LINEAR: tuple[int, ...] = tuple(_a_law_sample(code) for code in range(256))
"""Sample by A-law code, -32256 to 32256."""


@cache
def _linear_table(mu_law: bool) -> bytes:
    """Codes by sample, shifted to 0 to 65535, in steps of 4: mu-law has 14 bits, A-law 13 (G.711 section 3)."""
    code = _mu_law_code if mu_law else _a_law_code
    return bytes([code(value) for value in range(-32768, 32768, 4)])


def decode(data: bytes, *, mu_law: bool) -> bytes:
    """Return mu-law or A-law samples as big-endian 16-bit linear samples."""
    table = MU_LAW_TO_LINEAR if mu_law else A_LAW_TO_LINEAR
    samples = array("h", [table[code] for code in data])
    if sys.byteorder == "little":
        samples.byteswap()
    return samples.tobytes()


def encode(data: bytes, *, mu_law: bool) -> bytes:
    """Return big-endian 16-bit linear samples as mu-law or A-law. Raises `RemoteProtocolError` for half a sample."""
    if len(data) % 2:
        raise RemoteProtocolError("16-bit samples end in the middle of a sample")
    samples = array("h", data)
    if sys.byteorder == "little":
        samples.byteswap()
    table = _linear_table(mu_law)
    return bytes([table[sample + 32768 >> 2] for sample in samples])


BITSTREAM = Bitstream(G711)
