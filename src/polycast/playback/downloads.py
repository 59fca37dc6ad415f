"""Responses whose bodies come from files, block by block, as fast as the client takes them."""

from __future__ import annotations

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
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Downloads:
    """Sends what generators yield that read files."""

    def __init__(self, recordings: Recordings, log: Log) -> None:
        self._recordings = recordings
        self._log = log
        self._count = 0

    async def respond(
        self, request: Request, source: Iterator[bytes], status: int = 200, headers: Mapping[str, str] = _NO_HEADERS
    ) -> Response:
        """Return a response. Its first block is awaited: until then, exceptions of the generator can be answered.

        Raises RequestError if there are too many.
        """
        if self._count >= MAXIMUM_DOWNLOADS:
            raise RequestError(503, "too many downloads")
        blocks = self._blocks(source)
        try:
            first = await anext(blocks, b"")
        except BaseException:
            await blocks.aclose()
            raise
        body = self._body(first, blocks, is_wanted=request.method != "HEAD")
        return _Download(body, status, {**NOT_STORED, **headers}, media_type="video/mp4")

    async def _blocks(self, source: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
        self._count += 1
        try:
            async with aclosing(self._recordings.blocks(source)) as blocks:
                async for block in blocks:
                    yield block
        finally:
            self._count -= 1

    async def _body(
        self, first: bytes, rest: AsyncGenerator[bytes, None], *, is_wanted: bool
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(rest):
            if not is_wanted:
                return
            yield first
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
