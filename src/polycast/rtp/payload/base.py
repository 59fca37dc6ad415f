"""Base classes of the payload formats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from polycast.errors import RemoteProtocolError
from polycast.media.codec import Codec
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.packet_buffer import PacketBuffer
from polycast.rtp.header import HEADER_SIZE, MAXIMUM_PAYLOAD_SIZE, build_header

MAXIMUM_FRAME_SIZE = 16 * 1024 * 1024
"""Bytes of one coded frame. An uncompressed 4K picture is 12 MB; coded ones are much smaller."""
MAXIMUM_FRAMES_SIZE = 24 * 1024 * 1024
"""Bytes of the frames in progress of all tracks of a stream: the limit per publisher."""
MINIMUM_FRAME_LIMIT = 256 * 1024
"""Bytes that each track may use in any case: audio, and video of cameras with many tracks."""

NO_FRAMES: tuple[Frame, ...] = ()

KEY = 1
"""Flag of a peek: decoding can start at this packet."""
PARAMETERS = 2
"""Flag of a peek: the packet contains parameter sets or a sequence header."""

Peek = Callable[[bytes, int, int], int]
"""Takes ``data``, ``payload`` and ``end`` of a packet; returns KEY and PARAMETERS flags."""


class PayloadPattern:
    """The masked value of the first four bytes of a payload, as a big-endian number."""

    __slots__ = ("columns", "mask", "pattern")

    def __init__(self, mask: int, pattern: int) -> None:
        self.mask = mask
        self.pattern = pattern
        pairs = zip(mask.to_bytes(4, "big"), pattern.to_bytes(4, "big"), strict=True)
        self.columns = tuple(
            (index, bytes(value for value in range(256) if value & wanted == fits))
            for index, (wanted, fits) in enumerate(pairs)
            if wanted or fits
        )
        """The same byte by byte: (offset in the payload, matching values), if not all values match."""


NO_PATTERN = PayloadPattern(0, 1)
"""Matches no payload."""


class Depacketizer(Protocol):
    """Turns the RTP packets of one track, in order, into frames."""

    errors: int
    """Invalid payloads."""
    last_error: str
    """The error of the last one."""

    def limit_frame_size(self, size: int) -> None:
        """Limit frames to ``size`` bytes."""

    def begin_stream(self) -> None:
        """The next packet is the first one of the stream: nothing is missing in front of it."""

    lost_frames: int
    """Frames dropped because packets of theirs were lost."""

    splits_fragments: bool
    """Whether `split` may return anything."""

    def split(self, buffer: PacketBuffer) -> Sequence[bytes] | None:
        """Return the header of a unit and what the packets of a buffer carry of it, if they are consecutive fragments.

        A shortcut for buffers that a `PacketScanner` has accepted; None if it does not apply. Pass the result to
        `push_fragments`.
        """
        ...

    def push_fragments(
        self, buffer: PacketBuffer, parts: Sequence[bytes], sequence: int, timestamp: int, pts: int
    ) -> Sequence[Frame]:
        """Process all packets of a buffer at once, which `split` has returned as ``parts``; otherwise as `push`.

        ``sequence`` is the number of the first packet.
        """
        ...

    def push(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        """Process a packet; return the frames that it completes.

        ``pts`` is the packet's timestamp on the timeline of the stream, in ticks of the track's clock rate.
        Never raises because of the payload: invalid ones are counted in ``errors``.
        """
        ...


class Packetizer(Protocol):
    """Turns frames into RTP packets."""

    codec: Codec | None
    """The track's codec; replaced when parameter sets change."""

    def packetize(self, frame: Frame) -> list[RtpPacket]:
        """Return the packets of a frame. They share one buffer."""
        ...


class BaseDepacketizer:
    """Loss detection and error counting. Subclasses write `depacketize`; `on_loss` and `reset` if they do more."""

    splits_fragments = False

    def __init__(self) -> None:
        self.errors = 0
        self.last_error = ""
        self._fragments = FragmentBuffer()
        """The frame in progress, for fragmented frames."""
        self.lost_frames = 0
        self._next_sequence = -1

    def push(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        """See `Depacketizer.push`."""
        sequence = packet.sequence
        gap = sequence != self._next_sequence and self._next_sequence >= 0
        self._next_sequence = (sequence + 1) & 0xFFFF
        try:
            if gap:
                self.on_loss()
            return self.depacketize(packet, pts)
        except RemoteProtocolError as error:
            self.fail(error)
            self.reset()
            return NO_FRAMES

    def split(self, buffer: PacketBuffer) -> Sequence[bytes] | None:
        """See `Depacketizer.split`."""
        return None

    def push_fragments(
        self, buffer: PacketBuffer, parts: Sequence[bytes], sequence: int, timestamp: int, pts: int
    ) -> Sequence[Frame]:
        """See `Depacketizer.push_fragments`."""
        raise NotImplementedError

    def limit_frame_size(self, size: int) -> None:
        """Limit frames to ``size`` bytes, if that is less than `MAXIMUM_FRAME_SIZE`."""
        self._fragments.limit = min(size, MAXIMUM_FRAME_SIZE)

    def begin_stream(self) -> None:
        """See `Depacketizer.begin_stream`."""

    def fail(self, error: RemoteProtocolError) -> None:
        """Count an invalid payload."""
        self.errors += 1
        self.last_error = str(error)

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        """Return the frames that a packet completes. May raise `RemoteProtocolError`."""
        raise NotImplementedError

    def on_loss(self) -> None:
        """Packets before the next one were lost."""
        self.drop_fragments()

    def reset(self) -> None:
        """Forget the frame in progress."""
        self._fragments.clear()

    def drop_fragments(self) -> bool:
        """Drop the frame in progress, whose rest is missing; return whether there was one."""
        if not self._fragments:
            return False
        self._fragments.clear()
        self.lost_frames += 1
        return True


class FragmentBuffer:
    """Collects the fragments of one frame, within a limit."""

    __slots__ = ("_parts", "limit", "size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0
        """Bytes of the fragments so far."""
        self.limit = MAXIMUM_FRAME_SIZE
        """Maximum bytes of the frame."""

    def __bool__(self) -> bool:
        return bool(self._parts)

    def append(self, part: bytes) -> None:
        """Add a fragment. Raises `RemoteProtocolError` if the frame becomes too large."""
        self.size += len(part)
        if self.size > self.limit:
            raise RemoteProtocolError(f"frame is larger than {self.limit} bytes")
        self._parts.append(part)

    def extend(self, parts: Sequence[bytes]) -> None:
        """Add fragments. Raises `RemoteProtocolError` if the frame becomes too large."""
        self.size += sum(map(len, parts))
        if self.size > self.limit:
            raise RemoteProtocolError(f"frame is larger than {self.limit} bytes")
        self._parts += parts

    def clear(self) -> None:
        """Forget all fragments."""
        self._parts.clear()
        self.size = 0

    def take(self) -> bytes:
        """Return the fragments as one and forget them."""
        frame = b"".join(self._parts)
        self.clear()
        return frame


class MarkedFrameDepacketizer(BaseDepacketizer):
    """Frames that are the concatenation of their packets' payloads and end with the marker bit.

    Subclasses strip the payload header in `fragment` and build the frame in `finish`. A change of the timestamp ends a
    frame as well, for senders that omit the marker.
    """

    def __init__(self) -> None:
        super().__init__()
        self._timestamp = -1
        self._pts = 0
        self._damaged = False
        self._loss = False

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        frames: list[Frame] = []
        if packet.timestamp != self._timestamp:
            if self._fragments or self._damaged:
                self._end_frame(frames)
            self._timestamp = packet.timestamp
            self._pts = pts
        part, begins = self.fragment(packet, not self._fragments)
        if self._damaged:
            pass
        elif not self._fragments and not begins and (self._loss or part):
            # The start of the frame is missing.
            self._damaged = True
        elif part:
            self._fragments.append(part)
        self._loss = False
        if packet.marker:
            self._end_frame(frames)
            self._timestamp = -1
        return frames

    def on_loss(self) -> None:
        self._loss = True
        if self._fragments:
            self._damaged = True

    def reset(self) -> None:
        self._fragments.clear()
        # The rest of this frame cannot be used.
        self._damaged = self._timestamp >= 0

    def _end_frame(self, frames: list[Frame]) -> None:
        if self._damaged:
            self._damaged = False
            self._fragments.clear()
            self.lost_frames += 1
        elif self._fragments:
            data = self._fragments.take()
            try:
                frame = self.finish(data, self._pts)
            except RemoteProtocolError as error:
                self.fail(error)
                return
            if frame is not None:
                frames.append(frame)

    def fragment(self, packet: RtpPacket, first: bool) -> tuple[bytes, bool]:
        """Return the packet's part of the frame, and whether a frame can start with it.

        ``first``: no part of the frame was received yet.
        """
        raise NotImplementedError

    def finish(self, data: bytes, pts: int) -> Frame | None:
        """Return the frame made from ``data``; None if it cannot be used yet."""
        raise NotImplementedError


class MarkedPictureDepacketizer(MarkedFrameDepacketizer):
    """Pictures of one unit each, in their order of decoding; there are none before the first key frame."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False

    def finish(self, data: bytes, pts: int) -> Frame | None:
        key = self.is_key(data)
        self._started = self._started or key
        return Frame((data,), pts, pts, key=key) if self._started else None

    def is_key(self, data: bytes) -> bool:
        """Return whether the picture is a key frame."""
        raise NotImplementedError


class BasePacketizer:
    """Numbering and header writing. Subclasses write `payloads`."""

    marks_last = True
    """Whether the last packet of a frame has the marker bit."""

    def __init__(
        self,
        payload_type: int,
        ssrc: int,
        initial_sequence: int,
        initial_timestamp: int,
        maximum_payload: int = MAXIMUM_PAYLOAD_SIZE,
    ) -> None:
        self._payload_type = payload_type
        self._ssrc = ssrc
        self._sequence = initial_sequence & 0xFFFF
        self._initial_timestamp = initial_timestamp
        self._maximum_payload = maximum_payload
        self.codec: Codec | None = None
        """The track's current codec, for formats that send parameter sets before key frames."""

    def packetize(self, frame: Frame) -> list[RtpPacket]:
        """See `Packetizer.packetize`."""
        return self._build(self.payloads(frame), frame.pts, frame.key)

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        """Return the payloads of a frame, including payload headers."""
        raise NotImplementedError

    def _build(self, payloads: Sequence[bytes], pts: int, key: bool) -> list[RtpPacket]:
        timestamp = (pts + self._initial_timestamp) & 0xFFFFFFFF
        sequence = self._sequence
        last = len(payloads) - 1
        parts: list[bytes] = []
        for index, payload in enumerate(payloads):
            marker = index == last and self.marks_last
            parts.append(build_header(self._payload_type, sequence + index, timestamp, self._ssrc, marker=marker))
            parts.append(payload)
        data = b"".join(parts)
        packets: list[RtpPacket] = []
        start = 0
        for index, payload in enumerate(payloads):
            end = start + HEADER_SIZE + len(payload)
            marker = index == last and self.marks_last
            # A reader can only start at the first packet of a key frame.
            packets.append(
                RtpPacket(
                    data,
                    start,
                    start + HEADER_SIZE,
                    end,
                    (sequence + index) & 0xFFFF,
                    timestamp,
                    marker,
                    key and index == 0,
                )
            )
            start = end
        self._sequence = (sequence + len(payloads)) & 0xFFFF
        return packets


class WholeFramePacketizer(BasePacketizer):
    """One RTP packet per unchanged frame: audio with small frames."""

    # RFC 3551 section 4.1: in audio, the marker is for the first packet after silence.
    marks_last = False

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        return frame.units


def gathered(frames: Sequence[bytes], room: int) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Yield runs of frames that have at most ``room`` bytes together, each with the index of its first frame; a frame
    that is larger is alone."""
    start = size = 0
    for index, frame in enumerate(frames):
        if index > start and size + len(frame) > room:
            yield start, frames[start:index]
            start, size = index, 0
        size += len(frame)
    if frames:
        yield start, frames[start:]


def split_evenly(data: bytes, maximum: int) -> Iterable[bytes]:
    """Yield ``data`` in chunks of at most ``maximum`` bytes.

    Raises `RemoteProtocolError` if that is none: the header that each chunk gets is as large as a packet.
    """
    if maximum <= 0:
        raise RemoteProtocolError("the payload header is larger than a packet may be")
    for position in range(0, len(data), maximum):
        yield data[position : position + maximum]
