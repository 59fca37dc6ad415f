"""Streams of other servers: published to and read from over RTSP, RTSPS and RTMP; refusals; comebacks."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.api.conftest import EMBEDDED, PATIENCE, Loop, picture, psnr, read_both, wait_for_the_end

import polycast


@pytest.fixture
def both() -> Iterator[polycast.Server]:
    """A server with RTSP and RTMP."""
    with polycast.Server({**EMBEDDED, "rtmpDisable": False, "rtmpAddress": "127.0.0.1:0"}) as server:
        yield server


def url(server: polycast.Server, scheme: str, path: str = "cam", credentials: str = "") -> str:
    key = {"rtsp": "rtspAddress", "rtmp": "rtmpAddress"}[scheme]
    return f"{scheme}://{credentials}127.0.0.1:{server.ports[key]}/{path}"


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp"])
def test_publish(both: polycast.Server, scheme: str) -> None:
    image = picture()
    events: list[polycast.Event] = []
    with polycast.publish(
        url(both, scheme), size=(320, 240), rate=100, pace=True, sample_rate=48_000, on_event=events.append
    ) as video:
        tone = np.zeros((1600, 2), np.float32)
        step = lambda: (video.write(image, key=True), video.write_audio(tone))  # noqa: E731
        with Loop(step), both.read("cam", audio=True, buffer=100, timeout=PATIENCE) as reader:
            read_both(reader, image)
        (session,) = both.statistics().sessions
        assert (session.state, session.path) == ("publish", "cam")
    assert [event.kind.value for event in events][:1] == ["connected"]
    wait_for_the_end(both, "cam")


def test_publish_coded_frames(both: polycast.Server) -> None:
    with both.publish("one", size=(320, 240)) as video, both.read("one", decode=False, timeout=PATIENCE) as coded:
        video.write(picture())
        first = coded.read()
        assert first is not None
        with (
            polycast.publish(url(both, "rtsp", "two"), tracks=coded.tracks) as again,
            both.read("two", timeout=PATIENCE) as reader,
            Loop(lambda: again.write(first)),
        ):
            frame = reader.read()
            assert frame is not None
            assert psnr(picture(), frame.image) > 30


@pytest.mark.parametrize("transport", ["tcp", "udp", "automatic"])
def test_read(server: polycast.Server, transport: Any) -> None:
    image = picture()
    with (
        server.publish("cam", size=(320, 240), rate=100, pace=True) as video,
        Loop(lambda: video.write(image, key=True)),
        polycast.read(server.url("cam"), timeout=PATIENCE, transport=transport) as reader,
    ):
        frame = reader.read()
        assert frame is not None
        assert psnr(image, frame.image) > 30
        assert str(reader.tracks[0]) == "H264"


def test_the_wall_clock_passes_through_rtsp(server: polycast.Server) -> None:
    with server.publish("cam", size=(320, 240), pace=True) as video:
        begin = 1_700_000_000.0
        count = 0

        def step() -> None:
            nonlocal count
            video.write(picture(), time=begin + count / 30)
            count += 1

        with Loop(step), polycast.read(server.url("cam"), timeout=PATIENCE, buffer=100) as reader:
            # The server's first sender report comes within some seconds.
            frame = next(frame for frame in reader if frame.time is not None)
            assert begin <= frame.time <= begin + count / 30
            assert (frame.time - begin) * 30 == pytest.approx(round((frame.time - begin) * 30), abs=0.1)


def test_passwords() -> None:
    paths = {"all": {"publishUser": "cam", "publishPass": "p[ss", "readUser": "eye", "readPass": "look"}}
    configuration = {**EMBEDDED, "rtmpDisable": False, "rtmpAddress": "127.0.0.1:0", "paths": paths}
    with polycast.Server(configuration) as server:
        for scheme in ("rtsp", "rtmp"):
            for credentials in ("", "cam:wrong@"):
                with pytest.raises(polycast.AccessRefused):
                    polycast.publish(url(server, scheme, credentials=credentials), size=(64, 64))
        with polycast.publish(
            url(server, "rtsp", credentials="cam:p%5Bss@"), size=(64, 64), rate=100, pace=True
        ) as video:
            step = lambda: video.write(picture(64, 64), key=True)  # noqa: E731
            with Loop(step):
                for credentials in ("", "eye:wrong@"):
                    with pytest.raises(polycast.AccessRefused, match="wrong user or password"):
                        polycast.read(url(server, "rtsp", credentials=credentials)).read(timeout=PATIENCE)
                with polycast.read(url(server, "rtsp", credentials="eye:look@")) as reader:
                    assert reader.read(timeout=PATIENCE) is not None


def test_publish_with_a_login() -> None:
    paths = {"all": {"publishUser": "cam", "publishPass": "p[ss"}}
    configuration = {
        **EMBEDDED,
        "rtmpDisable": False,
        "rtmpAddress": "127.0.0.1:0",
        "rtmpAuthMethods": ["adobe"],
        "paths": paths,
    }
    with polycast.Server(configuration) as server:
        with pytest.raises(polycast.AccessRefused):
            polycast.publish(url(server, "rtmp", credentials="cam:wrong@"), size=(64, 64))
        with polycast.publish(url(server, "rtmp", credentials="cam:p%5Bss@"), size=(64, 64)):
            (session,) = [session for session in server.statistics().sessions if session.state == "publish"]
            assert (session.path, session.user) == ("cam", "cam")


def test_the_log_shows_no_password(server: polycast.Server, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(polycast.NotFound):
        polycast.read(url(server, "rtsp", credentials="user:secret@"), reconnect=False).read(timeout=PATIENCE)
    reader = polycast.read(url(server, "rtsp", credentials="user:secret@"))
    with pytest.raises(polycast.ReadTimeout, match=r"within 1 seconds \(last error: there is no such stream.*404"):
        reader.read(timeout=1)
    reader.close()
    assert "404" in caplog.text
    assert "secret" not in caplog.text


def test_a_timeout_counts_from_frame_to_frame(server: polycast.Server) -> None:
    events: list[polycast.Event] = []
    reader = polycast.read(server.url("nobody"), on_event=events.append)
    with pytest.raises(polycast.ReadTimeout, match=r"within 0\.8 seconds"):
        reader.read(timeout=0.8)  # the first attempts fail at once and after half a second
    reader.close()
    assert [event.kind for event in events][:2] == ["waiting", "waiting"]


@pytest.mark.parametrize("scheme", ["rtmp", "hls"])
def test_read_from_other_protocols(scheme: str) -> None:
    configuration = {
        **EMBEDDED,
        "rtmpDisable": False,
        "rtmpAddress": "127.0.0.1:0",
        "hlsDisable": False,
        "hlsAddress": "127.0.0.1:0",
        "hlsSegmentDuration": "200ms",
        "paths": {"closed": {"readUser": "eye", "readPass": "look"}, "all": {}},
    }
    image = picture()
    with (
        polycast.Server(configuration) as server,
        server.publish("cam", size=(320, 240), pace=True, key_interval=0.2) as video,
        server.publish("closed", size=(320, 240)),
        Loop(lambda: video.write(image)),
    ):
        if scheme == "rtmp":
            address = f"rtmp://127.0.0.1:{server.ports['rtmpAddress']}/{{}}"
        else:
            address = f"http://127.0.0.1:{server.ports['hlsAddress']}/{{}}/index.m3u8"
        with polycast.read(address.format("cam"), timeout=PATIENCE, buffer=100) as reader:
            frames = [reader.read() for _ in range(20)]
        assert all(frame and psnr(image, frame.image) > 30 for frame in frames)
        with pytest.raises(polycast.NotFound, match="no such stream"):
            polycast.read(address.format("nobody"), reconnect=False).read(timeout=PATIENCE)
        with pytest.raises(polycast.AccessRefused, match="wrong user or password"):
            polycast.read(address.format("closed")).read(timeout=PATIENCE)


def test_errors_without_reconnection(server: polycast.Server) -> None:
    with pytest.raises(polycast.NotFound, match="no such stream"):
        polycast.read(server.url("nobody"), reconnect=False).read(timeout=PATIENCE)
    with pytest.raises(polycast.ConnectionFailed, match="refused"):
        polycast.read("rtsp://127.0.0.1:1/cam", reconnect=False).read(timeout=PATIENCE)
    with pytest.raises(ConnectionError, match="refused"):
        polycast.publish("rtmp://127.0.0.1:1/cam", size=(64, 64), reconnect=False)
    with pytest.raises(polycast.ConnectionFailed, match="refused"):
        polycast.publish("rtsp://127.0.0.1:1/cam", size=(64, 64), timeout=0.1)
    for wrong in ("cam", "ftp://127.0.0.1/cam", "rtsp://"):
        with pytest.raises(ValueError, match=r"cannot be published to|without a host"):
            polycast.publish(wrong, size=(64, 64))
    for wrong in ("cam", "ftp://127.0.0.1/cam"):
        with pytest.raises(ValueError, match="cannot be read"):
            polycast.read(wrong)


def test_a_lost_connection_is_an_error_without_reconnection() -> None:
    server = polycast.Server(EMBEDDED).start()
    local = server.publish("cam", size=(64, 64), rate=100, pace=True)
    reader = polycast.read(server.url("cam"), reconnect=False, timeout=PATIENCE)
    remote = polycast.publish(server.url("other"), size=(64, 64), rate=100, pace=True, reconnect=False)

    def step() -> None:
        with contextlib.suppress(polycast.StreamEnded):
            local.write(picture(64, 64), key=True)

    with Loop(step):
        assert reader.read() is not None
        server.stop()
        with pytest.raises(polycast.ConnectionFailed):
            list(reader)
    with pytest.raises(polycast.ConnectionFailed):
        write_without_end(remote)
    remote.close()


def write_without_end(writer: polycast.Writer) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        writer.write(picture(64, 64))


def test_readers_and_writers_come_back_after_a_restart() -> None:
    read_events: list[str] = []
    write_events: list[str] = []
    server = polycast.Server(EMBEDDED).start()
    port = server.ports["rtspAddress"]
    address = server.url("cam")
    with polycast.publish(
        address, size=(64, 64), rate=100, pace=True, on_event=lambda event: write_events.append(event.kind)
    ) as video:
        step = lambda: video.write(picture(64, 64), key=True)  # noqa: E731
        reader = polycast.read(address, timeout=PATIENCE, on_event=lambda event: read_events.append(event.kind))
        with Loop(step), reader:
            assert reader.read() is not None
            server.stop()
            server = polycast.Server({**EMBEDDED, "rtspAddress": f"127.0.0.1:{port}"}).start()
            while read_events.count("connected") < 2:
                assert reader.read() is not None
    server.stop()
    assert read_events[0] == "connected" or read_events[:2] == ["waiting", "connected"]
    assert "disconnected" in read_events
    assert write_events[:1] == ["connected"]
    assert "disconnected" in write_events
    assert write_events.count("connected") >= 2


def test_rtsps_with_a_pinned_certificate(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    certificate = trustme.CA().issue_cert("localhost", "127.0.0.1")
    key_file, chain_file = tmp_path / "server.key", tmp_path / "server.crt"
    certificate.private_key_pem.write_to_path(key_file)
    certificate.cert_chain_pems[0].write_to_path(chain_file)
    der = ssl.PEM_cert_to_DER_cert(chain_file.read_text())
    fingerprint = hashlib.sha256(der).hexdigest()
    configuration = {
        **EMBEDDED,
        "encryption": "strict",
        "protocols": ["tcp"],
        "rtspsAddress": "127.0.0.1:0",
        "serverKey": str(key_file),
        "serverCert": str(chain_file),
    }
    image = picture()
    with polycast.Server(configuration) as server:
        address = server.url("cam")
        assert address.startswith("rtsps://")
        with pytest.raises(polycast.ConnectionFailed, match="certificate"):
            polycast.publish(address, size=(320, 240), reconnect=False)
        with (
            polycast.publish(address, size=(320, 240), rate=100, pace=True, fingerprint=fingerprint) as video,
            Loop(lambda: video.write(image, key=True)),
        ):
            with pytest.raises(polycast.ConnectionFailed, match="certificate"):
                polycast.read(address, reconnect=False).read(timeout=PATIENCE)
            with polycast.read(address, fingerprint=fingerprint, timeout=PATIENCE) as reader:
                frame = reader.read()
                assert frame is not None
                assert psnr(image, frame.image) > 30


def test_forgotten_readers_and_writers_end_their_threads(server: polycast.Server) -> None:
    reader = polycast.read(server.url("nobody"))
    writer = polycast.publish(server.url("cam"), size=(64, 64))
    assert any(thread.name == "polycast-client" for thread in threading.enumerate())
    del reader, writer
    gc.collect()
    assert not any(thread.name == "polycast-client" for thread in threading.enumerate())


async def test_async_for(server: polycast.Server) -> None:
    with (
        server.publish("cam", size=(64, 64), rate=100, pace=True) as video,
        Loop(lambda: video.write(picture(64, 64), key=True)),
    ):
        async with polycast.read(server.url("cam"), timeout=PATIENCE) as reader:
            async for frame in reader:
                assert frame.image.shape == (64, 64, 3)
                break


@pytest.mark.interop
@pytest.mark.parametrize("how", ["in process", "rtsp", "rtmp"])
def test_ffmpeg_sees_what_was_drawn(both: polycast.Server, how: str) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    image = picture()
    target = (
        both.publish("cam", size=(320, 240), pace=True)
        if how == "in process"
        else polycast.publish(url(both, how), size=(320, 240), pace=True)
    )
    with target as video, Loop(lambda: video.write(image)):
        while "cam" not in both.statistics().streams:
            pass
        done = subprocess.run(
            ["ffmpeg", "-v", "error", "-rtsp_transport", "tcp", "-i", both.url("cam"), "-frames:v", "10",
             "-f", "rawvideo", "-pix_fmt", "bgr24", "-"],
            capture_output=True, timeout=PATIENCE * 2, check=True,
        )  # fmt: skip
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, 240, 320, 3)
    assert len(frames) == 10
    assert all(psnr(image, frame) > 30 for frame in frames)
