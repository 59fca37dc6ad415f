"""Sampled readers: every packet is parsed, for lost packets and for the delay of every frame."""

from dataclasses import dataclass, field

from bench.media import INTERLEAVED_HEADER_SIZE, RTP_HEADER_SIZE, STAMP_SIZE, read_stamp

RTP_CHANNEL = 0


@dataclass(slots=True)
class SampleResult:
    """The results of one sampled reader."""

    packets: int = 0
    missing: int = 0
    """Gaps in the RTP sequence numbers."""
    frames: int = 0
    delays: list[tuple[int, int]] = field(default_factory=list)
    """Of every frame: when it was sent (monotonic nanoseconds) and how long it took (nanoseconds)."""

    def take_frame(self, number: int, expected: int, sent_ns: int, arrival_ns: int) -> None:
        """Count a numbered frame of a protocol without sequence numbers. ``expected`` is negative before the first."""
        if expected >= 0:
            self.missing += max(0, number - expected)
        self.packets += 1
        self.frames += 1
        self.delays.append((sent_ns, arrival_ns - sent_ns))


class DatagramSample:
    """RTP packets as UDP carries them."""

    def __init__(self) -> None:
        self.result = SampleResult()
        self._next_sequence_number = -1

    def feed(self, data: memoryview, arrival_ns: int) -> None:
        if len(data) < RTP_HEADER_SIZE:
            return
        result = self.result
        result.packets += 1
        sequence_number = data[2] << 8 | data[3]
        if self._next_sequence_number >= 0:
            gap = (sequence_number - self._next_sequence_number) & 0xFFFF
            if gap < 0x8000:
                result.missing += gap
        self._next_sequence_number = (sequence_number + 1) & 0xFFFF
        if data[1] & 0x80:
            stamp = read_stamp(bytes(data[-STAMP_SIZE:]))
            if stamp is not None:
                result.frames += 1
                result.delays.append((stamp[0], arrival_ns - stamp[0]))


class InterleavedSample:
    """RTP packets interleaved in an RTSP connection (RFC 2326 section 10.12); packets of other channels are skipped."""

    def __init__(self) -> None:
        self._packets = DatagramSample()
        self._pending = bytearray()

    @property
    def result(self) -> SampleResult:
        return self._packets.result

    def feed(self, data: memoryview, arrival_ns: int) -> None:
        pending = self._pending
        pending += data
        view = memoryview(pending)
        position = 0
        while position + INTERLEAVED_HEADER_SIZE <= len(view):
            if view[position] != 0x24:
                raise ValueError(f"expected an interleaved frame, got {bytes(view[position : position + 40])!r}")
            end = position + INTERLEAVED_HEADER_SIZE + (view[position + 2] << 8 | view[position + 3])
            if end > len(view):
                break
            if view[position + 1] == RTP_CHANNEL:
                self._packets.feed(view[position + INTERLEAVED_HEADER_SIZE : end], arrival_ns)
            position = end
        view.release()
        del pending[:position]
