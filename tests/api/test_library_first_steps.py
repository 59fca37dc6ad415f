"""What a program asks first: the size before the first frame, wrong formats and addresses, pictures as files."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from tests.api.conftest import EMBEDDED, PATIENCE, Loop, picture, psnr

import polycast

av = pytest.importorskip("av")


@pytest.mark.parametrize("codec", ["h264", "vp8", "mjpeg"])
def test_the_size_is_known_before_the_first_frame(server: polycast.Server, codec: str) -> None:
    image = picture()
    with server.publish("cam", size=(320, 240), codec=codec) as video, server.read("cam", timeout=PATIENCE) as reader:
        with Loop(lambda: video.write(image, key=True)):
            assert reader.size == (320, 240)
        frame = reader.read()
        assert frame is not None, "the picture that told the size is not lost"
        assert (frame.width, frame.height) == reader.size
        assert psnr(image, frame.image) > 25


async def test_the_size_in_an_event_loop() -> None:
    async with (
        polycast.Server(EMBEDDED) as server,
        server.publish("cam", size=(64, 48)) as video,
        server.read("cam", timeout=PATIENCE) as reader,
    ):
        asking = asyncio.ensure_future(reader.size_async())
        while not asking.done():
            await video.write_async(picture(64, 48), key=True)
        assert await asking == (64, 48)


def test_there_is_no_size(server: polycast.Server) -> None:
    with server.publish("cam", size=(320, 240), sample_rate=48_000) as video:
        with server.read("cam", timeout=0.05) as reader, pytest.raises(polycast.ReadTimeout):
            assert reader.size
        with server.read("cam", decode=False) as coded, pytest.raises(ValueError, match="encoded frames"):
            assert coded.size
        with server.read("cam", video=False, audio=True) as sound, pytest.raises(ValueError, match="audio only"):
            assert sound.size
        ending = server.read("cam", reconnect=False, timeout=PATIENCE)
        video.close()
        with pytest.raises(polycast.StreamEnded, match="before its first picture"):
            assert ending.size


@pytest.mark.parametrize("form", ["rgb", "bgr", "monow", "", "vaapi"])
def test_a_wrong_format_is_reported_immediately(server: polycast.Server, form: str) -> None:
    with pytest.raises(ValueError, match="is not a format of arrays: use one of bgr24, rgb24, gray") as raised:
        server.read("cam", format=form)
    assert repr(form) in str(raised.value)
    with pytest.raises(ValueError, match="is not a format of arrays"):
        polycast.read("rtsp://127.0.0.1:1/cam", format=form)


@pytest.mark.parametrize("url", [-1, None, b"rtsp://host/cam", 3.5])
def test_an_invalid_address_is_reported_immediately(url: Any) -> None:
    for function, also in (
        (polycast.read, ", or the number of a webcam"),
        (lambda url: polycast.publish(url, size=(64, 64)), ""),
    ):
        with pytest.raises(TypeError) as raised:
            function(url)
        assert f"takes a URL, such as 'rtsp://camera/stream'{also}, not {url!r}" in str(raised.value)


def test_a_picture_as_a_file(server: polycast.Server) -> None:
    image = picture()
    with server.publish("cam", size=(320, 240)) as video, server.read("cam", timeout=PATIENCE) as reader:
        video.write(image)
        frame = reader.read()
    assert frame is not None

    def decoded(data: bytes) -> Any:
        with av.open(io.BytesIO(data)) as container:
            return next(container.decode(video=0)).to_ndarray(format="bgr24")

    png = frame._repr_png_()
    assert png.startswith(b"\x89PNG\r\n")
    assert psnr(frame.image, decoded(png)) > 45
    assert psnr(frame.image, decoded(frame.jpeg(95))) > 35
    assert len(frame.jpeg(20)) < len(frame.jpeg()) < len(frame.jpeg(100))
    for quality in (0, 101):
        with pytest.raises(ValueError, match="from 1 to 100"):
            frame.jpeg(quality)


def test_objects_describe_themselves() -> None:
    server = polycast.Server(EMBEDDED)
    assert repr(server) == "<Server stopped>"
    with server:
        assert repr(server) == f"<Server running at {server.url()}>"
        video = server.publish("cam", size=(64, 64))
        reader = server.read("cam", timeout=PATIENCE)
        video.write(picture(64, 64))
        assert reader.read() is not None
        assert repr(reader) == "<Reader H264>"
        assert repr(video) == "<Writer H264>"
        reader.close()
        video.close()
        assert repr(reader) == "<Reader closed>"
        assert repr(video) == "<Writer closed>"
