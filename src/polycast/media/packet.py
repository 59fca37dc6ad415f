"""The RTP packet of the packet lane: an index into the bytes in which it was received."""

from __future__ import annotations

from msgspec import Struct


class RtpPacket(Struct, eq=False, gc=False):
    """One RTP packet (RFC 3550 section 5.1), kept in the buffer that it arrived in.

    ``data[start:end]`` is the whole packet, header included, without padding; ``data[payload:end]`` its payload.
    Several packets usually share one ``data``. A packet is never changed once made: who rewrites a header makes a new
    packet. One is made per packet on the hot path; a `Struct` is created several times faster than a plain object.
    """

    data: bytes
    """The buffer, which is never modified."""
    start: int
    """Offset of the first byte of the RTP header in ``data``."""
    payload: int
    """Offset of the first payload byte in ``data``."""
    end: int
    """Offset one after the last payload byte in ``data``."""
    sequence: int
    """Sequence number, 16 bits."""
    timestamp: int
    """RTP timestamp, 32 bits, in ticks of the track's clock rate."""
    marker: bool
    """The marker bit; for most video codecs: last packet of a frame."""
    key: bool
    """Whether decoding can start at this packet: it begins a key frame or the parameter sets before one."""

    def __repr__(self) -> str:
        return (
            f"RtpPacket(sequence={self.sequence}, timestamp={self.timestamp}, marker={self.marker},"
            f" key={self.key}, {self.end - self.payload} bytes)"
        )

    def __len__(self) -> int:
        """Size of the packet on the wire in bytes, header included, padding not."""
        return self.end - self.start

    def payload_bytes(self) -> bytes:
        """Return a copy of the payload."""
        return self.data[self.payload : self.end]
