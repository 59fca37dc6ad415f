"""DTLS 1.2 for SRTP keys (RFC 6347, RFC 5764), with OpenSSL. Datagrams in, datagrams out; the caller has the sockets.

OpenSSL reads its own clock for retransmissions, so time is not an argument here. Needs the packages of the extra
``webrtc``; import this module only where WebRTC is used, as OpenSSL's bindings take 100 ms to load.
"""

from __future__ import annotations

import contextlib
import datetime
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from polycast.net.dtls_alerts import RECORD_HEADER, DtlsAlerts, Secrets

MAXIMUM_DATAGRAM_SIZE: Final = 1200
"""Bytes of a datagram with DTLS records: fits every network that carries WebRTC."""

_RECORD_HEADER_SIZE: Final = RECORD_HEADER.size
_CIPHERS: Final = "ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES"
"""AES-128-GCM first: every implementation of WebRTC has it (RFC 8827 section 6.5), and `DtlsAlerts` supports it."""
_FORGETTABLE: Final = "AES128-GCM-SHA256"
"""End of OpenSSL's names of the ciphers that `DtlsAlerts` supports."""
_RELEASE_BUFFERS: Final = 0x10
"""SSL_MODE_RELEASE_BUFFERS: a connection keeps 25 KiB instead of 82."""
_READ_SIZE: Final = 64 * 1024
_VALIDITY: Final = datetime.timedelta(days=3650)
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha-256": hashes.SHA256(),
    "sha-384": hashes.SHA384(),
    "sha-512": hashes.SHA512(),
}


class DtlsError(Exception):
    """The handshake failed, or the peer's certificate does not have the expected fingerprint."""


class DtlsState(Enum):
    """State of a connection."""

    HANDSHAKE = auto()
    ESTABLISHED = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """What a handshake agreed on."""

    profile: str
    """OpenSSL's name of the SRTP protection profile; empty if the peer supports none of those offered."""
    is_client: bool
    """Whether we were the client of the handshake."""


class DtlsIdentity:
    """A key with its self-signed certificate, and the settings of all connections that use it."""

    def __init__(self, srtp_profiles: str) -> None:
        """``srtp_profiles`` are OpenSSL's names, separated by colons, the preferred one first."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "WebRTC")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + _VALIDITY)
            .sign(key, hashes.SHA256())
        )
        self.fingerprint = "sha-256 " + certificate.fingerprint(hashes.SHA256()).hex(":").upper()
        """As written in SDP (RFC 8122 section 5)."""
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_QUERY_MTU)
        context.set_mode(_RELEASE_BUFFERS)
        # Certificates are self-signed; what identifies the peer is its fingerprint.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        context.set_cipher_list(_CIPHERS.encode())
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.set_tlsext_use_srtp(srtp_profiles.encode())
        self.context = context


class DtlsConnection:
    """A DTLS connection and its handshake.

    Pass received datagrams to `receive`, send what `data_to_send` returns, and call `handle_timeout` when
    `next_timeout` seconds have passed.
    """

    def __init__(self, identity: DtlsIdentity, fingerprint: tuple[str, bytes], *, is_client: bool) -> None:
        """``fingerprint`` is that of the peer's certificate: (hash such as ``sha-256``, digest)."""
        self._fingerprint = fingerprint
        self._is_client = is_client
        connection = SSL.Connection(identity.context)
        if is_client:
            connection.set_connect_state()
        else:
            connection.set_accept_state()
        connection.set_ciphertext_mtu(MAXIMUM_DATAGRAM_SIZE)
        self._openssl: SSL.Connection | None = connection
        self._alerts: DtlsAlerts | None = None
        """Takes the place of OpenSSL's object after `forget_handshake`."""
        self._last_record = b""
        """Records to be sent after OpenSSL's object was freed."""
        self.state = DtlsState.HANDSHAKE

    def start(self) -> None:
        """Start the handshake as the client. Raises DtlsError."""
        if self._is_client:
            self._advance()

    def receive(self, datagram: bytes) -> None:
        """Process a datagram. Raises DtlsError; then all that is left is to send the remaining data."""
        if self.state is DtlsState.CLOSED or not datagram:
            return
        if self._alerts is not None:
            if self._alerts.ends(datagram):
                self.state = DtlsState.CLOSED
            return
        self._connection.bio_write(datagram)
        if self.state is DtlsState.HANDSHAKE:
            self._advance()
        if self.state is DtlsState.ESTABLISHED:
            self._read()

    def data_to_send(self) -> list[bytes]:
        """Return the datagrams to send."""
        if self._openssl is None:
            last, self._last_record = self._last_record, b""
            return [last] if last else []
        try:
            data = self._connection.bio_read(_READ_SIZE)
        except SSL.Error:
            return []
        return _datagrams(data)

    def next_timeout(self) -> float | None:
        """Return in how many seconds to call `handle_timeout`; None if it is not needed."""
        if self.state is not DtlsState.HANDSHAKE:
            return None
        timeout: float | None = self._connection.DTLSv1_get_timeout()
        return timeout

    def handle_timeout(self) -> None:
        """Retransmit the last flight of the handshake. Raises DtlsError after too many retransmissions."""
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            self._fail(error)

    def srtp_keys(self) -> SrtpKeys:
        """Return what the handshake agreed on. Only when established."""
        return SrtpKeys(self._connection.get_selected_srtp_profile().decode(), self._is_client)

    def export(self, label: bytes, size: int) -> bytes:
        """Return keying material (RFC 5705). Only when established."""
        material: bytes = self._connection.export_keying_material(label, size)
        return material

    def forget_handshake(self) -> None:
        """Free most of the memory, once the peer has proved that it will not repeat its handshake messages. Only when
        established; afterwards, only `receive`, `data_to_send` and `close` may be called."""
        connection = self._openssl
        if connection is None or self.state is not DtlsState.ESTABLISHED:
            return
        name, master = connection.get_cipher_name() or "", connection.master_key()
        client_random, server_random = connection.client_random(), connection.server_random()
        if not name.endswith(_FORGETTABLE) or master is None or client_random is None or server_random is None:
            return
        self._alerts = DtlsAlerts(Secrets(master, client_random, server_random), is_client=self._is_client)
        self._openssl = None

    @property
    def _connection(self) -> SSL.Connection:
        if self._openssl is None:
            raise ValueError("the handshake is forgotten")
        return self._openssl

    def close(self) -> None:
        """Send close_notify, if possible."""
        if self._alerts is not None and self.state is DtlsState.ESTABLISHED:
            self._last_record = self._alerts.close_notify()
        elif self.state is DtlsState.ESTABLISHED:
            with contextlib.suppress(SSL.Error):
                self._connection.shutdown()
        self.state = DtlsState.CLOSED

    def _advance(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            self._fail(error)
        self._check_peer()
        self.state = DtlsState.ESTABLISHED

    def _check_peer(self) -> None:
        name, expected = self._fingerprint
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        if certificate is None or certificate.fingerprint(_HASHES[name]) != expected:
            self.state = DtlsState.CLOSED
            raise DtlsError("the certificate of the peer does not have the fingerprint of its description")

    def _read(self) -> None:
        """Read what follows the handshake: only the end of the connection matters."""
        try:
            while True:
                self._connection.recv(_READ_SIZE)
        except SSL.WantReadError:
            pass
        except SSL.Error:  # also ZeroReturnError: the peer has closed the connection
            self.state = DtlsState.CLOSED

    def _fail(self, error: SSL.Error) -> None:
        self.state = DtlsState.CLOSED
        raise DtlsError(f"the DTLS handshake failed: {_reason(error)}") from error


def _reason(error: SSL.Error) -> str:
    """Return OpenSSL's message: that of the first entry of its error queue, or of a system call."""
    queue = error.args[0] if error.args else None
    if isinstance(queue, list) and queue:
        return str(queue[0][2])
    return str(error.args[-1]) if error.args and error.args[-1] else type(error).__name__


def _datagrams(data: bytes) -> list[bytes]:
    """Split what OpenSSL wrote into datagrams: as many whole records as fit into each."""
    datagrams: list[bytes] = []
    begin = end = 0
    while end + _RECORD_HEADER_SIZE <= len(data):
        size = _RECORD_HEADER_SIZE + int.from_bytes(data[end + 11 : end + 13], "big")
        if begin < end and end + size - begin > MAXIMUM_DATAGRAM_SIZE:
            datagrams.append(data[begin:end])
            begin = end
        end += size
    if begin < len(data):
        datagrams.append(data[begin:])
    return datagrams
