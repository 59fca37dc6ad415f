"""Responses whose bodies come from files, block by block, as fast as the client takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager, nullcontext
from types import MappingProxyType
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from polycast.errors import PolycastError
from polycast.log import Log
from polycast.playback.recordings import Recordings
from polycast.playback.requests import NOT_STORED, RequestError

MAXIMUM_DOWNLOADS: Final = 256
"""Responses that are being sent; each has an open file."""
MAXIMUM_OF_CLIENT: Final = 64
"""Those to one IP address, so that it leaves room for others; each may hold half a megabyte."""
MAXIMUM_LOOKUPS: Final = 64
"""Requests for which all files of a period are looked up, or an index of their samples is made; each may hold a
hundred megabytes."""
MAXIMUM_LOOKUPS_OF_CLIENT: Final = 8
"""Those of one IP address."""
MAXIMUM_LARGE: Final = 16
"""Responses of files whose index is too large to be shared, and may take a hundred megabytes."""
MAXIMUM_LARGE_OF_CLIENT: Final = 2
"""Those to one IP address."""
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Places:
    """How many requests of a kind are served at once, in all and of each IP address."""

    def __init__(self, what: str, maximum: int, maximum_of_client: int) -> None:
        """``what`` they are called in the answer to one too many."""
        self._what = what
        self._maximum = maximum
        self._maximum_of_client = maximum_of_client
        self._clients: Counter[str] = Counter()

    @contextmanager
    def taken(self, client: str) -> Iterator[None]:
        """Take a place for an IP address. Raises RequestError if none is left."""
        if self._clients.total() >= self._maximum:
            raise RequestError(503, f"too many {self._what}")
        if self._clients[client] >= self._maximum_of_client:
            raise RequestError(503, f"too many {self._what} of this address")
        self._clients[client] += 1
        try:
            yield
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]


def client_of(request: Request) -> str:
    """Return the IP address of a client."""
    return request.client.host if request.client is not None else ""


class Downloads:
    """Sends what generators yield that read files."""

    def __init__(self, recordings: Recordings, log: Log) -> None:
        self._recordings = recordings
        self._log = log
        self._places = Places("downloads", MAXIMUM_DOWNLOADS, MAXIMUM_OF_CLIENT)
        self.lookups = Places("requests for all of a period", MAXIMUM_LOOKUPS, MAXIMUM_LOOKUPS_OF_CLIENT)
        self.large = Places("downloads of long periods", MAXIMUM_LARGE, MAXIMUM_LARGE_OF_CLIENT)

    async def respond(
        self,
        request: Request,
        source: Iterator[bytes],
        status: int = 200,
        headers: Mapping[str, str] = _NO_HEADERS,
        *,
        media_type: str = "video/mp4",
        places: Places | None = None,
    ) -> Response:
        """Return a response. Its first block is awaited: until then, exceptions of the generator can be answered.

        ``places``: those of its kind, if that is rarer than other downloads. Raises RequestError if there are too many.
        """
        blocks = self._blocks(source, client_of(request), places)
        try:
            first = await anext(blocks, b"")
        except BaseException:
            await blocks.aclose()
            raise
        body = self._body(first, blocks, is_wanted=request.method != "HEAD")
        return _Download(body, status, {**NOT_STORED, **headers}, media_type=media_type)

    async def _blocks(self, source: Iterator[bytes], client: str, places: Places | None) -> AsyncGenerator[bytes, None]:
        with self._places.taken(client), places.taken(client) if places is not None else nullcontext():
            async with aclosing(self._recordings.blocks(source)) as blocks:
                async for block in blocks:
                    yield block

    async def _body(
        self, first: bytes, rest: AsyncGenerator[bytes, None], *, is_wanted: bool
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(rest):
            if not is_wanted:
                return
            yield first
            del first  # otherwise kept for as long as the download takes
            try:
                async for block in rest:
                    yield block
            except (OSError, PolycastError) as error:
                self._log.warning("a recording cannot be read further: %s", error)
                raise _Interrupted from None


class _Interrupted(Exception):
    """The rest of a body cannot be read."""


class _Download(StreamingResponse):
    """A response that is aborted if its body ends too early, so that the client notices."""

    body_iterator: AsyncGenerator[bytes, None]

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self.body_iterator):
            try:
                await super().stream_response(send)
            except _Interrupted:
                return
