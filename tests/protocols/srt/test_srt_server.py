"""Clients publish and read over SRT."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import itertools
import math
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

import pytest
from tests.protocols.srt import support
from tests.protocols.srt.support import (
    audio_frame,
    connections,
    peer,
    port_of,
    publishing,
    refusal,
    send_some,
    server_of,
    serving,
    url,
    video_frame,
)
from tests.support.waiting import PATIENCE, until
from tests.wire.rtmp.support import AUDIO, VIDEO
from tests.wire.srt import captured

from polycast.app import StartError
from polycast.config import from_mapping, update
from polycast.config.dialects.mediamtx import MEDIAMTX
from polycast.errors import ConfigurationError
from polycast.hub.failures import LONGEST_LINE
from polycast.hub.path import Publisher
from polycast.hub.stats import Reference
from polycast.media.codec import G711, H264
from polycast.media.track import Track
from polycast.net.udp import Address
from polycast.net.work import SLICE_SECONDS
from polycast.protocols import transport_ingest
from polycast.protocols.srt import handshakes
from polycast.protocols.srt import server as server_module
from polycast.protocols.srt.link import MAXIMUM_BACKLOG, Link, Timers
from polycast.wire.srt.connection import State
from polycast.wire.srt.handshake import HandshakeType, parse_handshake
from polycast.wire.srt.packet import ControlType, build_control

PUBLISH, READ = "publish passphrase", "read passphrase"
SECRET: Mapping[str, Any] = {"cam": {"srtPublishPassphrase": PUBLISH, "srtReadPassphrase": READ}}


class Mirror:
    """Other workers that take this one for the home of every path, as it takes them."""

    def __init__(self, server: server_module.SrtServer) -> None:
        self._server = server
        self.passed = 0

    def home_of(self, path: str) -> int | None:
        return 1

    def pass_datagram(self, index: int, server: str, data: bytes, address: Address) -> None:
        self.passed += 1
        if self.passed < 1000:
            self._server.receive_datagram(data, address)


async def test_handshakes_are_passed_on_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the configuration changes, two workers may have different opinions."""
    async with serving() as app:
        server = server_of(app)
        mirror: Any = Mirror(server)
        monkeypatch.setattr(server, "context", dataclasses.replace(server.context, workers=mirror))
        async with peer(app, "publish:cam"):
            assert 0 < mirror.passed < 20


async def test_frames_arrive_as_they_were_published() -> None:
    async with serving() as app, publishing(app) as publisher, peer(app, "read:cam") as reader:
        await app.until(lambda: len(app.app.hub.paths["cam"].readers) == 1)
        send_some(publisher, 10, 32)  # the end of a picture is known when the next one begins, here and there
        await reader.until(61)  # the first sound comes before the first whole picture
        assert [track.codec for track in reader.tracks] == [VIDEO.codec, AUDIO.codec]
        video = [frame for index, frame in reader.frames if index == 0]
        audio = [frame for index, frame in reader.frames if index == 1]
        assert [frame.units[-1] for frame in video] == [video_frame(n, key=n == 10).units[0] for n in range(10, 40)]
        assert [frame.units for frame in audio] == [audio_frame(n).units for n in range(11, 42)]
        assert {two.pts - one.pts for one, two in itertools.pairwise(video)} == {3600}
        for what in ("publishing to", "reading from"):
            line = rf"INFO \[SRT\] \[conn 127\.0\.0\.1:\d+\] is {what} path 'cam', 2 tracks \(H264, AAC\)"
            assert app.log.find(line)


async def test_readers_over_other_protocols_see_it() -> None:
    async with serving() as app, publishing(app) as publisher:
        reader = await app.rtsp()
        await reader.play(app.url("cam"), tracks=2)
        send_some(publisher, 10, 5)
        assert await reader.packets(3)


@pytest.mark.parametrize("passphrase", [PUBLISH, ""])
async def test_the_api_tells_what_happens(passphrase: str) -> None:
    paths = {"cam": {"srtPublishPassphrase": passphrase}, "all": {}}
    parameters = {"passphrase": passphrase} if passphrase else {}
    async with serving(paths=paths) as app, publishing(app, **parameters):
        async with peer(app, "#!::r=cam,u=me", latency=400) as reader:
            await app.until(lambda: len(app.app.hub.paths["cam"].readers) == 1)
            found = (await app.get("/v3/srtconns/list"))["items"]
            by_state = {item["state"]: item for item in found}
            assert set(by_state) == {"publish", "read"}
            read, publish = by_state["read"], by_state["publish"]
            assert (read["path"], read["msSendTsbPdDelay"], read["mbpsMaxBW"], read["byteMSS"]) == (
                "cam",
                400,
                -1,
                1500,
            )
            assert publish["packetsReceivedUnique"] > 0
            assert publish["bytesReceived"] == publish["inboundBytes"] > 500
            expected = set(EXPECTED_FIELDS.split())
            assert expected <= set(read)
            one = await app.get(f"/v3/srtconns/get/{read['id']}")
            assert one["id"] == read["id"]
            sessions = (await app.get("/v1/srtconns/list"))["items"]
            assert {item["state"] for item in sessions.values()} == {"publish", "read"}
            path = await app.get("/v3/paths/get/cam")
            assert (path["source"]["type"], path["readers"][0]["type"]) == ("srtConn", "srtConn")
            assert (await app.api.post(f"/v3/srtconns/kick/{read['id']}")).status_code == 200
            assert await reader.ended() == "closed by the peer"
        text = (await app.metrics.get("/metrics")).text
        assert 'srt_conns{state="publish"} 1' in text or "srt_conns{" in text


EXPECTED_FIELDS = """
packetsSent packetsReceived packetsSentUnique packetsReceivedUnique packetsSendLoss packetsReceivedLoss packetsRetrans
packetsReceivedRetrans packetsSentACK packetsReceivedACK packetsSentNAK packetsReceivedNAK packetsSentKM
packetsReceivedKM usSndDuration packetsReceivedBelated packetsSendDrop packetsReceivedDrop packetsReceivedUndecrypt
bytesReceived bytesSent bytesSentUnique bytesReceivedUnique bytesReceivedLoss bytesRetrans bytesReceivedRetrans
bytesReceivedBelated bytesSendDrop bytesReceivedDrop bytesReceivedUndecrypt usPacketsSendPeriod packetsFlowWindow
packetsFlightSize msRTT mbpsSendRate mbpsReceiveRate mbpsLinkCapacity bytesAvailSendBuf bytesAvailReceiveBuf mbpsMaxBW
byteMSS packetsSendBuf bytesSendBuf msSendBuf msSendTsbPdDelay packetsReceiveBuf bytesReceiveBuf msReceiveBuf
msReceiveTsbPdDelay packetsReorderTolerance packetsReceivedAvgBelatedTime packetsSendLossRate packetsReceivedLossRate
outboundFramesDiscarded id created remoteAddr state path query user
"""


@pytest.mark.parametrize(
    ("stream_id", "code"),
    [
        ("", 1400),
        ("cam", 1400),
        ("#!::r=cam,m=bidirectional", 1400),
        ("read:../cam", 1400),
        ("read:other", 1404),
        ("publish:other", 1404),
        ("read:cam", 1404),
        ("read:pulled", 1404),
        ("publish:pulled", 1409),
        ("publish:private", 1401),
        ("publish:private:user:wrong", 1401),
        ("#!::r=private,m=publish,u=user", 1401),
        ("publish:elsewhere", 1403),
        ("read:late", 1502),
    ],
)
async def test_a_refused_client_is_told_why(stream_id: str, code: int) -> None:
    paths = {
        "cam": {},
        "pulled": {"source": "rtsp://127.0.0.1:1/x"},
        "private": {"publishUser": "user", "publishPass": "pass"},
        "elsewhere": {"publishIPs": ["192.0.2.1"]},
        "late": {"source": "rtsp://127.0.0.1:1/x", "sourceOnDemand": True, "sourceOnDemandStartTimeout": "100ms"},
    }
    async with serving(paths=paths) as app:
        assert await refusal(app, stream_id) == code
        assert connections(app) == []


@pytest.mark.parametrize(
    ("stream_id", "passphrase", "code"),
    [
        ("publish:cam", "", 11),
        ("publish:cam", READ, 10),
        ("read:cam", "", 11),
        ("read:cam", PUBLISH, 10),
        ("publish:open", PUBLISH, 11),
    ],
)
async def test_passphrases_are_demanded(stream_id: str, passphrase: str, code: int) -> None:
    parameters = {"passphrase": passphrase} if passphrase else {}
    async with serving(paths={**SECRET, "open": {}}) as app, publishing(app, passphrase=PUBLISH):
        assert await refusal(app, stream_id, **parameters) == code


@pytest.mark.parametrize(("size", "mode"), [(16, 0), (24, 1), (32, 2)])
async def test_passphrases_of_both_directions(size: int, mode: int) -> None:
    async with (
        serving(paths=SECRET) as app,
        publishing(app, passphrase=PUBLISH, pbkeylen=size, cryptomode=mode) as publisher,
        peer(app, "read:cam", passphrase=READ, pbkeylen=size, cryptomode=mode) as reader,
    ):
        await app.until(lambda: len(app.app.hub.paths["cam"].readers) == 1)
        send_some(publisher, 10, 10)
        await reader.until(15)


@pytest.mark.parametrize("stream_id", ["publish:cam:user:pass", "#!::m=publish,r=cam,u=user,s=pass"])
async def test_credentials_are_in_the_stream_id(stream_id: str) -> None:
    async with serving(paths={"cam": {"publishUser": "user", "publishPass": "pass"}}) as app, peer(app, stream_id):
        (client,) = connections(app)
        assert client.media.user == "user"


@pytest.mark.parametrize(("size", "expected"), [(1472, 1316), (1000, 940)])
async def test_the_size_of_datagrams_is_a_setting(size: int, expected: int) -> None:
    async with serving(udpMaxPayloadSize=size) as app, publishing(app) as publisher, peer(app, "read:cam") as reader:
        await app.until(lambda: len(app.app.hub.paths["cam"].readers) == 1)
        publisher.send_frame(0, video_frame(10, key=True, size=5000))
        send_some(publisher, 11, 3)
        await reader.until(2)
        assert reader.largest == expected


async def test_what_authenticates_a_packet_belongs_to_its_size() -> None:
    async with serving(paths=SECRET, udpMaxPayloadSize=1340) as app, publishing(app, passphrase=PUBLISH) as publisher:
        for mode, expected in ((1, 1316), (2, 1128)):
            async with peer(app, "read:cam", passphrase=READ, cryptomode=mode) as reader:
                await app.until(lambda: len(app.app.hub.paths["cam"].readers) == 1)
                publisher.send_frame(0, video_frame(10, key=True, size=5000))
                send_some(publisher, 11, 3)
                await reader.until(2)
                assert reader.largest == expected
            await app.until(lambda: not app.app.hub.paths["cam"].readers)


async def test_a_second_publisher_takes_over_or_is_refused() -> None:
    async with serving(paths={"cam": {}, "kept": {"disablePublisherOverride": True}}) as app:
        async with publishing(app) as first, publishing(app):
            assert await first.ended() == "closed by the peer"
        async with publishing(app, "kept"):
            assert await refusal(app, "publish:kept") == 1409


async def test_readers_are_limited() -> None:
    async with serving(paths={"cam": {"maxReaders": 1}}) as app, publishing(app), peer(app, "read:cam"):
        await app.until(lambda: len(app.app.hub.paths["cam"].readers) == 1)
        assert await refusal(app, "read:cam") == 1402


async def test_media_that_cannot_be_carried() -> None:
    async with serving() as app:
        path, source = app.app.hub.path("sound"), _Publisher()
        path.set_publisher(source)
        path.start_publishing(source, [Track(0, G711())], publishes_packets=False)
        assert await refusal(app, "read:sound") == 1415
        path.remove_publisher(source, "done")


class _Publisher(Publisher):
    """Somebody who publishes."""

    def close_publisher(self, reason: str) -> None: ...

    def reference(self) -> Reference:
        return Reference("test")


async def test_readers_leave_with_the_publisher() -> None:
    async with serving() as app:
        async with publishing(app), peer(app, "read:cam") as reader:
            await app.until(lambda: len(app.app.hub.paths["cam"].readers) == 1)
            await app.changed(f"/v1/srtconns/kick/{next(c.id for c in connections(app) if c.media.mode == 'publish')}")
            assert await reader.ended() == "closed by the peer"
        await app.until(lambda: not connections(app))
        assert "cam" not in app.app.hub.paths


async def test_a_reader_waits_for_a_source_on_demand() -> None:
    async with serving() as origin, publishing(origin) as publisher:
        paths = {"pulled": {"source": url(port_of(origin), "read:cam"), "sourceOnDemand": True}}
        async with serving(paths=paths) as app:

            async def feed() -> None:
                await origin.until(lambda: bool(origin.app.hub.paths["cam"].readers))
                for number in range(10, 10_000, 10):
                    send_some(publisher, number, 10)
                    await asyncio.sleep(0.05)

            feeding = asyncio.create_task(feed())
            async with peer(app, "read:pulled") as reader:
                await reader.until(5)
            feeding.cancel()


async def test_the_command_for_connections_runs() -> None:
    told: list[tuple[str, str, str]] = []

    class Observer:
        def on_connected(self, connection: object, kind: str, identifier: str, log: object) -> None:
            told.append(("connected", kind, identifier))

        def on_disconnected(self, connection: object, kind: str, identifier: str, log: object) -> None:
            told.append(("disconnected", kind, identifier))

    async with serving() as app:
        server = server_of(app)
        server.context = type(server.context)(server.context.loop, server.context.hub, server.context.log, Observer())
        async with publishing(app):
            (client,) = connections(app)
        await app.until(lambda: len(told) == 2)
        assert told == [("connected", "srtConn", client.id), ("disconnected", "srtConn", client.id)]


async def test_a_track_that_stays_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_ingest, "ANALYSIS_SECONDS", 0.2)
    monkeypatch.setattr(server_module, "HOUSEKEEPING_SECONDS", 0.05)
    async with serving() as app, peer(app, "publish:cam") as publisher:
        publisher.begin()
        for number in range(5):
            publisher.send_frame(0, video_frame(number, key=not number))
        await app.log.wait(r"is publishing to path 'cam', 1 track \(H264\)")


async def test_what_is_no_transport_stream_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_ingest, "ANALYSIS_SECONDS", 0.2)
    monkeypatch.setattr(server_module, "HOUSEKEEPING_SECONDS", 0.05)
    async with serving() as app, peer(app, "publish:cam") as publisher:
        publisher.send(b"\1" * 1316)
        assert await publisher.ended() == "closed by the peer"
        await app.log.wait(r"closed \(the stream doesn't contain any supported codec")


async def test_a_slow_reader_loses_packets_and_nobody_else_does() -> None:
    async with (
        serving() as app,
        publishing(app) as publisher,
        peer(app, "read:cam") as slow,
        peer(app, "read:cam") as fast,
    ):
        await app.until(lambda: len(app.app.hub.paths["cam"].readers) == 2)
        link = slow.client.link
        assert link is not None
        link.engine.receive_data = lambda data, now: None  # type: ignore[method-assign]  # it takes nothing
        reading = next(c for c in connections(app) if c.media.link and c.media.link.address[1] == _port(slow))
        assert reading.media.link is not None
        number = 10
        while not reading.media.link.engine.sent.dropped_packets:
            send_some(publisher, number, 5)
            number += 5
            await asyncio.sleep(0.05)
        send_some(publisher, number, 1)
        await app.log.wait("the client is too slow to read the stream: [0-9]+ packets dropped")
        await fast.until(2 * (number - 10) - 3)
        audio = [frame.units for index, frame in fast.frames if index == 1]
        assert audio == [audio_frame(n).units for n in range(11, 11 + len(audio))]


def _port(client: support.Peer) -> int:
    assert client.client._socket is not None
    return client.client._socket.port


# Handshakes


def _socket() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setblocking(False)
    opened.bind(("127.0.0.1", 0))
    return opened


async def _ask(opened: socket.socket, port: int, packet: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(opened, packet, ("127.0.0.1", port))
    data, _ = await asyncio.wait_for(loop.sock_recvfrom(opened, 2000), PATIENCE)
    return data


async def _conclusion(opened: socket.socket, port: int) -> bytes:
    cookie = parse_handshake(await _ask(opened, port, captured.INDUCTION)).cookie
    datagram = bytearray(captured.CONCLUSION)
    datagram[44:48] = cookie.to_bytes(4, "big")
    return bytes(datagram)


async def test_a_repeated_request_gets_the_same_answer() -> None:
    async with serving() as app:
        with _socket() as opened:
            request = await _conclusion(opened, port_of(app))
            first = parse_handshake(await _ask(opened, port_of(app), request))
            second = parse_handshake(await _ask(opened, port_of(app), request))
            assert first.kind == HandshakeType.CONCLUSION
            assert first == second
            assert len(connections(app)) == 1


async def test_wrong_passphrases_of_an_address_are_counted() -> None:
    """They are attempts to guess like wrong passwords: after ten of them, the address has to wait."""
    async with serving(paths=SECRET, authenticationFailurePause="300ms") as app:
        access, begin = app.app.hub.access, asyncio.get_running_loop().time()
        assert await refusal(app, "publish:cam", passphrase="wrong passphrase") == 10
        assert asyncio.get_running_loop().time() - begin >= 0.29, "the answer has waited"
        for _ in range(10):
            access.count_wrong_secret("127.0.0.1")
        for _ in range(LONGEST_LINE + 1):
            waiting = asyncio.ensure_future(access.wait_before_secret("127.0.0.1"))
            await asyncio.sleep(0)
            waiting.cancel()
        assert await refusal(app, "publish:cam", passphrase=PUBLISH) == 1402, "too many wait"


async def test_a_flood_of_clients_does_not_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "LOGGED_CLIENTS", 3)
    async with serving(paths={"other": {}}) as app:
        with _socket() as opened:
            request = bytearray(await _conclusion(opened, port_of(app)))
            for number in range(10):
                request[40:44] = (1000 + number).to_bytes(4, "big")
                answer = parse_handshake(await _ask(opened, port_of(app), bytes(request)))
                assert (answer.socket_id, answer.kind) == (1000 + number, 1000 + 1404)
        assert sum("opened" in line and "conn" in line for line in app.log.lines) == 3
        assert sum("closed (" in line for line in app.log.lines) == 3
        server = server_of(app)
        server.lines.summarise(server.now() + handshakes.WINDOW_SECONDS)
        assert sum("7 more clients have asked within 10 s" in line for line in app.log.lines) == 1
        for _ in range(3):
            server.lines.take(server.now() + handshakes.WINDOW_SECONDS)
        async with peer(app, "publish:other"):
            assert sum("opened" in line and "conn" in line for line in app.log.lines) == 4, "accepted ones are logged"


async def test_handshakes_that_cannot_be_processed_in_time_are_ignored() -> None:
    processed: list[bytes] = []

    def process(packet: bytes, address: Address, is_passed: bool) -> None:
        processed.append(packet)
        time.sleep(SLICE_SECONDS)

    waiting = handshakes.Handshakes(asyncio.get_running_loop(), process)
    for number in range(handshakes.MAXIMUM_WAITING + 5):
        waiting.add(number.to_bytes(2, "big"), ("127.0.0.1", 1))
    assert not processed
    await asyncio.sleep(0)
    assert len(processed) == 1, "others are served in between"
    left = 1
    while waiting.work():
        left += 1
        if left == 20:
            waiting.close()
    assert processed == [number.to_bytes(2, "big") for number in range(len(processed))]
    assert len(processed) == 20


class _Costly:
    """An engine on which each packet takes two milliseconds."""

    state = State.OPEN
    close_reason = "closed"

    def __init__(self) -> None:
        self.packets = 0

    def receive_data(self, data: bytes, now: float) -> None:
        self.packets += 1
        time.sleep(0.002)

    def next_timeout(self) -> float:
        return math.inf

    def data_to_send(self) -> list[bytes]:
        return []

    def received(self) -> list[bytes]:
        return []


async def test_a_connection_that_costs_too_much_waits_for_its_turn() -> None:
    loop = asyncio.get_running_loop()
    timers = Timers(loop, lambda link: pytest.fail("an error"))
    engine: Any = _Costly()
    socket_of_it: Any = None
    link = Link(engine, socket_of_it, ("127.0.0.1", 1), timers, lambda payloads, now: None, lambda reason: None)
    for _ in range(100):
        link.receive(b"", loop.time())
    first = engine.packets
    assert first < 25, "it has used its share in advance"
    assert link.waiting_size == (100 - first) * 1472
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert first < engine.packets < 50, "others are served in between"
    for _ in range(MAXIMUM_BACKLOG + 10):
        link.receive(b"", loop.time())
    assert link.waiting_size == MAXIMUM_BACKLOG * 1472
    engine.state = State.CLOSED
    await until(lambda: not link.waiting_size)


async def test_requests_without_a_cookie_leave_nothing_behind() -> None:
    async with serving() as app:
        with _socket() as opened:
            loop = asyncio.get_running_loop()
            for number in range(500):
                datagram = bytearray(captured.INDUCTION)
                datagram[40:44] = number.to_bytes(4, "big")
                await loop.sock_sendto(opened, bytes(datagram), ("127.0.0.1", port_of(app)))
                await loop.sock_sendto(opened, captured.CONCLUSION, ("127.0.0.1", port_of(app)))
                await loop.sock_sendto(opened, b"\0" * (number % 40), ("127.0.0.1", port_of(app)))
            answered = -1
            while answered != 499:  # the last one: its answer may be lost as well, so it is asked for again
                try:
                    answer, _ = await asyncio.wait_for(loop.sock_recvfrom(opened, 2000), 1)
                except TimeoutError:
                    await loop.sock_sendto(opened, bytes(datagram), ("127.0.0.1", port_of(app)))
                else:
                    answered = parse_handshake(answer).socket_id
            assert connections(app) == []


async def test_datagrams_from_another_address_are_ignored() -> None:
    async with serving() as app, publishing(app) as publisher:
        (client,) = connections(app)
        assert client.media.link is not None
        shutdown = build_control(ControlType.SHUTDOWN, 0, 0, client.media.link.engine.parameters.own_id)
        with _socket() as opened:
            assert await _ask(opened, port_of(app), captured.INDUCTION)
            await asyncio.get_running_loop().sock_sendto(opened, shutdown, ("127.0.0.1", port_of(app)))
            assert await _ask(opened, port_of(app), captured.INDUCTION)
        assert connections(app) == [client]
        send_some(publisher, 10, 3)


async def test_clients_are_told_that_the_server_stops() -> None:
    async with serving() as app, publishing(app) as publisher:
        await app.app.reload(update(app.app.configuration, {"srt": False}))
        assert await publisher.ended() == "closed by the peer"
        assert "SRT" not in app.app.servers


# Settings


@pytest.mark.parametrize("passphrase", ["short", "x" * 80])
@pytest.mark.parametrize("key", ["srtPublishPassphrase", "srtReadPassphrase"])
def test_the_length_of_passphrases(key: str, passphrase: str) -> None:
    with pytest.raises(ConfigurationError, match=f"invalid '{key}': must be between 10 and 79 characters"):
        from_mapping({"paths": {"cam": {key: passphrase}}})


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ConfigurationError, match="'srtPublishPassphrase' is useless when source is not 'publisher'"):
        from_mapping({"paths": {"cam": {"source": "srt://h:1", "srtPublishPassphrase": PUBLISH}}})
    with pytest.raises(ConfigurationError, match="'srtAddress' must be set when SRT is enabled"):
        from_mapping({"srt": True, "srtAddress": ""}, MEDIAMTX)


async def test_encryption_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("cryptography"):
            raise ModuleNotFoundError("No module named 'cryptography'", name="cryptography")
        return original(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "polycast.wire.srt.encryption", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(StartError, match=r"a passphrase of SRT .*cryptography"):
        async with serving(paths=SECRET):
            pass
    async with serving() as app, publishing(app):
        assert len(connections(app)) == 1


async def test_a_codec_may_change_its_parameters() -> None:
    assert isinstance(VIDEO.codec, H264)
    other = H264(sps=VIDEO.codec.sps[:-1] + b"\x97", pps=VIDEO.codec.pps)
    async with serving() as app, publishing(app) as publisher, peer(app, "read:cam") as reader:
        await app.until(lambda: len(app.app.hub.paths["cam"].readers) == 1)
        send_some(publisher, 10, 3)
        await reader.until(2)
        publisher.begin([Track(0, other), AUDIO])
        send_some(publisher, 13, 3)
        send_some(publisher, 16, 3)
        await app.until(lambda: reader.tracks[0].codec == other)
