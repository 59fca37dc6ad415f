"""The configuration file is edited while FFmpeg publishes a path and FFmpeg reads it: neither notices.

The rows are those of the reference's table of what restarts what, as far as they leave the RTSP server alone.
"""

from __future__ import annotations

import json
import re
import signal
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.interop import tools

pytestmark = pytest.mark.interop

RATE = 30
"""Pictures, and so packets of FFmpeg, per second."""
PACKETS_PER_ROW = 6
"""Packets that the reader gets after each edit before the next one comes."""
LAST_PACKETS = 15
"""More than the last packets may be on their way when the reader is stopped."""

SETTINGS = "api: yes\napiAddress: 127.0.0.1:{api}\npaths:\n  cam:\n  other:\n  '~^a':\n"
CAM = "  cam:\n"

PORTS = (
    "rtsps_moved",
    "api",
    "api_moved",
    "metrics",
    "metrics_moved",
    "pprof",
    "rtmp_moved",
    "rtmps_moved",
    "hls",
    "hls_moved",
)

# What is changed in the file; {name} is a free port. Each row starts from the first file, so that what the row before
# did is taken back at the same time.
ROWS: dict[str, Mapping[str, str]] = {
    "log level": {"logLevel": "debug"},
    "log file": {"logDestinations": "[stdout, file]", "logFile": "other.log"},
    "metrics on": {"metrics": "yes", "metricsAddress": "127.0.0.1:{metrics}"},
    "metrics move": {"metrics": "yes", "metricsAddress": "127.0.0.1:{metrics_moved}"},
    "pprof on": {"pprof": "yes", "pprofAddress": "127.0.0.1:{pprof}"},
    "times": {"readTimeout": "20s", "writeTimeout": "20s"},
    "buffers": {"readBufferCount": "1024"},
    "authentication": {"externalAuthenticationURL": "http://127.0.0.1:9/auth"},
    "command": {"runOnConnect": "true"},
    "RTSPS moves": {"rtspsAddress": "127.0.0.1:{rtsps_moved}"},
    "RTSPS certificate": {"serverCert": "./server.crt", "serverKey": "./server.key"},
    "RTMP off": {"rtmpDisable": "yes"},
    "RTMP moves": {"rtmpAddress": "127.0.0.1:{rtmp_moved}"},
    "RTMPS off": {"rtmpEncryption": '"no"'},
    "RTMPS moves": {"rtmpsAddress": "127.0.0.1:{rtmps_moved}"},
    "RTMPS certificate": {"rtmpServerCert": "./server.crt", "rtmpServerKey": "./server.key"},
    "HLS on": {"hlsDisable": "no", "hlsAddress": "127.0.0.1:{hls}"},
    "HLS moves": {"hlsDisable": "no", "hlsAddress": "127.0.0.1:{hls_moved}"},
    "HLS variant": {"hlsDisable": "no", "hlsAddress": "127.0.0.1:{hls_moved}", "hlsVariant": "fmp4"},
    "API moves": {"apiAddress": "127.0.0.1:{api_moved}"},
    "path added": {CAM: CAM + "  new:\n"},
    "path changed": {"  other:\n": "  other:\n    disablePublisherOverride: yes\n"},
    "path removed": {"  other:\n": ""},
    "expression changed": {"  '~^a':\n": "  '~^b':\n"},
    "comment": {CAM: "  # a comment\n" + CAM},
}


def edited(text: str, changes: Mapping[str, str], ports: Mapping[str, int]) -> str:
    """Return a configuration with other values: by key, or by the lines to replace."""
    for key, value in changes.items():
        if key.endswith("\n"):
            assert key in text
            text = text.replace(key, value)
        else:
            line = f"{key}: {value.format_map(ports)}\n"
            text, found = re.subn(rf"^{key}: .*\n", lambda _, line=line: line, text, flags=re.MULTILINE)
            text = text if found else line + text
    return text


def status(text: str) -> dict[str, Any]:
    """Return what the API of a server with this configuration says about its last change; empty while it is away."""
    found = re.search(r"^apiAddress: (.*)$", text, re.MULTILINE)
    assert found is not None
    try:
        with urllib.request.urlopen(f"http://{found[1]}/v1/config/status", timeout=60) as response:
            answer: dict[str, Any] = json.load(response)
    except OSError:
        return {}
    return answer


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A minute of video in which no picture comes twice."""
    tools.require("ffmpeg")
    file = tmp_path / "film.nut"
    encoder = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", "-pix_fmt", "yuv420p")
    picture = ("-f", "lavfi", "-i", f"testsrc2=size=160x120:rate={RATE}", "-t", "60")
    made = tools.run("film", tools.quick_ffmpeg(*picture, *encoder, file), tmp_path, seconds=60)
    assert made.process.returncode == 0, made.describe()
    return file


@pytest.fixture
def ports() -> dict[str, int]:
    return {name: tools.free_port() for name in PORTS}


def test_readers_and_publishers_of_an_untouched_path_notice_nothing(
    film: Path, tmp_path: Path, ports: dict[str, int]
) -> None:
    sent, got = tmp_path / "sent.md5", tmp_path / "got.md5"
    with tools.run_server(tmp_path, SETTINGS.replace("{api}", str(ports["api"])), rtmp=True) as server:
        file = tmp_path / f"{tools.DIALECTS[0]}.yml"
        first = file.read_text()
        url = server.url("cam")
        publish = tools.ffmpeg(
            "-re", "-i", film,
            "-c", "copy", "-f", "rtsp", "-rtsp_transport", "tcp", url,
            "-c", "copy", "-bsf:v", "h264_metadata", "-flush_packets", "1", "-f", "framemd5", sent,
        )  # fmt: skip
        read = tools.ffmpeg(
            "-rtsp_transport", "tcp", "-i", url,
            "-c", "copy", "-copyinkf", "-bsf:v", "h264_metadata", "-flush_packets", "1", "-f", "framemd5", got,
        )  # fmt: skip
        with tools.start("publish", publish, tmp_path) as publisher:
            server.wait_for_publisher("cam", publisher)
            with tools.start("read", read, tmp_path) as reader:

                def wait_for_packets(count: int) -> None:
                    wanted = lines(got) + count
                    reader.wait_until(lambda: lines(got) >= wanted, f"{count} packets")

                wait_for_packets(PACKETS_PER_ROW)
                for number, (name, changes) in enumerate(ROWS.items(), 1):
                    text = edited(first, changes, ports)
                    file.write_text(text)
                    reader.wait_until(taken(text, number), f"new configuration: {name}\n{server.log[-2000:]}")
                    wait_for_packets(PACKETS_PER_ROW)
                file.write_text(first + "  broken: [\n")
                reader.wait_until(lambda: status(first).get("failures") == 1, "report of the broken file")
                wait_for_packets(LAST_PACKETS)
                assert reader.process.poll() is None
                reader.stop((signal.SIGINT,))
            assert publisher.process.poll() is None
            assert server.log.count("is reading from path 'cam'") == 1
            assert server.log.count("is publishing to path 'cam'") == 1
            wait = lines(sent) + LAST_PACKETS
            publisher.wait_until(lambda: lines(sent) >= wait, "last packets")
            publisher.stop((signal.SIGINT,))
    least = len(ROWS) * PACKETS_PER_ROW
    tools.compare_packets(tools.read_framemd5(sent.read_text()), tools.read_framemd5(got.read_text()), least=least)


def taken(text: str, number: int) -> Callable[[], bool]:
    """Return a function that tells whether the server has taken over a file as its ``number``-th."""

    def is_taken() -> bool:
        answer = status(text)
        assert not answer.get("failures"), answer
        return answer.get("successes") == number

    return is_taken


def lines(file: Path) -> int:
    """Return how many lines a growing file has."""
    return file.read_text().count("\n") if file.exists() else 0
