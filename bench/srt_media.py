"""The synthetic stream of `bench/media.py` as an MPEG transport stream (ISO/IEC 13818-1), and what reads one."""

from bench.media import (
    CLOCK_RATE,
    FRAMES_PER_SECOND,
    FU_HEADER_SIZE,
    PPS,
    RTP_HEADER_SIZE,
    SPS,
    STAMP_MAGIC,
    STAMP_SIZE,
    SyntheticStream,
    read_stamp,
)
from bench.samples import SampleResult
from polycast.media.codec import H264
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.mpegts.muxer import Muxer
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.packet import HEADER_SIZE

PACKET_SIZE = 188
SYNC_BYTE = 0x47
_ADAPTATION_FIELD = 0x20
_FIRST_TIME = 3 * CLOCK_RATE
_CONTROL = 0x80  # bit of the first byte of control packets


class TransportFrame:
    """One access unit as transport packets, with the tables before it if it is a key frame."""

    __slots__ = ("_buffer", "size")

    def __init__(self, data: bytes) -> None:
        self._buffer = bytearray(data)
        self.size = len(data)

    @property
    def data(self) -> bytes:
        """The packets."""
        return bytes(self._buffer)

    def stamped(self, frame_number: int, sent_ns: int) -> bytes:
        """The packets with a stamp; `sent_ns` is on the monotonic clock."""
        self._buffer[-STAMP_SIZE:] = b"%b%016x%08x" % (STAMP_MAGIC, sent_ns, frame_number)
        return self.data


class TransportStream:
    """The same frames as `SyntheticStream`, with the same interface; a frame counts as one packet."""

    def __init__(self) -> None:
        source = SyntheticStream()
        self._slices = [_slice(source.frame(number).datagrams) for number in range(FRAMES_PER_SECOND)]
        for index, picture in enumerate(self._slices):
            while _last_payload(_mux(_new_muxer(), picture, index)) < STAMP_SIZE:
                picture = picture[:-1]  # otherwise a packet's header would cut the stamp in two
            self._slices[index] = picture
        sizes = [len(_mux(_new_muxer(), picture, index)) for index, picture in enumerate(self._slices)]
        self._bytes_before = [sum(sizes[:position]) for position in range(FRAMES_PER_SECOND + 1)]
        self.bytes_per_second = self._bytes_before[-1]
        self._muxer = _new_muxer()
        self.announcement = b"".join(_mux(self._muxer, self._slices[0], -number) for number in (60, 30))
        """Two key frames to be sent when a publisher connects: servers find the tracks in them."""

    def frame(self, number: int) -> TransportFrame:
        """The frame with this number (from 0); each is to be taken once, in this order."""
        return TransportFrame(_mux(self._muxer, self._slices[number % FRAMES_PER_SECOND], number))

    def packets_until(self, number: int) -> int:
        """Frames before frame `number`."""
        return number

    def bytes_until(self, number: int) -> int:
        """Bytes of all frames before frame `number`."""
        seconds, position = divmod(number, FRAMES_PER_SECOND)
        return seconds * self.bytes_per_second + self._bytes_before[position]


def _new_muxer() -> Muxer:
    return Muxer((Track(0, H264(SPS, PPS)),))


def _mux(muxer: Muxer, picture: bytes, number: int) -> bytes:
    key = number % FRAMES_PER_SECOND == 0
    time = _FIRST_TIME + number * CLOCK_RATE // FRAMES_PER_SECOND
    tables = muxer.tables() if key else b""
    return tables + muxer.write_frame(0, Frame((picture,), time, time, key=key), time, time)


def _last_payload(packets: bytes) -> int:
    """Bytes of the payload of the last packet."""
    return PACKET_SIZE - _payload_start(packets[-PACKET_SIZE:])


def _payload_start(packet: bytes) -> int:
    return 5 + packet[4] if packet[3] & _ADAPTATION_FIELD else 4


def _slice(packets: list[memoryview]) -> bytes:
    """Join the FU-A fragments of RFC 6184 to one slice."""
    fragments = [bytes(packet[RTP_HEADER_SIZE:]) for packet in packets if packet[RTP_HEADER_SIZE] & 0x1F == 28]
    indicator, header = fragments[0][:FU_HEADER_SIZE]
    return bytes((indicator & 0xE0 | header & 0x1F,)) + b"".join(part[FU_HEADER_SIZE:] for part in fragments)


class TransportSample:
    """SRT packets with an MPEG transport stream: every frame is read, and every packet is counted."""

    def __init__(self, keys: ConnectionKeys | None) -> None:
        self.result = SampleResult()
        self._keys = keys
        self._next_frame = -1
        self._end = b""
        """The last bytes of the elementary stream so far."""

    def feed(self, data: memoryview, arrival_ns: int) -> None:
        if len(data) < HEADER_SIZE or data[0] & _CONTROL:
            return
        key = data[4] >> 3 & 3
        if key:
            assert self._keys is not None
            payload = self._keys.decrypt(key, bytes(data)) or b""
        else:
            payload = bytes(data[HEADER_SIZE:])
        for start in range(0, len(payload), PACKET_SIZE):
            self._take_packet(payload[start : start + PACKET_SIZE], arrival_ns)

    def _take_packet(self, packet: bytes, arrival_ns: int) -> None:
        if packet[0] != SYNC_BYTE:
            raise ValueError("this is no transport stream")
        self._end = (self._end + packet[_payload_start(packet) :])[-STAMP_SIZE:]
        stamp = read_stamp(self._end)
        if stamp is None:
            return
        sent_ns, number = stamp
        self.result.take_frame(number, self._next_frame, sent_ns, arrival_ns)
        self._next_frame = number + 1
