"""RTP that programs send to the server, described by ``rtpSDP``."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import pytest
from tests.control.support import Server, running
from tests.interop import tools
from tests.protocols.rtsp.support import AUDIO, VIDEO, sdp
from tests.protocols.sources.test_mpegts_source import (
    QUICK,
    Media,
    check_run,
    connect,
    counters,
    media,
    opened,
    slices,
)
from tests.protocols.sources.test_supervision import Frames
from tests.support.ports import free_port
from tests.support.rtp import key_unit, rtp, slice_unit

from polycast.config import from_mapping
from polycast.errors import ConfigurationError
from polycast.protocols.udp import input as input_module

__all__ = ["media"]

BOTH = sdp(VIDEO, AUDIO)
ONE = sdp(VIDEO)


def serving(source: str, description: str = BOTH, **values: Any) -> Any:
    settings = values.pop("path", {})
    return running(paths={"cam": {"source": source, "rtpSDP": description, **QUICK, **settings}}, **values)


@contextlib.contextmanager
def sender(port: int, local: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened_socket:
        opened_socket.bind((local, 0))
        opened_socket.connect(("127.0.0.1", port))
        yield opened_socket


def sound(number: int) -> bytes:
    """Return packet ``number`` of the AAC track."""
    return rtp(number, b"\0\x10\0\x20abc%c" % number, timestamp=1024 * number, payload_type=97)


async def ready(app: Server) -> Frames:
    path = app.app.hub.paths["cam"]
    await app.until(lambda: path.stream is not None)
    assert path.stream is not None
    frames = Frames()
    path.attach_reader(frames, path.stream)
    return frames


async def test_media_are_told_apart_by_their_payload_types() -> None:
    port = free_port()
    async with serving(f"udp+rtp://127.0.0.1:{port}") as app:
        await opened(app, port)
        with sender(port) as program:
            program.send(rtp(1, key_unit()))
            frames = await ready(app)
            assert app.log.find(r"\[rtp source\] ready: 2 tracks \(H264, AAC\)")
            assert (await app.get("/v3/paths/get/cam"))["source"] == {"type": "rtpSource", "id": ""}
            program.send(rtp(2, key_unit(2), timestamp=3600))
            program.send(sound(1))
            program.send(rtp(4, slice_unit(4), timestamp=10_800))  # overtakes the one before
            program.send(rtp(3, slice_unit(3), timestamp=7200))
            program.send(sound(2))

            def units(track: int) -> list[bytes]:
                return [each.units[-1] for index, each in frames.frames if index == track]

            await app.until(lambda: units(0)[-3:] == [key_unit(2), slice_unit(3), slice_unit(4)])
            await app.until(lambda: units(1) == [b"abc\1", b"abc\2"])
            await app.until(lambda: counters(app).packets_received == 6)


async def test_hostile_datagrams() -> None:
    port = free_port()
    async with serving(f"udp+rtp://127.0.0.1:{port}") as app:
        await opened(app, port)
        with sender(port) as program:
            report = b"\x80\xc8\0\6" + bytes(24)
            for data in (b"", b"x", bytes(12), b"\x80\x60", rtp(1, b"x", payload_type=99), report, b"\xff" * 1400):
                program.send(data)
            program.send(rtp(1, key_unit()))
            frames = await ready(app)
            for data in (b"", b"\xbf\x60" + bytes(10), b"\xa0\xe0" + b"\xff" * 20, report, b"\x80\x60" + bytes(10)):
                program.send(data)
            program.send(rtp(1, b"x", payload_type=99))
            await app.log.wait("packets with payload type 99 are dropped")
            program.send(sound(1))
            await app.until(lambda: any(index == 1 for index, _ in frames.frames))
            await app.until(lambda: counters(app).packets_invalid >= 2)


async def test_one_medium_may_have_another_dynamic_payload_type() -> None:
    port = free_port()
    async with serving(f"udp+rtp://127.0.0.1:{port}", ONE) as app:
        await opened(app, port)
        with sender(port) as program:
            program.send(rtp(1, key_unit(), payload_type=112))
            await ready(app)
            await app.log.wait("announced with payload type 96, but is sent with 112, which is accepted")


async def test_only_the_configured_sender_is_accepted() -> None:
    port = free_port()
    async with serving(f"udp+rtp://127.0.0.1:{port}?source=127.0.0.2", ONE) as app:
        await opened(app, port)
        with sender(port, "127.0.0.3") as other, sender(port, "127.0.0.2") as program:
            for number in range(10):
                other.send(rtp(1000 + number, slice_unit()))
            program.send(rtp(1, key_unit()))
            await ready(app)
            program.send(rtp(2, key_unit()))
            await app.until(lambda: counters(app).packets_received == 2)


async def test_a_silent_sender_ends_the_attempt() -> None:
    port = free_port()
    async with serving(f"udp+rtp://127.0.0.1:{port}", ONE, readTimeout="1s") as app:
        await opened(app, port)
        with sender(port) as program:
            program.send(rtp(1, key_unit()))
            await ready(app)
            await app.log.wait(r"\[rtp source\] .*failed: no data received for 1 s")
            await app.until(lambda: app.app.hub.paths["cam"].stream is None)


async def test_a_unix_socket(tmp_path: FilePath) -> None:
    unix = tmp_path / "in.sock"
    async with serving(f"unix+rtp://{unix}", ONE) as app:
        with await connect(unix) as program:
            program.sendall(rtp(1, key_unit()))
            await ready(app)
        assert app.log.find("unix[+]rtp is deprecated")
        await app.log.wait("failed: the sender has closed the connection")


@pytest.mark.parametrize(
    ("description", "error"),
    [
        ("nonsense", "rtpSDP: "),
        (sdp(), "rtpSDP has no usable track"),
        (sdp(VIDEO, VIDEO), "rtpSDP: two media have the payload type 96"),
        (sdp("m=video 0 RTP/AVP\r\n"), "rtpSDP has no usable track"),
    ],
)
async def test_descriptions_that_cannot_be_used(description: str, error: str) -> None:
    async with serving(f"udp+rtp://127.0.0.1:{free_port()}", description) as app:
        await app.log.wait(f"failed: {error}")


@pytest.mark.parametrize("scheme", ["udp+rtp", "unix+rtp"])
def test_a_description_is_needed(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="rtpSDP: `rtpSDP` was not provided"):
        from_mapping({"paths": {"cam": {"source": f"{scheme}://127.0.0.1:5000"[: None if "udp" in scheme else 16]}}})


async def test_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    open_socket = input_module.open_udp_socket

    def open_and_note(host: str, port: int, receive_buffer_size: int = 0) -> socket.socket:
        sizes.append(receive_buffer_size)
        return open_socket(host, port, receive_buffer_size)

    monkeypatch.setattr(input_module, "open_udp_socket", open_and_note)
    port = free_port()
    async with serving(
        f"udp+rtp://127.0.0.1:{port}", path={"rtpUDPReadBufferSize": "8K"}, udpReadBufferSize="16K"
    ) as app:
        await opened(app, port)
        assert sizes[-1] == 8192


@pytest.mark.interop
@pytest.mark.parametrize("name", ["ffmpeg", "gstreamer"])
async def test_programs(name: str, media: Media, tmp_path: FilePath) -> None:
    port = free_port()
    if name == "gstreamer":
        tools.require("gst-launch-1.0")
        description = sdp("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n")
        reading = ("filesrc", f"location={media.file}", "!", "tsdemux", "!", "h264parse", "!")
        command = tools.gstreamer(*reading, "rtph264pay", "pt=96", "config-interval=-1", "!", "udpsink",
                                  "host=127.0.0.1", f"port={port}", "sync=true")  # fmt: skip
    else:
        file, described = tmp_path / "media.mp4", tmp_path / "media.sdp"
        made = tools.run("remux", tools.ffmpeg("-i", media.file, "-c", "copy", file), tmp_path)
        assert made.process.returncode == 0, made.describe()

        def send(number: int) -> list[str | FilePath]:
            to = f"udp://127.0.0.1:{number}?pkt_size=1316"
            return tools.ffmpeg("-re", "-i", file, "-map", "0:v", "-c", "copy", "-f", "rtp", "-payload_type", "96", to,
                                "-map", "0:a", "-c", "copy", "-f", "rtp", "-payload_type", "97", to,
                                "-sdp_file", described)  # fmt: skip

        with tools.start("describe", send(free_port()), tmp_path) as program:
            program.wait_until(lambda: described.exists() and "a=rtpmap:97" in described.read_text(), "a description")
            description = described.read_text()
        command = send(port)
    async with serving(f"udp+rtp://127.0.0.1:{port}", description) as app:
        await opened(app, port)
        with tools.start("sender", command, tmp_path):
            frames = await ready(app)
            indexes = (0, 1) if name == "ffmpeg" else (0,)
            await app.until(lambda: min(sum(each == index for each, _ in frames.frames) for index in indexes) >= 50)
            check_run(
                media.pictures, slices(unit for index, each in frames.frames if index == 0 for unit in each.units)
            )
            if name == "ffmpeg":
                check_run(media.sounds, [each.units[0] for index, each in frames.frames if index == 1])
            assert counters(app).packets_lost == counters(app).packets_invalid == 0
