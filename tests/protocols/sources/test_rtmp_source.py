"""Pulling RTMP and RTMPS, and changing over between RTMP and RTSP."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import ssl
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from tests.protocols.rtmp.support import Fixture, RtmpClient, audio_frame, running, video_frame
from tests.protocols.sources.camera import camera
from tests.protocols.sources.test_supervision import Frames, header
from tests.wire.rtmp.support import VIDEO

from polycast.config import from_mapping
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import LEGACY, MEDIAMTX, POLYCAST
from polycast.config.path_schema import PathConfiguration
from polycast.log import Log
from polycast.net import dial
from polycast.protocols.rtmp import source

QUICK = {"sourceRetryPause": "20ms", "sourceRetryPauseMax": "50ms"}


def url(origin: Fixture, path: str = "live/cam") -> str:
    return f"rtmp://127.0.0.1:{origin.port()}/{path}"


def pulling(source_url: str | list[str], **settings: Any) -> dict[str, Any]:
    return {"cam": {"source": source_url, **QUICK, **settings}}


async def ready(app: Fixture) -> Any:
    path = app.path("cam")
    await app.until(lambda: path.stream is not None)
    return path


async def test_frames_arrive_as_they_were_published() -> None:
    async with running() as origin:
        publisher = await origin.publisher("live/cam")
        async with running(paths=pulling(url(origin, "live/cam?token=1"))) as app:
            await origin.until(lambda: bool(origin.path("live/cam").readers))
            # The demuxer of the source sees all tracks before it says what there is.
            publisher.send_frame(0, video_frame(1, key=True))
            publisher.send_frame(1, audio_frame(2))
            path = await ready(app)
            assert app.log.find(r"INFO \[path cam\] \[rtmp source\] ready: 2 tracks \(H264, AAC\)")
            assert path.publisher.reference().type == "rtmpSource"
            frames = Frames()
            path.attach_reader(frames, path.stream)
            sent = [video_frame(number, key=number == 10, composition=3600) for number in range(10, 20)]
            for frame in sent:
                publisher.send_frame(0, frame)
            await app.until(lambda: len(frames.frames) >= len(sent))
            video = [frame for index, frame in frames.frames if index == 0]
            assert [frame.units[-1] for frame in video] == [frame.units[-1] for frame in sent]
            assert [frame.pts - frame.dts for frame in video] == [3600] * 10
            assert [two.dts - one.dts for one, two in itertools.pairwise(video)] == [3600] * 9


async def test_credentials_of_the_address() -> None:
    async with running(paths={"live/cam": {"readUser": "user", "readPass": "p$ss"}}) as origin:
        await origin.publisher("live/cam")
        address = url(origin).replace("rtmp://", "rtmp://user:p%24ss@")
        async with running(paths=pulling(address)):
            await origin.until(lambda: bool(origin.path("live/cam").readers))


async def test_a_refusal_is_reported_and_retried() -> None:
    async with running() as origin, running(paths=pulling(url(origin))) as app:
        await app.log.wait(r"\[rtmp source\] .* failed: NetStream\.Play\.\w+: no one is publishing to path 'live/cam'")
        await origin.publisher("live/cam")
        await origin.until(lambda: bool(origin.path("live/cam").readers))


async def test_the_end_of_the_stream() -> None:
    async with running() as origin:
        publisher = await origin.publisher("live/cam")
        async with running(paths=pulling(url(origin))) as app:
            await origin.until(lambda: bool(origin.path("live/cam").readers))
            publisher.send_frame(0, video_frame(1, key=True))
            publisher.send_frame(1, audio_frame(2))
            path = await ready(app)
            await publisher.close()
            await app.log.wait(r"\[rtmp source\] .* failed: (the server has ended the stream|closed by the server)")
            await app.until(lambda: path.stream is None)


async def test_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LONGEST_TICK_SECONDS", 0.05)
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(paths=pulling(f"rtmp://127.0.0.1:{port}/a/b"), readTimeout="100ms") as app:
        await app.log.wait("failed: no data for 0.1 seconds in state 'handshake'")
    server.close()


async def test_nonsense() -> None:
    class Nonsense(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200)  # type: ignore[attr-defined]

    server = await asyncio.get_running_loop().create_server(Nonsense, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(paths=pulling(f"rtmp://127.0.0.1:{port}/a/b")) as app:
        await app.log.wait("failed: invalid data: ")
    server.close()


# TLS


@pytest.fixture
def certificate(tmp_path: FilePath) -> tuple[trustme.CA, dict[str, Any], str]:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    key, chain = tmp_path / "rtmp.key", tmp_path / "rtmp.crt"
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(chain)
    settings = {"rtmpEncryption": "optional", "rtmpServerKey": str(key), "rtmpServerCert": str(chain)}
    der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
    return authority, settings, hashlib.sha256(der).hexdigest()


@contextlib.asynccontextmanager
async def secure_origin(settings: dict[str, Any]) -> AsyncIterator[str]:
    async with running(**settings) as origin:
        await origin.publisher("live/cam")
        yield f"rtmps://localhost:{origin.port('RTMPS')}/live/cam"


async def test_rtmps_with_a_fingerprint(certificate: tuple[trustme.CA, dict[str, Any], str]) -> None:
    _, settings, fingerprint = certificate
    async with secure_origin(settings) as address:
        async with running(paths=pulling(address, sourceFingerprint=fingerprint)) as app:
            await ready(app)
        async with running(paths=pulling(address, sourceFingerprint="11" * 32)) as app:
            await app.log.wait(f"failed: server fingerprint do not match: expected {'11' * 32}, got {fingerprint}")
        async with running(paths=pulling(address)) as app:
            await app.log.wait("failed: the certificate of the server is not valid")


async def test_rtmps_with_a_certificate_of_an_authority(
    certificate: tuple[trustme.CA, dict[str, Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, settings, _ = certificate
    with authority.cert_pem.tempfile() as file:
        monkeypatch.setenv("SSL_CERT_FILE", file)
        dial._verifying_context.cache_clear()
        try:
            async with secure_origin(settings) as address, running(paths=pulling(address)) as app:
                await ready(app)
        finally:
            dial._verifying_context.cache_clear()


@pytest.mark.parametrize(("dialect", "port"), [(LEGACY, 1935), (MEDIAMTX, 1936), (POLYCAST, 1936)])
async def test_the_default_port_of_rtmps(dialect: Dialect, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of MediaMTX is what its servers listen on; rtsp-simple-server has one for both."""

    async def refuse(factory: object, host: str, port: int, **options: object) -> object:
        raise ConnectionRefusedError(f"{host}:{port}")

    monkeypatch.setattr(source, "connect", refuse)
    context: Any = SimpleNamespace(
        configuration=from_mapping({}, dialect),
        path_configuration=PathConfiguration(),
        log=Log(),
        read_timeout=1.0,
        dump_prefix=lambda prefix: "",
    )
    with pytest.raises(ConnectionRefusedError, match=f"^h:{port}$"):
        await source.RtmpPuller("rtmps://h/live/cam").pull(context)
    with pytest.raises(ConnectionRefusedError, match=r"^h:1935$"):
        await source.RtmpPuller("rtmp://h/live/cam").pull(context)


# From one protocol to another


def send(publisher: RtmpClient, first: int, count: int = 3) -> None:
    for number in range(first, first + count):
        publisher.send_frame(0, video_frame(number, key=number == first))


async def test_from_rtsp_to_rtmp_and_back() -> None:
    async with running() as origin, camera() as first:
        publisher = await origin.publisher("live/cam", (VIDEO,))
        sources = [first.url(), url(origin)]
        async with running(paths=pulling(sources, sourceProtocol="tcp")) as app:
            path = await ready(app)
            reader = await app.rtsp()
            await reader.play(app.rtsp_url("cam"), 1)
            frames = Frames()
            path.attach_reader(frames, path.stream)
            for index in range(3):
                first.send_key(timestamp=1000 + 3000 * index)
            before = [header(packet) for packet in await reader.packets(3)]
            await first.close()
            await app.log.wait("takes over from the source that failed")
            await origin.until(lambda: bool(origin.path("live/cam").readers))
            send(publisher, 1)
            await app.log.wait("readers continue with the new publisher")
            between = [header(packet) for packet in await reader.packets(3)]
            check_continuity(before, between)

            await first.open(port=first.port)
            await publisher.close()
            await app.until(lambda: sum("readers continue" in line for line in app.log.lines) == 2)
            for index in range(3):
                first.send_key(timestamp=77_000 + 3000 * index, ssrc=0x99)
            after = [header(packet) for packet in await reader.packets(3)]
            check_continuity(between, after)
            await app.until(lambda: len(frames.frames) >= 8)
            times = [frame.dts for _, frame in frames.frames]
            assert times == sorted(set(times))
            assert all(two - one < 90_000 * 5 for one, two in itertools.pairwise(times))
            assert not frames.closed


def check_continuity(one: list[tuple[int, int, int, int]], two: list[tuple[int, int, int, int]]) -> None:
    assert {item[0] for item in one + two} == {96}
    assert len({item[3] for item in one + two}) == 1
    assert two[0][1] == (one[-1][1] + 1) & 0xFFFF
    assert 0 < (two[0][2] - one[-1][2]) & 0xFFFFFFFF < 90_000 * 5


async def test_a_source_that_does_not_fit_what_is_always_available() -> None:
    slate = {"alwaysAvailable": True, "alwaysAvailableTracks": [{"codec": "Opus"}]}
    async with running() as origin:
        publisher = await origin.publisher("live/cam")
        async with running(paths=pulling(url(origin), **slate)) as app:
            await origin.until(lambda: bool(origin.path("live/cam").readers))
            publisher.send_frame(0, video_frame(1, key=True))
            publisher.send_frame(1, audio_frame(2))
            await app.log.wait(r"failed: wants to publish \[H264 AAC\], but stream expects \[Opus\]; next attempt in")
            assert not app.log.find("internal error")
