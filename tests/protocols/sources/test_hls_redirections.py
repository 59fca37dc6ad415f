"""Redirections of an HLS source's downloads: followed, counted, and without the password for other servers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.protocols.sources.web import Answer, Web, web

from polycast.protocols.hls.source_http import Fetcher
from polycast.protocols.http_addresses import MAXIMUM_REDIRECTIONS, resolve
from polycast.protocols.pull import PullError

PLAYLIST = b"#EXTM3U\n"
CREDENTIALS = "user:p@ss"


@contextlib.asynccontextmanager
async def fetching(origin: Web, path: str = "start") -> AsyncIterator[tuple[Fetcher, str]]:
    """Yield a client whose source has a password, and the address of a file."""
    url = origin.url(path).replace("http://", "http://user:p%40ss@")
    fetcher = Fetcher(url, "", 5)
    try:
        yield fetcher, url
    finally:
        await fetcher.close()


def redirect(origin: Web, locations: dict[str, str], status: int = 302) -> None:
    origin.script = lambda path: (
        Answer(status, b"gone", {"Location": locations[path]}) if path.partition("?")[0] in locations else None
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirection_on_the_same_server(status: int) -> None:
    async with web({"folder/list": PLAYLIST}) as origin, fetching(origin) as (fetcher, url):
        origin.credentials = CREDENTIALS
        redirect(origin, {"start": "folder/list?x=1"}, status)
        found = await fetcher.get_playlist(url)
        assert (found.data, found.url) == (PLAYLIST, origin.url("folder/list?x=1"))
        assert origin.requests == ["start", "folder/list?x=1"]


async def test_another_server_gets_no_password_and_the_own_one_gets_it_again() -> None:
    async with web({"list": PLAYLIST}) as origin, web({"list": PLAYLIST}) as other, fetching(origin) as (fetcher, url):
        origin.credentials = other.credentials = CREDENTIALS
        redirect(origin, {"start": other.url("list")})
        with pytest.raises(PullError, match=r"bad status code: 401 \(http://127\.0\.0\.1:\d+/list\)"):
            await fetcher.get_playlist(url)
        redirect(origin, {"start": other.url("back")})
        redirect(other, {"back": origin.url("list")})
        assert (await fetcher.get_playlist(url)).data == PLAYLIST


async def test_a_password_in_the_location_is_not_used() -> None:
    async with web() as origin, web({"list": PLAYLIST}) as other, fetching(origin) as (fetcher, url):
        other.credentials = "a:b"
        redirect(origin, {"start": other.url("list").replace("http://", "http://a:b@")})
        with pytest.raises(PullError, match="401"):
            await fetcher.get_playlist(url)


async def test_a_circle_ends() -> None:
    async with web() as origin, fetching(origin) as (fetcher, url):
        redirect(origin, {"start": "/start"})
        with pytest.raises(PullError, match=r"too many redirections \(http://127\.0\.0\.1:\d+/start\)"):
            await fetcher.get_playlist(url)
        assert len(origin.requests) == MAXIMUM_REDIRECTIONS + 1


@pytest.mark.parametrize(
    "location", ["ftp://127.0.0.1/", "file:///etc/passwd", "http://[::1/", "http://127.0.0.1:99999/", "data:x"]
)
async def test_redirections_that_are_not_followed(location: str) -> None:
    async with web() as origin, fetching(origin) as (fetcher, url):
        redirect(origin, {"start": location})
        with pytest.raises(PullError, match="the server redirects to "):
            await fetcher.get_playlist(url)


async def test_a_redirection_without_an_address() -> None:
    async with web() as origin, fetching(origin) as (fetcher, url):
        origin.script = lambda path: Answer(302)
        with pytest.raises(PullError, match="bad status code: 302"):
            await fetcher.get_playlist(url)


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("ftp://host/x", "a playlist contains an address that is not HTTP"),
        ("file:///etc/passwd", "a playlist contains an address that is not HTTP"),
        ("http://[::1/", "a playlist contains the invalid address"),
        ("http://host:99999/x", "a playlist contains the invalid address"),
        ("//host:x/x", "a playlist contains the invalid address"),
        ("https:///x", "a playlist contains the invalid address"),
    ],
)
def test_addresses_in_a_playlist_that_cannot_be_asked(reference: str, error: str) -> None:
    with pytest.raises(PullError, match=error):
        resolve("http://origin/stream.m3u8", reference)
