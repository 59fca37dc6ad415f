"""WebRTC viewers (WHEP): each performs a handshake like a browser; a sample of them decrypts what it receives."""

import http.client
import secrets
import socket
import time
from functools import partial
from multiprocessing.connection import Connection

from bench import rtsp_load
from bench.media import FU_HEADER_SIZE, RTP_HEADER_SIZE, STAMP_SIZE
from bench.samples import DatagramSample
from bench.server import HOST
from bench.sink import Reader, enlarge_receive_buffer, run_sink
from polycast.net.dtls import DtlsConnection, DtlsIdentity, DtlsState
from polycast.wire.srtp.profiles import EXPORTER_LABEL, profile_by_openssl_name, split_exported
from polycast.wire.srtp.session import SrtpReceiver
from polycast.wire.webrtc.description import Format, RemoteDescription, parse_description
from polycast.wire.webrtc.ice import Credentials, make_credentials
from polycast.wire.webrtc.local_description import LocalDescription, LocalMedia
from polycast.wire.webrtc.stun import AttributeType, Message, MessageType

HANDSHAKE_LIMIT = 10  # seconds for one datagram of a handshake
SRTP_PROFILES = "SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80"
_RTCP_PAYLOAD_TYPES = range(64, 96)  # RFC 5761 section 4

_OFFERED = Format(
    102,
    "H264",
    90_000,
    None,
    "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    frozenset({"nack", "nack pli"}),
)

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
    local = make_credentials(secrets.token_bytes)
    offer = LocalDescription(
        1, local, identity.fingerprint, "actpass", [LocalMedia("video", "0", "recvonly", [_OFFERED])], is_ice_lite=False
    )
    http_connection = http.client.HTTPConnection(HOST, port, timeout=HANDSHAKE_LIMIT)
    http_connection.request("POST", f"/{path}/whep", offer.serialize(), {"Content-Type": "application/sdp"})
    response = http_connection.getresponse()
    body = response.read()
    http_connection.close()
    if response.status != 201:
        raise OSError(f"WHEP: {response.status} {body[:200]!r}")
    answer = parse_description(body)
    media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    media.settimeout(HANDSHAKE_LIMIT)
    enlarge_receive_buffer(media)
    candidate = next(item for item in answer.candidates if item.address == HOST)
    media.connect((HOST, candidate.port))
    check = partial(_check, media, local, answer)
    check()
    receiver = _shake_hands(identity, media, answer)
    return Reader(media, partial(SrtpSample, receiver), keepalive=check)


def _check(media: socket.socket, local: Credentials, answer: RemoteDescription) -> None:
    """Send a connectivity check; the answer is one more datagram."""
    attributes = (
        (AttributeType.USERNAME, f"{answer.credentials.ufrag}:{local.ufrag}".encode()),
        (AttributeType.ICE_CONTROLLING, bytes(8)),
        (AttributeType.PRIORITY, bytes(4)),
        (AttributeType.USE_CANDIDATE, b""),
    )
    message = Message(MessageType.REQUEST, secrets.token_bytes(12), attributes)
    media.send(message.serialize(answer.credentials.password))


def _shake_hands(identity: DtlsIdentity, media: socket.socket, answer: RemoteDescription) -> SrtpReceiver:
    dtls = DtlsConnection(identity, answer.fingerprint, is_client=True)
    dtls.start()
    deadline = time.monotonic() + HANDSHAKE_LIMIT
    while dtls.state is DtlsState.HANDSHAKE and time.monotonic() < deadline:
        for datagram in dtls.data_to_send():
            media.send(datagram)
        received = media.recv(2048)
        if 20 <= received[0] <= 63:
            dtls.receive(received)
    for datagram in dtls.data_to_send():
        media.send(datagram)
    profile = profile_by_openssl_name(dtls.srtp_keys().profile)
    _, server = split_exported(profile, dtls.export(EXPORTER_LABEL, profile.exported_size))
    return SrtpReceiver(profile, server)
