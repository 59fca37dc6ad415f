"""A content delivery network, which gets every stream with a secret; and muxers that nobody needs any more."""

from __future__ import annotations

from typing import Any

import pytest
from tests.protocols.hls.support import Fixture, names, running

from polycast.config import from_mapping
from polycast.config.dialects.registry import MEDIAMTX
from polycast.errors import ConfigurationError

SECRET = "s3cret-of-the-CDN"
CDN = {"authorization": f"Bearer {SECRET}"}
LOCKED: dict[str, Any] = {"paths": {"all": {"readUser": "u", "readPass": "p"}}, "hlsCDNSecret": SECRET}


async def started(it: Fixture, headers: dict[str, str]) -> str:
    """Publish, and return the multivariant playlist."""
    it.publish("cam").play(4)
    task = it.soon_with("/cam/index.m3u8", headers)
    await it.until(lambda: "cam" in it.server.remuxers)
    it.app.hub.paths["cam"].publisher.play(4)  # type: ignore[union-attr]
    answer = await task
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_a_network_needs_neither_credentials_nor_a_session() -> None:
    async with running(**LOCKED) as it:
        (media,) = names(await started(it, CDN))
        assert "?" not in media, "no session in the addresses"
        answer = await it.get(f"/cam/{media}", **CDN)
        assert "set-cookie" not in answer.headers
        for name in names(answer.text):
            await it.get(f"/cam/{name}", **CDN)
            await it.get(f"/cam/{name}", 401)
        (viewer,) = it.server.viewers().values()
        assert (viewer.is_cdn, viewer.path, viewer.user) == (True, "cam", "")
        assert viewer.bytes_sent > 0


async def test_its_responses_may_be_shared() -> None:
    """Caches store no responses to requests with credentials otherwise (RFC 9111 section 3.5)."""
    async with running(**LOCKED) as it:
        await started(it, CDN)
        index = await it.get("/cam/index.m3u8", **CDN)
        assert index.headers["cache-control"] == "public, max-age=30"
        (media,) = names(index.text)
        playlist = await it.get(f"/cam/{media}", **CDN)
        assert playlist.headers["cache-control"] == "public, max-age=1"
        for name in names(playlist.text):
            cached = (await it.get(f"/cam/{name}", **CDN)).headers["cache-control"]
            assert cached == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    "value", ["Bearer other", f"bearer {SECRET}", f"Bearer {SECRET}x", f"Basic {SECRET}", SECRET, ""]
)
async def test_others_are_not_the_network(value: str) -> None:
    async with running(**LOCKED) as it:
        it.publish("cam").play(4)
        await it.get("/cam/stream.m3u8", 401, authorization=value)
        assert not it.server.viewers()


async def test_without_a_secret_there_is_no_network() -> None:
    async with running(**{**LOCKED, "hlsCDNSecret": ""}) as it:
        it.publish("cam").play(4)
        for value in ("Bearer", "Bearer x"):
            await it.get("/cam/stream.m3u8", 401, authorization=value)


async def test_a_network_that_was_kicked_starts_again() -> None:
    async with running(**LOCKED) as it:
        (media,) = names(await started(it, CDN))
        (viewer,) = it.server.viewers()
        assert it.server.kick(viewer)
        await it.get(f"/cam/{media}", 401, **CDN)
        await it.get("/cam/index.m3u8", **CDN)
        await it.get(f"/cam/{media}", **CDN)


def test_characters_of_the_secret() -> None:
    with pytest.raises(ConfigurationError, match="'hlsCDNSecret' contains unsupported characters"):
        from_mapping({"hlsCDNSecret": "with a blank"}, MEDIAMTX)


@pytest.mark.parametrize("seconds", [5, 90])
async def test_muxers_that_nobody_asks_for_are_closed(seconds: int) -> None:
    async with running(hlsMuxerCloseAfter=f"{seconds}s") as it:
        await started(it, {})
        it.pass_time(seconds - 1)
        assert "cam" in it.server.remuxers
        it.pass_time(1)
        assert "cam" not in it.server.remuxers
        await it.log.wait(r"\[muxer cam\] destroyed \(no requests in a while\)")
