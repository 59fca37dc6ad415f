"""Requests to other HTTP servers. The library for them is large: it is imported in a thread, on first use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import httpx2

# Bytes of a body that are read, so that the connection can be used again; of a longer one nothing more is read.
MAXIMUM_IGNORED_BODY: Final = 64 * 1024


def load_http_client() -> None:
    """Import the library, and what it would import with its first request. Takes tenths of a second; for a thread."""
    import httpx2

    httpx2.AsyncClient(verify=False, trust_env=False)  # imports the rest
    with contextlib.suppress(ImportError):
        import_module("anyio._backends._asyncio")


async def skip_body(response: httpx2.Response) -> None:
    """Read the body of a streamed response, if it is a short one."""
    size = 0
    async for data in response.aiter_raw():
        size += len(data)
        if size > MAXIMUM_IGNORED_BODY:
            break


class HttpClient:
    """Tells other servers something. Keeps connections for the next request; follows no redirections."""

    def __init__(self) -> None:
        self._client: asyncio.Task[httpx2.AsyncClient] | None = None

    async def prepare(self) -> None:
        """Load what requests need, so that the first one does not wait for it."""
        await self._prepared()

    async def post_json(self, url: str, body: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> int:
        """Send JSON, with additional headers; return the status of the answer, whose body is ignored.

        No timeout: the caller has one. Raises OSError with a text for the log.
        """
        client = await self._prepared()
        import httpx2

        try:
            all_headers = {"Content-Type": "application/json", **headers}
            async with client.stream("POST", url, content=body, headers=all_headers) as response:
                await skip_body(response)
                return response.status_code
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise OSError(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Close idle connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await (await client).aclose()

    async def _prepared(self) -> httpx2.AsyncClient:
        if self._client is None:
            self._client = asyncio.get_running_loop().create_task(asyncio.to_thread(_make_client))
        try:
            return await asyncio.shield(self._client)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._client = None
            raise


def _make_client() -> httpx2.AsyncClient:
    """Load the library and the certificates of the system, which takes tenths of a second."""
    import httpx2

    return httpx2.AsyncClient(timeout=None, trust_env=False)
