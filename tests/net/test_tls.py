"""TLS certificate files that cannot be used: the error says in words why."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from polycast.net.tls import load_server_context, require_authority

ISSUED = trustme.CA().issue_cert("localhost")
CERTIFICATE = ISSUED.cert_chain_pems[0].bytes()
KEY = ISSUED.private_key_pem.bytes()
OTHER_KEY = trustme.CA().issue_cert("localhost").private_key_pem.bytes()
LOCKED_KEY = KEY.replace(b"PRIVATE", b"ENCRYPTED PRIVATE").replace(b"EC ENCRYPTED", b"ENCRYPTED")


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        (KEY, CERTIFICATE, "certificate and key are swapped"),
        (CERTIFICATE, OTHER_KEY, "the key does not belong to the certificate"),
        (
            b"\x30\x82",
            KEY,
            "'server.crt' is not a certificate in PEM form (it has no line '-----BEGIN CERTIFICATE-----')",
        ),
        (b"", b"", "'server.crt' is not a certificate in PEM form (it has no line '-----BEGIN CERTIFICATE-----')"),
        (CERTIFICATE, CERTIFICATE, "'server.key' is not a private key in PEM form"),
        (CERTIFICATE[:200], KEY, "'server.crt' is truncated (an END line is missing)"),
        (CERTIFICATE, KEY[:100], "'server.key' is truncated (an END line is missing)"),
        (CERTIFICATE, LOCKED_KEY, "'server.key' is protected by a passphrase"),
        (CERTIFICATE.replace(b"A", b"", 1), KEY, "damaged: "),
    ],
    # Without the keys in them, which differ in each process: parallel runs need the same names.
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_unusable_files(
    certificate: bytes, key: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("server.crt").write_bytes(certificate)
    Path("server.key").write_bytes(key)
    with pytest.raises(ssl.SSLError) as caught:
        load_server_context("server.crt", "server.key")
    assert str(caught.value).startswith(
        f"the TLS certificate 'server.crt' and key 'server.key' cannot be used: {reason}"
    )
    assert caught.value.strerror == str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (KEY, "it is not a certificate in PEM form"),
        (b"", "it is not a certificate in PEM form"),
        (CERTIFICATE.replace(b"A", b"", 1), "damaged: "),
    ],
    ids=["a key", "empty", "damaged"],
)
def test_an_unusable_authority(content: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ca.crt").write_bytes(content)
    with pytest.raises(ssl.SSLError) as caught:
        require_authority(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "ca.crt")
    assert str(caught.value).startswith(f"the certificate 'ca.crt' of the authority cannot be used: {reason}")
