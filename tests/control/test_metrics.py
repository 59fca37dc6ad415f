"""Metrics: the reference's families, valid exposition, counters that grow, labels of any text."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.control.support import Server, running
from tests.support.rtp import key_unit, rtp

from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.control.metrics import own
from polycast.hub.path import Path, PathEntry
from polycast.log import Log
from polycast.record.numbers import RecordingNumbers
from polycast.record.recorder import Recorder


async def scrape(server: Server) -> str:
    response = await server.metrics.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return response.text


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return every sample by name and labels; a parser that is not ours reads them."""
    found: dict[Any, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} comes twice"
            found[key] = sample.value
    return found


async def test_the_lines_of_the_reference() -> None:
    async with running(paths={"all": {}, "idle": {}}) as server:
        await server.publisher("cam")
        await server.reader("cam")
        await server.rtsp()
        lines = (await scrape(server)).splitlines()
        for line in (
            'paths{name="cam",state="ready"} 1',
            'paths{name="idle",state="notReady"} 1',
            'rtsp_sessions{state="idle"} 0',
            'rtsp_sessions{state="read"} 1',
            'rtsp_sessions{state="publish"} 1',
            'rtmp_conns{state="idle"} 0',
            'rtmp_conns{state="read"} 0',
            'rtmp_conns{state="publish"} 0',
        ):
            assert line in lines
        assert "rtsps_sessions" not in "\n".join(lines)
        await server.changed("/v1/config/set", {"rtmpDisable": True})
        assert "rtmp_conns" not in await scrape(server)


async def test_muxers_are_counted_by_path() -> None:
    async with running() as server:
        publisher = await server.publisher("cam")
        port = server.app.servers["HLS"].ports["hlsAddress"]
        request = asyncio.create_task(server.api.get("/", headers={"Host": "x"}))
        async with server.http("api") as client:
            client.event_hooks["request"] = []
            playlist = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/cam/index.m3u8"))
            publisher.send_frame(0, rtp(1, key_unit()))
            await server.until(lambda: server.app.servers["HLS"].items())
            assert 'hls_muxers{name="cam"} 1\n' in await scrape(server)
            items = (await server.get("/v1/hlsmuxers/list"))["items"]
            assert {"created", "lastRequest"} <= set(items["cam"])
            assert (await server.post("/v1/hlsmuxers/kick/cam")).status_code == 404
            playlist.cancel()
        await request


async def test_counters() -> None:
    async with running(paths={"cam": {}}) as server:
        publisher = await server.publisher("cam")
        reader = await server.reader("cam")
        packet = rtp(1, key_unit())
        publisher.send_frame(0, packet)
        publisher.send_frame(0, rtp(3, key_unit()))
        await reader.packets(2)
        found = samples(await scrape(server))
        path = (("name", "cam"),)
        assert found["polycast_path_received_bytes_total", path] == 2 * len(packet)
        assert found["polycast_path_received_packets_total", path] == 2
        assert found["polycast_path_lost_packets_total", path] == 1
        assert found["polycast_path_sent_packets_total", path] == 2
        assert found["polycast_path_readers", path] == 1
        by_state = {
            dict(labels)["state"]: value
            for (name, labels), value in found.items()
            if name == "polycast_session_sent_packets_total"
        }
        assert by_state == {"publish": 0, "read": 2}
        assert found["polycast_config_last_reload_successful", ()] == 1
        assert found["polycast_internal_errors_total", (("server", "RTSP"),)] == 0
        for name in ("polycast_event_loop_lag_seconds", "polycast_event_loop_lag_max_seconds"):
            assert 0 <= found[name, ()] < 5
        if ("process_open_fds", ()) in found:
            assert found["process_open_fds", ()] > 3
        await reader.close()
        await server.until(lambda: not server.app.hub.paths["cam"].readers)
        later = samples(await scrape(server))
        for key, value in found.items():
            if key[0].startswith("polycast_path") and key[0].endswith("_total"):
                assert later[key] >= value, "a counter went back"


async def test_what_is_discarded_and_how_long_the_rest_takes() -> None:
    async with running(paths={"cam": {}}) as server:
        publisher = await server.publisher("cam")
        reader = await server.reader("cam")
        publisher.send_frame(0, rtp(1, key_unit()))
        publisher.send_frame(0, rtp(2, key_unit(), payload_type=111))
        publisher.send_frame(0, rtp(2, key_unit()))
        await reader.packets(2)
        found = samples(await scrape(server))
        by_reason = {
            dict(labels)["reason"]: value
            for (name, labels), value in found.items()
            if name == "polycast_path_discarded_packets_total"
        }
        assert by_reason == {"slow_reader": 0, "payload_type": 1}
        path = (("name", "cam"),)
        assert found["polycast_path_deliveries_total", path] >= 1
        assert 0 < found["polycast_path_delivery_seconds_total", path] < 30
        assert 0 < found["polycast_path_delivery_max_seconds", path] < 30
        assert found["polycast_udp_dropped_datagrams_total", ()] == 0
        assert found["polycast_cipher_packets_total", ()] == found["polycast_cipher_seconds_total", ()] == 0
        await publisher.close()
        await server.until(lambda: server.app.hub.paths["cam"].stream is None)
        later = samples(await scrape(server))
        assert ("polycast_path_deliveries_total", path) not in later
        assert later["polycast_path_discarded_packets_total", (*path, ("reason", "payload_type"))] == 1


async def test_openmetrics_where_it_is_asked_for() -> None:
    async with running(paths={"cam": {}}) as server:
        response = await server.metrics.get("/metrics", headers={"Accept": "application/openmetrics-text"})
        assert response.headers["content-type"].startswith("application/openmetrics-text")
        assert {"paths", "polycast_path_received_bytes"} <= {family.name for family in parse_openmetrics(response.text)}


@pytest.mark.parametrize("name", ['a"b', "back\\slash", "line\nbreak", "\u00e9\U0001f600"])
async def test_labels_are_escaped(name: str) -> None:
    async with running(paths={"cam": {}}) as server:
        hub = server.app.hub
        path = Path(
            name,
            PathEntry(name, PathConfiguration()),
            (),
            loop=asyncio.get_running_loop(),
            log=server.app.log,
            observers=(),
            on_unused=lambda _: None,
        )
        hub._paths[name] = path  # the hub itself would refuse the name
        assert samples(await scrape(server))["paths", (("name", name), ("state", "notReady"))] == 1
        del hub._paths[name]


async def test_only_metrics_are_there() -> None:
    async with running() as server:
        assert (await server.metrics.get("/")).status_code == 404
        assert (await server.metrics.post("/metrics")).status_code == 405


async def test_recordings_may_begin_and_end_while_the_page_is_written() -> None:
    """Their rows are made one by one, and the loop does other work in between."""

    def recording(name: str) -> Any:
        numbers = RecordingNumbers(
            path=name, written_bytes=1, segments=1, queued_bytes=0, dropped_frames=0, discarded_frames=0, errors=0
        )
        return SimpleNamespace(numbers=numbers)

    def disk(root: str) -> Any:
        return SimpleNamespace(root=root, free=1, queued=0)

    recorder = Recorder(asyncio.get_running_loop(), Log(), (), Configuration)
    recordings, disks = recorder._recordings, recorder._disks
    recordings |= {name: recording(name) for name in ("a", "b", "c")}  # type: ignore[misc]
    disks |= {name: disk(name) for name in ("d", "e")}
    sources: Any = SimpleNamespace(media_server=SimpleNamespace(recorder=recorder))
    found = set()
    for part in own.parts(()):
        if part.families[0].name.startswith("polycast_recording"):
            for labels, _ in part.rows(sources):
                found.add(tuple(labels))
                recordings["z"] = recording("z")  # type: ignore[index]
                disks["z"] = disk("z")
    assert found >= {("a",), ("b",), ("c",), ("d",), ("e",)}
