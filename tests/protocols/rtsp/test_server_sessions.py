"""Sessions and their connections: names, states, who may use them, and when they end."""

from __future__ import annotations

import gc
import weakref

import pytest
from tests.protocols.rtsp.support import (
    AUDIO,
    H264_ONLY,
    TCP_PLAY,
    TCP_RECORD,
    VIDEO,
    Fixture,
    Held,
    rtp,
    running,
    sdp,
    slice_unit,
    udp_transport,
)

from polycast.protocols.rtsp.connection import Connection


async def test_cseq_missing(it: Fixture) -> None:
    client = await it.client()
    client.send(b"OPTIONS * RTSP/1.0\r\n\r\n")
    response = await client.response()
    assert response.status == 400
    assert response.cseq is None
    assert await client.ended()
    await it.log.wait(rf"\[conn {client.address}\] closed \(CSeq is missing\)$")


@pytest.mark.parametrize("method", ["REDIRECT", "PLAY_NOTIFY", "FOO", "options"])
async def test_unknown_method(it: Fixture, method: str) -> None:
    client = await it.client()
    assert (await client.request(method, it.url("cam"))).status == 501
    await client.sync(it.url("cam"))  # the connection goes on


@pytest.mark.parametrize("method", ["PLAY", "RECORD", "PAUSE", "TEARDOWN", "GET_PARAMETER", "SET_PARAMETER"])
async def test_requests_that_need_a_session(it: Fixture, method: str) -> None:
    client = await it.client()
    assert (await client.request(method, it.url("cam"))).status == 454
    await client.sync(it.url("cam"))


@pytest.mark.parametrize(
    "method", ["OPTIONS", "ANNOUNCE", "SETUP", "PLAY", "RECORD", "PAUSE", "TEARDOWN", "GET_PARAMETER"]
)
async def test_unknown_session(it: Fixture, method: str) -> None:
    client = await it.client()
    headers = {"Session": "123456", "Transport": TCP_PLAY}
    assert (await client.request(method, it.url("cam"), headers, H264_ONLY)).status == 454
    await it.log.wait(r"request refused \(454\): the session does not exist$")


async def test_parameters(it: Fixture) -> None:
    await it.publisher("cam")
    reader = await it.reader("cam")
    response = await reader.request("GET_PARAMETER", it.url("cam"))
    assert response.status == 200
    assert response.headers.get("Content-Type") == "text/parameters"
    assert response.body == b""
    assert (await reader.request("SET_PARAMETER", it.url("cam"))).status == 200
    headers = {"Content-Type": "text/parameters"}
    assert (await reader.request("SET_PARAMETER", it.url("cam"), headers, "volume: 11\r\n")).status == 451


async def test_states_that_do_not_fit(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    url = it.url("cam")
    reader = await it.reader("cam")
    setup = {"Transport": "RTP/AVP/TCP;unicast;interleaved=2-3"}
    assert (await publisher.request("PLAY", url)).status == 455
    assert (await publisher.request("RECORD", url)).status == 455
    assert (await publisher.request("ANNOUNCE", url, body=H264_ONLY)).status == 455
    assert (await publisher.request("SETUP", f"{url}/trackID=0", setup)).status == 455
    assert (await reader.request("RECORD", url)).status == 455
    assert (await reader.request("ANNOUNCE", it.url("b"), body=H264_ONLY)).status == 455
    assert (await reader.request("SETUP", f"{url}/trackID=0", setup)).status == 455
    await it.log.wait(r"request refused \(455\): RECORD is not valid in state")
    publisher.send_frame(0, rtp(1, slice_unit()))  # and all goes on
    assert await reader.packets(1) == [rtp(1, slice_unit())]


async def test_session_header_may_have_a_timeout(it: Fixture) -> None:
    await it.publisher("cam")
    reader = await it.reader("cam")
    response = await reader.request("OPTIONS", it.url("cam"), {"Session": f"{reader.session};timeout=30"})
    assert response.status == 200
    assert response.headers.get("Session") == reader.session


async def test_session_name_is_optional_on_its_connection(it: Fixture) -> None:
    await it.publisher("cam", sdp(VIDEO, AUDIO), tracks=2)
    client = await it.client()
    for index in range(2):
        client.session = None
        await client.setup(it.url("cam"), index, "RTP/AVP/TCP;unicast")
    client.session = None
    assert (await client.request("PLAY", it.url("cam"))).status == 200
    assert len(it.sessions) == 2


async def test_bound_session_cannot_be_used_from_another_connection(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    thief = await it.client()
    thief.session = reader.session
    assert (await thief.request("PAUSE", it.url("cam"))).status == 400
    assert await thief.ended()
    await it.log.wait("session is linked to another connection")
    publisher.send_frame(0, rtp(1, slice_unit()))
    assert await reader.packets(1) == [rtp(1, slice_unit())]


async def test_session_cannot_be_used_from_another_address(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    rtp_end, rtcp_end = await it.udp(), await it.udp()
    reader = await it.client()
    await reader.setup(it.url("cam"), 0, udp_transport(rtp_end, rtcp_end))
    await reader.request("PLAY", it.url("cam"))
    (session,) = [session for session in it.sessions if session.wire.secret == reader.session]
    session.wire.remote_host = "192.0.2.1"
    thief = await it.client()
    thief.session = reader.session
    assert (await thief.request("TEARDOWN", it.url("cam"))).status == 400
    await it.log.wait("cannot use a session created with a different IP")
    publisher.send_frame(0, rtp(1, slice_unit()))
    assert await rtp_end.get() == rtp(1, slice_unit())


async def test_session_that_moved_to_another_connection_before_play(it: Fixture) -> None:
    """Media flows over the connection of PLAY, and the session ends with that one."""
    publisher = await it.publisher("cam")
    first = await it.client()
    await first.setup(it.url("cam"))
    second = await it.client()
    second.session = first.session
    assert (await second.request("PLAY", it.url("cam"))).status == 200
    publisher.send_frame(0, rtp(1, slice_unit()))
    assert await second.packets(1) == [rtp(1, slice_unit())]
    await first.close()
    await it.until(lambda: it.connection_count == 2)
    publisher.send_frame(0, rtp(2, slice_unit()))
    assert await second.packets(1) == [rtp(2, slice_unit())]
    await second.close()
    await it.until(lambda: len(it.sessions) == 1)
    assert not it.path("cam").readers


async def test_frames_from_a_connection_that_lost_its_session_are_ignored(it: Fixture) -> None:
    first = await it.client()
    await first.announce(it.url("cam"))
    assert (await first.request("SETUP", it.url("cam/trackID=0"), {"Transport": TCP_RECORD})).status == 200
    second = await it.client()
    second.session = first.session
    assert (await second.request("RECORD", it.url("cam"))).status == 200
    first.send_frame(0, rtp(1, slice_unit()))
    first.session = None
    await first.sync(it.url("cam"))
    second.send_frame(0, rtp(2, slice_unit()))
    await second.sync(it.url("cam"))
    stream = it.path("cam").stream
    assert stream is not None
    assert stream.tracks[0].counters.packets == 1


async def test_session_that_ended_elsewhere_leaves_nothing_behind(it: Fixture) -> None:
    """One connection sets up, another goes on with it, the first one hangs up: the session is over for both."""
    await it.publisher("cam", sdp(VIDEO, AUDIO), tracks=2)
    first = await it.client()
    await first.setup(it.url("cam"))
    second = await it.client()
    second.session = first.session
    await second.setup(it.url("cam"), 1, "RTP/AVP/TCP;unicast")
    await first.close()
    await it.until(lambda: it.connection_count == 2)
    second.session = None
    status = (await second.request("PLAY", it.url("cam"))).status
    if status == 200:  # it moved to the second connection
        assert len(it.sessions) == 2
    else:
        assert status == 454
        await second.play(it.url("cam"), 2)
    await second.close()
    await it.until(lambda: len(it.sessions) == 1)
    assert not it.path("cam").readers


async def test_set_up_session_without_requests_ends(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    client = await it.client()
    await client.setup(it.url("cam"))
    for _ in range(9):
        publisher.send_frame(0, rtp(1, slice_unit()))
        await publisher.sync(it.url("cam"))
        it.pass_time(7)
    await it.log.wait(r"destroyed \(no RTSP requests received in a while\)")
    assert len(it.sessions) == 1


async def test_connection_without_a_request_is_closed(it: Fixture) -> None:
    client = await it.client()
    await it.until(lambda: it.connection_count == 1)
    it.pass_time(9)
    it.pass_time(1)
    assert await client.ended()
    await it.log.wait(r"closed \(no request received in time\)$")


async def test_connection_without_a_session_is_closed_when_idle(it: Fixture) -> None:
    client = await it.client()
    await client.sync(it.url("cam"))
    it.pass_time(59)
    await client.sync(it.url("cam"))
    it.pass_time(59)
    assert it.connection_count == 1
    it.pass_time(1)
    assert await client.ended()
    await it.log.wait(r"closed \(idle for too long\)$")


async def test_kicked_reader(it: Fixture) -> None:
    await it.publisher("cam")
    reader = await it.reader("cam")
    ((session, item),) = [pair for pair in it.server.sessions().items() if pair[1].state == "read"]
    assert item.transport == "TCP"
    assert it.server.kick(session)
    assert await reader.ended()
    await it.log.wait(r"closed \(kicked\)")


async def test_session_ends_while_its_setup_waits() -> None:
    """Who kicks a session that waits for an authentication server does not leave half of it behind."""
    held = Held()
    async with running(held) as it:
        client = await it.client()
        client.send_request("ANNOUNCE", it.url("cam"), body=H264_ONLY)
        await held.waiting.wait()
        (session,) = it.server.sessions()
        assert it.server.kick(session)
        held.release.set()
        assert (await client.response()).status == 454
        assert not it.app.hub.paths
        assert not it.sessions


async def test_requests_are_answered_in_order(it: Fixture) -> None:
    await it.publisher("cam")
    client = await it.client()
    for _ in range(20):
        client.send_request("DESCRIBE", it.url("cam"))
        client.send_request("OPTIONS", it.url("cam"))
    assert [(await client.response()).cseq for _ in range(40)] == [str(number) for number in range(1, 41)]


async def test_request_byte_by_byte(it: Fixture) -> None:
    await it.publisher("cam")
    client = await it.client()
    for byte in b"DESCRIBE " + it.url("cam").encode() + b" RTSP/1.0\r\nCSeq: 5\r\n\r\n":
        client.send(bytes([byte]))
        await client.writer.drain()
    assert (await client.response()).status == 200


async def test_responses_of_a_client_are_ignored(it: Fixture) -> None:
    client = await it.client()
    client.send(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n")
    await client.sync(it.url("cam"))


async def test_a_client_that_has_sent_a_request_keeps_its_slot(it: Fixture) -> None:
    client = await it.client()
    await it.until(lambda: it.connection_count)
    (connection,) = it.server._connections
    assert isinstance(connection, Connection)
    assert connection.silent_since is not None
    await client.request("OPTIONS", it.url("cam"))
    assert connection.silent_since is None


async def test_connections_and_sessions_leave_nothing_behind(it: Fixture) -> None:
    async def visit(path: str) -> list[weakref.ref[object]]:
        publisher = await it.publisher(path)
        reader = await it.reader(path)
        publisher.send_frame(0, rtp(1, slice_unit()))
        await reader.packets(1)
        objects: list[object] = [*it.sessions, *it.server._connections, it.path(path), it.path(path).stream]
        references = [weakref.ref(each) for each in objects if hasattr(each, "__weakref__")]
        await publisher.close()
        await reader.close()
        await it.until(lambda: not it.sessions and not it.connection_count)
        return references

    references = await visit("cam")
    references += await visit("b")
    it.clients.clear()
    it.pass_time()
    await it.until(lambda: gc.collect() >= 0 and not any(reference() for reference in references))
    assert not it.server._sessions._by_wire
    assert not it.server._sessions._connections
    assert not it.server.session_context.endpoint.sessions
    assert not it.server._reports._times
    assert not it.app.hub.paths


async def test_stop_closes_all_with_the_reason(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    await it.app.stop()
    assert await publisher.ended()
    assert await reader.ended()
    assert it.log.find(r"destroyed \(the server stops\)")
    assert it.log.lines[-1] == "INFO [RTSP] listener closed"
    assert not it.app.hub.paths


async def test_ports_in_the_log(it: Fixture) -> None:
    ports = it.server.ports
    assert it.log.find(
        rf"^INFO \[RTSP\] listener opened on 127\.0\.0\.1:{ports['rtspAddress']} \(TCP\), "
        rf"127\.0\.0\.1:{ports['rtpAddress']} \(UDP/RTP\), 127\.0\.0\.1:{ports['rtcpAddress']} \(UDP/RTCP\)$"
    )
