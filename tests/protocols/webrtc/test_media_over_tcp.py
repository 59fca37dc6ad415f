"""Media over TCP: pictures to and from aiortc through a gateway, slow viewers, and clients that send junk."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import socket
from typing import Any

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from tests.protocols.webrtc.support import Fixture, receive, running
from tests.protocols.webrtc.tcp_gateway import TcpGateway
from tests.protocols.webrtc.test_media import COLOURS, Colours, colours_of, connection, encoded
from tests.protocols.webrtc.test_signalling import PUBLISH, SDP, VIEW, open_session
from tests.support.stun import mapped_address
from tests.support.waiting import PATIENCE

from polycast.config import from_mapping
from polycast.errors import ConfigurationError
from polycast.media.codec import VP8
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.net.connection_slots import connection_slots_of
from polycast.net.outbox import Outbox
from polycast.protocols.webrtc import peer as peer_module
from polycast.protocols.webrtc import stream_port
from polycast.protocols.webrtc.server import WebRtcServer
from polycast.protocols.webrtc.session import ViewerSession
from polycast.protocols.webrtc.stream_port import MediaConnection
from polycast.wire.webrtc.framing import MAXIMUM_SIZE, frame
from polycast.wire.webrtc.ice import Credentials
from polycast.wire.webrtc.stun import AttributeType, Message, MessageType, parse_message

ONLY_TCP: dict[str, Any] = {"webrtcLocalUDPAddress": "", "webrtcLocalTCPAddress": "127.0.0.1:0"}
BOTH: dict[str, Any] = {"webrtcLocalTCPAddress": "127.0.0.1:0"}
NOISE = secrets.token_bytes(50_000)


async def connect(fixture: Fixture, peer: RTCPeerConnection, gateway: TcpGateway, endpoint: str) -> None:
    """Negotiate with the server, so that the peer's datagrams take the gateway."""
    await peer.setLocalDescription(await peer.createOffer())
    response = await fixture.http.post(endpoint, content=peer.localDescription.sdp, headers=SDP)
    assert response.status_code == 201, response.text
    await peer.setRemoteDescription(RTCSessionDescription(gateway.rewrite(response.text), "answer"))


async def test_pictures_over_tcp() -> None:
    async with (
        running(**ONLY_TCP) as fixture,
        TcpGateway() as one,
        TcpGateway() as other,
        connection() as publisher,
        connection() as viewer,
    ):
        publisher.addTransceiver(Colours(), "sendonly")
        await connect(fixture, publisher, one, "/cam/whip")
        await fixture.until(lambda: fixture.path("cam").stream is not None)
        video = viewer.addTransceiver("video", "recvonly")
        await connect(fixture, viewer, other, "/cam/whep")
        assert colours_of(await receive(video.receiver.track, 40)) == set(COLOURS)
        for session in fixture.server.items().values():
            assert session.remote_candidate.startswith("prflx/tcp/127.0.0.1/")
        await viewer.close()
        await fixture.until(lambda: [item.state for item in fixture.server.items().values()] == ["publish"])
        await fixture.until(lambda: len(connection_slots_of(asyncio.get_running_loop())) <= 2)  # HTTP, the publisher


@pytest.mark.parametrize(
    ("values", "expected"), [({}, ["udp"]), (BOTH, ["udp", "tcp"]), (ONLY_TCP, ["tcp"])], ids=["udp", "both", "tcp"]
)
async def test_candidates(values: dict[str, Any], expected: list[str]) -> None:
    async with running(**values) as fixture:
        response = await fixture.http.post("/cam/whip", content=PUBLISH, headers=SDP)
        candidates = [line.split() for line in response.text.splitlines() if line.startswith("a=candidate:")]
        assert [words[2] for words in candidates] == expected
        priorities = [int(words[3]) for words in candidates]
        assert priorities == sorted(priorities, reverse=True)
        ports = fixture.server.ports
        for words in candidates:
            is_tcp = words[2] == "tcp"
            assert words[4:6] == ["127.0.0.1", str(ports[f"webrtcLocal{words[2].upper()}Address"])]
            assert (words[-2:] == ["tcptype", "passive"]) is is_tcp
        assert len({words[0] for words in candidates}) == len(expected), "the foundations differ"


def test_media_need_a_port() -> None:
    with pytest.raises(
        ConfigurationError, match="at least one between 'webrtcLocalUDPAddress', 'webrtcLocalTCPAddress'"
    ):
        from_mapping({"webrtcLocalUDPAddress": ""})
    assert from_mapping({"webrtcLocalUDPAddress": "", "webrtcLocalTCPAddress": ":8189"})
    assert from_mapping({"webrtcLocalUDPAddress": "", "webrtcICEServers2": [{"url": "stun:192.0.2.1:3478"}]})


def test_clients_need_an_address() -> None:
    with pytest.raises(ConfigurationError, match="at least one between 'webrtcIPsFromInterfaces' or 'webrtcAdd"):
        from_mapping({"webrtcIPsFromInterfaces": False})


# Slow viewers


def viewer_session(server: WebRtcServer) -> ViewerSession:
    (session,) = server._sessions.values()
    assert isinstance(session, ViewerSession)
    return session


def outbox_of(session: ViewerSession) -> Outbox:
    assert session.peer.socket is not None
    outbox = session.peer.socket.outbox
    assert outbox is not None
    return outbox


@contextlib.asynccontextmanager
async def slow_viewer(fixture: Fixture, gateway: TcpGateway) -> Any:
    """Yield the track of a viewer that is connected, and a function that writes frames to it."""
    publication = fixture.publish("cam", [Track(0, VP8())])
    async with connection() as viewer:
        video = viewer.addTransceiver("video", "recvonly")
        await connect(fixture, viewer, gateway, "/cam/whep")
        await fixture.until(lambda: len(fixture.path("cam").readers) == 1)
        count = 0

        def write(data: bytes, key: bool) -> None:
            nonlocal count
            publication.write(0, Frame((data,), 3000 * count, 3000 * count, key=key))
            count += 1

        for data, key in encoded("libvpx", 3):
            write(data, key)
        await receive(video.receiver.track, 1)
        # Otherwise the system takes some megabytes before anything waits in the queue.
        media = viewer_session(fixture.server).peer.socket
        assert isinstance(media, MediaConnection)
        media.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        yield video.receiver.track, write, publication


async def fill(fixture: Fixture, write: Any) -> None:
    """Write until frames are dropped."""
    session = viewer_session(fixture.server)
    while not session.counters.packets_dropped:
        for _ in range(20):
            write(NOISE, False)
        await asyncio.sleep(0)


async def test_a_slow_viewer_continues_at_the_next_key_frame() -> None:
    async with (
        running(**ONLY_TCP) as fixture,
        TcpGateway() as gateway,
        slow_viewer(fixture, gateway) as (
            track,
            write,
            publication,
        ),
    ):
        session = viewer_session(fixture.server)
        gateway.reads.clear()
        await fill(fixture, write)
        sent = session.counters.packets_sent
        write(NOISE, True)
        assert session.counters.packets_sent == sent, "a key frame does not help while the queue is full"
        await fixture.log.wait(r"\[media .*\] the client is too slow to read the stream: \d+ packets dropped")

        gateway.reads.set()
        outbox = outbox_of(session)
        await fixture.until(outbox.has_drained)
        requests = publication.publisher.key_frame_requests
        write(NOISE, False)
        assert session.counters.packets_sent == sent
        assert publication.publisher.key_frame_requests > requests, "browsers send no key frames by themselves"
        pictures = encoded("libvpx", 30)
        write(*pictures[0])
        assert session.counters.packets_sent > sent

        async def feed() -> None:
            for data, key in itertools.cycle(pictures):
                write(data, key)
                await asyncio.sleep(1 / 60)

        feeding = asyncio.create_task(feed())
        try:
            seen: set[str] = set()
            async with asyncio.timeout(PATIENCE):
                while seen != set(COLOURS):
                    seen |= colours_of(await receive(track, 1))
        finally:
            feeding.cancel()


async def test_a_viewer_that_takes_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "RECONNECT_SECONDS", 0.1)
    async with (
        running(**ONLY_TCP, writeTimeout="2s") as fixture,
        TcpGateway() as gateway,
        slow_viewer(fixture, gateway) as (_, write, _),
    ):
        gateway.reads.clear()
        await fill(fixture, write)
        await fixture.log.wait(r"session .* closed \(peer connection closed \(the client took no data for 2 s\)\)")
        assert not fixture.server.sessions()


async def test_a_viewer_whose_drops_are_too_many_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """SRTP would not follow the sequence numbers."""
    monkeypatch.setattr("polycast.protocols.webrtc.viewer.MAXIMUM_GAP", 100)
    async with running(**ONLY_TCP) as fixture, TcpGateway() as gateway, slow_viewer(fixture, gateway) as (_, write, _):
        session = viewer_session(fixture.server)
        gateway.reads.clear()
        await fill(fixture, write)
        write(NOISE, False)
        write(NOISE, False)
        gateway.reads.set()
        await fixture.until(outbox_of(session).has_drained)
        write(NOISE, True)
        await fixture.log.wait(r"closed \(the viewer was too slow for too long\)")


async def test_a_session_ends_when_its_connection_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "RECONNECT_SECONDS", 0.1)
    async with running(**ONLY_TCP) as fixture, TcpGateway() as gateway, slow_viewer(fixture, gateway):
        gateway.cut()
        await fixture.log.wait(r"session .* closed \(peer connection closed \((closed by the client|.*reset.*)\)\)")


async def test_a_peer_may_connect_again() -> None:
    async with running(**ONLY_TCP) as fixture, Client(fixture) as first:
        await first.check()
        session = next(iter(fixture.server._sessions.values()))
        await first.close()
        await fixture.until(lambda: session.peer.socket is None)
        async with Client(fixture, credentials=first.credentials) as second:
            await second.check()
            assert session.peer.socket is not None
            session.peer.tick(fixture.server.now() + 2 * peer_module.RECONNECT_SECONDS)
            assert fixture.server.sessions(), "the new connection replaces the one that was lost"


# Connections that send what they should not


class Client:
    """A connection to the TCP port; `check` sends what is valid for a new session."""

    def __init__(self, fixture: Fixture, *, credentials: Credentials | None = None) -> None:
        self._fixture = fixture
        self.credentials = credentials

    async def __aenter__(self) -> Client:
        port = self._fixture.server.ports["webrtcLocalTCPAddress"]
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def create(self) -> Credentials:
        """Create a session; return the server's credentials."""
        if self.credentials is None:
            await open_session(self._fixture, f"/{secrets.token_hex(4)}/whip", PUBLISH)
            *_, session = self._fixture.server._sessions.values()
            self.credentials = session.peer.ice.credentials
        return self.credentials

    async def check(self) -> Message:
        """Send a valid check and return the answer."""
        credentials = await self.create()
        self.send(check(credentials.ufrag, credentials.password))
        size = int.from_bytes(await self.reader.readexactly(2), "big")
        return parse_message(await self.reader.readexactly(size))

    def send(self, packet: bytes) -> None:
        self.writer.write(frame(packet))

    async def closed(self) -> bytes:
        """Wait until the server closes; return what it has sent."""
        async with asyncio.timeout(60):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


def check(ufrag: str, password: str) -> bytes:
    attributes = (
        (AttributeType.USERNAME, f"{ufrag}:client".encode()),
        (AttributeType.ICE_CONTROLLING, bytes(8)),
        (AttributeType.PRIORITY, bytes(4)),
    )
    return Message(MessageType.REQUEST, secrets.token_bytes(12), attributes).serialize(password)


async def test_a_check_is_answered_with_the_address() -> None:
    async with running(**ONLY_TCP) as fixture, Client(fixture) as client:
        answer = await client.check()
        assert answer.type is MessageType.SUCCESS
        assert mapped_address(answer) == client.writer.get_extra_info("sockname")


JUNK = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "media": frame(b"\x80" + bytes(20)),
    "DTLS": frame(b"\x16\xfe\xfd" + bytes(40)),
    "too long": (MAXIMUM_SIZE + 1).to_bytes(2, "big"),
    "empty packets": bytes(2000),
    "checks of nobody": frame(check("nobody", "p" * 24)) * 40,
    "broken STUN": frame(b"\x00\x01\xff\xff\x21\x12\xa4\x42" + bytes(30)) * 40,
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())
async def test_junk_closes_the_connection(junk: bytes) -> None:
    async with running(**ONLY_TCP) as fixture, Client(fixture) as client:
        client.writer.write(junk)
        assert await client.closed() == b""


async def test_checks_with_a_wrong_password_are_not_answered() -> None:
    async with running(**ONLY_TCP) as fixture, Client(fixture) as client:
        credentials = await client.create()
        for _ in range(40):
            client.send(check(credentials.ufrag, "w" * 24))
        assert await client.closed() == b""
        assert len(fixture.server.sessions()) == 1


@pytest.mark.parametrize("start", [b"", b"\x00", bytes.fromhex("16030100c8010000c40303"), b"\x1f\xff" + bytes(100)])
async def test_a_connection_without_a_valid_check_is_closed(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_port, "CHECK_SECONDS", 0.1)
    async with running(**ONLY_TCP) as fixture, Client(fixture) as client:
        client.writer.write(start)
        assert await client.closed() == b""
        await fixture.log.wait(r"closed \(no valid connectivity check within 0.1 s\)")


async def test_junk_after_a_check_harms_nobody() -> None:
    async with running(**ONLY_TCP) as fixture, Client(fixture) as client:
        await client.check()
        for packet in (b"", b"\x05", b"\x80", b"\x80\xc8" + bytes(30), b"\x16\xfe\xfd" + bytes(9), bytes(MAXIMUM_SIZE)):
            client.send(packet)
        other = Client(fixture)
        async with other:
            assert (await other.check()).type is MessageType.SUCCESS
        client.writer.write(b"\xff\xff")
        await client.closed()


async def test_a_connection_stays_with_its_session() -> None:
    """A check for another session, even a valid one, is ignored."""
    async with running(**ONLY_TCP) as fixture, Client(fixture) as client, Client(fixture) as other:
        await client.check()
        credentials = await other.create()
        client.send(check(credentials.ufrag, credentials.password))
        assert (await client.check()).type is MessageType.SUCCESS
        first, second = fixture.server._sessions.values()
        assert first.peer.socket is not None
        assert second.peer.socket is None


async def test_a_peer_has_few_connections() -> None:
    async with running(**ONLY_TCP) as fixture, contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(Client(fixture))
        await first.check()
        for _ in range(stream_port.MAXIMUM_CONNECTIONS):
            another = await stack.enter_async_context(Client(fixture, credentials=first.credentials))
            await another.check()
        await first.closed()
        assert (await another.check()).type is MessageType.SUCCESS


async def test_connections_end_with_their_session_and_with_the_server() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with running(**ONLY_TCP) as fixture:
            kicked, silent, kept = [await stack.enter_async_context(Client(fixture)) for _ in range(3)]
            await kicked.check()
            (session,) = fixture.server.sessions()
            assert fixture.server.kick(session)
            await kicked.closed()
            await kept.check()
        await kept.closed()
        await silent.closed()


async def test_an_answer_without_udp_is_what_viewers_get_too() -> None:
    async with running(**ONLY_TCP) as fixture:
        fixture.publish("cam", [Track(0, VP8())])
        response = await fixture.http.post("/cam/whep", content=VIEW, headers=SDP)
        assert response.status_code == 201
        assert " udp " not in response.text.lower().partition("a=candidate")[2]
