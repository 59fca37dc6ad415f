"""ONVIF cameras as sources, of the library and of a path: a stand-in that passes on a stream of the server itself."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
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


def ask(server: polycast.Server, path: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.ports['apiAddress']}{path}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)["status"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["error"]


def test_moving_a_camera(origin: polycast.Server) -> None:
    with camera(origin) as device, camera(origin) as another:
        paths = {
            "cam": {"source": f"onvif://me:se%21cret@127.0.0.1:{device.port}/", "sourceOnDemand": True},
            "other": {"source": f"onvif://me:wrong@127.0.0.1:{another.port}/", "sourceOnDemand": True},
            "rtsp": {"source": "rtsp://127.0.0.1:1/cam", "sourceOnDemand": True},
            "published": {},
        }
        settings = {**EMBEDDED, "api": True, "apiAddress": "127.0.0.1:0", "paths": paths}
        with polycast.Server(settings) as server:
            assert ask(server, "/v3/paths/ptz/cam?pan=0.5&tilt=-1&seconds=2") == (200, "ok")
            assert ask(server, "/v3/paths/ptz/cam?zoom=1") == (200, "ok")
            assert ask(server, "/v3/paths/ptz/cam?preset=home") == (200, "ok")
            assert ask(server, "/v3/paths/ptz/cam") == (200, "ok")
            assert device.moves == [
                ("ContinuousMove", "P1", "{'x': '0.500', 'y': '-1.000'}", "PT2.000S"),
                ("ContinuousMove", "P1", "{'x': '1.000'}", "PT1.000S"),
                ("GotoPreset", "P1", "home"),
                ("Stop", "P1", "true", "true"),
            ]
            for query in ("pan=2", "tilt=x", "zoom=nan", "seconds=-1", "seconds=1e9", f"preset={'x' * 300}"):
                status, reason = ask(server, f"/v3/paths/ptz/cam?{query}")
                assert status == 400
                assert f"invalid {query.partition('=')[0]}" in reason
            assert ask(server, "/v3/paths/ptz/other?pan=1")[0] == 400
            assert "refuses the user" in ask(server, "/v3/paths/ptz/other?pan=1")[1]
            assert ask(server, "/v3/paths/ptz/rtsp") == (400, "the source of this path is no camera that can be moved")
            assert ask(server, "/v3/paths/ptz/published")[0] in (400, 404)
            assert ask(server, "/v3/paths/ptz/nobody") == (404, "path not found")
