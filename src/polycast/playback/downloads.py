"""Responses whose bodies come from files, block by block, as fast as the client takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
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
"""Those to one IP address, so that it leaves room for others; each may hold a megabyte."""
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Downloads:
    """Sends what generators yield that read files."""

    def __init__(self, recordings: Recordings, log: Log) -> None:
        self._recordings = recordings
        self._log = log
        self._clients: Counter[str] = Counter()
        """Responses that are being sent, by IP address."""

    async def respond(
        self, request: Request, source: Iterator[bytes], status: int = 200, headers: Mapping[str, str] = _NO_HEADERS
    ) -> Response:
        """Return a response. Its first block is awaited: until then, exceptions of the generator can be answered.

        Raises RequestError if there are too many.
        """
        client = request.client.host if request.client is not None else ""
        if self._clients.total() >= MAXIMUM_DOWNLOADS:
            raise RequestError(503, "too many downloads")
        if self._clients[client] >= MAXIMUM_OF_CLIENT:
            raise RequestError(503, "too many downloads of this address")
        blocks = self._blocks(source, client)
        try:
            first = await anext(blocks, b"")
        except BaseException:
            await blocks.aclose()
            raise
        body = self._body(first, blocks, is_wanted=request.method != "HEAD")
        return _Download(body, status, {**NOT_STORED, **headers}, media_type="video/mp4")

    async def _blocks(self, source: Iterator[bytes], client: str) -> AsyncGenerator[bytes, None]:
        self._clients[client] += 1
        try:
            async with aclosing(self._recordings.blocks(source)) as blocks:
                async for block in blocks:
                    yield block
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    async def _body(
        self, first: bytes, rest: AsyncGenerator[bytes, None], *, is_wanted: bool
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(rest):
            if not is_wanted:
                return
            yield first
            del first  # half a megabyte, for as long as the download takes
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
