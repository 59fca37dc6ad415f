"""ONVIF cameras as sources, of the library and of a path: a stand-in that passes on a stream of the server itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.api.conftest import EMBEDDED, PATIENCE, Loop, picture, psnr
from tests.support.camera import StandInCamera

import polycast

av = pytest.importorskip("av")


@pytest.fixture
def origin() -> Iterator[polycast.Server]:
    """What the camera's RTSP server would be; it wants the camera's password."""
    paths = {"main": {"readUser": "me", "readPass": "se!cret"}, "sub": {}}
    image = picture()
    with (
        polycast.Server({**EMBEDDED, "paths": paths}) as server,
        server.publish("main", size=(320, 240), pace=True) as video,
        Loop(lambda: video.write(image)),
    ):
        yield server


def camera(origin: polycast.Server, clock: timedelta = timedelta()) -> StandInCamera:
    # The camera believes that it has another address.
    port = origin.ports["rtspAddress"]
    return StandInCamera(
        {"P1": f"rtsp://10.255.255.1:{port}/main", "P2": f"rtsp://10.255.255.1:{port}/sub"}, clock=clock
    )


def test_reading_a_camera(origin: polycast.Server) -> None:
    # Its clock is off by a day: passwords have to have the date that it believes.
    with (
        camera(origin, timedelta(days=-1)) as device,
        polycast.read(f"onvif://me:se%21cret@127.0.0.1:{device.port}/", timeout=PATIENCE) as reader,
    ):
        frame = reader.read()
        assert frame is not None
        assert psnr(picture(), frame.image) > 30
    assert device.requests == ["GetSystemDateAndTime", "GetCapabilities", "GetProfiles", "GetStreamUri"]


def test_a_camera_as_the_source_of_a_path(origin: polycast.Server) -> None:
    with camera(origin) as device:
        source = f"onvif://me:se%21cret@127.0.0.1:{device.port}/?profile=main"
        paths = {"cam": {"source": source, "sourceOnDemand": True}}
        server = polycast.Server({**EMBEDDED, "paths": paths})
        with server, server.read("cam", timeout=PATIENCE) as reader:
            assert reader.read() is not None
            assert server.statistics().streams["cam"].publisher == "onvifSource"


def test_a_wrong_password(origin: polycast.Server) -> None:
    with camera(origin) as device:
        reader = polycast.read(f"onvif://me:wrong@127.0.0.1:{device.port}/", timeout=PATIENCE)
        with reader, pytest.raises(polycast.AccessRefused):
            reader.read()


def test_a_profile_that_does_not_exist(origin: polycast.Server) -> None:
    with camera(origin) as device:
        url = f"onvif://me:se%21cret@127.0.0.1:{device.port}/?profile=third"
        reader = polycast.read(url, timeout=PATIENCE, reconnect=False)
        with reader, pytest.raises(polycast.ConnectionFailed, match="no profile 'third'; it has main, sub stream"):
            reader.read()


def test_nobody_there() -> None:
    reader = polycast.read("onvif://127.0.0.1:1/", timeout=PATIENCE, reconnect=False)
    with reader, pytest.raises(polycast.ConnectionFailed, match="refused"):
        reader.read()
