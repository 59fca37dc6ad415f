"""Builds access units from NAL units that arrive in RTP: what H.264 and H.265 have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import lru_cache
from struct import Struct
from typing import Final

from polycast.codecs.nal import MAXIMUM_NAL_UNITS_PER_FRAME, split_annexb
from polycast.errors import RemoteProtocolError
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.packet_buffer import PacketBuffer
from polycast.rtp.header import HEADER_SIZE
from polycast.rtp.payload.base import BaseDepacketizer
from polycast.rtp.scan import MARKER

_START_CODE = b"\x00\x00\x01"
# The header of a fragment (RFC 6184 section 5.8, RFC 7798 section 4.4.3).
_START_BIT = 0x80
_END_BIT = 0x40
_KIND_OF_FRAGMENT = 0x3F

_KEPT_SHAPES: Final = 512
"""Sizes and numbers of fragments whose reader is kept; with at most 256 packets in a read, they take 4 MiB at most."""


class UnitRole(Enum):
    """What a NAL unit is to its access unit."""

    PICTURE = 1
    """A slice."""
    DELIMITER = 2
    OTHER = 3


# Members of an enumeration take longer to look up.
_PICTURE, _DELIMITER = UnitRole.PICTURE, UnitRole.DELIMITER


class NalUnitDepacketizer(BaseDepacketizer):
    """Base of the H.264 and H.265 depacketizers.

    A frame ends with the marker bit or where the timestamp changes. After a loss, the frame in progress is dropped, and
    the next one too unless its first NAL unit shows that nothing is missing in front of it.
    """

    splits_fragments = True
    minimum_unit_size = 1
    """Bytes of a NAL unit's header."""
    fragment_header_size: int
    """Bytes of the payload header of a fragment, whose last one has start bit and end bit."""

    def __init__(self) -> None:
        super().__init__()
        self._units: list[bytes] = []
        self._size = 0
        self._has_picture = False
        self._damaged = False
        # A reader that joins in mid-stream has no earlier data.
        self._loss = True
        self._timestamp = -1
        self._pts = 0

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        frames: list[Frame] = []
        if packet.timestamp != self._timestamp:
            self._begin_frame(packet.timestamp, pts, frames)
        try:
            self.unpack(packet.data, packet.payload, packet.end)
        except RemoteProtocolError as error:
            self.fail(error)
            self.reset()
        if packet.marker:
            self._end_marked(frames)
        return frames

    def split(self, buffer: PacketBuffer) -> Sequence[bytes] | None:
        if not buffer.stride or buffer.count < 2:
            return None
        header = self.fragmented_header(buffer.data, buffer.start + buffer.framing.header_size + HEADER_SIZE)
        return split_fragments(buffer, self.fragment_header_size, header) if header is not None else None

    def push_fragments(
        self, buffer: PacketBuffer, parts: Sequence[bytes], sequence: int, timestamp: int, pts: int
    ) -> Sequence[Frame]:
        if sequence != self._next_sequence and self._next_sequence >= 0:
            self.on_loss()
        self._next_sequence = (sequence + buffer.count) & 0xFFFF
        frames: list[Frame] = []
        if timestamp != self._timestamp:
            self._begin_frame(timestamp, pts, frames)
        first = buffer.start + buffer.framing.header_size
        last = first + buffer.stride * (buffer.count - 1)
        try:
            self._unpack_fragments(buffer.data, first + HEADER_SIZE, last + HEADER_SIZE, parts)
        except RemoteProtocolError as error:
            self.fail(error)
            self.reset()
        if buffer.data[last + 1] >= MARKER:
            self._end_marked(frames)
        return frames

    def _unpack_fragments(self, data: bytes, first: int, last: int, parts: Sequence[bytes]) -> None:
        """Process the header of a unit and fragments of it; ``first`` and ``last``: the payloads of the first and the
        last fragment."""
        place = self.fragment_header_size - 1
        if data[first + place] & _START_BIT:
            self.fragment_started()
            self._fragments.extend(parts)
        elif self._fragments:
            self._fragments.extend(parts[1:])
        else:
            self._damaged = True
            return
        if data[last + place] & _END_BIT:
            self.add_unit(self._fragments.take())

    def _begin_frame(self, timestamp: int, pts: int, frames: list[Frame]) -> None:
        if self._timestamp >= 0:
            self._end_frame(frames)
        self._timestamp = timestamp
        self._pts = pts
        self._damaged = False

    def _end_marked(self, frames: list[Frame]) -> None:
        """The marker bit ends a frame."""
        self._end_frame(frames)
        self._timestamp = -1
        self._loss = False

    def begin_stream(self) -> None:
        self._loss = False

    def on_loss(self) -> None:
        self._loss = True
        if self._timestamp >= 0:
            self._damaged = True
        self._fragments.clear()

    def reset(self) -> None:
        self._fragments.clear()
        self._damaged = True

    def add_unit(self, unit: bytes) -> None:
        """Add a complete NAL unit to the frame in progress."""
        if len(unit) < self.minimum_unit_size:
            return
        role = self.role_of(unit)
        # Some cameras send whole Annex B byte streams instead of one NAL unit. Emulation prevention keeps start
        # codes out of NAL units; the search is spared for slices, which are large.
        if role is not _PICTURE and _START_CODE in unit:
            for part in split_annexb(_START_CODE + unit):
                if len(part) >= self.minimum_unit_size:
                    self._add_single_unit(part, self.role_of(part))
        else:
            self._add_single_unit(unit, role)

    def _add_single_unit(self, unit: bytes, role: UnitRole) -> None:
        if self._loss and not self._has_picture and not self.begins_frame(unit):
            self._damaged = True
        self._loss = False
        if role is _DELIMITER:
            return
        self._size += len(unit)
        if len(self._units) >= MAXIMUM_NAL_UNITS_PER_FRAME or self._size > self._fragments.limit:
            self._forget_frame()
            raise RemoteProtocolError("access unit has too many NAL units or is too large")
        self._units.append(unit)
        if role is _PICTURE:
            self._has_picture = True

    def fragment_started(self) -> None:
        """A fragmented NAL unit starts: the end of a previous incomplete one was lost."""
        if self._fragments:
            self._damaged = True
            self._fragments.clear()

    def _end_frame(self, frames: list[Frame]) -> None:
        if self._fragments:
            self._fragments.clear()
            self._damaged = True
        if self._damaged:
            self._damaged = False
            self.lost_frames += 1
            self.learn(self._units)
            self._forget_frame()
            return
        if not self._has_picture:
            # Parameter sets with a timestamp or marker of their own belong to the next frame.
            return
        units = tuple(self._units)
        self._forget_frame()
        frame = self.finish(units, self._pts)
        if frame is not None:
            frames.append(frame)

    def _forget_frame(self) -> None:
        self._units.clear()
        self._size = 0
        self._has_picture = False

    def learn(self, units: Sequence[bytes]) -> None:
        """Take note of parameter sets in ``units``."""
        raise NotImplementedError

    def finish(self, units: tuple[bytes, ...], pts: int) -> Frame | None:
        """Return the frame made from ``units``; None while decoding cannot start."""
        raise NotImplementedError

    def unpack(self, data: bytes, payload: int, end: int) -> None:
        """Call `add_unit` for every NAL unit that the payload ``data[payload:end]`` completes."""
        raise NotImplementedError

    def fragmented_header(self, data: bytes, payload: int) -> bytes | None:
        """Return the header of the NAL unit of which ``data[payload:]`` is a fragment; None if it is none, or one that
        has more than payload header and data."""
        raise NotImplementedError

    def role_of(self, unit: bytes) -> UnitRole:
        """Return what ``unit`` is."""
        raise NotImplementedError

    def begins_frame(self, unit: bytes) -> bool:
        """Return whether nothing that matters can be missing in front of ``unit`` in its access unit."""
        raise NotImplementedError


def split_fragments(buffer: PacketBuffer, header_size: int, unit_header: bytes) -> list[bytes] | None:
    """Return ``unit_header`` and the parts of a NAL unit that the packets of a buffer carry, if they are consecutive
    fragments of it.

    `PacketScanner` must have accepted the packets, and the first one must be a fragment. None unless the others are of
    the same size, kind and time, only the first one may be the start of the unit, and only the last one its end or that
    of the picture. ``header_size`` is that of the payload headers, whose last byte has start bit and end bit.
    """
    data, stride, count, end = buffer.data, buffer.stride, buffer.count, buffer.end
    start = buffer.start + buffer.framing.header_size
    payload = start + HEADER_SIZE
    headers = data[payload + header_size - 1 : end : stride]
    kind = headers[0] & _KIND_OF_FRAGMENT
    begins, ends = headers[0] == kind | _START_BIT, headers[-1] == kind | _END_BIT
    last = start + stride * (count - 1)
    if (
        headers.count(kind) != count - begins - ends
        or data[payload:end:stride].count(data[payload]) != count
        or max(data[start + 1 : last : stride]) >= MARKER
    ):
        return None
    size = stride - buffer.framing.header_size - HEADER_SIZE - header_size
    timestamp = data[start + 4 : start + 8]
    fields = _fragment_fields(size, header_size, buffer.framing.header_size, count - 1)
    *found, final = fields.unpack_from(data, start + 4)
    if final != timestamp or found[::2].count(timestamp) != count - 1:
        return None
    return [unit_header, *found[1::2], data[last + HEADER_SIZE + header_size : end]]


@lru_cache(_KEPT_SHAPES)
def _fragment_fields(size: int, header_size: int, framing_size: int, count: int) -> Struct:
    """Return a reader of the timestamps and parts of ``count`` packets with parts of ``size`` bytes, and of the
    timestamp of one more. It takes a fifth of the time that slices take."""
    return Struct(f"4s{HEADER_SIZE - 8 + header_size}x{size}s{framing_size + 4}x" * count + "4s")


def packetize_units(
    units: Iterable[bytes],
    maximum_payload: int,
    header_size: int,
    aggregation_packet: Callable[[Sequence[bytes]], bytes],
    fragments: Callable[[bytes, int], list[bytes]],
) -> list[bytes]:
    """Return the payloads with NAL units: small ones aggregated, large ones fragmented.

    ``header_size`` is that of an aggregation packet's own header, after which each unit has two bytes for its size.
    """
    payloads: list[bytes] = []
    for group in _aggregate(units, maximum_payload, header_size):
        if len(group) > 1:
            payloads.append(aggregation_packet(group))
        elif len(group[0]) <= maximum_payload:
            payloads.append(group[0])
        else:
            payloads.extend(fragments(group[0], maximum_payload))
    return payloads


def _aggregate(units: Iterable[bytes], maximum_payload: int, header_size: int) -> Iterable[tuple[bytes, ...]]:
    """Group NAL units so that each group of several fits an aggregation packet. A unit that is too large for one packet
    comes alone."""
    group: list[bytes] = []
    size = header_size
    for unit in units:
        if group and size + 2 + len(unit) > maximum_payload:
            yield tuple(group)
            group = []
            size = header_size
        group.append(unit)
        size += 2 + len(unit)
    if group:
        yield tuple(group)
