"""Outgoing TCP connections: name resolution, Happy Eyeballs, TLS with verification or a pinned certificate."""

from __future__ import annotations

import asyncio
import errno
import functools
import hashlib
import os
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import aiohappyeyeballs

from polycast.net.dumped import dumped_connection
from polycast.net.names import looking_up
from polycast.net.tls_handshake import TlsHandshake

# Seconds that an address gets before the next one is tried beside it (RFC 8305 section 5 recommends 250 ms).
RACE_DELAY: Final = 0.25

# Addresses of one name and family that are tried; names with more are load balancers, whose first ones do.
MAXIMUM_ADDRESSES: Final = 8

# Seconds that a server gets to close its side of a TLS connection.
SHUTDOWN_SECONDS: Final = 1.0

# Hexadecimal digits of a SHA-256 fingerprint.
_FINGERPRINT_LENGTH: Final = 64

# How failures to connect are told by event loops, and by aiohappyeyeballs when a name has several addresses.
_SEVERAL_REASONS: Final = "Multiple exceptions: "
_WITHOUT_REASON: Final = ("Connect call failed", _SEVERAL_REASONS)
_CONNECT_FAILED: Final = re.compile(r"\[Errno (\d+)\] Connect call failed \('([^']*)'[^)]*\)")

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)
_AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]


class FingerprintError(ssl.SSLError):
    """The server's certificate is not the pinned one."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(1, f"server fingerprint do not match: expected {expected}, got {got}")

    def __str__(self) -> str:
        return str(self.args[1])


def normalize_fingerprint(text: str) -> str:
    """Return a SHA-256 fingerprint as 64 lower-case digits; colons, spaces and upper case are taken.

    Raises ValueError when it is not one.
    """
    digits = re.sub(r"[:\s]", "", text).lower()
    if len(digits) != _FINGERPRINT_LENGTH or not re.fullmatch(r"[0-9a-f]+", digits):
        raise ValueError(f"'{text}' is not a SHA-256 fingerprint: it must have 64 hexadecimal digits")
    return digits


def client_context(fingerprint: str = "") -> ssl.SSLContext:
    """Return a TLS client context.

    Without ``fingerprint`` the server's certificate is verified against the system's authorities, name included. With
    it only the SHA-256 of the certificate counts, and it is checked before anything is sent: a mismatch fails the
    handshake with FingerprintError. Raises ValueError when the fingerprint is not one.
    """
    return _pinned_context(normalize_fingerprint(fingerprint)) if fingerprint else _verifying_context()


@functools.lru_cache(maxsize=1)
def _verifying_context() -> ssl.SSLContext:
    # Reading the authorities' certificates takes some ten milliseconds: once for all sources.
    return ssl.create_default_context()


@functools.lru_cache(maxsize=256)
def _pinned_context(expected: str) -> ssl.SSLContext:
    class PinnedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            certificate = self.getpeercert(binary_form=True) or b""
            got = hashlib.sha256(certificate).hexdigest()
            if got != expected:
                raise FingerprintError(expected, got)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Cameras with a pinned certificate are often old ones.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslobject_class = PinnedObject
    return context


async def connect(
    factory: Callable[[], _Protocol],
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    timeout: float = 10.0,
    dump_prefix: str = "",
) -> _Protocol:
    """Connect to a server and return the protocol object of the connection.

    ``dump_prefix``: beginning of the name of a file with its packets; empty for none.

    ``timeout`` (seconds) covers everything: name, TCP and TLS. Raises OSError, ssl.SSLError and TimeoutError among
    them, with a text for the user; see `describe_failure`.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            connected = await aiohappyeyeballs.start_connection(
                await _resolve(loop, host, port), happy_eyeballs_delay=RACE_DELAY, loop=loop
            )
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                return await _shake_hands(loop, connected, factory, tls, host, timeout, dump_prefix)
            protocol = factory()
            await _begin(loop, connected, protocol, dump_prefix)
    except TimeoutError:
        raise TimeoutError(f"{host}:{port} did not answer within {timeout:g} s") from None
    return protocol


async def _begin(
    loop: asyncio.AbstractEventLoop,
    connected: socket.socket,
    protocol: asyncio.BaseProtocol,
    dump_prefix: str,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Give a connected socket to a protocol."""
    try:
        if dump_prefix:
            protocol = dumped_connection(loop, protocol, dump_prefix, is_server=False, tls=tls)
        await loop.create_connection(lambda: protocol, sock=connected)
    except BaseException:
        connected.close()
        raise


async def _shake_hands(
    loop: asyncio.AbstractEventLoop,
    connected: socket.socket,
    factory: Callable[[], _Protocol],
    tls: ssl.SSLContext,
    host: str,
    timeout: float,
    dump_prefix: str,
) -> _Protocol:
    """Begin TLS, by our own transport: it has a budget of work, so that no server holds the loop."""
    handshake = TlsHandshake(
        tls, factory, timeout=timeout, shutdown_timeout=SHUTDOWN_SECONDS, server_name=host.partition("%")[0]
    )
    await _begin(loop, connected, handshake, dump_prefix, tls)
    try:
        return cast("_Protocol", await handshake.finished)
    except OSError:
        await handshake.wait_closed()
        raise
    finally:
        handshake.abort()  # when this was cancelled


def describe_failure(error: BaseException) -> str:
    """Return why a connection failed, in words for the log."""
    if isinstance(error, FingerprintError):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of the server is not valid: {error.verify_message or error.reason or error}"
    if isinstance(error, ssl.SSLError):
        return f"TLS error: {error.reason or error}"
    if isinstance(error, OSError) and error.strerror:
        # Event loops write the address in place of the reason; of several addresses, all had the same one.
        return os.strerror(error.errno or 0) if error.strerror.startswith(_WITHOUT_REASON) else error.strerror
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and text.startswith(_SEVERAL_REASONS):
        return _CONNECT_FAILED.sub(_reason_of_address, text.removeprefix(_SEVERAL_REASONS))
    return text


def _reason_of_address(match: re.Match[str]) -> str:
    return f"{os.strerror(int(match[1]))} ({match[2]})"


async def _resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[_AddressInfo]:
    try:
        with looking_up():
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise OSError(error.errno, f"the name '{host}' cannot be resolved: {error.strerror}") from None
    families: dict[int, list[_AddressInfo]] = {}
    for info in dict.fromkeys(found):
        families.setdefault(info[0], []).append(info)
    if not families:
        raise OSError(errno.EADDRNOTAVAIL, f"the name '{host}' has no address")
    return [info for infos in families.values() for info in infos[:MAXIMUM_ADDRESSES]]
