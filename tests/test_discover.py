"""``polycast discover``, with stand-ins for cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.camera import StandInCamera

import polycast
from polycast.cli import main
from polycast.config import load
from polycast.protocols.onvif.probing import find_cameras

STREAMS = {"P1": "rtsp://10.255.255.1/1", "P2": "rtsp://10.255.255.1/2"}
LOGIN = ("--user", "me", "--password", "se!cret")


def discover(device: StandInCamera, *arguments: str, seconds: str = "20") -> int:
    host = f"127.0.0.1:{device.probe_port}"
    return main(["discover", host, "--seconds", seconds, *arguments])


def test_paths_for_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StandInCamera(STREAMS) as device:
        assert discover(device, *LOGIN, "--all-profiles") == 0
    captured = capsys.readouterr()
    file = tmp_path / "polycast.yml"
    file.write_text(captured.out)
    paths = load(str(file), {}).configuration.paths
    address = f"onvif://me:se%21cret@127.0.0.1:{device.port}/?profile="
    assert {name: path.source for name, path in paths.items()} == {
        "front-door": f"{address}P1",
        "front-door-sub-stream": f"{address}P2",
    }
    assert all(path.source_on_demand for path in paths.values())
    assert captured.err.splitlines() == [
        f"127.0.0.1:{device.port}  Front Door Stand-In",
        "    1. main: H264 320x240, PTZ",
        "    2. sub stream: no video",
    ]


def test_only_the_first_profile(capsys: pytest.CaptureFixture[str]) -> None:
    with StandInCamera(STREAMS, name="all") as device:
        assert discover(device, *LOGIN) == 0
    output = capsys.readouterr().out
    assert output.count("source:") == 1
    assert "  camera-all:\n" in output, "a path 'all' would be every path"


def test_adding_paths_to_a_running_server(capsys: pytest.CaptureFixture[str]) -> None:
    settings: dict[str, Any] = {"rtspAddress": "127.0.0.1:0", "api": True, "apiAddress": "127.0.0.1:0"}
    with polycast.Server({**settings, "apiUser": "admin", "apiPass": "pass", "paths": {}}) as server:
        api = ("--add", "--api", f"http://127.0.0.1:{server.ports['apiAddress']}")
        with StandInCamera(STREAMS) as device:
            assert discover(device, *LOGIN, *api, "--api-user", "admin", "--api-password", "pass") == 0
            assert "added front-door: onvif://me:***@127.0.0.1" in capsys.readouterr().out
            assert discover(device, *LOGIN, *api, "--api-user", "admin", "--api-password", "pass") == 1
            assert "ERR: front-door: " in capsys.readouterr().err
            assert discover(device, *LOGIN, *api, "--api-user", "admin", "--api-password", "wrong") == 1
            assert "ERR: front-door: " in capsys.readouterr().err
        assert "front-door" in server.statistics().streams
    with StandInCamera(STREAMS) as device:
        assert discover(device, *LOGIN, *api) == 1
    assert "is the server running, with 'api: yes'?" in capsys.readouterr().err


def test_cameras_that_want_a_password(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "wrong"

    monkeypatch.setattr("getpass.getpass", ask)
    with StandInCamera(STREAMS) as device:
        assert discover(device) == 1
        assert "refuses the user or the password" in capsys.readouterr().err
        assert discover(device, "--user", "me") == 1
        assert "refuses the user or the password" in capsys.readouterr().err
    assert asked == ["Password of the cameras: "]


def test_a_host_that_does_not_answer_probes_is_asked_directly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with StandInCamera(STREAMS, answers_probes=False) as device:
        monkeypatch.setattr("polycast.protocols.onvif.finding.DEVICE_PATH", f":{device.port}/onvif/device_service")
        assert discover(device, *LOGIN, seconds="0.05") == 0
    assert f"onvif://me:se%21cret@127.0.0.1:{device.port}" in capsys.readouterr().out


def test_nobody_answers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["discover", "--interface", "127.0.0.1", "--seconds", "0.05"]) == 1
    assert "no streams were found" in capsys.readouterr().err
    assert main(["discover", "--interface", "192.0.2.77", "--seconds", "0.05"]) == 1
    assert "'192.0.2.77' is not an address of this machine" in capsys.readouterr().err
    assert main(["discover", "host:port", "--seconds", "0.05"]) == 1
    assert "'host:port' is not a host" in capsys.readouterr().err


def test_several_cameras_and_answers_that_are_not_ours() -> None:
    with StandInCamera(STREAMS, name="a") as first, StandInCamera(STREAMS, name="b") as second:
        hosts = [("127.0.0.1", first.probe_port), ("127.0.0.1", second.probe_port)]
        found = find_cameras(hosts, (), 20)
    assert {device.name for device in found.values()} == {"a", "b"}
