"""DTLS connections against each other."""

from __future__ import annotations

import pytest

from polycast.net.dtls import MAXIMUM_DATAGRAM_SIZE, DtlsConnection, DtlsError, DtlsIdentity, DtlsState

PROFILES = "SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80"
LABEL = b"EXTRACTOR-dtls_srtp"


def fingerprint_of(identity: DtlsIdentity) -> tuple[str, bytes]:
    name, _, digest = identity.fingerprint.partition(" ")
    return name, bytes.fromhex(digest.replace(":", " "))


@pytest.fixture(scope="module")
def identity() -> DtlsIdentity:
    return DtlsIdentity(PROFILES)


def make_pair(
    server_identity: DtlsIdentity, client_identity: DtlsIdentity | None = None
) -> tuple[DtlsConnection, DtlsConnection]:
    client_identity = client_identity or server_identity
    server = DtlsConnection(server_identity, fingerprint_of(client_identity), is_client=False)
    client = DtlsConnection(client_identity, fingerprint_of(server_identity), is_client=True)
    client.start()
    return server, client


def talk(server: DtlsConnection, client: DtlsConnection) -> int:
    """Pass datagrams on until neither side has any; return how many there were."""
    count = 0
    while True:
        to_server, to_client = client.data_to_send(), server.data_to_send()
        if not to_server and not to_client:
            return count
        for datagram in to_server:
            assert len(datagram) <= MAXIMUM_DATAGRAM_SIZE
            server.receive(datagram)
        for datagram in to_client:
            assert len(datagram) <= MAXIMUM_DATAGRAM_SIZE
            client.receive(datagram)
        count += len(to_server) + len(to_client)


def test_handshake_gives_both_the_same_keys(identity: DtlsIdentity) -> None:
    server, client = make_pair(identity, DtlsIdentity(PROFILES))
    talk(server, client)
    assert server.state is client.state is DtlsState.ESTABLISHED
    assert server.srtp_keys().profile == client.srtp_keys().profile == "SRTP_AEAD_AES_128_GCM"
    assert (server.srtp_keys().is_client, client.srtp_keys().is_client) == (False, True)
    assert server.export(LABEL, 56) == client.export(LABEL, 56)
    assert server.next_timeout() is None


def test_the_preference_of_the_server_decides() -> None:
    server, client = make_pair(DtlsIdentity(PROFILES), DtlsIdentity("SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_128_GCM"))
    talk(server, client)
    assert client.srtp_keys().profile == "SRTP_AEAD_AES_128_GCM"
    server, client = make_pair(DtlsIdentity(PROFILES), DtlsIdentity("SRTP_AES128_CM_SHA1_80"))
    talk(server, client)
    assert client.srtp_keys().profile == "SRTP_AES128_CM_SHA1_80"


def test_no_common_profile(identity: DtlsIdentity) -> None:
    server, client = make_pair(identity, DtlsIdentity("SRTP_AEAD_AES_256_GCM"))
    talk(server, client)
    assert server.srtp_keys().profile == ""


def test_another_certificate_than_promised_is_refused(identity: DtlsIdentity) -> None:
    other = DtlsIdentity(PROFILES)
    server = DtlsConnection(identity, fingerprint_of(other), is_client=False)
    client = DtlsConnection(identity, fingerprint_of(identity), is_client=True)
    client.start()
    with pytest.raises(DtlsError, match="fingerprint"):
        talk(server, client)
    assert server.state is DtlsState.CLOSED


def test_lost_flights_are_sent_again(identity: DtlsIdentity) -> None:
    _, client = make_pair(identity)
    assert client.data_to_send(), "lost"
    timeout = client.next_timeout()
    assert timeout is not None
    assert 0 < timeout <= 1.0


def test_the_end_is_told(identity: DtlsIdentity) -> None:
    server, client = make_pair(identity)
    talk(server, client)
    client.close()
    (datagram,) = client.data_to_send()
    server.receive(datagram)
    assert server.state is DtlsState.CLOSED


@pytest.mark.parametrize("forgets_server", [False, True])
@pytest.mark.parametrize("forgets_client", [False, True])
@pytest.mark.parametrize("client_ends", [False, True])
def test_the_end_is_told_after_the_handshake_is_forgotten(
    identity: DtlsIdentity, forgets_server: bool, forgets_client: bool, client_ends: bool
) -> None:
    server, client = make_pair(identity)
    talk(server, client)
    if forgets_server:
        server.forget_handshake()
    if forgets_client:
        client.forget_handshake()
    assert server.data_to_send() == client.data_to_send() == []
    ends, stays = (client, server) if client_ends else (server, client)
    ends.close()
    (datagram,) = ends.data_to_send()
    assert ends.data_to_send() == []
    assert ends.state is DtlsState.CLOSED
    stays.receive(datagram)
    assert stays.state is DtlsState.CLOSED


def test_forged_alerts_are_ignored_after_the_handshake_is_forgotten(identity: DtlsIdentity) -> None:
    server, client = make_pair(identity)
    talk(server, client)
    client.close()
    (datagram,) = client.data_to_send()
    server.forget_handshake()
    server_alert = make_server_alert(identity)
    for position in range(len(datagram)):
        forged = bytearray(datagram)
        forged[position] ^= 1
        server.receive(bytes(forged))
        server.receive(datagram[:position])
        assert server.state is DtlsState.ESTABLISHED, position
    server.receive(server_alert)
    assert server.state is DtlsState.ESTABLISHED
    server.receive(datagram[:13] * 3 + bytes(64))
    assert server.state is DtlsState.ESTABLISHED
    server.receive(bytes.fromhex("14fefd0000000000000000000101") + datagram)
    assert server.state is DtlsState.CLOSED


def make_server_alert(identity: DtlsIdentity) -> bytes:
    """An authentic alert of another connection."""
    server, client = make_pair(identity)
    talk(server, client)
    server.close()
    (datagram,) = server.data_to_send()
    return datagram


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"])
def test_handshakes_with_other_ciphers_are_not_forgotten(cipher: str) -> None:
    identity = DtlsIdentity(PROFILES)
    identity.context.set_cipher_list(cipher.encode())
    server, client = make_pair(DtlsIdentity(PROFILES), identity)
    talk(server, client)
    server.forget_handshake()
    client.close()
    (datagram,) = client.data_to_send()
    server.receive(datagram)
    assert server.state is DtlsState.CLOSED


@pytest.mark.parametrize("junk", [b"", b"\x16", b"\x16\xfe\xfd" + bytes(10), b"\x14" * 1200, bytes(64)])
def test_junk_is_ignored_or_ends_the_handshake(identity: DtlsIdentity, junk: bytes) -> None:
    server, client = make_pair(identity)
    try:
        server.receive(junk)
    except DtlsError:
        return
    talk(server, client)
    assert server.state is DtlsState.ESTABLISHED
