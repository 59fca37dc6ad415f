"""A WebRTC viewer on a blocking socket: signalling (WHEP), connectivity checks and the DTLS handshake of a browser."""

import http.client
import secrets
import socket
import time

from bench.server import HOST
from polycast.net.dtls import DtlsConnection, DtlsIdentity, DtlsState
from polycast.rtp.rtcp import ReceiverReport, serialize_compound
from polycast.wire.srtp.profiles import EXPORTER_LABEL, profile_by_openssl_name, split_exported
from polycast.wire.srtp.session import SrtpReceiver, SrtpSender
from polycast.wire.webrtc.candidates import HOST as HOST_CANDIDATE
from polycast.wire.webrtc.description import Format, parse_description
from polycast.wire.webrtc.ice import is_usable, make_credentials
from polycast.wire.webrtc.local_description import LocalDescription, LocalMedia
from polycast.wire.webrtc.stun import (
    AttributeType,
    Message,
    MessageType,
    is_stun,
    parse_message,
    xor_mapped_address,
)

HANDSHAKE_LIMIT = 10  # seconds for a handshake, and for an answer of the signalling
CHECK_INTERVAL = 0.2  # seconds between connectivity checks until there is an answer
SRTP_PROFILES = "SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80"

_OFFERED = Format(
    102,
    "H264",
    90_000,
    None,
    "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    frozenset({"nack", "nack pli"}),
)


class Viewer:
    """A viewer of a path, whose session exists; nothing was sent to the media port yet."""

    def __init__(self, identity: DtlsIdentity, port: int, path: str, kind: str = HOST_CANDIDATE) -> None:
        """``kind`` is the type of the server's candidate that is used."""
        self._identity = identity
        self._port = port
        self._local = make_credentials(secrets.token_bytes)
        medium = LocalMedia("video", "0", "recvonly", [_OFFERED])
        offer = LocalDescription(1, self._local, identity.fingerprint, "actpass", [medium], is_ice_lite=False)
        response = self._request("POST", f"/{path}/whep", 201, offer.serialize(), {"Content-Type": "application/sdp"})
        self._answer = parse_description(response.read())
        self._session = response.headers["Location"]
        self.media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.media.settimeout(CHECK_INTERVAL)
        candidate = next(
            item for item in self._answer.candidates if item.address == HOST and item.type == kind and is_usable(item)
        )
        self.media.connect((HOST, candidate.port))
        self._is_dtls_client = self._answer.setup != "active"
        self._dtls = DtlsConnection(identity, self._answer.fingerprint, is_client=self._is_dtls_client)

    def _request(
        self, method: str, target: str, expected: int, body: bytes | str = b"", headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=HANDSHAKE_LIMIT)
        connection.request(method, target, body, {"Connection": "close", **(headers or {})})
        response = connection.getresponse()
        if response.status != expected:
            raise OSError(f"{method} {target}: {response.status} {response.read()[:200]!r}")
        return response

    def check(self) -> None:
        """Send a connectivity check; the answer is one more datagram."""
        attributes = (
            (AttributeType.USERNAME, f"{self._answer.credentials.ufrag}:{self._local.ufrag}".encode()),
            (AttributeType.ICE_CONTROLLING, bytes(8)),
            (AttributeType.PRIORITY, bytes(4)),
            (AttributeType.USE_CANDIDATE, b""),
        )
        message = Message(MessageType.REQUEST, secrets.token_bytes(12), attributes)
        self.media.send(message.serialize(self._answer.credentials.password))

    def shake_hands(self) -> SrtpReceiver:
        """Perform the DTLS handshake, and send a first receiver report; return what decrypts the media."""
        dtls = self._dtls
        dtls.start()
        deadline = time.monotonic() + HANDSHAKE_LIMIT
        while dtls.state is DtlsState.HANDSHAKE and time.monotonic() < deadline:
            self._send()
            try:
                received = self.media.recv(2048)
            except TimeoutError:
                self.check()
                continue
            if is_stun(received):
                self._answer_check(received)
            elif 20 <= received[0] <= 63:
                dtls.receive(received)
        self._send()
        profile = profile_by_openssl_name(dtls.srtp_keys().profile)
        client, server = split_exported(profile, dtls.export(EXPORTER_LABEL, profile.exported_size))
        ours, theirs = (client, server) if self._is_dtls_client else (server, client)
        self.media.send(SrtpSender(profile, ours).protect_control(serialize_compound([ReceiverReport(1)])))
        return SrtpReceiver(profile, theirs)

    def _answer_check(self, received: bytes) -> None:
        """Answer a check of a server that is a full ICE agent, as MediaMTX's is."""
        message = parse_message(received)
        if message.type is MessageType.REQUEST:
            mapped = xor_mapped_address(self.media.getpeername(), message.transaction_id)
            response = Message(MessageType.SUCCESS, message.transaction_id, (mapped,))
            self.media.send(response.serialize(self._local.password))

    def _send(self) -> None:
        for datagram in self._dtls.data_to_send():
            self.media.send(datagram)

    def say_goodbye(self) -> None:
        """Close the DTLS connection, as a browser that closes its tab."""
        self._dtls.close()
        self._send()

    def delete(self) -> None:
        """End the session by the signalling."""
        self._request("DELETE", self._session, 200)
