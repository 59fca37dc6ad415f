"""Asks an HTTP server of the administrator who may do what."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import msgspec

from polycast.config.authentication import Permission
from polycast.config.redact import redact
from polycast.hub.access_request import AccessRequest
from polycast.hub.errors import AccessDenied, Denial
from polycast.hub.exclusions import ExcludingMethod
from polycast.security.addresses import network_of

# Maximum number of concurrent requests; more are queued.
EXTERNAL_CONCURRENCY: Final = 64

# Those about clients of one address: a slow server and one client with many connections must not hold up the others.
CONCURRENCY_OF_ADDRESS: Final = EXTERNAL_CONCURRENCY // 2

# Requests about clients of one address, including those that are queued.
MAXIMUM_OF_ADDRESS: Final = 1_000

# Characters of an answer in the log.
_LOGGED_ANSWER: Final = 200

Fetch = Callable[[str, str, bytes, str], Awaitable[tuple[int, bytes]]]
"""Sends a request: (method, URL, body in JSON, fingerprint of the only valid certificate, if any). Returns the status
and the beginning of the body of the answer. No timeout. Raises OSError with a text for the log."""


class _AddressSlots:
    """The slots for clients of one address."""

    __slots__ = ("count", "slots")

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(CONCURRENCY_OF_ADDRESS)
        self.count = 0
        """Number of requests that have a slot or wait for one."""


class ExternalServer:
    """Sends requests to the servers that decide. A slow one delays only the client that waits for it."""

    def __init__(self, fetch: Fetch | None) -> None:
        """``fetch`` is required to ask anything."""
        self._fetch = fetch
        self._slots = asyncio.Semaphore(EXTERNAL_CONCURRENCY)
        self._by_address: dict[str, _AddressSlots] = {}

    @property
    def can_ask(self) -> bool:
        """Whether there is something that sends requests."""
        return self._fetch is not None

    async def ask(self, url: str, fields: object, timeout: float, fingerprint: str = "", *, address: str) -> None:
        """Return if the server at ``url`` agrees; raise AccessDenied if it does not, or is silent for ``timeout``
        seconds. ``address`` is the IP address of the client that this is about."""
        if self._fetch is None:
            raise ValueError("an external authentication server needs something that sends requests")
        try:
            async with asyncio.timeout(timeout), self._slot(address):
                status, answer = await self._fetch("POST", url, msgspec.json.encode(fields), fingerprint)
        except TimeoutError:
            raise _denial(url, f"no answer within {timeout:g} s", denial=Denial.UNDECIDED) from None
        except OSError as error:
            raise _denial(url, str(error), denial=Denial.UNDECIDED) from error
        if not 200 <= status <= 299:
            text = _printable(answer)
            raise _denial(url, f"bad status code: {status}", f": {text}" if text else "")

    @contextlib.asynccontextmanager
    async def _slot(self, address: str) -> AsyncIterator[None]:
        """Wait for a slot. Raises AccessDenied if too many clients of the address wait."""
        network = network_of(address)
        own = self._by_address.setdefault(network, _AddressSlots())
        if own.count >= MAXIMUM_OF_ADDRESS:
            raise AccessDenied("too many clients of this address are being authenticated", Denial.LIMIT)
        own.count += 1
        try:
            async with own.slots, self._slots:
                yield
        finally:
            own.count -= 1
            if not own.count:
                del self._by_address[network]


def _printable(answer: bytes) -> str:
    text = " ".join(answer[:_LOGGED_ANSWER].decode("utf-8", "replace").split())
    return "".join(character if character.isprintable() else "?" for character in text)


def _denial(url: str, reason: str, answer: str = "", *, denial: Denial = Denial.EXTERNAL) -> AccessDenied:
    return AccessDenied(
        f"external authentication failed: {reason}",
        denial,
        f"external authentication failed: {reason}{answer} ({redact(url)})",
    )


class HttpMethod(ExcludingMethod):
    """``authMethod: http``: the server decides about everything except what is excluded."""

    def __init__(
        self, server: ExternalServer, url: str, fingerprint: str, exclude: Sequence[Permission], timeout: float
    ) -> None:
        """``timeout`` is in seconds."""
        self._server = server
        self._url = url
        self._fingerprint = fingerprint
        super().__init__(exclude)
        self._timeout = timeout

    async def check(self, request: AccessRequest, token: str) -> str:
        """Return the user's name if the client is allowed. Raises AccessDenied."""
        if self.is_open(request.action, request.path):
            return ""
        user, password = request.credentials.plain()
        fields = {
            "ip": request.address,
            "user": user,
            "password": password,
            "token": token,
            "action": request.action.value,
            "path": request.path,
            "protocol": request.protocol,
            "id": request.id,
            "query": request.query,
            "userAgent": request.user_agent,
        }
        await self._server.ask(self._url, fields, self._timeout, self._fingerprint, address=request.address)
        return request.credentials.user

    async def is_known(self, request: AccessRequest, token: str) -> bool:
        """The server only says what a client may do, not who it is."""
        return False
