"""TLS: contexts from certificate files."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final


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
    problem = _problem_of_files(certificate, key)
    if problem:
        raise _unusable(certificate, key, problem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # costs a server far more than a client, and is gone from TLS 1.3
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        does_not_belong = error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")
        problem = "the key does not belong to the certificate" if does_not_belong else f"damaged: {error}"
        raise _unusable(certificate, key, problem) from None
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def require_authority(context: ssl.SSLContext, authority: str) -> None:
    """Accept only peers with a certificate that an authority has signed, whatever their names; ``authority`` is a PEM
    file with its certificate.

    Raises OSError or ssl.SSLError whose text names the file.
    """
    if _CERTIFICATE not in _read(authority):
        problem = "it is not a certificate in PEM form (it has no line '-----BEGIN CERTIFICATE-----')"
        raise _unusable_authority(authority, problem)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(cafile=authority)
    except ssl.SSLError as error:
        raise _unusable_authority(authority, f"damaged: {error}") from None


def _unusable_authority(authority: str, problem: str) -> ssl.SSLError:
    return ssl.SSLError(ssl.SSL_ERROR_SSL, f"the certificate '{authority}' of the authority cannot be used: {problem}")


def _unusable(certificate: str, key: str, problem: str) -> ssl.SSLError:
    # With a single argument, its text would be that of a tuple.
    return ssl.SSLError(
        ssl.SSL_ERROR_SSL, f"the TLS certificate '{certificate}' and key '{key}' cannot be used: {problem}"
    )


def _problem_of_files(certificate: str, key: str) -> str:
    """Return what is wrong with PEM files at first sight, which OpenSSL does not say in words; empty: nothing.

    Raises OSError whose text names the file.
    """
    chain, secret = _read(certificate), _read(key)
    if _CERTIFICATE not in chain:
        if _PRIVATE_KEY in chain and _CERTIFICATE in secret:
            return "certificate and key are swapped"
        return f"'{certificate}' is not a certificate in PEM form (it has no line '-----BEGIN CERTIFICATE-----')"
    if _PRIVATE_KEY not in secret:
        return f"'{key}' is not a private key in PEM form (it has no line '-----BEGIN PRIVATE KEY-----')"
    for path, content in ((certificate, chain), (key, secret)):
        if content.count(b"-----BEGIN ") != content.count(b"-----END "):
            return f"'{path}' is truncated (an END line is missing)"
    if b"ENCRYPTED" in secret:
        return f"'{key}' is protected by a passphrase; remove it with 'openssl pkey -in {key} -out new.key'"
    return ""


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OSError(error.errno, f"the file '{path}' cannot be read: {error.strerror}") from None


_CERTIFICATE: Final = b"CERTIFICATE-----"  # also TRUSTED CERTIFICATE and X509 CERTIFICATE
_PRIVATE_KEY: Final = b"PRIVATE KEY-----"

# Seconds between two checks of the certificate files.
CERTIFICATE_CHECK_SECONDS: Final = 10.0


class ServerCertificate:
    """The certificate of a listener: PEM files, reloaded when they change. ``protocols`` are for ALPN."""

    def __init__(self, certificate: str, key: str, protocols: tuple[str, ...] = ()) -> None:
        """Raises OSError or ssl.SSLError whose text names the file."""
        self._files = (certificate, key)
        self._protocols = protocols
        self.context = self._load()
        """For the next connections."""
        self._stamp = self._current_stamp()
        self._next_check = 0.0

    def _load(self) -> ssl.SSLContext:
        return load_server_context(*self._files, self._protocols)

    def _watched(self) -> tuple[str, ...]:
        """Return the files whose change is noticed."""
        return self._files

    def is_check_due(self, now: float) -> bool:
        """Whether it is time to call `renew`; ``now`` is in monotonic seconds."""
        if now < self._next_check:
            return False
        self._next_check = now + CERTIFICATE_CHECK_SECONDS
        return True

    def renew(self) -> bool:
        """Use changed files for the next connections; return whether they had changed.

        Raises OSError or ssl.SSLError when they cannot be used; the old ones stay, until the files change again.
        """
        stamp = self._current_stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        # A new context: in the old one, a key of another type would be added to the old one, which clients would
        # prefer.
        self.context = self._load()
        return True

    def _current_stamp(self) -> tuple[int, ...]:
        stamp: list[int] = []
        for path in self._watched():
            try:
                status = Path(path).stat()
            except OSError:
                stamp += (0, 0)
            else:
                stamp += (status.st_mtime_ns, status.st_ino)
        return tuple(stamp)


class MutualCertificate(ServerCertificate):
    """A certificate that this side shows as server and as client, to peers with one of the same authority.

    Names are not checked: whoever has a certificate of the authority is trusted. ``authority`` is a PEM file.
    """

    outgoing: ssl.SSLContext
    """For the next connections to others."""

    def __init__(self, certificate: str, key: str, authority: str) -> None:
        """Raises OSError or ssl.SSLError whose text names the file."""
        self._authority = authority
        super().__init__(certificate, key)

    def _load(self) -> ssl.SSLContext:
        incoming = super()._load()
        outgoing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for context in (incoming, outgoing):
            require_authority(context, self._authority)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        outgoing.load_cert_chain(*self._files)
        self.outgoing = outgoing
        return incoming

    def _watched(self) -> tuple[str, ...]:
        return (*self._files, self._authority)
