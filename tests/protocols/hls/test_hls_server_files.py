"""Files: their headers, conditions and ranges; requests that are held; muxers that come and go."""

from __future__ import annotations

import contextlib
import gzip
import re
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.interop.tools import make_certificate
from tests.protocols.hls.support import BOTH, Fixture, attribute, names, running
from tests.wire.hls.streams import OPUS, track

from polycast.config import from_mapping
from polycast.errors import ConfigurationError
from polycast.media.codec import G711
from polycast.protocols.hls.remuxer import LINGER_SECONDS


@contextlib.asynccontextmanager
async def low_latency(folder: Path) -> AsyncIterator[Fixture]:
    """Run a server of Low-Latency HLS, which is over HTTPS."""
    make_certificate(folder)
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    files = {"hlsServerKey": str(folder / "server.key"), "hlsServerCert": str(folder / "server.crt")}
    async with running(tls=context, hlsVariant="lowLatency", hlsEncryption=True, **files) as it:
        yield it


async def test_headers_of_playlists_and_segments(it: Fixture) -> None:
    _, playlist = await it.playing("cam", size=4000)
    (name, *_) = names(playlist)
    index = await it.get("/cam/index.m3u8")
    assert index.headers["content-type"] == "application/vnd.apple.mpegurl"
    assert "AVERAGE-BANDWIDTH" in index.text
    stream = await it.get("/cam/stream.m3u8")
    assert stream.headers["cache-control"] == "no-cache"
    assert stream.headers["server"] == "polycast"
    segment = await it.get(f"/cam/{name}")
    assert segment.headers["content-type"] == "video/mp4"
    assert segment.headers["cache-control"] == "max-age=31536000, immutable"
    assert segment.headers["accept-ranges"] == "bytes"
    assert segment.content[4:8] == b"moof"
    assert len(segment.content) > 100_000, "it must go out in pieces"
    assert int(segment.headers["content-length"]) == len(segment.content)
    for target, content in ((f"/cam/{name}", segment.content), ("/cam/stream.m3u8", stream.content)):
        head = await it.client.head(target)
        assert (head.status_code, head.content) == (200, b"")
        if target.endswith(".mp4"):
            assert int(head.headers["content-length"]) == len(content)


async def test_entity_tags(it: Fixture) -> None:
    publisher, playlist = await it.playing("cam")
    first, second, *_ = names(playlist)
    tags = {name: (await it.get(f"/cam/{name}")).headers["etag"] for name in (first, second)}
    assert tags[first] != tags[second]
    for condition in (tags[first], f'"other", {tags[first]}', f"W/{tags[first]}", "*"):
        same = await it.get(f"/cam/{first}", 304, if_none_match=condition)
        assert same.content == b""
        assert same.headers["etag"] == tags[first]
        assert "immutable" in same.headers["cache-control"]
    assert (await it.get(f"/cam/{first}", if_none_match=tags[second])).content
    before = (await it.get("/cam/stream.m3u8")).headers["etag"]
    assert before.startswith('W/"'), "it stands for the plain and for the compressed form"
    await it.get("/cam/stream.m3u8", 304, if_none_match=before)
    publisher.play(2)
    after = await it.get("/cam/stream.m3u8", if_none_match=before)
    assert after.headers["etag"] != before


async def test_ranges(it: Fixture) -> None:
    _, playlist = await it.playing("cam", size=300)
    target = f"/cam/{names(playlist)[0]}"
    whole = await it.get(target)
    body, tag = whole.content, whole.headers["etag"]
    size = len(body)
    for text, start, end in (
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, size),
        ("bytes=-50", size - 50, size),
        (f"bytes=10-{size * 2}", 10, size),
        (f"bytes=-{size * 2}", 0, size),
    ):
        part = await it.get(target, 206, range=text)
        assert part.content == body[start:end]
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    for text in (f"bytes={size}-", "bytes=-0", f"bytes={10**14}-"):
        assert (await it.get(target, 416, range=text)).headers["content-range"] == f"bytes */{size}"
    for text in ("bytes=5-2", "bytes=0-1,3-4", "pages=1-2", "bytes=", "bytes=-", f"bytes=0-{10**30}", "bytes=a-b"):
        assert (await it.get(target, range=text)).content == body
    assert (await it.get(target, 206, range="bytes=0-9", if_range=tag)).content == body[:10]
    assert (await it.get(target, range="bytes=0-9", if_range='"other"')).content == body
    weak = (await it.get("/cam/stream.m3u8")).headers["etag"]
    await it.get("/cam/stream.m3u8", range="bytes=0-9", if_range=weak)


async def test_playlists_are_compressed_once(it: Fixture) -> None:
    await it.playing("cam", 8)
    plain = await it.get("/cam/stream.m3u8", accept_encoding="identity")
    assert plain.headers["vary"] == "accept-encoding"
    async with it.client.stream("GET", "/cam/stream.m3u8", headers={"accept-encoding": "gzip"}) as answer:
        packed = b"".join([piece async for piece in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed) == plain.content
    assert len(packed) < len(plain.content) / 2


async def test_a_muxer_is_made_for_a_request_and_closed_when_idle(it: Fixture) -> None:
    publisher, playlist = await it.playing("cam")
    assert it.log.find(r"\[HLS\] \[muxer cam\] created \(requested by 127\.0\.0\.1\)")
    assert it.log.find(r"\[muxer cam\] is converting to HLS, 2 tracks \(H264, AAC\)")
    it.pass_time(59)
    assert it.server.remuxers
    await it.get(f"/cam/{names(playlist)[-1]}")
    it.pass_time(59)
    assert it.server.remuxers, "the request restarted the timeout"
    described = it.server.items()["cam"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} [+-]\d{4} .+", described.last_request)
    assert described.last_request_time.strftime("%S.%f") == described.last_request[17:26]
    assert datetime.now(UTC) - described.created < timedelta(minutes=1)
    it.pass_time(1)
    assert not it.server.remuxers
    assert it.log.find(r"\[muxer cam\] destroyed \(no requests in a while\)")
    assert not publisher.path.readers
    await it.get(f"/cam/{names(playlist)[-1]}", 404)
    assert not it.server.remuxers, "only playlists make a muxer"


async def test_muxers_of_all_streams() -> None:
    async with running(hlsAlwaysRemux=True) as it:
        publisher = it.publish("cam")
        await it.until(lambda: it.server.remuxers)
        assert it.log.find(r"\[muxer cam\] created automatically")
        publisher.play(4)
        await it.get("/cam/stream.m3u8")
        it.pass_time(3600)
        assert it.server.remuxers
        await it.until(lambda: not it.server._connections)  # an hour without a request
        publisher.stop()
        assert not it.server.items()
        it.pass_time(LINGER_SECONDS)
        assert not it.server.remuxers
        await it.get("/cam/stream.m3u8", 404)
        it.publish("sound", [track(0, OPUS)]).play(1)
        await it.until(lambda: "sound" in it.server.remuxers)


async def test_a_stream_that_hls_cannot_carry() -> None:
    async with running(hlsAlwaysRemux=True) as it:
        it.publish("sound", [track(0, G711())])
        line = await it.log.wait("path 'sound' is not converted to HLS")
        assert "doesn't contain a track with a codec that HLS can carry" in line
        await it.get("/sound/stream.m3u8", 404)
        assert not it.server.remuxers


async def test_names_never_come_back(it: Fixture) -> None:
    publisher, playlist = await it.playing("cam")
    publisher.stop()
    it.pass_time(LINGER_SECONDS)
    await it.get(f"/cam/{names(playlist)[-1]}", 404)
    _, again = await it.playing("cam")
    assert len(names(playlist)) == len(names(again))
    assert not set(names(playlist)) & set(names(again))


async def test_requests_are_held_until_there_is_something(it: Fixture) -> None:
    await it.get("/cam/index.m3u8", 404)
    publisher = it.publish("cam")
    waiting = [it.soon("/cam/stream.m3u8") for _ in range(20)]
    await it.held("cam", 20)
    publisher.play(1)
    assert it.waiting("cam") == 20, "fmp4 needs two segments"
    publisher.play(3)
    bodies = {(await each).content for each in waiting}
    assert len(bodies) == 1
    assert it.waiting("cam") == 0


async def test_a_request_is_held_while_a_source_starts() -> None:
    paths = {"cam": {"source": "rtsp://127.0.0.1:1/x", "sourceOnDemand": True, "sourceOnDemandStartTimeout": "50ms"}}
    async with running(paths=paths) as it:
        answer = await it.get("/cam/index.m3u8", 404)
        assert "timed out" in answer.text


async def test_blocked_requests_are_answered_when_the_stream_ends(it: Fixture) -> None:
    publisher = it.publish("cam")
    waiting = [it.soon("/cam/stream.m3u8") for _ in range(5)]
    await it.held("cam", 5)
    publisher.stop()
    assert {(await each).status_code for each in waiting} == {503}


async def test_a_stream_that_stands_still(it: Fixture) -> None:
    it.publish("cam")
    waiting = it.soon("/cam/stream.m3u8")
    await it.held("cam", 1)
    it.pass_time(29)
    assert it.waiting("cam") == 1
    it.pass_time(1)
    answer = await waiting
    assert answer.status_code == 503
    assert "has stalled" in answer.text


async def test_a_client_that_disconnects_while_waiting_is_removed(it: Fixture) -> None:
    it.publish("cam")
    waiting = it.soon("/cam/stream.m3u8")
    await it.held("cam", 1)
    waiting.cancel()
    it.pass_time(3)
    await it.held("cam", 0)


@pytest.mark.parametrize("variant", ["mpegts", "fmp4"])
async def test_skipped_tracks_are_named_once(variant: str) -> None:
    async with running(hlsVariant=variant) as it:
        publisher = it.publish("cam", [*BOTH, track(2, BOTH[0].codec)])
        waiting = it.soon("/cam/stream.m3u8")
        await it.until(lambda: it.server.remuxers)
        publisher.play(4)
        assert (await waiting).status_code == 200
        lines = [line for line in it.log.lines if "skipped" in line]
        assert len(lines) == 1
        assert "track 3 (H264) is skipped: HLS cannot carry it in this variant" in lines[0]


async def test_low_latency(tmp_path: Path) -> None:
    async with low_latency(tmp_path) as it:
        publisher, playlist = await it.playing("cam")
        hint = attribute(playlist, r'PRELOAD-HINT:TYPE=PART,URI="(.+?)"')
        sequence = int(attribute(playlist, r"MEDIA-SEQUENCE:(\d+)")) + playlist.count("#EXTINF")
        parts = playlist[playlist.rindex("#EXTINF") :].count("#EXT-X-PART:")
        following = it.soon(f"/cam/stream.m3u8?_HLS_msn={sequence}&_HLS_part={parts}&token=x")
        also = it.soon(f"/cam/stream.m3u8?other=1&_HLS_part={parts}&_HLS_msn={sequence}")
        part = it.soon(f"/cam/{hint}")  # D2
        await it.held("cam", 3)
        assert len(it.server.remuxers["cam"]._blocked.groups) == 2, "requests for the same file wait together"
        publisher.play(1)
        assert hint in (await following).text
        assert (await also).content == (await following).content
        answer = await part
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert (await it.get(f"/cam/{hint}")).content == answer.content


async def test_a_blocked_playlist_of_a_publisher_that_stands_still(tmp_path: Path) -> None:
    async with low_latency(tmp_path) as it:
        _, playlist = await it.playing("cam")
        sequence = int(attribute(playlist, r"MEDIA-SEQUENCE:(\d+)")) + playlist.count("#EXTINF")
        waiting = it.soon(f"/cam/stream.m3u8?_HLS_msn={sequence}")
        await it.held("cam", 1)
        it.pass_time(3.1)  # three target durations (draft-pantos-hls-rfc8216bis section 6.2.5.2)
        assert (await waiting).status_code == 503


async def test_the_manifest_of_dash() -> None:
    async with running(dash=True) as it:
        publisher = it.publish("cam")
        first = it.soon("/cam/index.mpd")
        await it.until(lambda: "cam" in it.server.remuxers)
        publisher.play(4)
        response = await first
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/dash+xml"
        assert response.headers["cache-control"] == "no-cache"
        template = attribute(response.text, r'media="([^"]+)"')
        time = attribute(response.text, r'<S t="([^"]+)"')
        await it.get("/cam/" + template.replace("$Time$", time))
        assert "audio" in (await it.get("/cam/index.m3u8")).text, "players of HLS find the sound, too"
        await it.get("/nothing/index.mpd", 404)


async def test_there_is_no_manifest_of_dash_unless_it_is_enabled() -> None:
    async with running() as it:
        it.publish("cam")
        assert (await it.client.get("/cam/index.mpd")).status_code == 301
        assert not it.server.remuxers


def test_dash_needs_another_container() -> None:
    with pytest.raises(ConfigurationError, match="DASH requires hlsVariant fmp4 or lowLatency"):
        from_mapping({"dash": True, "hlsVariant": "mpegts"})
