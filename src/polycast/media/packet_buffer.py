"""Packets as they stand in a byte stream: one after another, each behind a header that tells its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class Framing:
    """How packets are put into a byte stream: each behind a header of ``header_size`` bytes.

    There is one object for each kind of header, such as one with a certain channel number. Where a reader needs the
    very framing that a publisher used, the publisher's bytes are right for it.
    """

    __slots__ = ("header_size", "name")

    def __init__(self, header_size: int, name: str) -> None:
        self.header_size = header_size
        self.name = name

    def __repr__(self) -> str:
        return f"Framing({self.name})"


class PacketBuffer:
    """At least one whole packet in one buffer, with ``framing``; ``data`` is shared and never changed.

    Where all packets have one size, the last one perhaps a smaller one, ``stride`` tells it. That is what publishers of
    video send nearly always, and it lets all packets be inspected at once.
    """

    __slots__ = ("count", "data", "end", "framing", "sizes", "start", "stride")

    def __init__(
        self,
        framing: Framing,
        data: bytes,
        start: int,
        end: int,
        count: int,
        stride: int = 0,
        sizes: Sequence[int] = (),
    ) -> None:
        self.framing = framing
        self.data = data
        self.start = start
        """Where the header of the first packet begins in ``data``."""
        self.end = end
        """Where the last packet ends."""
        self.count = count
        """Number of packets."""
        self.stride = stride
        """Bytes from one packet to the next, so the size of each with its header, but the last one may be smaller; 0
        where sizes differ."""
        self.sizes = sizes
        """Bytes of each packet without its header, where ``stride`` is 0."""

    @property
    def size(self) -> int:
        """Bytes of all packets, without their headers."""
        return self.end - self.start - self.framing.header_size * self.count

    def packet_sizes(self) -> Sequence[int]:
        """Return the bytes of each packet, without its header."""
        if not self.stride:
            return self.sizes
        header_size = self.framing.header_size
        last = self.end - self.start - self.stride * (self.count - 1)
        return [self.stride - header_size] * (self.count - 1) + [last - header_size]

    def bounds(self) -> Iterator[tuple[int, int]]:
        """Yield where each packet begins, behind its header, and where it ends."""
        header_size = self.framing.header_size
        start = self.start
        for size in self.packet_sizes():
            start += header_size
            yield start, start + size
            start += size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.framing}, {self.count} packets, {self.size} bytes)"
