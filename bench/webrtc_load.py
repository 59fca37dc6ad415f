"""WebRTC viewers (WHEP): each performs a handshake like a browser; a sample of them decrypts what it receives."""

from functools import partial
from multiprocessing.connection import Connection

from bench import rtsp_load
from bench.media import FU_HEADER_SIZE, RTP_HEADER_SIZE, STAMP_SIZE
from bench.samples import DatagramSample
from bench.sink import Reader, enlarge_receive_buffer, run_sink
from bench.webrtc_viewer import SRTP_PROFILES, Viewer
from polycast.net.dtls import DtlsIdentity
from polycast.wire.srtp.session import SrtpReceiver

_RTCP_PAYLOAD_TYPES = range(64, 96)  # RFC 5761 section 4

publish = rtsp_load.publish


class SrtpSample:
    """SRTP packets, decrypted."""

    def __init__(self, receiver: SrtpReceiver) -> None:
        self._receiver = receiver
        self._packets = DatagramSample()
        self._last = b""
        """The end of the packet before: packets are smaller here, and a stamp may be cut in two."""

    @property
    def result(self) -> object:
        return self._packets.result

    def feed(self, data: memoryview, arrival_ns: int) -> None:
        if len(data) < 2 or not 128 <= data[0] <= 191 or data[1] & 0x7F in _RTCP_PAYLOAD_TYPES:
            return
        packet = self._receiver.open(bytes(data))
        if packet is None:
            return
        header, fragment = packet[:RTP_HEADER_SIZE], packet[RTP_HEADER_SIZE + FU_HEADER_SIZE :]
        if len(fragment) < STAMP_SIZE:
            packet = header + self._last + fragment
        self._last = packet[-STAMP_SIZE:]
        self._packets.feed(memoryview(packet), arrival_ns)


def read(connection: Connection, port: int, stream_count: int, reader_count: int, transport: str) -> None:
    """Worker: viewers, given to the streams in turn. ``port`` is that of RTSP; signalling has the one after it."""
    identity = DtlsIdentity(SRTP_PROFILES)
    readers = [_connect(identity, port + 1, f"bench{index % stream_count}") for index in range(reader_count)]
    run_sink(connection, readers)


def _connect(identity: DtlsIdentity, port: int, path: str) -> Reader:
    viewer = Viewer(identity, port, path)
    enlarge_receive_buffer(viewer.media)
    viewer.check()
    return Reader(viewer.media, partial(SrtpSample, viewer.shake_hands()), keepalive=viewer.check)
