"""Metrics with the names, labels, values and filters of MediaMTX, in its dialect and in that of Polycast."""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import httpx2
import pytest
import trustme
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.control.support import Server, running_file
from tests.control.test_exposition_load import come_and_go
from tests.support.rtp import key_unit, rtp

from polycast.control.metrics import exposition
from polycast.control.v3.items import fields_of, types_of_collections
from polycast.protocols.base import ServerKind
from polycast.protocols.registry import server_kinds

BYTES = ("inbound_bytes", "outbound_bytes")
FORMER_BYTES = ("bytes_received", "bytes_sent")
RTP = (
    *("inbound_bytes", "inbound_rtp_packets", "inbound_rtp_packets_lost", "inbound_rtp_packets_in_error"),
    *("inbound_rtp_packets_jitter", "inbound_rtcp_packets", "inbound_rtcp_packets_in_error", "outbound_bytes"),
    *("outbound_rtp_packets", "outbound_rtp_packets_reported_lost", "outbound_rtp_packets_discarded"),
    "outbound_rtcp_packets",
)
FORMER_RTP = (
    *("bytes_received", "bytes_sent", "rtp_packets_received", "rtp_packets_sent", "rtp_packets_lost"),
    *("rtp_packets_in_error", "rtp_packets_jitter", "rtcp_packets_received", "rtcp_packets_sent"),
    "rtcp_packets_in_error",
)
BLOCKS: Mapping[str, tuple[str, Sequence[str], Sequence[str]]] = {
    "paths": ("Paths", ("inbound_bytes", "outbound_bytes", "inbound_frames_in_error", "readers"), FORMER_BYTES),
    "hls_sessions": ("HLS sessions", ("outbound_bytes",), ()),
    "hls_muxers": ("HLS muxers", ("outbound_bytes", "outbound_frames_discarded"), ("bytes_sent",)),
    "rtsp_conns": ("RTSP connections", BYTES, FORMER_BYTES),
    "rtsp_sessions": ("RTSP sessions", RTP, FORMER_RTP),
    "rtsps_conns": ("RTSPS connections", BYTES, FORMER_BYTES),
    "rtsps_sessions": ("RTSPS sessions", RTP, FORMER_RTP),
    "rtmp_conns": ("RTMP connections", (*BYTES, "outbound_frames_discarded"), FORMER_BYTES),
    "rtmps_conns": ("RTMPS connections", (*BYTES, "outbound_frames_discarded"), FORMER_BYTES),
    "srt_conns": (
        "SRT connections",
        (
            *("packets_sent", "packets_received", "packets_sent_unique", "packets_received_unique"),
            *("packets_send_loss", "packets_received_loss", "packets_retrans", "packets_received_retrans"),
            *("packets_sent_ack", "packets_received_ack", "packets_sent_nak", "packets_received_nak"),
            *("packets_sent_km", "packets_received_km", "us_snd_duration", "packets_received_belated"),
            *("packets_send_drop", "packets_received_drop", "packets_received_undecrypt", "bytes_sent"),
            *("bytes_received", "bytes_sent_unique", "bytes_received_unique", "bytes_received_loss"),
            *("bytes_retrans", "bytes_received_retrans", "bytes_received_belated", "bytes_send_drop"),
            *("bytes_received_drop", "bytes_received_undecrypt", "us_packets_send_period"),
            *("packets_flow_window", "packets_flight_size", "ms_rtt", "mbps_send_rate", "mbps_receive_rate"),
            *("mbps_link_capacity", "bytes_avail_send_buf", "bytes_avail_receive_buf", "mbps_max_bw"),
            *("bytes_mss", "packets_send_buf", "bytes_send_buf", "ms_send_buf", "ms_send_tsb_pd_delay"),
            *("packets_receive_buf", "bytes_receive_buf", "ms_receive_buf", "ms_receive_tsb_pd_delay"),
            *("packets_reorder_tolerance", "packets_received_avg_belated_time", "packets_send_loss_rate"),
            *("packets_received_loss_rate", "outbound_frames_discarded"),
        ),
        (),
    ),
    "webrtc_sessions": (
        "WebRTC sessions",
        (
            *("inbound_bytes", "inbound_rtp_packets", "inbound_rtp_packets_lost", "inbound_rtp_packets_jitter"),
            *("inbound_rtcp_packets", "outbound_bytes", "outbound_rtp_packets", "outbound_rtcp_packets"),
            "outbound_frames_discarded",
        ),
        (
            *("bytes_received", "bytes_sent", "rtp_packets_received", "rtp_packets_sent", "rtp_packets_lost"),
            *("rtp_packets_jitter", "rtcp_packets_received", "rtcp_packets_sent"),
        ),
    ),
    "moq_sessions": ("MoQ sessions", BYTES, ()),
}
"""What MediaMTX v1.20 has, by the name of each block: its title, the other metrics, the deprecated ones."""

KINDS = {"mediamtx.yml", "polycast.yml"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The settings of servers with TLS."""
    folder = tmp_path_factory.mktemp("certificate")
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "pem")
    return "".join(f"{name}Server{kind}: {folder / 'pem'}\n" for name in ("rtsp", "rtmp") for kind in ("Key", "Cert"))


@contextlib.asynccontextmanager
async def serving(folder: Path, more: str = "", name: str = "mediamtx.yml") -> AsyncIterator[Server]:
    """Run a server with a file of a dialect."""
    text = (
        "rtspAddress: 127.0.0.1:0\nrtspsAddress: 127.0.0.1:0\nrtspTransports: [tcp]\nrtmpAddress: 127.0.0.1:0\n"
        "rtmpsAddress: 127.0.0.1:0\nhlsAddress: 127.0.0.1:0\nhlsVariant: fmp4\nwebrtcAddress: 127.0.0.1:0\n"
        "webrtcLocalUDPAddress: 127.0.0.1:0\nsrtAddress: 127.0.0.1:0\n"
        "api: yes\napiAddress: 127.0.0.1:0\nmetrics: yes\nmetricsAddress: 127.0.0.1:0\n"
    )
    if name == "mediamtx.yml":
        text += "moq: no\n"
    if "paths:" not in more:
        more += "paths:\n  all_others:\n"
    async with running_file(folder / name, text + more) as server:
        yield server


async def scrape(server: Server, query: str = "") -> str:
    response = await server.metrics.get(f"/metrics{query}")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return response.text


def samples(text: str) -> list[str]:
    """Return the lines of the page that are neither Polycast's own nor those of the process."""
    own = re.compile(r"#|$|polycast_|process_|python_")
    return [line for line in text.splitlines() if not own.match(line)]


def names(block: str) -> set[str]:
    _, current, former = BLOCKS[block]
    return {block, *(f"{block}_{name}" for name in (*current, *former))}


@pytest.mark.parametrize("file", sorted(KINDS))
async def test_a_server_without_clients(tmp_path: Path, certificate: str, file: str) -> None:
    """Each metric is there, without labels."""
    optional = "rtspEncryption: optional\nrtmpEncryption: optional\n"
    async with serving(tmp_path, certificate + optional, file) as server:
        text = await scrape(server)
        assert sorted(samples(text)) == sorted(f"{name} 0" for block in BLOCKS for name in names(block))
        titles = [line[2:] for line in text.splitlines() if re.match(r"# (?!HELP |TYPE )", line)]
        expected = []
        for title, _, former in BLOCKS.values():
            expected += [title, f"{title} (deprecated)"] if former else [title]
        assert sorted(titles) == sorted(expected)
        for family in text_string_to_metric_families(text):
            own = re.match("polycast_|process_|python_", family.name) is not None
            assert family.type in (("gauge", "counter") if own else ("gauge", "unknown")), family.name
            assert family.documentation, family.name


async def test_servers_that_do_not_run_are_absent(tmp_path: Path) -> None:
    async with serving(tmp_path, "rtmp: no\nhls: no\nwebrtc: no\nsrt: no\nrtsp: no\n") as server:
        assert {line.split()[0] for line in samples(await scrape(server))} == names("paths") | names("moq_sessions")


SESSION = r'\{id="(\S{36})",path="cam",remoteAddr="127\.0\.0\.1:\d+",state="(publish|read)"\}'


async def test_sessions_and_connections(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        publisher = await server.publisher("cam")
        reader = await server.reader("cam")
        packet = rtp(1, key_unit())
        publisher.send_frame(0, packet)
        publisher.send_frame(0, rtp(3, key_unit()))
        await reader.packets(2)
        text = await scrape(server)
        sessions = (await server.get("/v3/rtspsessions/list"))["items"]
        connections = (await server.get("/v3/rtspconns/list"))["items"]
    assert sorted(re.findall(rf"(?m)^rtsp_sessions{SESSION} 1$", text)) == sorted(
        (session["id"], session["state"]) for session in sessions
    )
    assert sorted(re.findall(r'(?m)^rtsp_conns\{id="(\S{36})"\} 1$', text)) == sorted(
        connection["id"] for connection in connections
    )
    for name in names("rtsp_sessions") - {"rtsp_sessions"}:
        assert len(re.findall(rf"(?m)^{name}{SESSION} [0-9.]+$", text)) == 2, name
    values = {
        (name, state): value
        for name, _, state, value in re.findall(rf"(?m)^rtsp_sessions_(\w+){SESSION} ([0-9.]+)$", text)
    }
    assert values["inbound_bytes", "publish"] == values["bytes_received", "publish"] == str(2 * len(packet))
    assert values["inbound_rtp_packets", "publish"] == "2"
    assert values["outbound_rtp_packets", "read"] == values["rtp_packets_sent", "read"] == "2"
    path = '{name="cam",state="ready"}'
    for line in (
        f"paths{path} 1",
        'paths_readers{name="cam",readerType="rtspSession",state="ready"} 1',
        f"paths_inbound_bytes{path} {2 * len(packet)}",
        f"paths_bytes_received{path} {2 * len(packet)}",
        f"paths_inbound_frames_in_error{path} 0",
        "rtmp_conns 0",
        "hls_sessions 0",
    ):
        assert line in text.splitlines()
    assert "\nrtsp_sessions 0\n" not in text


async def test_filters(tmp_path: Path) -> None:
    async with serving(tmp_path, "paths:\n  cam:\n  yard:\n") as server:
        await server.publisher("cam")
        await server.reader("cam")
        everything = await scrape(server)
        (first, _), (second, _) = re.findall(rf"(?m)^rtsp_sessions{SESSION} 1$", everything)

        async def found(query: str) -> set[str]:
            text = await scrape(server, query)
            list(text_string_to_metric_families(text))
            assert "polycast_" not in text
            return {re.split("[{ ]", line)[0] for line in samples(text)}

        assert await found("?type=rtsp_sessions") == names("rtsp_sessions")
        assert await found("?type=rtmp_conns") == names("rtmp_conns")
        assert await found("?type=paths") == names("paths")
        assert await found("?type=srt_conns") == names("srt_conns")
        assert await found("?type=moq_sessions") == names("moq_sessions")
        assert (await scrape(server, "?moq_session=none")) == "", "an empty block"
        assert await found("?type=nothing") == set()
        only = await scrape(server, f"?rtsp_session={first}")
        assert {re.split("[{ ]", line)[0] for line in samples(only)} == names("rtsp_sessions")
        assert first in only
        assert second not in only
        assert await found("?rtsp_conn=none") == set()
        assert "# RTSP connections\n\n# RTSP connections (deprecated)\n" in (await scrape(server, "?rtsp_conn=none"))
        assert (await scrape(server, "?rtmp_conn=none")) == "", "an empty block"
        assert (await scrape(server, "?forward_dest=none")) == ""
        assert await found("?path=yard") == names("paths")
        assert {line.partition(" ")[0] for line in samples(await scrape(server, "?path=yard"))} >= {
            'paths{name="yard",state="notReady"}',
            'paths_readers{name="yard",readerType="",state="notReady"}',
        }
        assert "cam" not in await scrape(server, "?path=yard")
        assert await scrape(server, "?path=other") == "# Paths\n\n# Paths (deprecated)\n\n"
        assert await found("?path=yard&type=rtsp_sessions") == set()
        assert await scrape(server, "?jwt=abc&other=x") != "", "no filters"
        assert len(samples(await scrape(server, "?jwt=abc"))) == len(samples(everything))


async def test_forward_destinations(tmp_path: Path) -> None:
    paths = "paths:\n  a: {forward: [{dest: 'rtsp://127.0.0.1:1/x'}, {dest: 'rtmp://127.0.0.1:1/x'}]}\n  b:\n"
    async with serving(tmp_path, paths) as server:
        ids = [item["id"] for item in (await server.get("/v3/paths/forward/list?path=a"))["items"]]
        expected = [
            line
            for name, value in (("forward_dests", 1), ("forward_dests_outbound_bytes", 0))
            for line in (
                f'{name}{{id="{ids[0]}",path="a",protocol="rtsp",state="idle"}} {value}',
                f'{name}{{id="{ids[1]}",path="a",protocol="rtmp",state="idle"}} {value}',
            )
        ]
        everything = await scrape(server)
        assert "# Forward destinations\n" in everything
        assert [line for line in samples(everything) if line.startswith("forward_")] == expected
        assert samples(await scrape(server, "?type=forward_dests")) == expected
        assert samples(await scrape(server, f"?forward_dest={ids[1]}")) == expected[1::2]
        assert [line for line in samples(await scrape(server, "?path=a")) if "forward" in line] == expected
        assert "forward" not in await scrape(server, "?path=b")
        assert await scrape(server, "?type=forward_dests&path=b") == ""
    async with serving(tmp_path) as server:
        assert "forward" not in await scrape(server)
        assert samples(await scrape(server, "?type=forward_dests")) == [
            "forward_dests 0",
            "forward_dests_outbound_bytes 0",
        ]


async def test_values_are_written_in_full(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.publisher("cam")
        (session,) = server.app.servers["RTSP"].items()
        path = server.app.hub.paths["cam"]
        assert path.stream is not None
        path.stream.tracks[0].counters.bytes = 123_456_789_012
        text = await scrape(server)
        assert 'paths_inbound_bytes{name="cam",state="ready"} 123456789012\n' in text
        assert 'polycast_path_received_bytes_total{name="cam"} 123456789012\n' in text
        assert session


async def test_openmetrics(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.publisher("cam")
        for query in ("", "?type=rtsp_sessions", "?path=none"):
            response = await server.metrics.get(f"/metrics{query}", headers={"Accept": "application/openmetrics-text"})
            families = {family.name: family.type for family in parse_openmetrics(response.text)}
            if query != "?path=none":
                assert families["rtsp_sessions_inbound_bytes"] == "unknown"
            if not query:
                assert families["polycast_path_received_bytes"] == "counter"


@pytest.mark.parametrize(("method", "target"), [("GET", "/"), ("POST", "/metrics"), ("GET", "/metrics/x")])
async def test_what_is_not_there(tmp_path: Path, method: str, target: str) -> None:
    async with serving(tmp_path) as server:
        response = await server.metrics.request(method, target)
        assert (response.status_code, response.text) == (404, "404 page not found")


async def test_muxers_and_their_viewers(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        publisher = await server.publisher("cam")
        port = server.app.servers["HLS"].ports["hlsAddress"]
        async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
            asking = asyncio.create_task(
                client.get(f"http://127.0.0.1:{port}/cam/index.m3u8", headers={"user-agent": "a"})
            )
            publisher.send_frame(0, rtp(1, key_unit()))
            await server.until(lambda: server.app.servers["HLS"].viewers())
            text = await scrape(server)
            asking.cancel()
    assert re.search(r'(?m)^hls_muxers\{name="cam"\} 1$', text)
    assert re.search(r'(?m)^hls_muxers_outbound_bytes\{name="cam"\} \d+$', text)
    (identifier,) = re.findall(r'(?m)^hls_sessions\{id="(\S+)",path="cam",remoteAddr="127.0.0.1:\d+"\} 1$', text)
    assert uuid.UUID(identifier)
    assert 'paths_readers{name="cam",readerType="hlsSession",state="ready"} 1\n' in text


@pytest.mark.parametrize("kind", server_kinds(), ids=lambda kind: kind.name)
def test_every_collection_of_api_v3_has_metrics(kind: ServerKind) -> None:
    types = types_of_collections(kind.collection, kind.item, kind.v3, kind.connections, kind.viewers)
    assert {block.collection for block in kind.blocks} == set(types)
    for block in kind.blocks:
        named = {*block.labels.values(), block.key, *(column.field for column in (*block.columns, *block.former))}
        assert named <= fields_of(*types[block.collection]), block.name


async def test_clients_that_come_and_go_while_a_page_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(exposition, "ROWS", 1)
    async with serving(tmp_path) as server:
        tasks = [asyncio.ensure_future(come_and_go(server, name)) for name in ("cam", "yard/north", "~x")]
        sessions = 0
        for _ in range(40):
            text = await scrape(server)
            seen = set()
            for family in text_string_to_metric_families(text):
                assert family.name not in seen, family.name
                seen.add(family.name)
                labels = [tuple(sample.labels.items()) for sample in family.samples]
                assert len(set(labels)) == len(labels), family.name
            sessions += text.count("\nrtsp_sessions{")
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended
        assert sessions > 40
