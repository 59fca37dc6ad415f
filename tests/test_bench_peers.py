"""Other servers beside ours in the benchmark: how they are found, configured and shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from polycast.config import load

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark is for Linux")


def test_nothing_is_named() -> None:
    from bench.peers import find_peers

    assert find_peers({}) == []
    assert find_peers({"MEDIAMTX": "", "RTSP_SIMPLE_SERVER": ""}) == []


def test_what_is_not_there_is_told() -> None:
    from bench.peers import PeerError, find_peers

    with pytest.raises(PeerError, match="MEDIAMTX=/nowhere/mediamtx: there is no such executable"):
        find_peers({"MEDIAMTX": "/nowhere/mediamtx"})


@pytest.mark.parametrize("protocol", ["rtsp", "rtmp"])
def test_both_servers_are_configured(protocol: str, tmp_path: Path) -> None:
    from bench.measure import SETTINGS
    from bench.model import Setup
    from bench.peers import find_peers

    program = tmp_path / "server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    mediamtx, predecessor = find_peers({"MEDIAMTX": str(program), "RTSP_SIMPLE_SERVER": str(program)})
    assert (mediamtx.name, predecessor.name) == ("MediaMTX", "rtsp-simple-server")
    assert mediamtx.command == predecessor.command == [str(program), "{config}"]
    setup = Setup(protocol, 5000, 5001, 6000, str(tmp_path))
    assert mediamtx.configuration is not None
    assert predecessor.configuration is not None
    assert f"{protocol}Address: 127.0.0.1:5000\n" in mediamtx.configuration(setup)
    # It is enabled in one protocol only, and asked for the same passphrase as we are.
    encrypted = mediamtx.configuration(Setup("srt-aes", 5000, 5001, 6000, str(tmp_path)))
    assert "srtAddress: 127.0.0.1:5001\n" in encrypted
    assert SETTINGS["srt-aes"].rpartition("srtReadPassphrase: ")[2] == encrypted.rpartition("srtReadPassphrase: ")[2]
    # Viewers over WebRTC get the only address that they know.
    webrtc = mediamtx.configuration(Setup("webrtc", 5000, 5001, 6000, str(tmp_path)))
    assert "webrtcAddress: 127.0.0.1:5001\nwebrtcLocalUDPAddress: 127.0.0.1:6000\n" in webrtc
    assert "webrtcAdditionalHosts: [127.0.0.1]\n" in webrtc
    # The settings of the older server are ours.
    file = tmp_path / "server.yml"
    file.write_text(predecessor.configuration(setup))
    assert not load(str(file), {}).warnings


def test_the_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    from bench.model import Measurement
    from bench.report import print_comparison

    ours = Measurement("polycast", cpu_per_gigabit=0.123, delay_p99_ms=3.14, resident_mb=40.4)
    floor = Measurement("floor: send", cpu_per_gigabit=0.1)
    print_comparison({"tcp-100": [floor, ours]})
    assert capsys.readouterr().out == "", "there is nothing to compare with"
    print_comparison({"tcp-100": [floor, ours, Measurement("MediaMTX", error="it crashed")], "idle": [ours]})
    assert capsys.readouterr().out.splitlines()[-4:] == [
        "| | polycast | MediaMTX |",
        "|---|---|---|",
        "| tcp-100 | 0.12 / 3.1 ms / 40 MB | failed |",
        "| idle | 0.12 / 3.1 ms / 40 MB |  |",
    ]


def test_what_recording_takes_is_the_difference_that_is_not_writing() -> None:
    from bench.model import Measurement
    from bench.recording import FLOOR, compare

    rows = [
        Measurement(FLOOR, core_share=0.03),
        Measurement("polycast, not recording", core_share=0.15),
        Measurement("polycast", core_share=0.26),
        Measurement("MediaMTX, not recording", error="it crashed"),
        Measurement("MediaMTX", core_share=0.7),
    ]
    compare(rows)
    assert [row.recording_share for row in rows] == [None, None, pytest.approx(0.08), None, None]
    assert rows[2].notes == ["recording takes 11.0% of a core: 8.0% more than the writing alone"]


def test_the_settings_of_recording_are_ours(tmp_path: Path) -> None:
    from bench.measure import SETTINGS
    from bench.model import Setup

    file = tmp_path / "server.yml"
    file.write_text(Setup("rtsp", 5000, 5001, 6000, str(tmp_path), "mpegts").fill(SETTINGS["rtsp"]))
    loaded = load(str(file), {})
    assert not loaded.warnings
    assert {entry.record_format.value for entry in loaded.configuration.paths.values()} == {"mpegts"}
