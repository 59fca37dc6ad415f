"""The server's side of a connection against a client in memory."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from typing import ClassVar

import pytest

from polycast.hub.stats import CipherMeter
from polycast.net.dtls import DtlsConnection, DtlsIdentity, DtlsState
from polycast.net.udp import Address
from polycast.protocols.webrtc.peer import LitePeer, PeerOwner, PeerState
from polycast.rtp.rtcp import ReceiverReport, serialize_compound
from polycast.wire.srtp.profiles import AEAD_AES_128_GCM, EXPORTER_LABEL, split_exported
from polycast.wire.srtp.session import SrtpSender
from polycast.wire.webrtc.description import RemoteDescription
from polycast.wire.webrtc.ice import make_credentials

ADDRESS = ("192.0.2.1", 5000)
IDENTITY = DtlsIdentity(AEAD_AES_128_GCM.openssl_name)


def fingerprint() -> tuple[str, bytes]:
    name, _, digest = IDENTITY.fingerprint.partition(" ")
    return name, bytes.fromhex(digest.replace(":", " "))


class Socket:
    outbox: ClassVar[None] = None
    relayed: ClassVar[str] = ""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes, address: Address) -> None:
        assert address == ADDRESS
        self.sent.append(data)

    def send_segments(self, data: bytes | memoryview, segment_size: int, address: Address) -> None:
        raise AssertionError("nothing is sent to this peer")

    def take(self) -> list[bytes]:
        sent, self.sent = self.sent, []
        return sent


class Owner(PeerOwner):
    def __init__(self) -> None:
        self.reason = ""
        self.reports = 0
        self.errors: list[BaseException | None] = []
        self.is_broken = False

    def on_connected(self, now: float) -> None:
        pass

    def on_rtp(self, packet: bytes, now: float) -> None:
        pass

    def on_rtcp(self, packet: bytes, now: float) -> None:
        if self.is_broken:
            raise ValueError("a bug")
        self.reports += 1

    def on_end_of_read(self) -> None:
        if self.is_broken:
            raise ValueError("a bug")

    def on_internal_error(self) -> None:
        self.errors.append(sys.exception())

    def on_peer_closed(self, reason: str) -> None:
        self.reason = reason


class Pair:
    """A connection of the server with its client."""

    def __init__(self, *, server_is_active: bool) -> None:
        setup = "passive" if server_is_active else "active"
        credentials = make_credentials(secrets.token_bytes)
        remote = RemoteDescription(make_credentials(secrets.token_bytes), fingerprint(), setup, (), frozenset())
        self.socket, self.owner = Socket(), Owner()
        self.server = LitePeer(IDENTITY, remote, credentials, self.owner, CipherMeter(), 0.0)
        self.client = DtlsConnection(IDENTITY, fingerprint(), is_client=not server_is_active)
        self.is_dtls_client = not server_is_active
        self.server.reach(self.socket, ADDRESS, 0.0)
        self.client.start()

    def run(self) -> None:
        """Pass datagrams on, until there are no more."""
        while (to_server := self.client.data_to_send()) or self.socket.sent:
            for datagram in self.socket.take():
                self.client.receive(datagram)
            for datagram in to_server:
                self.server.receive(datagram, 0.0)

    def report(self) -> None:
        """Send a receiver report."""
        material = self.client.export(EXPORTER_LABEL, AEAD_AES_128_GCM.exported_size)
        client, server = split_exported(AEAD_AES_128_GCM, material)
        sender = SrtpSender(AEAD_AES_128_GCM, client if self.is_dtls_client else server)
        self.server.receive(sender.protect_control(serialize_compound([ReceiverReport(1)])), 1.0)
        assert self.owner.reports == (not self.owner.is_broken)


@pytest.mark.parametrize("server_is_active", [False, True])
def test_a_client_that_has_the_keys_makes_the_handshake_forgotten(
    server_is_active: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[DtlsState] = []
    original = DtlsConnection.forget_handshake

    def forget(connection: DtlsConnection) -> None:
        forgotten.append(connection.state)
        original(connection)

    monkeypatch.setattr(DtlsConnection, "forget_handshake", forget)
    pair = Pair(server_is_active=server_is_active)
    pair.run()
    assert pair.server.state is PeerState.CONNECTED
    pair.server.tick(1.0)
    assert not forgotten, "its last messages may have been lost"
    pair.report()
    assert forgotten == [DtlsState.ESTABLISHED]
    pair.client.close()
    pair.run()
    assert pair.server.is_closed
    assert pair.owner.reason == "closed by the peer"


def test_the_end_of_a_session_is_told_to_its_client() -> None:
    pair = Pair(server_is_active=False)
    pair.run()
    pair.report()
    pair.server.close("kicked")
    pair.run()
    assert pair.client.state is DtlsState.CLOSED


@pytest.mark.parametrize("step", [Pair.report, lambda pair: pair.server.end_of_read()], ids=["packet", "end of read"])
def test_an_internal_error_ends_only_this_connection(step: Callable[[Pair], None]) -> None:
    pair = Pair(server_is_active=False)
    pair.run()
    pair.owner.is_broken = True
    step(pair)  # other connections use the same socket: nothing is raised
    assert [type(error) for error in pair.owner.errors] == [ValueError]
    assert pair.owner.reason == "internal error"
    pair.run()
    assert pair.client.state is DtlsState.CLOSED
