"""Pulling RTSP: from our own server over every transport, and from cameras that behave in many ways."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import struct
from typing import Any

import pytest
import trustme
from tests.protocols.rtsp.support import AUDIO, VIDEO, Fixture, record_framed_runs, running, sdp
from tests.protocols.sources.camera import SILENCE, Camera, camera
from tests.support.ports import free_port
from tests.support.rtp import key_unit, rtp

from polycast.hub.path import Path
from polycast.media.timebase import NANOSECONDS
from polycast.protocols.early_media import EARLY_MEDIA_LIMIT
from polycast.protocols.pull import SupervisedSource
from polycast.protocols.rtsp import source_ports, source_receiver
from polycast.protocols.rtsp.multicast import MulticastAllocator
from polycast.protocols.rtsp.source_connection import ClientConnection
from polycast.wire.rtsp.authentication import AuthenticationMethod, ServerAuthenticator
from polycast.wire.rtsp.client import PENDING_LIMIT
from polycast.wire.rtsp.headers.credentials import Authorization
from polycast.wire.rtsp.message import Headers, Request, Response
from polycast.wire.rtsp.resynchronization import SKIP_LIMIT

QUICK = {"sourceRetryPause": "20ms", "sourceRetryPauseMax": "50ms"}


def pulling(url: str | list[str], protocol: str = "tcp", **settings: Any) -> dict[str, Any]:
    return {"cam": {"source": url, "sourceProtocol": protocol, **QUICK, **settings}}


async def ready(fixture: Fixture, name: str = "cam") -> Path:
    path = fixture.path(name)
    await fixture.until(lambda: path.stream is not None)
    return path


@pytest.mark.parametrize("protocol", ["tcp", "udp", "automatic"])
async def test_from_our_own_server(protocol: str) -> None:
    async with running() as origin:
        publisher = await origin.publisher("live", sdp(VIDEO, AUDIO), tracks=2)
        async with running(paths=pulling(origin.url("live"), protocol), readTimeout="2s") as app:
            if protocol == "automatic":  # ready with its first packet
                await origin.log.wait("is reading from path 'live', with UDP")
            else:
                await ready(app)
                reader = await app.reader("cam", tracks=2)
                assert app.log.find(r"\[path cam\] \[rtsp source\] ready: 2 tracks \(H264, AAC\)")
            packets = [rtp(7 + index, key_unit(300 + index)) for index in range(3)]
            for packet in packets:
                publisher.send(struct.pack("!BBH", 0x24, 0, len(packet)) + packet)
            if protocol == "automatic":
                await ready(app)
            else:
                assert await reader.packets(3) == packets


async def test_over_multicast(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the test sends stays on this machine.
    monkeypatch.setattr(MulticastAllocator, "_interface", lambda *_: socket.inet_aton("127.0.0.1"))
    port = free_port()
    groups = {"multicastIPRange": "239.255.77.0/24", "multicastRTPPort": port, "multicastRTCPPort": port + 1}
    async with running(**groups) as origin:
        publisher = await origin.publisher("live")
        async with running(paths=pulling(origin.url("live"), "multicast")) as app:
            await ready(app)
            reader = await app.reader("cam")
            packets = [rtp(7 + index, key_unit(300 + index)) for index in range(3)]
            for packet in packets:
                publisher.send(struct.pack("!BBH", 0x24, 0, len(packet)) + packet)
            assert await reader.packets(3) == packets
        assert origin.log.find("with UDP-multicast")


@pytest.mark.parametrize("methods", [["basic"], ["digest"], ["basic", "digest"]])
async def test_credentials(methods: list[str]) -> None:
    settings = {"publishUser": "", "readUser": "user", "readPass": "p-ss"}
    async with running(authMethods=methods, paths={"live": settings}) as origin:
        await origin.publisher("live")
        url = origin.url("live").replace("rtsp://", "rtsp://user:p%2Dss@")
        async with running(paths=pulling(url)) as app:
            await ready(app)
            assert app.log.find("p-ss") is None


async def test_wrong_credentials() -> None:
    async with running(paths={"live": {"readUser": "user", "readPass": "pass"}}) as origin:
        await origin.publisher("live")
        url = origin.url("live").replace("rtsp://", "rtsp://user:wrong@")
        async with running(paths=pulling(url)) as app:
            await app.log.wait(r"WARNING \[path cam\] \[rtsp source\] .* failed: bad status code: 401 \(Unauthorized\)")


async def test_an_empty_password() -> None:
    authenticator = ServerAuthenticator("abc", methods=(AuthenticationMethod.DIGEST,))

    def describe(_: Camera, request: Request) -> Response | None:
        if authenticator.verify(request.headers.get("Authorization"), request.method, request.url, "user", ""):
            return None
        return Response(401, Headers([("WWW-Authenticate", line) for line in authenticator.challenges()]))

    async with camera() as origin:
        origin.script["DESCRIBE"] = describe
        async with running(paths=pulling(origin.url(user="user:"))) as app:
            await ready(app)


def tls_context() -> tuple[ssl.SSLContext, str]:
    certificate = trustme.CA().issue_cert("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
    return context, hashlib.sha256(der).hexdigest()


async def test_rtsps_with_a_fingerprint() -> None:
    context, fingerprint = tls_context()
    async with camera(tls=context) as origin:
        url = origin.url().replace("rtsp:", "rtsps:")
        async with running(paths=pulling(url, "automatic", sourceFingerprint=fingerprint.upper())) as app:
            await ready(app)
            origin.send_key()
        assert "TCP" in (await origin.asked("SETUP")).headers.get("Transport")  # type: ignore[operator]


async def test_rtsps_with_a_wrong_certificate() -> None:
    context, fingerprint = tls_context()
    async with camera(tls=context) as origin:
        url = origin.url().replace("rtsp:", "rtsps:")
        async with running(paths=pulling(url, "automatic", sourceFingerprint="00" * 32)) as app:
            await app.log.wait(f"failed: server fingerprint do not match: expected {'00' * 32}, got {fingerprint}")
        async with running(paths=pulling(url, "automatic")) as app:
            await app.log.wait("failed: the certificate of the server is not valid: unable to get local issuer")
        async with running(paths=pulling(url, "udp")) as app:
            await app.log.wait("failed: the certificate of the server is not valid")
    assert origin.requests == []


# Transports


async def test_automatic_falls_back_when_udp_is_refused() -> None:
    async with camera() as origin:
        origin.script["SETUP"] = lambda _, request: (
            None if "TCP" in (request.headers.get("Transport") or "") else Response(461)
        )
        async with running(paths=pulling(origin.url(), "automatic")) as app:
            await ready(app)
            assert app.log.find(r"UDP does not work \(bad status code: 461 \(Unsupported Transport\)\); tries TCP")
            origin.send_key()
            await app.until(lambda: app.path("cam").stream.bytes_received)  # type: ignore[union-attr]


@pytest.mark.parametrize("method", ["SETUP", "PLAY"])
@pytest.mark.parametrize("silent", [False, True])
async def test_automatic_falls_back_when_the_camera_gives_up(method: str, silent: bool) -> None:
    def give_up(found: Camera, request: Request) -> Response | None:
        setups = [request for request in found.requests if request.method == "SETUP"]
        if "TCP" in (setups[-1].headers.get("Transport") or ""):
            return None
        if not silent:
            found.clients[-1].transport.abort()
        return SILENCE

    async with camera() as origin:
        origin.script[method] = give_up
        async with running(paths=pulling(origin.url(), "automatic"), readTimeout="300ms") as app:
            await ready(app)
            reason = rf"no answer to {method} within 0\.3 s" if silent else "(closed by the server|connection lost)"
            assert app.log.find(rf"UDP does not work \({method}: {reason}.*\); tries TCP")


async def test_automatic_falls_back_when_the_camera_closes_after_play() -> None:
    def play(found: Camera, request: Request) -> Response | None:
        setups = [request for request in found.requests if request.method == "SETUP"]
        if "TCP" not in (setups[-1].headers.get("Transport") or ""):
            answer = Response(200, Headers([("CSeq", request.cseq or ""), ("Session", "S1")]))
            found.clients[-1].transport.write(answer.serialize())
            found.clients[-1].transport.close()
            return SILENCE
        return None

    async with camera() as origin:
        origin.script["PLAY"] = play
        async with running(paths=pulling(origin.url(), "automatic")) as app:
            await ready(app)
            assert app.log.find(r"UDP does not work \(closed by the server\); tries TCP")


async def test_a_camera_that_refuses_both_transports_is_offered_both_again() -> None:
    async with camera() as origin:
        origin.script["SETUP"] = lambda *_: Response(461)
        async with running(paths=pulling(origin.url(), "automatic")):
            await origin.asked("SETUP", 4)
            offers = [
                request.headers.get("Transport") or "" for request in origin.requests if request.method == "SETUP"
            ]
            assert ["TCP" in offer for offer in offers[:4]] == [False, True, False, True]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_no_mode_is_told_for_playing(protocol: str) -> None:
    """It is the default (RFC 2326 section 12.39), and there are servers that answer 461 to it."""
    async with camera() as origin, running(paths=pulling(origin.url(), protocol)) as app:
        await ready(app)
        assert "mode" not in ((await origin.asked("SETUP")).headers.get("Transport") or "mode")


@pytest.mark.parametrize(
    ("answers", "channels"),
    [
        ([], (0, 2)),
        ([""], (0, 2)),
        (["RTP/AVP/TCP;unicast"], (0, 2)),
        (["RTP/AVP;unicast;interleaved=4-5", "RTP/AVP;unicast;interleaved=6-7"], (4, 6)),
        (["RTP/AVP;unicast"], (0, 2)),
        (["RTP/AVP/TCP;unicast;interleaved=0-1"], (0, 2)),  # the same for both tracks
        (["RTP/AVP/TCP;interleaved=1-2", "RTP/AVP/TCP;interleaved=3-4"], (1, 3)),
    ],
)
async def test_what_an_answer_to_setup_means(answers: list[str], channels: tuple[int, int]) -> None:
    def setup(found: Camera, _: Request) -> Response:
        number = found.methods().count("SETUP") - 1
        told = [("Transport", answers[min(number, len(answers) - 1)])] if answers else []
        return Response(200, Headers([*told, ("Session", "1")]))

    async with camera(sdp(VIDEO, AUDIO)) as origin:
        origin.script["SETUP"] = setup
        async with running(paths=pulling(origin.url())) as app:
            stream = (await ready(app)).stream
            assert stream is not None
            origin.clients[0].send_packet(rtp(1, key_unit()), channels[0])
            origin.clients[0].send_packet(rtp(1, b"\0\x10\0\x20abcd", payload_type=97), channels[1])
            await app.until(lambda: [track.counters.packets for track in stream.tracks] == [1, 1])


async def test_a_server_that_sends_to_other_ports_than_asked_for() -> None:
    other = free_port()

    def setup(found: Camera, request: Request) -> Response:
        found._set_up_udp(request.headers.get("Transport") or "")
        assert found.udp is not None
        own = found.udp.getsockname()[1]
        found.udp_target = ("127.0.0.1", other)
        transport = f"RTP/AVP;unicast;client_port={other}-{other + 1};server_port={own}-{own + 1}"
        return Response(200, Headers([("Transport", transport), ("Session", "S1")]))

    async with camera() as origin:
        origin.script["SETUP"] = setup
        async with running(paths=pulling(origin.url(), "udp")) as app:
            stream = (await ready(app)).stream
            assert stream is not None
            origin.send_udp(key_unit(60))
            await app.until(lambda: stream.tracks[0].counters.packets == 1)


async def test_automatic_falls_back_when_no_media_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_receiver, "FIRST_PACKET_SECONDS", 0.05)
    monkeypatch.setattr(source_receiver, "TICK_SECONDS", 0.02)
    async with camera() as origin, running(paths=pulling(origin.url(), "automatic")) as app:
        await ready(app)
        assert [
            ("TCP" in (request.headers.get("Transport") or ""))
            for request in origin.requests
            if request.method == "SETUP"
        ] == [False, True]
        await origin.close()
        await app.log.wait("failed: ")
        origin.requests.clear()
        await origin.open(port=origin.port)
        assert "TCP" in ((await origin.asked("SETUP")).headers.get("Transport") or "")  # it remembers


@pytest.mark.parametrize("any_port", [False, True])
async def test_packets_from_another_port(any_port: bool) -> None:
    settings = {"sourceAnyPortEnable": any_port}
    async with camera() as origin, running(paths=pulling(origin.url(), "udp", **settings)) as app:
        path = await ready(app)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            origin.send_udp(key_unit(50), sender=other)
            origin.send_udp(key_unit(60))
            origin.send_udp(key_unit(60))
            stream = path.stream
            assert stream is not None
            await app.until(lambda: stream.tracks[0].counters.packets == (3 if any_port else 2))


async def test_without_server_ports_any_port_is_needed() -> None:
    def setup(found: Camera, request: Request) -> Response | None:
        found._set_up_udp(request.headers.get("Transport") or "")
        return Response(200, Headers([("Transport", "RTP/AVP;unicast"), ("Session", "1")]))

    async with camera() as origin:
        origin.script["SETUP"] = setup
        async with running(paths=pulling(origin.url(), "udp")) as app:
            await app.log.wait("failed: server ports have not been provided")
        async with running(paths=pulling(origin.url(), "udp", sourceAnyPortEnable=True)) as app:
            await ready(app)
            origin.send_udp(key_unit(60))
            await app.until(lambda: app.path("cam").stream.bytes_received)  # type: ignore[union-attr]


async def test_frames_on_the_connection_of_a_session_over_udp_are_nothing() -> None:
    async with camera() as origin, running(paths=pulling(origin.url(), "udp")) as app:
        stream = (await ready(app)).stream
        assert stream is not None
        for _ in range(3):
            origin.clients[0].send_packet(rtp(7, key_unit(300)))
        origin.clients[0].transport.write(Request("OPTIONS", "*", Headers([("CSeq", "7")])).serialize())
        await app.until(lambda: origin.answers == 1)
        assert stream.tracks[0].counters.packets == 0
        origin.send_udp(key_unit(60))
        await app.until(lambda: stream.tracks[0].counters.packets == 1)


async def test_packets_over_udp_are_put_in_order() -> None:
    async with camera() as origin, running(paths=pulling(origin.url(), "udp")) as app:
        await ready(app)
        reader = await app.reader("cam")
        for sequence in (100, 102, 101, 103):
            origin.sequence = sequence
            origin.send_udp(key_unit(sequence))
        found = [struct.unpack_from("!H", packet, 2)[0] for packet in await reader.packets(4)]
        assert found == [100, 101, 102, 103]


async def test_other_interleaved_channels_than_asked_for() -> None:
    async with camera() as origin:
        origin.script["SETUP"] = lambda *_: Response(
            200, Headers([("Transport", "RTP/AVP/TCP;unicast;interleaved=4-5"), ("Session", "1")])
        )
        async with running(paths=pulling(origin.url())) as app:
            path = await ready(app)
            origin.send_key(channel=0)  # of a track that nobody set up
            origin.send_key(channel=4)
            stream = path.stream
            assert stream is not None
            await app.until(lambda: stream.tracks[0].counters.packets == 1)


async def test_a_key_frame_right_behind_the_answer_to_play_is_not_lost() -> None:
    packet = rtp(1, key_unit(200))

    def play(found: Camera, request: Request) -> Response:
        frame = b"$\x00" + len(packet).to_bytes(2, "big") + packet
        answer = Response(200, Headers([("CSeq", request.cseq or ""), ("Session", "S1")])).serialize()
        found.clients[0].transport.write(frame + answer + frame)
        return SILENCE

    async with camera() as origin:
        origin.script["PLAY"] = play
        async with running(paths=pulling(origin.url())) as app:
            path = await ready(app)
            await app.until(lambda: path.stream is not None and path.stream.tracks[0].counters.packets == 2)


async def test_what_is_kept_until_play_is_answered_is_limited() -> None:
    """All of a read is, however few of its bytes are frames."""
    held: list[Request] = []
    reads = 150

    def play(found: Camera, request: Request) -> Response:
        held.append(request)
        found.clients[0].transport.write((b"$\0\0\4abcd" + b"\r\n" * 100_000) * reads)
        return SILENCE

    made: list[ClientConnection] = []
    async with camera() as origin:
        origin.script["PLAY"] = play
        with pytest.MonkeyPatch.context() as patch:
            make = ClientConnection.__init__

            def note(connection: ClientConnection, *arguments: Any) -> None:
                make(connection, *arguments)
                made.append(connection)

            patch.setattr(ClientConnection, "__init__", note)
            async with running(paths=pulling(origin.url())) as app:
                await origin.asked("PLAY")
                await app.until(lambda: len(made[0]._early) > 1)
                headers = Headers([("CSeq", held[0].cseq or ""), ("Session", "S1")])
                await app.until(lambda: not origin.clients[0].transport.get_write_buffer_size())
                reads_kept = {id(run.data): len(run.data) for run in made[0]._early}
                assert sum(reads_kept.values()) <= EARLY_MEDIA_LIMIT
                origin.clients[0].transport.write(Response(200, headers).serialize())
                await ready(app)


async def test_packets_of_a_read_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep the source alive, and are counted."""
    results = record_framed_runs(monkeypatch)
    monkeypatch.setattr(source_receiver, "TICK_SECONDS", 0.02)
    async with camera() as origin, running(paths=pulling(origin.url()), readTimeout="500ms") as app:
        path = await ready(app)
        reader = await app.reader("cam")
        sent: list[bytes] = []
        async with asyncio.timeout(60):
            while len(sent) < 20:  # for longer than readTimeout
                packet = rtp(origin.sequence, key_unit(100), timestamp=len(sent))
                origin.send_key(timestamp=len(sent))
                sent.append(packet)
                assert await reader.packets(1) == [packet]
                await asyncio.sleep(0.03)
        assert results
        assert all(results)
        source = path.source
        assert isinstance(source, SupervisedSource)
        await app.until(lambda: source.counters.packets_received == 20)
        assert source.counters.bytes_received == sum(map(len, sent))
        await app.log.wait(r"failed: no packets received for 0\.5 s")


# What cameras write


@pytest.mark.parametrize(
    ("base", "control", "session_control", "expected"),
    [
        ("", "trackID=0", None, "{url}/trackID=0"),
        ("", "{url}/track1", None, "{url}/track1"),
        ("", "rtsp://192.168.0.64:554/inner/track1?x=1", None, "rtsp://127.0.0.1:{port}/inner/track1?x=1"),
        ("rtsp://10.0.0.1/other/", "trackID=0", None, "rtsp://127.0.0.1:{port}/other/trackID=0"),
        ("/relative/", "trackID=0", None, "rtsp://127.0.0.1:{port}/relative/trackID=0"),
        ("not a URL", "trackID=0", None, "{url}/trackID=0"),
        ("", "trackID=0", "*", "{url}/trackID=0"),
        ("", "trackID=0", "rtsp://10.0.0.1/whole", "rtsp://127.0.0.1:{port}/whole/trackID=0"),
        ("", "?ctype=video", None, "{url}/?ctype=video"),
    ],
)
async def test_track_urls(base: str, control: str, session_control: str | None, expected: str) -> None:
    async with camera() as origin:
        url = origin.url()
        description = sdp(VIDEO, controls=[control.format(url=url)])
        if session_control is not None:
            description = description.replace("t=0 0\r\n", f"t=0 0\r\na=control:{session_control}\r\n")
        origin.description = description
        origin.base = base
        async with running(paths=pulling(url)) as app:
            await ready(app)
        assert (await origin.asked("SETUP")).url == expected.format(url=url, port=origin.port)


async def test_a_camera_that_rejects_the_url_from_its_own_description() -> None:
    async with camera(sdp(VIDEO, AUDIO)) as origin:
        origin.base = "rtsp://127.0.0.1/elsewhere/"
        origin.script["SETUP"] = lambda _, request: Response(404) if "elsewhere" in request.url else None
        async with running(paths=pulling(origin.url())) as app:
            await ready(app)
        urls = [request.url for request in origin.requests if request.method in ("SETUP", "PLAY")]
        assert urls[1:] == [f"{origin.url()}/trackID=0", f"{origin.url()}/trackID=1", origin.url()]


async def test_media_that_cannot_be_used_are_skipped() -> None:
    broken = "m=application 0 RTP/AVP 107\r\n"
    back_channel = "m=audio 0 RTP/AVP 0\r\na=sendonly\r\n"
    video = VIDEO + "a=recvonly\r\n"
    async with camera(sdp(broken, video, back_channel)) as origin, running(paths=pulling(origin.url())) as app:
        await ready(app)
        assert app.log.find(r"ready: 1 track \(H264\)")
        assert app.log.find(r"media 1 \(application\) is skipped")
        assert app.log.find("media 3 is a back channel")
        assert [request.url for request in origin.requests if request.method == "SETUP"] == [
            f"{origin.url()}/trackID=1"
        ]


async def test_video_without_a_clock_rate() -> None:
    async with camera(sdp(VIDEO.replace("H264/90000", "H264"))) as origin, running(paths=pulling(origin.url())) as app:
        stream = (await ready(app)).stream
        assert stream is not None
        assert stream.tracks[0].track.clock_rate == 90_000
        assert app.log.find(r"ready: 1 track \(H264\)")


@pytest.mark.parametrize("body", ["", "nonsense", "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\n"])
async def test_a_description_without_tracks(body: str) -> None:
    async with camera(body) as origin, running(paths=pulling(origin.url())) as app:
        await app.log.wait("failed: .*session description")


async def test_a_redirection_is_followed_with_the_credentials() -> None:
    async with running(paths={"live": {"readUser": "user", "readPass": "pass"}}) as origin, camera() as other:
        await origin.publisher("live")
        other.script["DESCRIBE"] = lambda *_: Response(302, Headers([("Location", origin.url("live"))]))
        async with running(paths=pulling(other.url(user="user:pass"))) as app:
            await ready(app)
            assert app.log.find(f"redirected to {origin.url('live')}")


def asks_for_basic(found: Camera, request: Request) -> Response | None:
    if request.headers.get("Authorization") is not None:
        return None
    return Response(401, Headers([("WWW-Authenticate", 'Basic realm="x"')]))


async def test_credentials_do_not_follow_a_redirection_to_another_host() -> None:
    async with camera() as origin, camera() as other:
        elsewhere = other.url().replace("127.0.0.1", "localhost")
        origin.script["DESCRIBE"] = lambda *_: Response(302, Headers([("Location", elsewhere)]))
        other.script["DESCRIBE"] = asks_for_basic
        async with running(paths=pulling(origin.url(user="user:pass"))) as app:
            await app.log.wait(f"WARNING .*user and password are not sent to {elsewhere}")
            await app.log.wait("failed: bad status code: 401")
            await other.asked("DESCRIBE")
        assert all(request.headers.get("Authorization") is None for request in other.requests)
        # Unless they were written for that host.
        written = elsewhere.replace("rtsp://", "rtsp://other:secret@")
        async with running(paths=pulling([origin.url(user="user:pass"), written])) as app:
            await ready(app)
        proof = (await other.asked("PLAY")).headers.get("Authorization")
        assert proof == Authorization("Basic", "other", "secret").serialize()


async def test_credentials_do_not_follow_a_redirection_out_of_tls() -> None:
    context, fingerprint = tls_context()
    async with camera(tls=context) as origin, camera() as other:
        origin.script["DESCRIBE"] = lambda *_: Response(302, Headers([("Location", other.url())]))
        other.script["DESCRIBE"] = asks_for_basic
        url = origin.url(user="user:pass").replace("rtsp:", "rtsps:")
        async with running(paths=pulling(url, sourceFingerprint=fingerprint)) as app:
            await app.log.wait("WARNING .*user and password are not sent")
            await app.log.wait("failed: bad status code: 401")
        assert all(request.headers.get("Authorization") is None for request in other.requests)


async def test_a_redirection_to_a_path_or_to_tls() -> None:
    context, fingerprint = tls_context()
    async with camera() as origin, camera(tls=context) as other:
        target = other.url().replace("rtsp:", "rtsps:")
        locations = {origin.url("cam"): "/second?x=1", origin.url("second?x=1"): target}
        origin.script["DESCRIBE"] = lambda _, request: Response(302, Headers([("Location", locations[request.url])]))
        async with running(paths=pulling(origin.url(), "automatic", sourceFingerprint=fingerprint)) as app:
            await ready(app)
        assert "TCP" in ((await other.asked("SETUP")).headers.get("Transport") or "")


async def test_redirections_in_a_circle_end() -> None:
    async with camera() as origin:
        origin.script["DESCRIBE"] = lambda found, _: Response(301, Headers([("Location", found.url())]))
        async with running(paths=pulling(origin.url())) as app:
            await app.log.wait("failed: too many redirections")


@pytest.mark.parametrize("status", [404, 501])
async def test_options_may_fail(status: int) -> None:
    async with camera() as origin:
        origin.script["OPTIONS"] = lambda *_: Response(status)
        async with running(paths=pulling(origin.url())) as app:
            await ready(app)


@pytest.mark.parametrize("status", [400, 451, 456, 457, 501, 551])
@pytest.mark.parametrize("protocol", ["tcp", "automatic"])
async def test_play_without_a_range_where_that_is_refused(status: int, protocol: str) -> None:
    async with camera() as origin:
        origin.script["PLAY"] = lambda _, request: None if request.headers.get("Range") is None else Response(status)
        async with running(paths=pulling(origin.url(), protocol)) as app:
            await origin.asked("PLAY", 2)
            if protocol == "automatic":
                origin.send_udp(key_unit())
            await ready(app)
            assert origin.methods().count("DESCRIBE") == 1


@pytest.mark.parametrize(
    ("settings", "range_", "scale"),
    [
        ({"rtspRangeType": "clock", "rtspRangeStart": "20260131T235959Z"}, "clock=20260131T235959Z-", None),
        ({"rtspRangeType": "clock", "rtspRangeStart": "19961108T142300.25Z"}, "clock=19961108T142300.25Z-", None),
        ({"rtspRangeType": "npt", "rtspRangeStart": "1h0m10.5s"}, "npt=3610.5-", None),
        ({"rtspRangeType": "npt", "rtspRangeStart": "0s"}, "npt=0-", None),
        ({"rtspRangeType": "smpte", "rtspRangeStart": "10h7m33s"}, "smpte=10:07:33-", None),
        ({"rtspScale": "-2.5"}, "npt=0-", "-2.5"),
        ({"rtspRangeType": "npt", "rtspRangeStart": "10s", "rtspScale": "2"}, "npt=10-", "2"),
    ],
)
async def test_where_and_how_fast_a_recording_is_played(
    settings: dict[str, str], range_: str, scale: str | None
) -> None:
    """The forms are those of the examples in RFC 2326 sections 3.5 to 3.7 and 12.34."""
    async with camera() as origin, running(paths=pulling(origin.url(), **settings)) as app:
        await ready(app)
        request = await origin.asked("PLAY")
        assert (request.headers.get("Range"), request.headers.get("Scale")) == (range_, scale)


async def test_a_range_that_is_configured_is_not_given_up() -> None:
    settings = {"rtspRangeType": "npt", "rtspRangeStart": "10s"}
    async with camera() as origin:
        origin.script["PLAY"] = lambda *_: Response(457)
        async with running(paths=pulling(origin.url(), **settings)) as app:
            await app.log.wait("failed: bad status code: 457")
            assert {r.headers.get("Range") for r in origin.requests if r.method == "PLAY"} == {"npt=10-"}


async def test_local_ports_of_a_source() -> None:
    first = free_port()
    ports = {"rtspUDPSourcePortRange": [first, first + 1]}
    async with camera() as origin, running(paths=pulling(origin.url(), "udp", **ports)) as app:
        await ready(app)
        offer = (await origin.asked("SETUP")).headers.get("Transport") or ""
        assert f"client_port={first}-{first + 1}" in offer


async def test_no_free_port_for_a_source() -> None:
    first = free_port()
    ports = {"rtspUDPSourcePortRange": [first, first + 1]}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", first))
        async with camera() as origin, running(paths=pulling(origin.url(), "udp", **ports)) as app:
            await app.log.wait(f"failed: no pair of free UDP ports from {first} to {first + 1}")


@pytest.mark.parametrize(("own", "size"), [({"rtspUDPReadBufferSize": "8K"}, 8192), ({}, 16384)])
async def test_the_buffer_of_a_source(own: dict[str, str], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    open_socket = source_ports.open_udp_socket

    def opened(host: str, port: int, receive_buffer_size: int = 0) -> socket.socket:
        sizes.append(receive_buffer_size)
        return open_socket(host, port, receive_buffer_size)

    monkeypatch.setattr(source_ports, "open_udp_socket", opened)
    async with (
        camera() as origin,
        running(paths=pulling(origin.url(), "udp", **own), udpReadBufferSize="16K") as app,
    ):
        await ready(app)
        assert sizes[-2:] == [size, 0]


@pytest.mark.parametrize(
    ("urls", "is_used"),
    [
        (("rtsp://192.0.2.1/cam/1", "rtsp://192.0.2.1/cam/2"), True),
        (("1", "2"), True),
        (("rtsp://192.0.2.1:554/2", "/1"), True),
        (("1", "unknown"), False),
        (("1", "1"), False),
        (("1",), False),
        ((), False),
    ],
)
async def test_rtp_info_puts_the_tracks_in_sync(urls: tuple[str, ...], is_used: bool) -> None:
    """The camera sends sound of 400 ms before the picture at the same time as the picture."""
    moment = (0xFFFFF000, 5000)
    times = [moment[1] if url.endswith("2") else moment[0] for url in urls]
    info = ",".join(f"url={url};seq=1;rtptime={time}" for url, time in zip(urls, times, strict=True))
    async with camera(sdp(VIDEO + "a=control:1\r\n", AUDIO + "a=control:2\r\n")) as origin:
        origin.script["PLAY"] = lambda *_: Response(200, Headers([("Session", "S1"), ("RTP-Info", info)]))
        async with running(paths=pulling(origin.url())) as app:
            stream = (await ready(app)).stream
            assert stream is not None
            (client,) = origin.clients
            picture, sound = (moment[0] + 90_000) & 0xFFFFFFFF, moment[1] + 48_000 * 6 // 10
            client.send_packet(rtp(1, key_unit(), timestamp=picture))
            client.send_packet(rtp(1, b"\0\x10\0\x20abcd", timestamp=sound, payload_type=97), 2)
            await app.until(lambda: all(track.counters.packets for track in stream.tracks))
            walls = [
                track.reports.wall_time_of(time) for track, time in zip(stream.tracks, (picture, sound), strict=True)
            ]
            assert walls[0] is not None
            assert walls[1] is not None
            apart = (walls[0] - walls[1]) / NANOSECONDS
            assert apart == pytest.approx(0.4, abs=1e-6) if is_used else abs(apart) < 0.2


async def test_datagrams_that_overtake_the_answer_to_play(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[source_receiver.SourceReceiver] = []
    make = source_receiver.SourceReceiver.__init__

    def note(media: source_receiver.SourceReceiver, *arguments: Any) -> None:
        make(media, *arguments)
        made.append(media)

    monkeypatch.setattr(source_receiver.SourceReceiver, "__init__", note)
    async with camera() as origin:

        def play(origin: Camera, _: Request) -> Response:
            origin.send_udp(key_unit())
            origin.send_udp(key_unit())
            return SILENCE

        origin.script["PLAY"] = play
        async with running(paths=pulling(origin.url(), "udp")) as app:
            request = await origin.asked("PLAY")
            await app.until(lambda: len(made[0]._early or ()) == 2)
            assert app.path("cam").stream is None, "it waits for the answer"
            headers = Headers([("Session", "S1"), ("CSeq", request.cseq or "")])
            origin.clients[0].transport.write(Response(200, headers).serialize())
            stream = (await ready(app)).stream
            assert stream is not None
            await app.until(lambda: stream.tracks[0].counters.packets == 2)


async def test_a_long_header_of_an_answer() -> None:
    async with camera() as origin:
        info = ",".join(f"url=rtsp://192.0.2.1/{'x' * 200}/{number};seq=1;rtptime=1" for number in range(60))
        origin.script["PLAY"] = lambda *_: Response(200, Headers([("Session", "S1"), ("RTP-Info", info)]))
        async with running(paths=pulling(origin.url())) as app:
            await ready(app)


async def test_answers_without_sequence_numbers() -> None:
    async with camera() as origin:
        origin.script["DESCRIBE"] = lambda found, request: Response(
            200, Headers([("CSeq", "?"), ("Content-Base", request.url)]), found.description.encode()
        )
        async with running(paths=pulling(origin.url())) as app:
            await ready(app)


@pytest.fixture
def short_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session timeout of 2 s means a keep-alive every 60 ms."""
    monkeypatch.setattr("polycast.wire.rtsp.keep_alive.SHORTEST_INTERVAL", 0.01)
    monkeypatch.setattr("polycast.wire.rtsp.keep_alive.PART", 0.03)


def in_a_session_of_2_seconds(_: Camera, request: Request) -> Response:
    offer = request.headers.get("Transport") or ""
    return Response(200, Headers([("Transport", offer), ("Session", "S1;timeout=2")]))


@pytest.mark.usefixtures("short_session")
@pytest.mark.parametrize(
    ("public", "methods"), [("GET_PARAMETER", {"GET_PARAMETER", "OPTIONS"}), ("DESCRIBE", {"OPTIONS"})]
)
async def test_keep_alive(public: str, methods: set[str]) -> None:
    async with camera() as origin:
        origin.script["OPTIONS"] = lambda *_: Response(200, Headers([("Public", public)]))
        origin.script["SETUP"] = in_a_session_of_2_seconds
        async with running(paths=pulling(origin.url())) as app:
            await ready(app)
            await origin.asked("PLAY")
            origin.requests.clear()
            for method in methods:
                assert (await origin.asked(method, 3)).headers.get("Session") == "S1"
            assert set(origin.methods()) == methods


@pytest.mark.usefixtures("short_session")
@pytest.mark.parametrize("answer", [Response(454), SILENCE], ids=["454", "silence"])
@pytest.mark.parametrize("refused", [("GET_PARAMETER",), ("GET_PARAMETER", "OPTIONS")])
async def test_refused_keep_alives_close_nothing(answer: Response, refused: tuple[str, ...]) -> None:
    async with camera() as origin:
        origin.script["SETUP"] = in_a_session_of_2_seconds
        async with running(paths=pulling(origin.url())) as app:
            await ready(app)
            await origin.asked("PLAY")
            for method in refused:
                origin.script[method] = lambda *_: Response(answer.status) if answer.status else SILENCE
            # For longer than what is not answered is remembered.
            await origin.asked("OPTIONS", origin.methods().count("OPTIONS") + PENDING_LIMIT + 2)
            origin.send_key()
            await app.until(lambda: app.path("cam").stream.bytes_received)  # type: ignore[union-attr]
            assert origin.connections == 1
            assert app.log.find("failed: ") is None


@pytest.mark.usefixtures("short_session")
async def test_a_keep_alive_with_a_stale_nonce_is_sent_again() -> None:
    nonces = [ServerAuthenticator(nonce, methods=(AuthenticationMethod.DIGEST,)) for nonce in ("first", "second")]

    def check(_: Camera, request: Request) -> Response | None:
        if nonces[0].verify(request.headers.get("Authorization"), request.method, request.url, "user", "pass"):
            return None
        return Response(401, Headers([("WWW-Authenticate", line) for line in nonces[0].challenges()]))

    async with camera() as origin:
        origin.script["SETUP"] = in_a_session_of_2_seconds
        origin.script["DESCRIBE"] = origin.script["GET_PARAMETER"] = check
        async with running(paths=pulling(origin.url(user="user:pass"))) as app:
            await ready(app)
            await origin.asked("GET_PARAMETER")
            del nonces[0]
            before = len(origin.requests)
            while True:  # refused, and at once sent again with the new nonce
                await origin.asked("GET_PARAMETER", origin.methods().count("GET_PARAMETER") + 1)
                headers = [request.headers.get("Authorization") or "" for request in origin.requests[before:]]
                proofs = [header for header in headers if header]
                if any("second" in header for header in proofs):
                    break


async def test_a_server_that_reads_no_answers_to_its_requests() -> None:
    """What waits for it is limited."""
    async with camera() as origin, running(paths=pulling(origin.url())) as app:
        await ready(app)
        transport = origin.clients[0].transport
        transport.pause_reading()
        request = Request("OPTIONS", "*", Headers([("CSeq", "1" * 2000)])).serialize() * 100
        while app.log.find("failed: ") is None:
            transport.write(request)
            await asyncio.sleep(0)
        assert app.log.find("failed: the server does not read what is sent to it")


@pytest.mark.parametrize("stray", [b"\0", b"\0\0\0\0", b"$", bytes(range(0x25, 0x52)) * 20])
async def test_stray_bytes_between_frames(stray: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_receiver, "TICK_SECONDS", 0.02)
    async with camera(sdp(VIDEO, AUDIO)) as origin, running(paths=pulling(origin.url())) as app:
        await ready(app)
        reader = await app.reader("cam")
        packets = [rtp(7 + index, key_unit(300 + index)) for index in range(9)]
        for packet in packets:
            origin.clients[0].send_packet(packet)
            origin.clients[0].transport.write(stray)
        assert await reader.packets(9) == packets
        await app.log.wait("WARNING .*bytes between interleaved frames are skipped")
        # Messages are found, too.
        origin.clients[0].transport.write(stray + Request("TEARDOWN", "*", Headers([("CSeq", "8")])).serialize())
        await app.log.wait("failed: the server has ended the session")
        assert app.log.find(rf"INFO .*{10 * len(stray)} bytes between interleaved frames were skipped")
        assert sum("are skipped" in line for line in app.log.lines) == 1


async def test_requests_of_the_server_are_answered() -> None:
    async with camera() as origin, running(paths=pulling(origin.url())) as app:
        await ready(app)
        origin.clients[0].transport.write(Request("OPTIONS", "*", Headers([("CSeq", "7")])).serialize())
        origin.clients[0].transport.write(Request("TEARDOWN", "*", Headers([("CSeq", "8")])).serialize())
        await app.log.wait("failed: the server has ended the session")


# Failures


@pytest.mark.parametrize("status", [401, 404, 454, 461, 503])
async def test_refusals_are_tried_again(status: int) -> None:
    async with camera() as origin:
        origin.script["DESCRIBE"] = lambda *_: Response(status)
        async with running(paths=pulling(origin.url())) as app:
            await app.log.wait(rf"failed: bad status code: {status} \(")
            await origin.asked("DESCRIBE", 3)
            del origin.script["DESCRIBE"]
            await ready(app)


async def test_a_camera_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_receiver, "TICK_SECONDS", 0.02)
    async with camera() as origin:
        origin.script["DESCRIBE"] = lambda *_: SILENCE
        async with running(paths=pulling(origin.url()), readTimeout="100ms") as app:
            await app.log.wait(r"failed: no answer to DESCRIBE within 0\.1 s")
            del origin.script["DESCRIBE"]
            await ready(app)
            await app.log.wait(r"failed: no packets received for 0\.1 s")


async def test_a_camera_that_dies_and_returns() -> None:
    async with camera() as origin, running(paths=pulling(origin.url())) as app:
        path = await ready(app)
        reader = await app.reader("cam")
        origin.clients[0].transport.write(b"$\x00\x10\x00" + bytes(50))  # ends in the middle of a packet
        await origin.close()
        await app.log.wait("failed: (closed by the server|connection lost)")
        assert await reader.ended()
        await app.until(lambda: path.stream is None)
        await app.log.wait("failed: Connection refused")
        await origin.open(port=origin.port)
        await ready(app)


async def test_nonsense_is_survived() -> None:
    async with camera() as origin, running(paths=pulling(origin.url())) as app:
        await ready(app)
        origin.clients[0].send_packet(b"\x00" * 20)
        await app.log.wait("invalid packet received, ignored")
        origin.clients[0].transport.write(b"\xff" * (SKIP_LIMIT + 1))
        await app.log.wait("failed: invalid data: too many bytes between two frames")


async def test_teardown_at_the_end() -> None:
    async with camera() as origin:
        async with running(paths=pulling(origin.url())) as app:
            await ready(app)
        await origin.asked("TEARDOWN")
        assert app.log.find("stopped")
        await asyncio.sleep(0.01)
        assert origin.clients == []


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_packets_of_other_payload_types_are_dropped(protocol: str) -> None:
    async with camera() as it, running(paths=pulling(it.url(), protocol)) as app:
        path = await ready(app)
        reader = await app.reader("cam")
        stream = path.stream
        assert stream is not None
        await it.asked("PLAY")
        pictures = [rtp(7 + index, key_unit(300 + index), timestamp=3000 * index) for index in range(8)]
        for index, picture in enumerate(pictures):
            for packet in (rtp(7 + index, bytes(15), timestamp=9, payload_type=50), picture):
                if it.udp is not None and it.udp_target is not None:
                    it.udp.sendto(packet, it.udp_target)
                else:
                    it.clients[0].send_packet(packet)
        assert await reader.packets(8) == pictures
        assert stream.tracks[0].counters.foreign == 8
        assert app.log.find(r"WARNING \[path cam\] packets with payload type 50 are dropped")
