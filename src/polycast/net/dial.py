"""Outgoing TCP connections: names resolved, addresses raced, TLS with verification or a pinned certificate."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import hashlib
import os
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from polycast.net.tls_handshake import TlsHandshake

# Seconds that an address gets before the next one is tried beside it (RFC 8305 section 5 recommends 250 ms).
RACE_DELAY: Final = 0.25

# Addresses of one name that are tried; names with more are load balancers, whose first ones do.
MAXIMUM_ADDRESSES: Final = 8

# Seconds that a server gets to close its side of a TLS connection.
SHUTDOWN_SECONDS: Final = 1.0

# Hexadecimal digits of a SHA-256 fingerprint.
_FINGERPRINT_LENGTH: Final = 64

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)
_Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class FingerprintError(ssl.SSLError):
    """The server has another certificate than the pinned one."""

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
) -> _Protocol:
    """Connect to a server and return the protocol object of the connection.

    ``timeout`` (seconds) covers everything: name, TCP and TLS. Raises OSError, ssl.SSLError and TimeoutError among
    them, with a text for the user; see `describe_failure`.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            connected = await _race(loop, await _resolve(loop, host, port))
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                return await _shake_hands(loop, connected, factory, tls, host, timeout)
            try:
                _, protocol = await loop.create_connection(factory, sock=connected)
            except BaseException:
                connected.close()
                raise
    except TimeoutError:
        raise TimeoutError(f"{host}:{port} did not answer within {timeout:g} s") from None
    return protocol


async def _shake_hands(
    loop: asyncio.AbstractEventLoop,
    connected: socket.socket,
    factory: Callable[[], _Protocol],
    tls: ssl.SSLContext,
    host: str,
    timeout: float,
) -> _Protocol:
    """Begin TLS, by our own transport: it has a budget of work, so that no server holds the loop."""
    handshake = TlsHandshake(
        tls, factory, timeout=timeout, shutdown_timeout=SHUTDOWN_SECONDS, server_name=host.partition("%")[0]
    )
    try:
        await loop.create_connection(lambda: handshake, sock=connected)
    except BaseException:
        connected.close()
        raise
    try:
        return cast("_Protocol", await handshake.finished)
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
        # asyncio's own event loop writes the address in place of the reason.
        return os.strerror(error.errno or 0) if error.strerror.startswith("Connect call failed") else error.strerror
    return str(error) or type(error).__name__


async def _resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[_Address]:
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise OSError(error.errno, f"the name '{host}' cannot be resolved: {error.strerror}") from None
    unique: dict[_Address, None] = dict.fromkeys((family, address) for family, _, _, _, address in found)
    return _interleave(list(unique))[:MAXIMUM_ADDRESSES]


def _interleave(addresses: list[_Address]) -> list[_Address]:
    """Return the addresses with families taking turns, the system's first choice first (RFC 8305 section 4)."""
    if not addresses:
        return []
    preferred = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    mixed: list[_Address] = []
    for index in range(max(len(preferred), len(others))):
        mixed += preferred[index : index + 1] + others[index : index + 1]
    return mixed


async def _race(loop: asyncio.AbstractEventLoop, addresses: list[_Address]) -> socket.socket:
    """Return the socket that connects first; each address gets a head start over the next one (RFC 8305)."""
    pending: set[asyncio.Task[socket.socket]] = set()
    errors: list[OSError] = []
    waiting = list(addresses)
    try:
        while waiting or pending:
            if waiting:
                family, address = waiting.pop(0)
                pending.add(loop.create_task(_connect_socket(loop, family, address)))
            done, pending = await asyncio.wait(
                pending, timeout=RACE_DELAY if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            connected: list[socket.socket] = []
            for task in done:
                error = task.exception()
                if error is None:
                    connected.append(task.result())
                elif isinstance(error, OSError):
                    errors.append(error)
                else:
                    raise error
            for superfluous in connected[1:]:
                superfluous.close()
            if connected:
                return connected[0]
    finally:
        for task in pending:
            task.cancel()
        for late in await asyncio.gather(*pending, return_exceptions=True):
            if isinstance(late, socket.socket):  # connected although another one had won
                late.close()
    raise errors[0] if errors else OSError(errno.EADDRNOTAVAIL, "the name has no address")


async def _connect_socket(
    loop: asyncio.AbstractEventLoop, family: socket.AddressFamily, address: tuple[Any, ...]
) -> socket.socket:
    outgoing = socket.socket(family, socket.SOCK_STREAM)
    try:
        outgoing.setblocking(False)
        await loop.sock_connect(outgoing, address)
    except BaseException:
        with contextlib.suppress(OSError):
            outgoing.close()
        raise
    return outgoing
