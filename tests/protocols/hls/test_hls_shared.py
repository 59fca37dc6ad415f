"""What viewers share: answers made once, and what must not be shared or kept when something has changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.protocols.hls.support import Fixture, attribute, names, running
from tests.protocols.hls.test_hls_server_access import basic
from tests.protocols.hls.test_hls_server_files import low_latency

from polycast.config import from_mapping
from polycast.protocols.hls import remuxer
from polycast.protocols.hls.remuxer import LINGER_SECONDS
from polycast.protocols.hls.target import CACHED_SIZE, MAXIMUM_PATH, Target, read_target
from polycast.wire.hls.directives import NO_DIRECTIVES, DeliveryDirectives

PLAYLIST = "/cam/stream.m3u8"


class Viewer:
    """One connection, on which requests follow each other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def get(self, target: str = PLAYLIST, *headers: str) -> tuple[int, bytes]:
        """Return status and body."""
        lines = [f"GET {target} HTTP/1.1", "Host: h", *headers, "", ""]
        self.writer.write("\r\n".join(lines).encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)


@contextlib.asynccontextmanager
async def viewer(it: Fixture) -> AsyncIterator[Viewer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
    try:
        yield Viewer(reader, writer)
    finally:
        writer.close()


async def reload_paths(it: Fixture, paths: Mapping[str, Any]) -> None:
    new = from_mapping({"paths": paths}).paths
    await it.app.reload(msgspec.structs.replace(it.app.configuration, paths=new))


@pytest.mark.parametrize(
    ("locked", "status"), [({"readUser": "u", "readPass": "p"}, 401), ({"readIPs": ["10.0.0.0/8"]}, 403)]
)
async def test_a_viewer_who_was_served_is_refused_after_a_reload(locked: dict[str, Any], status: int) -> None:
    async with running(paths={"cam": {}}) as it, viewer(it) as same:
        _, playlist = await it.playing("cam")
        segment = f"/cam/{names(playlist)[0]}"
        for _ in range(3):
            assert (await same.get())[0] == 200
            assert (await same.get(segment))[0] == 200
        await reload_paths(it, {"cam": locked})
        assert (await same.get())[0] == status, "before somebody publishes again"
        publisher = it.publish("cam")
        allowed = it.client.build_request("GET", PLAYLIST, headers={"authorization": basic("u", "p")})
        assert (await same.get(segment))[0] == status
        if "readIPs" in locked:
            return
        waiting = asyncio.ensure_future(it.client.send(allowed))
        await it.held("cam", 1)
        publisher.play(4)
        assert (await waiting).status_code == 200
        assert (await same.get())[0] == 401
        assert (await same.get(PLAYLIST, f"Authorization: {basic('u', 'p')}"))[0] == 200
        assert (await same.get())[0] == 401
        await reload_paths(it, {"cam": {"readUser": "u", "readPass": "changed"}})
        assert (await same.get(PLAYLIST, f"Authorization: {basic('u', 'p')}"))[0] == 401


async def test_an_external_server_is_asked_from_the_reload_on() -> None:
    async with running() as it, viewer(it) as same:
        await it.playing("cam")
        assert (await same.get())[0] == 200
        url = "http://127.0.0.1:1/nobody"
        await it.app.reload(msgspec.structs.replace(it.app.configuration, external_authentication_url=url))
        assert (await same.get())[0] == 401
        await it.app.reload(msgspec.structs.replace(it.app.configuration, external_authentication_url=""))
        assert (await same.get())[0] == 200


async def test_another_publisher_has_other_files(it: Fixture) -> None:
    async with viewer(it) as same:
        publisher, playlist = await it.playing("cam")
        segment = f"/cam/{names(playlist)[0]}"
        assert (await same.get(segment))[0] == 200
        publisher.stop()
        it.pass_time(LINGER_SECONDS)
        assert (await same.get(segment))[0] == 404
        assert (await same.get())[0] == 404
        _, other = await it.playing("cam")
        assert (await same.get()) == (200, other.encode())
        assert not set(names(other)) & set(names(playlist))
        assert (await same.get(segment))[0] == 404


async def test_playlists_grow_and_old_files_go(it: Fixture) -> None:
    async with viewer(it) as same:
        publisher, playlist = await it.playing("cam")
        segment = f"/cam/{names(playlist)[0]}"
        _, first = await same.get()
        assert (await same.get())[1] == first
        assert (await same.get(segment))[0] == 200
        publisher.play(60)
        assert (await same.get())[1] != first
        assert (await same.get(segment))[0] == 404


async def test_viewers_who_wait_together_get_what_each_asked_for(tmp_path: Path) -> None:
    async with low_latency(tmp_path) as it:
        publisher, playlist = await it.playing("cam", 12)
        sequence = int(attribute(playlist, r"MEDIA-SEQUENCE:(\d+)")) + playlist.count("#EXTINF")
        target = f"{PLAYLIST}?_HLS_msn={sequence}"
        asked: list[tuple[str, dict[str, str]]] = [
            ("GET", {"accept-encoding": "identity"}),
            ("GET", {"accept-encoding": "gzip"}),
            ("HEAD", {"accept-encoding": "identity"}),
            ("GET", {"accept-encoding": "identity", "range": "bytes=0-6"}),
            ("GET", {"accept-encoding": "identity", "if-none-match": "*"}),
        ]
        tasks = [
            asyncio.ensure_future(it.client.request(method, target, headers=headers))
            for method, headers in asked
            for _ in range(2)
        ]
        await it.held("cam", len(tasks))
        assert len(it.server.remuxers["cam"]._blocked.groups) == 1
        sent = it.server.remuxers["cam"].counters.bytes_sent
        publisher.play(1)
        answers = await asyncio.gather(*tasks)
        for plain, packed, head, part, unchanged in (answers[::2], answers[1::2]):
            assert plain.status_code == packed.status_code == head.status_code == 200
            assert "content-encoding" not in plain.headers
            assert packed.headers["content-encoding"] == "gzip"
            assert packed.text == plain.text
            assert (head.content, int(head.headers["content-length"])) == (b"", len(plain.content))
            assert (part.status_code, part.content) == (206, b"#EXTM3U")
            assert (unchanged.status_code, unchanged.content) == (304, b"")
        size, packed_size = len(answers[0].content), int(answers[2].headers["content-length"])
        assert it.server.remuxers["cam"].counters.bytes_sent - sent == 2 * (2 * size + packed_size + 7)


async def test_directives_that_are_made_up_fill_no_memory(tmp_path: Path) -> None:
    async with low_latency(tmp_path) as it:
        await it.playing("cam")
        served = it.server.remuxers["cam"]
        for part in range(remuxer.MAXIMUM_ANSWERS + 50):
            await it.get(f"{PLAYLIST}?_HLS_msn=0&_HLS_part={part}")
        assert len(served._answers.by_key) == remuxer.MAXIMUM_ANSWERS
        assert len(served._answers.by_resource) == 1


async def test_a_request_that_waited_for_its_publisher_waits_its_time() -> None:
    """The time limit of a held request begins when the muxer is asked, not when the client came."""
    async with running(paths={"cam": {"runOnDemand": "sleep 60", "runOnDemandStartTimeout": "50s"}}) as it:
        waiting = it.soon(PLAYLIST)
        path = it.app.hub.paths["cam"]
        await it.until(lambda: path._pending)
        it.clock.value += 25
        it.publish("cam")
        await it.held("cam", 1)
        it.pass_time(29)
        assert it.waiting("cam") == 1
        it.pass_time(1)
        assert (await waiting).status_code == 503


def test_targets() -> None:
    target = read_target(b"/yard/cam%201/stream.m3u8?_HLS_msn=3&a=%20")
    assert (target.path, target.folder) == ("/yard/cam 1/stream.m3u8", "yard/cam 1")
    assert target.query == "_HLS_msn=3&a=%20"
    assert target.resource == ("stream.m3u8", DeliveryDirectives(sequence=3))
    assert read_target(b"/yard/cam%201/stream.m3u8?_HLS_msn=3&a=%20") is target
    assert read_target(b"http://h/cam/x.mp4").resource == ("x.mp4", NO_DIRECTIVES)
    for other in (
        b"/stream.m3u8",
        b"/cam/",
        b"/cam",
        b"/",
        b"*",
        b"/cam/x.txt",
        b"/" + b"a/" * MAXIMUM_PATH + b"x.mp4",
    ):
        assert Target(other).resource is None, other
    long = b"/cam/stream.m3u8?token=" + b"x" * CACHED_SIZE
    assert read_target(long) is not read_target(long), "long ones may hold anything"
