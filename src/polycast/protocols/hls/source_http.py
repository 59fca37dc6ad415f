"""Downloads of an HLS source: playlists, segments and keys over HTTP or HTTPS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from polycast.net.dial import client_context
from polycast.protocols.pull import PullError
from polycast.wire.hls.parsed import ByteRange
from polycast.wire.hls.parser import MAXIMUM_PLAYLIST_SIZE

if TYPE_CHECKING:
    import httpx2

USER_AGENT: Final = "polycast"

MAXIMUM_REDIRECTIONS: Final = 5

PLAYLIST_START: Final = b"#EXTM3U"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_SCHEMES: Final = ("http", "https")


@dataclass(frozen=True, slots=True)
class Download:
    """A file, and the address that it came from in the end."""

    data: bytes
    url: str


class Fetcher:
    """The HTTP client of one source. The credentials in its address go to its own server only."""

    def __init__(self, url: str, fingerprint: str, timeout: float) -> None:
        """Raises PullError when the fingerprint is not one."""
        import httpx2  # takes time, and is for this kind of source only

        self._library = httpx2
        self._origin = urlsplit(url)
        self._timeout = timeout
        try:
            context = client_context(fingerprint)
        except ValueError as error:
            raise PullError(str(error)) from error
        self._client = httpx2.AsyncClient(
            verify=context,
            follow_redirects=True,
            max_redirects=MAXIMUM_REDIRECTIONS,
            headers={"User-Agent": USER_AGENT},
            timeout=timeout,
        )

    async def get_playlist(self, url: str, *, patience: float = 0.0) -> Download:
        """Return a playlist; of a file that is none, which may be a stream without end, what came first."""
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
        """Return a file of at most ``limit`` bytes. ``patience``: further seconds that the answer may take.

        The rest of a file that does not begin with ``start`` is not waited for. Raises PullError.
        """
        httpx = self._library
        headers = {}
        if byte_range is not None:
            headers["Range"] = f"bytes={byte_range.start}-{byte_range.start + byte_range.length - 1}"
        timeout = httpx.Timeout(self._timeout, read=self._timeout + patience)
        address = without_credentials(url)
        try:
            async with self._client.stream(
                "GET", address, headers=headers, auth=self._credentials_for(url), timeout=timeout
            ) as response:
                if response.status_code not in (200, 206):
                    raise PullError(f"bad status code: {response.status_code} ({address})")
                data = await self._read(response, limit, start)
        except httpx.TimeoutException as error:
            raise PullError(f"no answer within {self._timeout + patience:g} s ({address})") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise PullError(f"{error or type(error).__name__} ({address})") from error
        if byte_range is not None and response.status_code == 200:  # the server does not know ranges
            data = data[byte_range.start : byte_range.start + byte_range.length]
        return Download(data, str(response.url))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _read(self, response: httpx2.Response, limit: int, start: bytes) -> bytes:
        parts: list[bytes] = []
        size = 0
        awaited = len(_BYTE_ORDER_MARK) + len(start)
        async for part in response.aiter_bytes():
            size += len(part)
            if size > limit:
                raise PullError(f"a file is larger than {limit} bytes ({response.url})")
            parts.append(part)
            if start and size - len(part) < awaited <= size:
                beginning = b"".join(parts)
                if not beginning.removeprefix(_BYTE_ORDER_MARK).startswith(start):
                    return beginning
        return b"".join(parts)

    def _credentials_for(self, url: str) -> httpx2.BasicAuth | None:
        target, origin = urlsplit(url), self._origin
        if (target.scheme, target.hostname, target.port) != (origin.scheme, origin.hostname, origin.port):
            return None
        if not origin.username:
            return None
        return self._library.BasicAuth(unquote(origin.username), unquote(origin.password or ""))


def without_credentials(url: str) -> str:
    """Return a URL without user and password: for requests, whose credentials are a header, and for the log."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def resolve(base: str, reference: str) -> str:
    """Return the absolute address of a file that a playlist names. Raises PullError when it is not HTTP."""
    try:
        url = urljoin(base, reference)
        scheme = urlsplit(url).scheme
    except ValueError:
        raise PullError(f"a playlist names the invalid address {reference[:200]!r}") from None
    if scheme not in _SCHEMES:
        raise PullError(f"a playlist names an address that is not HTTP: {reference[:200]!r}")
    return url
