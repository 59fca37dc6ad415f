"""TLS: server contexts from certificate files, and a test of what a first byte is."""

from __future__ import annotations

import ssl
from pathlib import Path


def load_server_context(certificate: str, key: str, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Return a TLS server context for PEM files; ``protocols`` are offered by ALPN.

    Raises OSError or ssl.SSLError whose text names the file.
    """
    for path, what in ((certificate, "certificate"), (key, "key")):
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"the TLS {what} '{path}' does not exist; create one with\n"
                "    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=localhost"
                f" -keyout {key} -out {certificate}"
            )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # costs a server far more than a client, and is gone from TLS 1.3
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise ssl.SSLError(f"the TLS certificate '{certificate}' and key '{key}' cannot be used: {error}") from None
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def certificate_stamp(certificate: str, key: str) -> tuple[int, ...]:
    """Return a value that changes when one of the files does; for reloading certificates that were renewed."""
    stamp: list[int] = []
    for path in (certificate, key):
        try:
            status = Path(path).stat()
        except OSError:
            stamp += (0, 0)
        else:
            stamp += (status.st_mtime_ns, status.st_ino)
    return tuple(stamp)
