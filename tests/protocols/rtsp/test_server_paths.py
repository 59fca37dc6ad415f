"""Paths as RTSP clients see them: expressions, redirect, fallback, sources on demand, changes of the configuration."""

from __future__ import annotations

import pytest
from tests.hub.support import TestSource
from tests.protocols.rtsp.support import H264_ONLY, TCP_PLAY, Fixture, loaded, rtp, running, slice_unit

from polycast.media.codec import H264
from polycast.media.track import Track
from polycast.protocols.rtsp.connection import Connection


class FakeSource(TestSource):
    """A source that becomes ready when the test says so."""

    def become_ready(self) -> None:
        self.path.start_publishing(self, [Track(0, H264())], publishes_packets=True)


def attach_source(it: Fixture, name: str, *, start_timeout: float = 5, close_after: float = 5) -> FakeSource:
    path = it.path(name)
    source = FakeSource(path)
    path.source = source
    path.set_on_demand(start=source.start, stop=source.stop, start_timeout=start_timeout, close_after=close_after)
    return source


@pytest.mark.parametrize("method", ["DESCRIBE", "SETUP"])
async def test_path_of_a_failed_request_goes(it: Fixture, method: str) -> None:
    client = await it.client()
    url = it.url("cam") if method == "DESCRIBE" else it.url("cam/trackID=0")
    assert (await client.request(method, url, {"Transport": TCP_PLAY})).status == 404
    assert not it.app.hub.paths


async def test_path_is_removed_with_its_last_user(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    assert set(it.app.hub.paths) == {"cam"}
    await publisher.close()
    await it.until(lambda: not it.app.hub.paths)


async def test_path_configured_by_name_stays() -> None:
    async with running(paths={"cam": {}}) as it:
        publisher = await it.publisher("cam")
        await publisher.close()
        await it.until(lambda: not it.sessions)
        assert set(it.app.hub.paths) == {"cam"}


async def test_groups_of_the_expression() -> None:
    async with running(paths={"~^cam_(.+)_(a|b)?$": {}}) as it:
        await it.publisher("cam_front_a")
        await it.publisher("cam_back_")
        assert it.path("cam_front_a").groups == ("front", "a")
        assert it.path("cam_back_").groups == ("back", "")
        client = await it.client()
        assert (await client.request("ANNOUNCE", it.url("other"), body=H264_ONLY)).status == 400


async def test_first_matching_expression_wins_and_exact_names_before_all() -> None:
    paths = {"~^c": {"publishUser": "c", "publishPass": "x"}, "~^ca": {}, "cam": {}}
    async with running(paths=paths) as it:
        await it.publisher("cam")
        client = await it.client()
        assert (await client.request("ANNOUNCE", it.url("cax"), body=H264_ONLY)).status == 401


async def test_redirect() -> None:
    target = "rtsp://192.0.2.1:8554/other?x=1"
    async with running(paths={"cam": {"source": "redirect", "sourceRedirect": target}}) as it:
        client = await it.client()
        response = await client.request("DESCRIBE", it.url("cam"))
        assert response.status == 301
        assert response.headers.get("Location") == target
        assert (await client.request("DESCRIBE", it.url("cam"))).status == 301  # the connection goes on


@pytest.mark.parametrize("method", ["DESCRIBE", "SETUP"])
async def test_fallback_to_a_path_of_this_server(method: str) -> None:
    async with running(paths={"cam": {"fallback": "/other"}, "other": {}}) as it:
        client = await it.client()
        url = it.url("cam") if method == "DESCRIBE" else it.url("cam/trackID=0")
        response = await client.request(method, url, {"Transport": TCP_PLAY})
        assert response.status == 301
        assert response.headers.get("Location") == it.url("other")


async def test_fallback_keeps_the_credentials_of_the_url() -> None:
    async with running(paths={"cam": {"fallback": "/other"}}) as it:
        client = await it.client()
        response = await client.request("DESCRIBE", it.url("cam").replace("//", "//u:p@"))
        assert response.headers.get("Location") == it.url("other").replace("//", "//u:p@")


async def test_fallback_to_another_server() -> None:
    async with running(paths={"cam": {"fallback": "rtsp://192.0.2.1/x"}}) as it:
        client = await it.client()
        response = await client.request("DESCRIBE", it.url("cam"))
        assert (response.status, response.headers.get("Location")) == (301, "rtsp://192.0.2.1/x")


async def test_fallback_only_without_a_publisher() -> None:
    async with running(paths={"cam": {"fallback": "/other"}}) as it:
        await it.publisher("cam")
        client = await it.client()
        assert (await client.request("DESCRIBE", it.url("cam"))).status == 200


@pytest.mark.parametrize("method", ["DESCRIBE", "SETUP"])
async def test_request_is_held_until_the_source_is_ready(method: str) -> None:
    async with running(paths={"cam": {}}) as it:
        source = attach_source(it, "cam")
        client = await it.client()
        url = it.url("cam") if method == "DESCRIBE" else it.url("cam/trackID=0")
        client.send_request(method, url, {"Transport": TCP_PLAY})
        await it.until(lambda: source.events == ["start"])
        other = await it.client()
        await other.sync(it.url("cam"))
        source.become_ready()
        assert (await client.response()).status == 200


async def test_held_requests_time_out() -> None:
    async with running(paths={"cam": {}}) as it:
        source = attach_source(it, "cam", start_timeout=0.02)
        client = await it.client()
        assert (await client.request("DESCRIBE", it.url("cam"))).status == 404
        await it.log.wait(r"request refused \(404\): source of path 'cam' has timed out$")
        assert source.events == ["start", "stop (timed out)"]


async def test_source_stops_some_time_after_its_last_reader() -> None:
    async with running(paths={"cam": {}}) as it:
        source = attach_source(it, "cam", close_after=0.02)
        client = await it.client()
        client.send_request("SETUP", it.url("cam/trackID=0"), {"Transport": TCP_PLAY})
        await it.until(lambda: source.events)
        source.become_ready()
        client.session = ((await client.response()).headers.get("Session") or "").partition(";")[0]
        assert (await client.request("PLAY", it.url("cam"))).status == 200
        on_demand = it.path("cam").on_demand
        assert on_demand is not None
        assert on_demand.state.value == "ready"
        await client.request("TEARDOWN", it.url("cam"))
        await it.until(lambda: source.events == ["start", "stop (not in use anymore)"])


async def test_held_request_of_a_client_that_left() -> None:
    async with running(paths={"cam": {}}) as it:
        source = attach_source(it, "cam")
        client = await it.client()
        client.send_request("SETUP", it.url("cam/trackID=0"), {"Transport": TCP_PLAY})
        await it.until(lambda: source.events)
        await client.close()
        await it.until(lambda: not it.connection_count and not it.sessions)
        assert not it.path("cam")._pending


async def test_held_request_when_the_path_is_removed() -> None:
    async with running(paths={"cam": {}, "other": {}}) as it:
        source = attach_source(it, "cam")
        client = await it.client()
        client.send_request("DESCRIBE", it.url("cam"))
        await it.until(lambda: source.events)
        await it.app.reload(loaded({"paths": {"other": {}}}).configuration)
        assert (await client.response()).status == 404
        await it.log.wait("path 'cam' was closed")


async def test_requests_behind_a_held_one_wait_for_it() -> None:
    async with running(paths={"cam": {}}) as it:
        source = attach_source(it, "cam")
        client = await it.client()
        client.send_request("DESCRIBE", it.url("cam"))
        client.send_request("OPTIONS", it.url("cam"))
        await it.until(lambda: source.events)
        source.become_ready()
        assert [(await client.response()).cseq for _ in range(2)] == ["1", "2"]


async def test_too_much_behind_a_pending_request_stays_in_the_socket() -> None:
    async with running(paths={"cam": {}}) as it:
        source = attach_source(it, "cam")
        client = await it.client()
        client.send_request("DESCRIBE", it.url("cam"))
        await it.until(lambda: source.events)
        client.send(b"$\x00\xff\xff" * 1 + bytes(0xFFFF))
        for _ in range(40):
            client.send(b"$\x00\xff\xff" + bytes(0xFFFF))
        client.send_request("OPTIONS", it.url("cam"))
        (connection,) = it.server._connections
        await it.until(lambda: connection._pauses)
        assert connection._engine._parser.buffered < 2 * 1024 * 1024
        source.become_ready()
        assert [(await client.response()).cseq for _ in range(2)] == ["1", "2"]


async def test_the_queue_behind_many_requests_is_limited(it: Fixture) -> None:
    """Each of them is answered by a task of its own, and bytes arrive between two of these."""
    client = await it.client()
    await client.sync(it.url("cam"))
    (connection,) = it.server._connections
    assert isinstance(connection, Connection)
    padding = "".join(f"X: {'y' * 2000}\r\n" for _ in range(3))
    count = 2000
    client.send(f"DESCRIBE {it.url('cam')} RTSP/1.0\r\nCSeq: 1\r\n{padding}\r\n".encode() * count)  # 12 MB
    largest = 0
    for _ in range(count):
        assert (await client.response()).status == 404
        largest = max(largest, connection._engine._parser.buffered)
    assert largest < 2 * 1024 * 1024


async def test_reload_keeps_sessions_of_unchanged_paths() -> None:
    async with running(paths={"a": {}, "b": {}}) as it:
        a, b = await it.publisher("a"), await it.publisher("b")
        reader = await it.reader("a")
        await it.app.reload(loaded({"paths": {"a": {}, "b": {"readUser": "u", "readPass": "p"}}}).configuration)
        assert await b.ended()
        await it.log.wait(r"destroyed \(the configuration of the path changed\)")
        a.send_frame(0, rtp(1, slice_unit()))
        assert await reader.packets(1) == [rtp(1, slice_unit())]


async def test_reload_takes_new_credentials_without_closing_anything() -> None:
    async with running(paths={"all": {}}) as it:
        publisher = await it.publisher("a")
        await it.app.reload(loaded({"paths": {"all": {}, "b": {"publishUser": "u", "publishPass": "p"}}}).configuration)
        client = await it.client()
        assert (await client.request("ANNOUNCE", it.url("b"), body=H264_ONLY)).status == 401
        await publisher.sync(it.url("a"))
