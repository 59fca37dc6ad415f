"""Transport packets (ISO/IEC 13818-1 section 2.4.3.2): writing the packets of one PID."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from polycast.wire.mpegts.constants import PACKET_SIZE, PAYLOAD_SIZE, SYNC_BYTE, TIMESTAMP_MASK

_STUFFING = b"\xff" * PAYLOAD_SIZE
_FLAG_RANDOM_ACCESS = 0x40
_FLAG_PCR = 0x10
_PAYLOAD_ONLY = 0x10
"""The last byte of a packet's header without its counter: there is a payload, and no adaptation field."""
_COUNTERS = bytes(_PAYLOAD_ONLY | counter for counter in range(16))


def _stuffing_field(size: int) -> bytes:
    """Return an empty adaptation field of ``size`` bytes, including its length byte."""
    return b"\x00" if size == 1 else bytes((size - 1, 0)) + _STUFFING[: size - 2]


def _pcr_field(pcr: int) -> bytes:
    # 33 bits of base, 6 reserved bits, 9 bits of extension: the clock is 90 kHz, so the extension is 0.
    return ((pcr & TIMESTAMP_MASK) << 15 | 0x7E00).to_bytes(6, "big")


_BLOCK = 64  # payloads


@lru_cache(_BLOCK)
def _block(count: int) -> Struct:
    return Struct(f"{PAYLOAD_SIZE}s" * count)


def _split(payload: bytes, start: int, count: int) -> list[bytes]:
    """Return ``count`` payloads of full packets. A struct makes them in a fifth of the time that slices take."""
    parts: list[bytes] = []
    while count > 0:
        taken = min(count, _BLOCK)
        parts += _block(taken).unpack_from(payload, start)
        start += taken * PAYLOAD_SIZE
        count -= taken
    return parts


class PacketWriter:
    """Writes the packets of one PID and counts their continuity."""

    __slots__ = ("_counter", "_filled", "_plain", "_start", "_start_filled")

    def __init__(self, pid: int) -> None:
        def headers(flags: int, control: int) -> list[bytes]:
            high = flags << 8 | pid
            return [bytes((SYNC_BYTE, high >> 8, high & 0xFF, control | counter)) for counter in range(16)]

        self._plain = headers(0, _PAYLOAD_ONLY)[0]
        self._filled = headers(0, 0x30)
        self._start = headers(0x40, _PAYLOAD_ONLY)
        self._start_filled = headers(0x40, 0x30)
        self._counter = 0

    def write(self, header: bytes, payload: bytes, *, pcr: int | None = None, random_access: bool = False) -> bytes:
        """Return the packets of one unit: ``header`` (at most 170 bytes) and ``payload``, with stuffing at the end.

        ``pcr`` is in 90 kHz ticks.
        """
        adaptation = b""
        if pcr is not None or random_access:
            flags = (_FLAG_RANDOM_ACCESS if random_access else 0) | (0 if pcr is None else _FLAG_PCR)
            adaptation = bytes((flags,)) if pcr is None else bytes((flags,)) + _pcr_field(pcr)
            adaptation = bytes((len(adaptation),)) + adaptation
        counter = self._counter
        room = PAYLOAD_SIZE - len(adaptation)
        taken = room - len(header)
        missing = taken - len(payload)
        if missing >= 0:
            self._counter = (counter + 1) & 15
            return self._write_single(adaptation, header + payload, missing, counter)
        first = self._start_filled if adaptation else self._start
        full, rest = divmod(len(payload) - taken, PAYLOAD_SIZE)
        start = b"".join((first[counter], adaptation, header, payload[:taken]))
        # Full packets differ in their counter only. It is set for all at once.
        packets = bytearray(self._plain).join((start, *_split(payload, taken, full)))
        counter = counter + 1 & 15
        packets[PACKET_SIZE + 3 :: PACKET_SIZE] = (_COUNTERS * (full // 16 + 2))[counter : counter + full]
        counter += full
        if rest:
            packets += self._filled[counter & 15] + _stuffing_field(PAYLOAD_SIZE - rest) + payload[-rest:]
            counter += 1
        self._counter = counter & 15
        return bytes(packets)

    def _write_single(self, adaptation: bytes, content: bytes, missing: int, counter: int) -> bytes:
        if missing:
            if adaptation:
                adaptation = bytes((adaptation[0] + missing,)) + adaptation[1:] + _STUFFING[:missing]
            else:
                adaptation = _stuffing_field(missing)
        headers = self._start_filled if adaptation else self._start
        return headers[counter] + adaptation + content

    def write_section(self, section: bytes) -> bytes:
        """Return one packet with a PSI section of at most 183 bytes, stuffed as section 2.4.4 requires."""
        header = self._start[self._counter]
        self._counter = (self._counter + 1) & 15
        return header + b"\x00" + section + _STUFFING[: PAYLOAD_SIZE - 1 - len(section)]

    def write_pcr(self, pcr: int) -> bytes:
        """Return a packet with a PCR and no payload; it does not count for continuity (section 2.4.3.3)."""
        field = bytes((PAYLOAD_SIZE - 1, _FLAG_PCR)) + _pcr_field(pcr) + _STUFFING[: PAYLOAD_SIZE - 8]
        # adaptation_field_control '10'; the counter repeats that of the previous packet
        previous = self._filled[(self._counter - 1) & 15]
        return previous[:3] + bytes((previous[3] & 0x0F | 0x20,)) + field
