"""Packets in a byte stream: consecutive, each after a header with its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct


class Framing:
    """The framing of packets in a byte stream: each after a header of ``header_size`` bytes.

    There is one object per kind of header, for example with a certain channel number. If a reader needs the same
    framing as the publisher, the publisher's bytes can be sent unchanged.
    """

    __slots__ = ("header_size", "name")

    def __init__(self, header_size: int, name: str) -> None:
        self.header_size = header_size
        self.name = name

    def __repr__(self) -> str:
        return f"Framing({self.name})"


class PacketBuffer(Struct, eq=False, gc=False):
    """At least one whole packet in one buffer, with ``framing``; ``data`` is shared and never changed.

    If all packets have the same size, except perhaps for a smaller last one, ``stride`` is set. Video publishers nearly
    always send such packets, and they can all be inspected at once.
    """

    framing: Framing
    data: bytes
    start: int
    """Offset of the first packet's header in ``data``."""
    end: int
    """End of the last packet."""
    count: int
    """Number of packets."""
    stride: int = 0
    """Size of each packet with its header, except that the last one may be smaller; 0 if sizes differ."""
    sizes: Sequence[int] = ()
    """Bytes of each packet without its header, if ``stride`` is 0."""

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

    def groups(self) -> Sequence[PacketBuffer]:
        """Return the packets in as few buffers as possible that have a ``stride`` or a single packet.

        The fragments of a unit are such a group, as all but the last one usually have the same size.
        """
        if self.stride or self.count == 1:
            return (self,)
        sizes, header_size = self.sizes, self.framing.header_size
        groups: list[PacketBuffer] = []
        first, start = 0, self.start
        while first < self.count:
            size, end = sizes[first], first + 1
            while end < self.count and sizes[end] == size:
                end += 1
            if end < self.count and sizes[end] < size:
                end += 1
            count, stride = end - first, size + header_size
            stop = start + stride * (count - 1) + sizes[end - 1] + header_size
            groups.append(PacketBuffer(self.framing, self.data, start, stop, count, stride))
            first, start = end, stop
        return groups

    def bounds(self) -> Iterator[tuple[int, int]]:
        """Yield the start (after the header) and end of each packet."""
        header_size = self.framing.header_size
        start = self.start
        for size in self.packet_sizes():
            start += header_size
            yield start, start + size
            start += size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.framing}, {self.count} packets, {self.size} bytes)"
