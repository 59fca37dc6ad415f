"""The RTMP handshake (Adobe RTMP 1.0 section 5.2), in its simple form and in the digest form of Flash Player 9.

The digest form is not in the specification: C1 and S1 contain an HMAC-SHA256 of themselves at an offset given by four
of their bytes (at 8 or at 772), and the second packets contain one that proves knowledge of the first. Digests are sent
where they are expected and never required, because the simple form is equally valid.
"""

from __future__ import annotations

import hashlib
import hmac

from polycast.errors import RemoteProtocolError

PACKET_SIZE = 1536
"""Size of C1, S1, C2 and S2 in bytes."""

VERSION = 3
ENCRYPTED_VERSION = 6

DIGEST_BASES = (772, 8)
"""The offsets of the four bytes that give the position of the digest, in the order in which they are tried."""

_DIGEST_SIZE = 32
_DIGEST_RANGE = 728

# The keys of Flash Player and Flash Media Server: a text, and another 32 bytes for the second packets.
_SUFFIX = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
_CLIENT_TEXT = b"Genuine Adobe Flash Player 001"
_SERVER_TEXT = b"Genuine Adobe Flash Media Server 001"

# Any version above 3 announces a digest; zero announces a simple handshake.
_CLIENT_PACKET_VERSION = bytes((9, 0, 124, 2))
_SERVER_PACKET_VERSION = bytes((4, 5, 0, 1))
_SIMPLE_PACKET_VERSION = bytes(4)


def random_packet(seed: bytes, label: bytes) -> bytes:
    """Return `PACKET_SIZE` bytes that cannot be predicted without ``seed``."""
    return hashlib.shake_256(label + seed).digest(PACKET_SIZE)


def _hmac(key: bytes, *parts: bytes) -> bytes:
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def _digest_offset(packet: bytes, base: int) -> int:
    return sum(packet[base : base + 4]) % _DIGEST_RANGE + base + 4


def find_digest(packet: bytes, from_client: bool) -> bytes | None:
    """Return the digest in a C1 (``from_client``) or S1, or None if it has no valid one."""
    key = _CLIENT_TEXT if from_client else _SERVER_TEXT
    for base in DIGEST_BASES:
        offset = _digest_offset(packet, base)
        digest = packet[offset : offset + _DIGEST_SIZE]
        if hmac.compare_digest(digest, _hmac(key, packet[:offset], packet[offset + _DIGEST_SIZE :])):
            return digest
    return None


def build_first_packet(random: bytes, milliseconds: int, from_client: bool, simple: bool = False) -> bytes:
    """Return a C1 or S1: time, version, random bytes and, unless ``simple``, a digest at base 8."""
    version = _CLIENT_PACKET_VERSION if from_client else _SERVER_PACKET_VERSION
    packet = (milliseconds & 0xFFFFFFFF).to_bytes(4, "big") + (_SIMPLE_PACKET_VERSION if simple else version)
    packet += random[len(packet) : PACKET_SIZE]
    if simple:
        return packet
    offset = _digest_offset(packet, 8)
    key = _CLIENT_TEXT if from_client else _SERVER_TEXT
    digest = _hmac(key, packet[:offset], packet[offset + _DIGEST_SIZE :])
    return packet[:offset] + digest + packet[offset + _DIGEST_SIZE :]


def build_second_packet(random: bytes, peer_digest: bytes, from_client: bool) -> bytes:
    """Return a C2 or S2: random bytes, signed with the digest of the peer's first packet."""
    key = _hmac((_CLIENT_TEXT if from_client else _SERVER_TEXT) + _SUFFIX, peer_digest)
    body = random[: PACKET_SIZE - _DIGEST_SIZE]
    return body + _hmac(key, body)


def check_version(version: int) -> None:
    """Refuse every version except 3, with a text that names what the peer probably speaks."""
    if version == VERSION:
        return
    if version == ENCRYPTED_VERSION:
        raise RemoteProtocolError("RTMPE (RTMP version 6, encrypted) is not supported; use RTMPS")
    if version == 0x16:
        raise RemoteProtocolError("the peer speaks TLS, but this is a plain RTMP connection")
    if version == ord("O"):  # the first letter of OPTIONS, the usual first request of RTSP clients
        raise RemoteProtocolError("the peer speaks RTSP (or HTTP), but this is an RTMP port")
    if version == ord("\r"):  # the first byte of the PROXY protocol, version 2
        raise RemoteProtocolError("a PROXY header, from an address that is not one of the trusted proxies")
    if version in b"GPH":
        raise RemoteProtocolError("the peer speaks HTTP; RTMP tunneled in HTTP (RTMPT) is not supported")
    raise RemoteProtocolError(f"unsupported RTMP version {version}")


class ServerHandshake:
    """The server's side: pass received bytes to `receive` until `done`, and send `data_to_send`."""

    __slots__ = ("_buffer", "_milliseconds", "_output", "_seed", "_sent", "client_digest", "done")

    def __init__(self, seed: bytes, milliseconds: int = 0) -> None:
        self._seed = seed
        self._milliseconds = milliseconds
        self._buffer = bytearray()
        self._output = bytearray()
        self._sent = False
        self.client_digest: bytes | None = None
        self.done = False

    def receive(self, data: bytes) -> bytes:
        """Process bytes of the client; return those after the handshake, the first ones of the chunk stream."""
        buffer = self._buffer
        buffer += data
        if buffer:
            check_version(buffer[0])
        if not self._sent and len(buffer) >= 1 + PACKET_SIZE:
            self._answer(bytes(buffer[1 : 1 + PACKET_SIZE]))
        if not self._sent or len(buffer) < 1 + 2 * PACKET_SIZE:
            return b""
        # C2 is not checked: clients send an echo, a signature or zeros.
        self.done = True
        return bytes(buffer[1 + 2 * PACKET_SIZE :])

    def _answer(self, packet: bytes) -> None:
        self._sent = True
        digest = self.client_digest = find_digest(packet, from_client=True)
        first = build_first_packet(
            random_packet(self._seed, b"S1"), self._milliseconds, from_client=False, simple=digest is None
        )
        if digest is None:
            second = packet  # section 5.2.4: S2 echoes C1
        else:
            second = build_second_packet(random_packet(self._seed, b"S2"), digest, from_client=False)
        self._output += bytes((VERSION,)) + first + second

    def data_to_send(self) -> bytes:
        """Return what is to be sent, once."""
        output = bytes(self._output)
        self._output.clear()
        return output


class ClientHandshake:
    """The client's side, used like `ServerHandshake`. Send C0 and C1 at once."""

    __slots__ = ("_buffer", "_output", "_seed", "done", "first_packet", "server_digest")

    def __init__(self, seed: bytes, milliseconds: int = 0) -> None:
        self._seed = seed
        self._buffer = bytearray()
        self.first_packet = build_first_packet(random_packet(seed, b"C1"), milliseconds, from_client=True)
        self._output = bytearray(bytes((VERSION,)) + self.first_packet)
        self.server_digest: bytes | None = None
        self.done = False

    def receive(self, data: bytes) -> bytes:
        """Process bytes of the server; return those after the handshake."""
        buffer = self._buffer
        buffer += data
        if buffer:
            check_version(buffer[0])
        if len(buffer) < 1 + 2 * PACKET_SIZE:
            return b""
        first = bytes(buffer[1 : 1 + PACKET_SIZE])
        # S2 is not checked: both an echo of C1 and a signature are valid.
        digest = self.server_digest = find_digest(first, from_client=False)
        if digest is None:
            self._output += first
        else:
            self._output += build_second_packet(random_packet(self._seed, b"C2"), digest, from_client=True)
        self.done = True
        return bytes(buffer[1 + 2 * PACKET_SIZE :])

    def data_to_send(self) -> bytes:
        """Return what is to be sent, once."""
        output = bytes(self._output)
        self._output.clear()
        return output
