"""Requests to other HTTP servers. The library for them is large: it is imported in a thread, on first use."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Collection, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from polycast.net.dial import client_context, describe_failure

if TYPE_CHECKING:
    import httpx2

# Bytes of the body of an answer that are returned; a longer one is not read to its end.
MAXIMUM_ANSWER: Final = 128 * 1024

# Bytes of a body that are read, so that the connection can be used again; of a longer one nothing more is read.
MAXIMUM_IGNORED_BODY: Final = 64 * 1024


def load_http_client() -> None:
    """Import the library, and what it would import with its first request. Takes tenths of a second; for a thread."""
    import httpx2

    httpx2.AsyncClient(verify=False, trust_env=False)  # imports the rest
    with contextlib.suppress(ImportError):
        import_module("anyio._backends._asyncio")


def dumping_transport(context: ssl.SSLContext, dump_prefix: str) -> httpx2.AsyncHTTPTransport | None:
    """Return what a client needs to write its packets to files, whose names begin with ``dump_prefix``.

    None for an empty prefix: the client's own.
    """
    if not dump_prefix:
        return None
    from polycast.net import http_dump

    return http_dump.dumping_transport(context, dump_prefix)


async def skip_body(response: httpx2.Response) -> None:
    """Read the body of a streamed response, if it is a short one."""
    size = 0
    async for data in response.aiter_raw():
        size += len(data)
        if size > MAXIMUM_IGNORED_BODY:
            break


async def read_beginning(response: httpx2.Response) -> bytes:
    """Return the body of a streamed response as it was sent, or more than `MAXIMUM_ANSWER` bytes of a longer one."""
    parts: list[bytes] = []
    size = 0
    async for data in response.aiter_raw():
        size += len(data)
        parts.append(data)
        if size > MAXIMUM_ANSWER:
            break
    return b"".join(parts)


class HttpClient:
    """Asks other servers something. Keeps connections for the next request; follows no redirections."""

    def __init__(self) -> None:
        self._clients: dict[str, asyncio.Task[httpx2.AsyncClient]] = {}
        """By the fingerprint of the only valid certificate, or an empty text."""
        self._requests: Counter[str] = Counter()
        """How many requests use each of them."""
        self._kept: Collection[str] | None = None

    async def keep(self, fingerprints: Collection[str]) -> None:
        """Close what is kept for other fingerprints, from now on as soon as no request uses it any more.

        Without a call, everything is kept.
        """
        self._kept = ("", *fingerprints)
        for fingerprint in list(self._clients):
            await self._close_unused(fingerprint)

    async def prepare(self) -> None:
        """Load what requests need, so that the first one does not wait for it."""
        await self._prepared("")

    async def fetch(
        self,
        method: str,
        url: str,
        body: bytes = b"",
        fingerprint: str = "",
        *,
        more_headers: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[int, bytes]:
        """Send a request, with JSON if there is a body; return the status of the answer and the beginning of its body:
        more than `MAXIMUM_ANSWER` bytes of a longer one.

        ``fingerprint``: SHA-256 of the only certificate that is valid; empty: one that the system's authorities verify.

        No timeout: the caller has one. Raises OSError with a text for the log.
        """
        self._requests[fingerprint] += 1
        try:
            return await self._fetch(method, url, body, fingerprint, more_headers)
        finally:
            self._requests[fingerprint] -= 1
            await self._close_unused(fingerprint)

    async def close(self) -> None:
        """Close idle connections."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await _close(client)

    async def _close_unused(self, fingerprint: str) -> None:
        if self._requests[fingerprint]:
            return
        del self._requests[fingerprint]
        if self._kept is None or fingerprint in self._kept:
            return
        client = self._clients.pop(fingerprint, None)
        if client is not None:
            await _close(client)

    async def _fetch(
        self, method: str, url: str, body: bytes, fingerprint: str, more_headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        try:
            client = await self._prepared(fingerprint)
        except ValueError as error:
            raise OSError(str(error)) from error
        import httpx2

        # The body is used as it is sent.
        headers = {"Accept-Encoding": "identity"}
        if body:
            headers["Content-Type"] = "application/json"
        headers |= more_headers
        try:
            async with client.stream(method, url, content=body or None, headers=headers) as response:
                return response.status_code, await read_beginning(response)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise OSError(describe_http_failure(error)) from error

    async def _prepared(self, fingerprint: str) -> httpx2.AsyncClient:
        if fingerprint not in self._clients:
            make = asyncio.to_thread(_make_client, fingerprint)
            self._clients[fingerprint] = asyncio.get_running_loop().create_task(make)
        try:
            return await asyncio.shield(self._clients[fingerprint])
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._clients.pop(fingerprint, None)
            raise


async def _close(client: asyncio.Task[httpx2.AsyncClient]) -> None:
    with contextlib.suppress(ValueError, OSError):  # an invalid fingerprint
        await (await client).aclose()


def _make_client(fingerprint: str) -> httpx2.AsyncClient:
    """Load the library and the certificates of the system, which takes tenths of a second. Raises ValueError if the
    fingerprint is invalid."""
    import httpx2

    if fingerprint:
        return httpx2.AsyncClient(timeout=None, trust_env=False, verify=client_context(fingerprint))
    return httpx2.AsyncClient(timeout=None, trust_env=False)


def describe_http_failure(error: BaseException) -> str:
    """Return why a request failed, in words: the library has the reason of the system or of TLS only as a cause."""
    reason: BaseException | None = error
    while reason is not None:
        if isinstance(reason, ExceptionGroup):  # a name with several addresses
            return ", ".join(dict.fromkeys(map(describe_http_failure, reason.exceptions)))
        if isinstance(reason, OSError) and reason.errno is not None:
            return describe_failure(reason)
        reason = reason.__cause__ or reason.__context__
    return str(error) or type(error).__name__
