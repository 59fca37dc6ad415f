"""DTLS datagrams before a session exists, the first ones that a peer sends, and after its handshake is forgotten."""

from __future__ import annotations

from polycast.net.dtls import DtlsConnection, DtlsError, DtlsIdentity, DtlsState
from polycast.net.dtls_alerts import DtlsAlerts, Secrets

_IDENTITY = DtlsIdentity("SRTP_AEAD_AES_128_GCM")
_FINGERPRINT = ("sha-256", bytes(32))


def _hello() -> bytes:
    client = DtlsConnection(_IDENTITY, _FINGERPRINT, is_client=True)
    client.start()
    return client.data_to_send()[0]


_SERVER = DtlsAlerts(Secrets(bytes(48), bytes(32), bytes(32)), is_client=False)

SEEDS: list[bytes] = [
    _hello(),
    b"\x16\xfe\xff" + bytes(8) + b"\x00\x01\x0e",
    b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28",
    _SERVER.close_notify(),
]
DICTIONARY: list[bytes] = [b"\x16\xfe\xfd", b"\x16\xfe\xff", b"\x00\x0e", b"\x14\xfe\xfd"]


def fuzz_one(data: bytes) -> None:
    """Only DtlsError comes out, nothing makes a connection without a handshake, and nobody else can end one."""
    if _SERVER.ends(data):
        raise ValueError("a forged alert was accepted")
    for is_client in (False, True):
        connection = DtlsConnection(_IDENTITY, _FINGERPRINT, is_client=is_client)
        try:
            connection.start()
            for piece in (data, data[: len(data) // 2], data):
                connection.receive(piece)
        except DtlsError:
            pass
        connection.data_to_send()
        if connection.state is DtlsState.ESTABLISHED:
            raise ValueError("established out of nothing")
