"""A publisher that goes and comes back, as its viewers see it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.protocols.hls.support import Fixture, names, running
from tests.protocols.hls.test_hls_server_files import low_latency
from tests.support.waiting import PATIENCE
from tests.wire.hls.checker import Playlist, parse
from tests.wire.hls.streams import OPUS, audio, track

from polycast.protocols.hls.remuxer import LINGER_SECONDS
from polycast.wire.hls.numbering import numbers_of


async def playlist_of(it: Fixture, name: str = "cam") -> Playlist:
    return parse((await it.get(f"/{name}/stream.m3u8")).text)


async def test_viewers_wait_for_the_publisher_to_come_back(it: Fixture) -> None:
    publisher, text = await it.playing("cam")
    before = parse(text)
    publisher.stop()
    assert not it.server.items(), "the API lists what runs"
    await it.get(f"/cam/{names(text)[-1]}")
    held = [it.soon("/cam/stream.m3u8") for _ in range(3)]
    await it.held("cam", 3)
    it.pass_time(LINGER_SECONDS / 2)
    publisher = it.publish("cam")
    await it.until(lambda: it.server.items())
    publisher.play(3)
    for request in held:
        response = await request
        assert response.status_code == 200
        after = parse(response.text)
        assert after.media_sequence >= before.media_sequence
        assert after.segments[-1].sequence == before.segments[-1].sequence + 1
    after = await playlist_of(it)
    assert [segment.discontinuity for segment in after.segments].count(True) == 1
    assert it.log.find(r"the stream has ended \(.*\); its playlist remains available for 10 s")


async def test_after_a_while_the_stream_is_gone(it: Fixture) -> None:
    publisher, _ = await it.playing("cam")
    publisher.stop()
    held = it.soon("/cam/stream.m3u8")
    await it.held("cam", 1)
    it.pass_time(LINGER_SECONDS)
    response = await held
    assert (response.status_code, response.text) == (404, "the stream has ended\n")
    await it.get("/cam/stream.m3u8", 404)
    assert not it.server.remuxers


@pytest.mark.parametrize("variant", ["mpegts", "fmp4"])
async def test_numbers_never_decrease(variant: str) -> None:
    async with running(hlsVariant=variant) as it:
        moment = time.time()
        publisher, text = await it.playing("cam")
        numbers = parse(text)
        assert numbers_of(moment).sequence <= numbers.media_sequence <= numbers_of(time.time()).sequence
        for _ in range(3):
            publisher.play(30)
            last = await playlist_of(it)
            publisher.stop()
            it.pass_time(LINGER_SECONDS)
            publisher, text = await it.playing("cam")
            new = parse(text)
            assert new.media_sequence > last.segments[-1].sequence
            assert new.discontinuity_sequence > last.segments[-1].discontinuity_sequence
        before = parse(text)
    # Another server: only the clock tells it where to begin.
    async with running(hlsVariant=variant) as it:
        _, text = await it.playing("cam")
        assert parse(text).discontinuity_sequence == numbers_of(time.time()).discontinuity_sequence
        assert parse(text).media_sequence == pytest.approx(numbers_of(time.time()).sequence, abs=8)
        assert before.media_sequence > numbers_of(moment).sequence


async def test_another_codec_needs_another_muxer(it: Fixture) -> None:
    publisher, text = await it.playing("cam")
    before = parse(text)
    publisher.stop()
    held = it.soon("/cam/stream.m3u8")
    await it.held("cam", 1)
    publisher = it.publish("cam", [track(0, OPUS)])
    assert (await held).status_code == 404
    waiting = it.soon("/cam/stream.m3u8")
    await it.held("cam", 1)
    publisher.write(list(audio(0, 4, samples=960)))
    after = parse((await waiting).text)
    assert after.media_sequence > before.segments[-1].sequence
    assert not {segment.uri for segment in after.segments} & {segment.uri for segment in before.segments}


async def test_a_waiting_client_may_still_be_refused() -> None:
    async with running(paths={"all": {"readUser": "u", "readPass": "p"}}) as it:
        it.client.auth = ("u", "p")
        publisher, _ = await it.playing("cam")
        publisher.stop()
        held = it.soon("/cam/stream.m3u8")
        await it.held("cam", 1)
        it.client.auth = None
        await it.get("/cam/stream.m3u8", 401)
        held.cancel()


async def test_a_request_that_comes_just_before_a_segment_waits_for_it(it: Fixture) -> None:
    """Else the player asks again half a target duration later, when it has nothing left to play."""
    publisher, text = await it.playing("cam")
    it.clock.value += 0.5
    assert (await it.get("/cam/stream.m3u8")).text == text
    it.clock.value += 0.4
    held = it.soon("/cam/stream.m3u8")
    await it.held("cam", 1)
    publisher.play(1)
    assert parse((await held).text).segments[-1].sequence == parse(text).segments[-1].sequence + 1


async def test_a_missing_segment_is_skipped(it: Fixture) -> None:
    _, text = await it.playing("cam")
    it.clock.value += 0.9
    held = it.soon("/cam/stream.m3u8")
    await it.held("cam", 1)
    it.pass_time(1.0)
    assert not held.done()
    it.pass_time(0.3)
    response = await asyncio.wait_for(held, PATIENCE)
    assert (response.status_code, response.text) == (200, text)
    it.clock.value += 5
    assert (await it.get("/cam/stream.m3u8")).text == text


async def test_players_of_apple_get_a_full_playlist_immediately(tmp_path: Path) -> None:
    async with low_latency(tmp_path) as it:
        publisher = it.publish("cam")
        waiting = it.soon("/cam/stream.m3u8")
        await it.held("cam", 1)
        publisher.play(2)
        plain = (await waiting).text
        full = (await it.get("/cam/stream.m3u8", X_Playback_Session_Id="1")).text
        assert "#EXT-X-GAP" not in plain
        assert full.count("#EXT-X-GAP") == 6
        assert names(full)[-1] == names(plain)[-1]
