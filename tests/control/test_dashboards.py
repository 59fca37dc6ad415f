"""Dashboards and alerts: they ask for metrics and labels that a server with sessions of all kinds has."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from aiortc import RTCPeerConnection
from prometheus_client.parser import text_string_to_metric_families
from tests.control.support import Server, running_file
from tests.interop import tools
from tests.protocols.srt.support import publishing
from tests.protocols.webrtc.support import exchange
from tests.support.rtp import key_unit, rtp

from polycast.wire.rtmp.address import parse_url
from polycast.wire.rtmp.client import ClientConnection, Mode
from polycast.wire.rtmp.events import RequestAccepted

DOCS = Path(__file__).resolve().parents[2] / "docs"
GRAFANA = DOCS / "grafana"
PROMETHEUS = DOCS / "prometheus"

LISTENERS = """\
rtspAddress: 127.0.0.1:0
rtmpAddress: 127.0.0.1:0
hlsAddress: 127.0.0.1:0
webrtc: yes
webrtcAddress: 127.0.0.1:0
webrtcLocalUDPAddress: 127.0.0.1:0
srt: yes
srtAddress: 127.0.0.1:0
api: yes
apiAddress: 127.0.0.1:0
metrics: yes
metricsAddress: 127.0.0.1:0
paths:
  all:
  cam:
    forward: [{dest: "rtsp://127.0.0.1:1/x"}]
    record: yes
    recordPath: FOLDER/%path/%Y-%m-%d_%H-%M-%S-%f
"""
FILES: Mapping[str, str] = {
    "polycast.yml": "rtspTransports: [tcp]\n" + LISTENERS,
    "mediamtx.yml": "rtspTransports: [tcp]\nmoq: no\n" + LISTENERS.replace("  all:", "  all_others:"),
    "rtsp-simple-server.yml": "protocols: [tcp]\n" + LISTENERS,
}
DASHBOARDS: Mapping[str, set[str]] = {
    "polycast.json": set(FILES),
    "mediamtx.json": {"polycast.yml", "mediamtx.yml"},
}
"""The dashboards, and the files of the dialects that they are for."""

ABSENT_HERE = {"polycast_session_round_trip_seconds"}
"""Only where a reader has reported."""
ADDED_BY_PROMETHEUS = {"instance", "job"}

_WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yield the metrics in a PromQL expression, each with the labels that are named for it."""
    grouped = {
        label.strip() for found in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression) for label in found.split(",")
    }
    plain = re.sub(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)", "", expression)
    for match in re.finditer(r"\b([a-z_]\w*)(?!\w*\s*\()(?:\{([^}]*)\})?", re.sub(r"\[[^\]]*\]", "", plain)):
        if match[1] not in _WORDS and not _is_within(match, plain):
            yield match[1], grouped | set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', match[2] or ""))


def _is_within(match: re.Match[str], expression: str) -> bool:
    """Return whether what looks like a metric is part of the braces of one."""
    before = re.sub(r"\[[^\]]*\]", "", expression)[: match.start()]
    return before.count("{") > before.count("}")


def test_the_selectors_of_an_expression() -> None:
    found = dict(selectors('sum by (path) (rate(a_b{x=~"$y",z="sum"}[1m])) * 8 > 0.1 * c and on (q) d_total'))
    assert found == {"a_b": {"path", "q", "x", "z"}, "c": {"path", "q"}, "d_total": {"path", "q"}}


def dashboard(name: str) -> Any:
    return json.loads((GRAFANA / name).read_text())


def expressions(name: str) -> list[str]:
    panels = dashboard(name)["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
    return found


async def publish_rtmp(server: Server, name: str) -> None:
    """Open an RTMP connection that may publish."""
    port = server.app.servers["RTMP"].ports["rtmpAddress"]
    engine = ClientConnection(parse_url(f"rtmp://127.0.0.1/{name}"), Mode.PUBLISH, 0.0, seed=bytes(3072))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    server.stack.callback(writer.close)
    happened: list[Any] = []
    while not any(isinstance(event, RequestAccepted) for event in happened):
        writer.write(engine.data_to_send())
        happened += engine.receive_data(await reader.read(65536), 0.0)
    writer.write(engine.data_to_send())


@contextlib.asynccontextmanager
async def busy(folder: Path, file: str) -> AsyncIterator[Server]:
    """Run a server with sessions of all kinds."""
    async with running_file(folder / file, FILES[file].replace("FOLDER", str(folder))) as server:
        publisher = await server.publisher("cam")
        reader = await server.reader("cam")
        publisher.send_frame(0, rtp(1, key_unit()))
        await reader.packets(1)
        await publish_rtmp(server, "x/y")
        await server.until(lambda: server.app.servers["RTMP"].sessions())
        await server.stack.enter_async_context(publishing(server, "z"))
        viewer = RTCPeerConnection()
        server.stack.push_async_callback(viewer.close)
        viewer.addTransceiver("video", direction="recvonly")
        port = server.app.servers["WebRTC"].ports["webrtcAddress"]
        async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=30) as http:
            await exchange(http, viewer, f"http://127.0.0.1:{port}/cam/whep")
            port = server.app.servers["HLS"].ports["hlsAddress"]
            asking = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/cam/index.m3u8"))
            await server.until(lambda: server.app.servers["HLS"].viewers())
            for number in range(2, 6):  # seconds, so that something is written
                publisher.send_frame(0, rtp(number, key_unit(), timestamp=90_000 * number))
            await server.until(lambda: any(disk.free for disk in server.app.recorder.disk_numbers()))
            yield server
            asking.cancel()


def labels_in(text: str) -> dict[str, set[str]]:
    """Return the labels of the samples of each metric on a page."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("file", sorted(FILES))
async def test_metrics_exist(tmp_path: Path, file: str) -> None:
    async with busy(tmp_path, file) as server:
        text = (await server.metrics.get("/metrics")).text
    there = {**labels_in(text), "up": set()}
    wanted = [expression for name, files in DASHBOARDS.items() if file in files for expression in expressions(name)]
    wanted += [rule["expr"] for rule in rules()]
    assert len(wanted) > 20
    for expression in wanted:
        used = dict(selectors(expression))
        assert used, expression
        for written, labels in used.items():
            name = re.sub(r"^(rts|rtm)ps_", r"\1p_", written)  # a server with TLS has the same
            if name in ABSENT_HERE:
                continue
            assert name in there, f"{name} in {expression}"
            assert labels <= there[name] | ADDED_BY_PROMETHEUS, f"{labels} of {name} in {expression}"


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_dashboards_can_be_provisioned(name: str) -> None:
    board = dashboard(name)
    assert board["uid"]
    assert board["title"].startswith("Polycast")
    variables = {variable["name"] for variable in board["templating"]["list"]}
    identifiers = [panel["id"] for panel in board["panels"]]
    assert len(set(identifiers)) == len(identifiers) > 10
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables


def test_no_two_dashboards_are_the_same() -> None:
    assert {path.name for path in GRAFANA.glob("*.json")} == set(DASHBOARDS)
    assert len({dashboard(name)["uid"] for name in DASHBOARDS}) == len(DASHBOARDS)


def promtool(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    tools.require("promtool")
    return subprocess.run(
        ["promtool", *map(str, arguments)], input=text, capture_output=True, text=True, check=False, timeout=60
    )


def test_prometheus_accepts_the_example() -> None:
    checked = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules())} rules found" in checked.stdout


@pytest.mark.parametrize("file", sorted(FILES))
async def test_prometheus_accepts_the_page(tmp_path: Path, file: str) -> None:
    async with busy(tmp_path, file) as server:
        pages = [(await server.metrics.get("/metrics")).text]
    async with running_file(tmp_path / file) as server:
        pages.append((await server.metrics.get("/metrics")).text)
    for page in pages:
        checked = await asyncio.to_thread(promtool, "check", "metrics", text=page)
        # 3: what it says of names, which are those of MediaMTX.
        assert checked.returncode in (0, 3), checked.stderr
        assert "polycast_" not in checked.stderr, checked.stderr


CASES: Mapping[str, Mapping[str, str]] = {
    "PolycastDown": {'up{job="polycast"}': "0x40"},
    "PolycastConfigurationRefused": {"polycast_config_last_reload_successful": "0x40"},
    "PolycastInternalError": {'polycast_internal_errors_total{server="RTSP"}': "0x10 1x30"},
    "PolycastLate": {"polycast_event_loop_lag_max_seconds": "0.3x40"},
    "PolycastPathSilent": {
        'polycast_path_received_bytes_total{name="cam"}': "7x40",
        'polycast_path_ready_seconds{name="cam"}': "0+15x40",
    },
    "PolycastPathLosesPackets": {
        'polycast_path_lost_packets_total{name="cam"}': "0+2x40",
        'polycast_path_received_packets_total{name="cam"}': "0+100x40",
    },
    "PolycastReadersTooSlow": {
        'polycast_path_dropped_packets_total{name="cam"}': "0+2x40",
        'polycast_path_sent_packets_total{name="cam"}': "0+100x40",
    },
    "PolycastFilesRunOut": {'process_open_fds{job="polycast"}': "950x40", 'process_max_fds{job="polycast"}': "1000x40"},
    "PolycastRecordingIncomplete": {'polycast_recording_dropped_frames_total{name="cam"}': "0x30 5x10"},
    "PolycastDiskFull": {'polycast_recordings_free_bytes{directory="/x"}': "9e8x40"},
    "": {
        'polycast_recording_dropped_frames_total{name="cam"}': "3x40",
        'polycast_recording_errors_total{name="cam"}': "0x40",
        'polycast_recordings_free_bytes{directory="/x"}': "9e9x40",
        'up{job="polycast"}': "1x40",
        "polycast_config_last_reload_successful": "1x40",
        'polycast_internal_errors_total{server="RTSP"}': "1x40",
        "polycast_event_loop_lag_max_seconds": "0.01x40",
        'polycast_path_received_bytes_total{name="cam"}': "0+1000x40",
        'polycast_path_ready_seconds{name="cam"}': "0+15x40",
        'polycast_path_lost_packets_total{name="cam"}': "0+1x40",
        'polycast_path_dropped_packets_total{name="cam"}': "0+1x40",
        'polycast_path_received_packets_total{name="cam"}': "0+200x40",
        'polycast_path_sent_packets_total{name="cam"}': "0+200x40",
        'process_open_fds{job="polycast"}': "50x40",
        'process_max_fds{job="polycast"}': "1000x40",
    },
}
"""Values every 15 s, by the only alert that they raise."""


def test_alerts(tmp_path: Path) -> None:
    assert set(CASES) - {""} == {rule["alert"] for rule in rules()}
    cases = [
        {
            "interval": "15s",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": "9m",
                    "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else [],
                }
            ],
        }
        for alert, series in CASES.items()
    ]
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(PROMETHEUS / "alerts.yml")], "tests": cases}))
    checked = promtool("test", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
