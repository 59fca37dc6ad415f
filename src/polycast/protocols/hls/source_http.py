"""Downloads of an HLS source: playlists, segments and keys over HTTP or HTTPS."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from polycast.net.dial import client_context
from polycast.net.http_client import describe_http_failure, dumping_transport, skip_body
from polycast.protocols.http_addresses import MAXIMUM_REDIRECTIONS, redirected, without_credentials
from polycast.protocols.pull import PullError
from polycast.security.origins import may_send_credentials, origin_of
from polycast.wire.hls.parsed import ByteRange
from polycast.wire.hls.parser import MAXIMUM_PLAYLIST_SIZE

if TYPE_CHECKING:
    import httpx2

USER_AGENT: Final = "polycast"

# Response timeouts within which a playlist, a key or an initialization has to arrive completely.
WHOLE_TIMEOUTS: Final = 2

# Bytes of a body that are returned together, after decompression: perhaps a thousandth was received.
PIECE_SIZE: Final = 64 * 1024

# Supported content codings (RFC 9110 section 8.4.1). Only requested for playlists, because media is already compressed.
CODINGS: Final = ("gzip", "x-gzip", "deflate")

PLAYLIST_START: Final = b"#EXTM3U"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class MissingFileError(PullError):
    """The server does not have a file (404, 410)."""


@dataclass(frozen=True, slots=True)
class Download:
    """A file, and its final address after redirections."""

    data: bytes
    url: str


@dataclass(frozen=True, slots=True)
class Body:
    """A file that is being downloaded."""

    url: str
    """The final address after redirections."""
    pieces: AsyncIterator[bytes]
    """Up to `PIECE_SIZE` bytes each."""


class Fetcher:
    """The HTTP client of one source. The credentials in its address are only sent to its own server."""

    def __init__(self, url: str, fingerprint: str, timeout: float, dump_prefix: str = "") -> None:
        """``dump_prefix``: beginning of the names of files with its packets; empty: there are none.

        Raises PullError if the address or the fingerprint is invalid."""
        import httpx2  # slow to import, and only needed for this kind of source

        self._library = httpx2
        parts = urlsplit(url)
        self._credentials = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        self._timeout = timeout
        try:
            self._origin = origin_of(url)
            context = client_context(fingerprint)
        except ValueError as error:
            raise PullError(str(error)) from error
        self._client = httpx2.AsyncClient(
            verify=context,
            transport=dumping_transport(context, dump_prefix),
            headers={"User-Agent": USER_AGENT},
            timeout=timeout,
        )

    async def get_playlist(self, url: str, *, patience: float = 0.0) -> Download:
        """Return a playlist; only the beginning of other files, which may be endless streams."""
        return await self.get(url, MAXIMUM_PLAYLIST_SIZE, patience=patience, start=PLAYLIST_START)

    async def get(
        self,
        url: str,
        limit: int,
        *,
        byte_range: ByteRange | None = None,
        patience: float = 0.0,
        start: bytes = b"",
    ) -> Download:
        """Return a file of at most ``limit`` bytes. ``patience``: additional seconds that the response may take.

        The download is aborted if it has not arrived completely within `WHOLE_TIMEOUTS` times the timeout of the
        response. The rest of a file that does not start with ``start`` is not downloaded. Raises PullError.
        """
        parts: list[bytes] = []
        size = 0
        awaited = len(_BYTE_ORDER_MARK) + len(start)
        seconds = WHOLE_TIMEOUTS * (self._timeout + patience)
        try:
            async with (
                asyncio.timeout(seconds),
                self.open(url, limit, byte_range=byte_range, patience=patience, compressed=bool(start)) as body,
            ):
                async for part in body.pieces:
                    size += len(part)
                    parts.append(part)
                    if start and size - len(part) < awaited <= size:
                        beginning = b"".join(parts)
                        if not beginning.removeprefix(_BYTE_ORDER_MARK).startswith(start):
                            return Download(beginning, body.url)
                return Download(b"".join(parts), body.url)
        except TimeoutError as error:
            raise PullError(f"not received within {seconds:g} s ({without_credentials(url)})") from error
        finally:
            parts.clear()  # the traceback of an exception holds this frame

    @asynccontextmanager
    async def open(
        self,
        url: str,
        limit: int,
        *,
        byte_range: ByteRange | None = None,
        patience: float = 0.0,
        compressed: bool = False,
    ) -> AsyncIterator[Body]:
        """Request a file and return its body, to be read piece by piece; unread data is not held in memory.

        ``compressed``: request a content coding. Raises PullError, also while the body is read.
        """
        httpx = self._library
        headers = {"Accept-Encoding": "gzip, deflate" if compressed else "identity"}
        if byte_range is not None:
            headers["Range"] = f"bytes={byte_range.start}-{byte_range.start + byte_range.length - 1}"
        timeout = httpx.Timeout(self._timeout, read=self._timeout + patience)
        address = without_credentials(url)
        try:
            for _ in range(MAXIMUM_REDIRECTIONS + 1):
                async with self._client.stream(
                    "GET", address, headers=headers, auth=self._credentials_for(address), timeout=timeout
                ) as response:
                    if response.has_redirect_location:
                        await skip_body(response)
                        address = redirected(address, response.headers["Location"])
                        continue
                    if response.status_code not in (200, 206):
                        kind = MissingFileError if response.status_code in (404, 410) else PullError
                        raise kind(f"bad status code: {response.status_code} ({address})")
                    # a server that does not support ranges sends everything
                    window = byte_range if response.status_code == 200 else None
                    async with aclosing(_read(response, limit, window)) as pieces:
                        yield Body(address, pieces)
                        return
            raise PullError(f"too many redirections ({without_credentials(url)})")
        except httpx.TimeoutException as error:
            raise PullError(f"no answer within {self._timeout + patience:g} s ({address})") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, zlib.error) as error:
            raise PullError(f"{describe_http_failure(error)} ({address})") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _credentials_for(self, url: str) -> httpx2.BasicAuth | None:
        if self._credentials is None:
            return None
        may = may_send_credentials(self._origin, origin_of(url))
        return self._library.BasicAuth(*self._credentials) if may else None


async def _read(response: httpx2.Response, limit: int, window: ByteRange | None) -> AsyncGenerator[bytes, None]:
    """Yield the decoded body, or the ``window`` of it. Raises PullError if there is more than ``limit``.

    Of what precedes the window, empty pieces are yielded, so that the caller notices how long it takes.
    """
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "", *CODINGS):
        raise PullError(f"a file has the content coding {coding[:100]!r}, which is not supported ({response.url})")
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32) if coding in CODINGS else None
    position = 0
    begin, end = (window.start, window.start + window.length) if window is not None else (0, limit + 1)
    async for raw in response.aiter_raw():
        for piece in _slices(raw) if inflate is None else _inflated(inflate, raw):
            piece_end = position + len(piece)
            if piece_end > limit and window is None:
                raise PullError(f"a file is larger than {limit} bytes ({response.url})")
            yield piece[max(begin - position, 0) : max(end - position, 0)]
            position = piece_end
            if position >= end:
                return
            if inflate is not None:
                await asyncio.sleep(0)  # a kilobyte may be a megabyte, and whoever reads it need not wait for anything


def _slices(data: bytes) -> Iterator[bytes]:
    if len(data) <= PIECE_SIZE:
        yield data
        return
    for start in range(0, len(data), PIECE_SIZE):
        yield data[start : start + PIECE_SIZE]


def _inflated(inflate: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while data:
        piece = inflate.decompress(data, PIECE_SIZE)
        if piece:
            yield piece
        data = inflate.unconsumed_tail
