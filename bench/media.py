"""A synthetic H264 stream in RTP, built once, replayed with new sequence numbers, timestamps and stamps.

The last bytes of every frame hold a stamp: when its last packet was sent, and its number. It is ASCII, so that it never
looks like an Annex B start code, and it ends the access unit, so that it survives another packetization or protocol.
"""

import random
import struct

FRAMES_PER_SECOND = 30
FRAME_INTERVAL = 1 / FRAMES_PER_SECOND
BITS_PER_SECOND = 4_000_000
CLOCK_RATE = 90_000
PAYLOAD_TYPE = 96
PACKET_SIZE = 1400  # bytes of one full RTP packet, including the header
RTP_HEADER_SIZE = 12
FU_HEADER_SIZE = 2
INTERLEAVED_HEADER_SIZE = 4
KEY_FRAME_SHARE = 0.16  # of one second's bytes
FILLER_SEED = 20
SSRC = 0x1B2C3D4E

# 1280x720 at 30 frames/s, constrained baseline (no B frames), written by x264.
SPS = bytes.fromhex("6742c01fd9005005bb0110000003001000000303c0f1832480")
PPS = bytes.fromhex("68cb83cb20")
KEY_SLICE_START = bytes.fromhex("658884")
DELTA_SLICE_START = bytes.fromhex("419a38")

STAMP_MAGIC = b"STMP"
STAMP_SIZE = 28  # magic, 16 hexadecimal digits of nanoseconds, 8 of the frame number

_RTP_HEADER = struct.Struct("!BBHII")
_RTP_SEQUENCE_AND_TIMESTAMP = struct.Struct("!HI")


class Frame:
    """One access unit as RTP packets; its buffer is patched each time that the frame is sent again."""

    __slots__ = ("_buffer", "_offsets", "datagrams", "interleaved", "size", "whole")

    def __init__(self, packets: list[bytes]) -> None:
        buffer = bytearray()
        self._offsets: list[int] = []
        sizes: list[int] = []
        for packet in packets:
            buffer += struct.pack("!cBH", b"$", 0, len(packet))
            self._offsets.append(len(buffer))
            sizes.append(INTERLEAVED_HEADER_SIZE + len(packet))
            buffer += packet
        self._buffer = buffer
        self.size = len(buffer)
        """Bytes with interleaved headers."""
        self.whole = memoryview(buffer)
        self.interleaved: list[memoryview] = []
        """Each packet with its interleaved header (RFC 2326 section 10.12)."""
        self.datagrams: list[memoryview] = []
        """Each packet alone, as UDP carries it."""
        for offset, size in zip(self._offsets, sizes, strict=True):
            start = offset - INTERLEAVED_HEADER_SIZE
            self.interleaved.append(self.whole[start : start + size])
            self.datagrams.append(self.whole[offset : start + size])

    def number_packets(self, sequence_number: int, timestamp: int) -> None:
        buffer = self._buffer
        for index, offset in enumerate(self._offsets):
            _RTP_SEQUENCE_AND_TIMESTAMP.pack_into(buffer, offset + 2, (sequence_number + index) & 0xFFFF, timestamp)

    def stamp(self, frame_number: int, sent_ns: int) -> None:
        """Write the stamp; `sent_ns` is on the monotonic clock."""
        self._buffer[-STAMP_SIZE:] = b"%b%016x%08x" % (STAMP_MAGIC, sent_ns, frame_number)


class SyntheticStream:
    """One group of pictures (one second), sent in a loop. All streams of a run may share one instance."""

    def __init__(self, bits_per_second: int = BITS_PER_SECOND) -> None:
        randomness = random.Random(FILLER_SEED)
        sizes = _frame_sizes(randomness, bits_per_second)
        self._frames = [Frame(_packetize(size, randomness, is_key=index == 0)) for index, size in enumerate(sizes)]
        self._packets_before = [0]
        for frame in self._frames:
            self._packets_before.append(self._packets_before[-1] + len(frame.datagrams))
        self.bytes_per_second = sum(frame.size for frame in self._frames)
        self.packets_per_second = self._packets_before[-1]

    def frame(self, number: int) -> Frame:
        """The frame with this number (from 0), its packets numbered; valid until the same place of the next group."""
        position = number % FRAMES_PER_SECOND
        frame = self._frames[position]
        timestamp = (number * CLOCK_RATE // FRAMES_PER_SECOND) & 0xFFFFFFFF
        frame.number_packets(self.packets_until(number), timestamp)
        return frame

    def packets_until(self, number: int) -> int:
        """Packets of all frames before frame `number`."""
        groups, position = divmod(number, FRAMES_PER_SECOND)
        return groups * self.packets_per_second + self._packets_before[position]

    def bytes_until(self, number: int) -> int:
        """Bytes, with interleaved headers, of all frames before frame `number`."""
        groups, position = divmod(number, FRAMES_PER_SECOND)
        return groups * self.bytes_per_second + sum(frame.size for frame in self._frames[:position])


def read_stamp(payload_end: bytes) -> tuple[int, int] | None:
    """Sent time in monotonic nanoseconds and frame number, of the last `STAMP_SIZE` bytes of a frame."""
    if not payload_end.startswith(STAMP_MAGIC) or len(payload_end) != STAMP_SIZE:
        return None
    return int(payload_end[4:20], 16), int(payload_end[20:28], 16)


def session_description() -> bytes:
    return (
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=bench\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        b"a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LAH9kAUAW7ARAAAAMAEAAAAwPA8YMkgA==,aMuDyyA=; "
        b"profile-level-id=42C01F\r\na=control:trackID=0\r\n"
    )


def _frame_sizes(randomness: random.Random, bits_per_second: int) -> list[int]:
    """Bytes of each frame's slice in one second: one large key frame, and others that vary by 40 %."""
    total = bits_per_second // 8
    key_frame = int(total * KEY_FRAME_SHARE)
    weights = [randomness.uniform(0.6, 1.4) for _ in range(FRAMES_PER_SECOND - 1)]
    scale = (total - key_frame) / sum(weights)
    return [key_frame, *(int(weight * scale) for weight in weights)]


def _packetize(slice_size: int, randomness: random.Random, *, is_key: bool) -> list[bytes]:
    """RFC 6184: parameter sets as single NAL unit packets (section 5.6), the slice as FU-A (section 5.8)."""
    start = KEY_SLICE_START if is_key else DELTA_SLICE_START
    slice_unit = start + bytes(randomness.choices(range(4, 256), k=slice_size - len(start)))
    payloads = [SPS, PPS] if is_key else []
    indicator = (slice_unit[0] & 0x60) | 28
    unit_type = slice_unit[0] & 0x1F
    chunk_size = PACKET_SIZE - RTP_HEADER_SIZE - FU_HEADER_SIZE
    chunks = [slice_unit[offset : offset + chunk_size] for offset in range(1, len(slice_unit), chunk_size)]
    if len(chunks[-1]) < STAMP_SIZE:
        chunks[-2:] = [chunks[-2][:-STAMP_SIZE], chunks[-2][-STAMP_SIZE:] + chunks[-1]]
    for index, chunk in enumerate(chunks):
        start_bit = 0x80 if index == 0 else 0
        end_bit = 0x40 if index == len(chunks) - 1 else 0
        payloads.append(bytes((indicator, start_bit | end_bit | unit_type)) + chunk)
    last = len(payloads) - 1
    return [
        _RTP_HEADER.pack(0x80, PAYLOAD_TYPE | (0x80 if index == last else 0), 0, 0, SSRC) + payload
        for index, payload in enumerate(payloads)
    ]
