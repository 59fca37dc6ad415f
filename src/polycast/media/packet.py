"""The RTP packet of the packet lane: an index into the bytes in which it was received."""

from __future__ import annotations


class RtpPacket:
    """One RTP packet (RFC 3550 section 5.1), kept in the buffer that it arrived in.

    ``data[start:end]`` is the whole packet, header included, without padding; ``data[payload:end]`` its payload.
    Several packets usually share one ``data``. A packet is never changed once made: who rewrites a header makes a new
    packet. This class is built once per packet on the hot path, so it is a plain class with slots.
    """

    __slots__ = ("data", "end", "key", "marker", "payload", "sequence", "start", "timestamp")

    def __init__(
        self, data: bytes, start: int, payload: int, end: int, sequence: int, timestamp: int, marker: bool, key: bool
    ) -> None:
        self.data = data
        """The buffer, which is never modified."""
        self.start = start
        """Offset of the first byte of the RTP header in ``data``."""
        self.payload = payload
        """Offset of the first payload byte in ``data``."""
        self.end = end
        """Offset one after the last payload byte in ``data``."""
        self.sequence = sequence
        """Sequence number, 16 bits."""
        self.timestamp = timestamp
        """RTP timestamp, 32 bits, in ticks of the track's clock rate."""
        self.marker = marker
        """The marker bit; for most video codecs: last packet of a frame."""
        self.key = key
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
