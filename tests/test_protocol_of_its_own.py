"""A protocol is a folder and a row of the registry: one from a folder of the tests has all that the others have.

If something in here needs a change outside ``tests/tally``, adding a protocol has become more than that.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from tests import tally
from tests.control.support import BASE, Server, running, serving
from tests.tally.clients import TallyPusher
from tests.tally.configuration import TallyConfiguration, TallyMode

import polycast
from polycast.app.openapi_document import document
from polycast.cli.preflight import preflight
from polycast.cli.serve import demo_addresses
from polycast.config import LoadedConfiguration, changed_keys, from_mapping, load_bytes, to_jsonable, update
from polycast.config.dialects.mediamtx import MEDIAMTX
from polycast.config.document import configuration_markdown, configuration_schema, polycast_yml
from polycast.errors import ConfigurationError, PolycastError
from polycast.protocols import registry

PATIENCE = 30.0
"""Seconds after which something that should happen counts as not happening."""

ADDRESSES: Mapping[str, Any] = {"tallyAddress": "127.0.0.1:0", "tallyDatagramAddress": "127.0.0.1:0"}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of the registry."""
    monkeypatch.setattr(registry, "PROTOCOLS", (*registry.PROTOCOLS, tally.PROTOCOL))


# Settings


def test_its_keys_are_read_from_files_variables_and_json() -> None:
    loaded = load_bytes(b"tallyMode: bytes\n", {"RTSP_TALLYADDRESS": ":9"})
    assert loaded.warnings == []
    assert loaded.given == {"tallyMode", "tallyAddress"}
    settings = loaded.configuration[TallyConfiguration]
    assert (settings.tally_mode, settings.tally_address) == (TallyMode.BYTES, ":9")
    changed = update(loaded.configuration, {"tallyMode": "lines", "tallyStep": 3})
    assert changed_keys(loaded.configuration, changed) == {"tallyMode", "tallyStep"}
    shown = to_jsonable(changed)
    assert {key: value for key, value in shown.items() if key.startswith("tally")} == {
        "tallyDisable": False,
        "tallyAddress": ":9",
        "tallyDatagramAddress": ":7002",
        "tallyMode": "lines",
        "tallyStep": 3,
    }
    assert from_mapping(shown) == changed


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tallyAddress": "x"}, "tallyAddress: 'x' is not an address"),
        ({"tallyMode": "words"}, "invalid tallyMode value: 'words'"),
        ({"tallyStep": -1}, "tallyStep: -1 is out of range"),
        ({"tallyMode": "bytes", "tallyStep": 2}, "tallyStep: bytes count for one each"),
        ({"tallySteps": 2}, "did you mean 'tallyStep'"),
    ],
)
def test_its_keys_are_checked(values: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        from_mapping(values)


def test_its_keys_are_documented() -> None:
    markdown = configuration_markdown()
    assert "## Tally\n\n### `tallyDisable` *(new)*\n\nDisable Tally.\n" in markdown
    assert markdown.index("webrtcAddress") < markdown.index("### `tallyMode`") < markdown.index("## Paths")
    assert "values: `lines`, `bytes`; variable: `POLYCAST_TALLYMODE`" in markdown
    assert configuration_schema()["properties"]["tallyStep"]["anyOf"][0] == {"type": "integer"}
    assert re.search(r"^## Tally #+$", polycast_yml(), re.MULTILINE)
    assert "\ntallyAddress: :7001\n" in polycast_yml()


def test_a_key_that_exists_cannot_be_declared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PROTOCOLS", (*registry.PROTOCOLS, tally.PROTOCOL))
    with pytest.raises(TypeError, match="TallyConfiguration has keys that there are already"):
        from_mapping({})


# Server


async def line(server: Server, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """Connect, send, and return the connection and what came back."""
    port = server.app.servers["Tally"].ports["tallyAddress"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    return reader, writer, await asyncio.wait_for(reader.readline(), PATIENCE)


async def test_its_sessions_are_in_the_api_and_the_metrics_and_can_be_kicked() -> None:
    async with running(**ADDRESSES) as server:
        reader, writer, answer = await line(server, b"cam\n")
        assert answer == b"1\n"
        ((session, item),) = (await server.get("/v1/tallysessions/list"))["items"].items()
        assert (item["path"], item["transport"], item["linesCounted"], item["bytesReceived"]) == ("cam", "TCP", 1, 4)
        text = (await server.metrics.get("/metrics")).text
        labels = f'{{collection="tallysessions",id="{session}",path="cam",state="publish"}}'
        assert f"polycast_session_counted_lines_total{labels} 1" in text
        assert 'tally_sessions{state="publish"} 1' in text
        schema = (await server.get("/v1/openapi.json"))["components"]["schemas"]["TallysessionsItem"]
        assert schema["properties"]["linesCounted"] == {"type": "integer", "description": "So far."}
        await server.changed(f"/v1/tallysessions/kick/{session}")
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()
    assert "/v1/tallysessions/kick/{id}" in document()["paths"]


async def test_its_metrics_are_those_of_mediamtx_in_that_dialect() -> None:
    configuration = msgspec.structs.replace(from_mapping({**BASE, **ADDRESSES}), dialect=MEDIAMTX.name)
    async with serving(LoadedConfiguration(configuration, None, [], frozenset())) as server:

        async def lines(query: str) -> list[str]:
            text = (await server.metrics.get(f"/metrics{query}")).text
            return [line for line in text.splitlines() if line.startswith("tally_")]

        names = ("tally_sessions", "tally_sessions_inbound_bytes", "tally_sessions_lines_counted")
        assert await lines("") == await lines("?type=tally_sessions") == [f"{name} 0" for name in names]
        _, writer, _ = await line(server, b"cam\n")
        (session,) = (await server.get("/v3/tallysessions/list"))["items"]
        identifier, address = session["id"], session["remoteAddr"]
        labels = f'{{id="{identifier}",path="cam",remoteAddr="{address}",state="publish"}}'
        expected = [f"{name}{labels} {value}" for name, value in zip(names, (1, 4, 1), strict=True)]
        assert await lines("") == await lines(f"?tally_session={identifier}") == expected
        assert await lines("?rtsp_session=x") == await lines("?type=rtsp_sessions") == []
        writer.close()


async def test_it_listens_over_udp_as_well() -> None:
    async with running(**ADDRESSES) as server:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(("127.0.0.1", server.app.servers["Tally"].ports["tallyDatagramAddress"]))
            await loop.sock_sendall(client, b"x")
            assert await asyncio.wait_for(loop.sock_recv(client, 10), PATIENCE) == b"1"


async def test_a_new_setting_is_used_at_once_or_restarts_only_this_server() -> None:
    async with running(**ADDRESSES) as server:
        before = dict(server.app.servers)
        await server.changed("/v1/config/set", {"tallyStep": 5})
        assert dict(server.app.servers) == before
        _, writer, answer = await line(server, b"cam\n")
        assert answer == b"5\n"
        writer.close()
        await server.changed("/v1/config/set", {"tallyDatagramAddress": "localhost:0"})
        assert {name for name, made in server.app.servers.items() if made is not before[name]} == {"Tally"}
        await server.changed("/v1/config/set", {"tallyDisable": True})
        assert "Tally" not in server.app.servers


@pytest.mark.parametrize(
    ("key", "kind"), [("tallyAddress", socket.SOCK_STREAM), ("tallyDatagramAddress", socket.SOCK_DGRAM)]
)
async def test_a_port_that_is_taken_is_noticed_before_anybody_is_disconnected(
    key: str, kind: socket.SocketKind
) -> None:
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        async with running(**ADDRESSES) as server:
            before = server.app.servers["Tally"]
            with pytest.raises(PolycastError, match=rf"\[Tally\] {key}: .*{address}"):
                await server.app.reload(update(server.app.configuration, {key: address}))
            assert server.app.servers["Tally"] is before
        disabled = {"rtspDisable": True, "rtmpDisable": True, "hlsDisable": True}
        findings = preflight(from_mapping({**ADDRESSES, **disabled, key: address, "paths": {"all": {}}}))
        assert [finding.text.partition(":")[0] for finding in findings] == [key]


# What people see


async def test_the_status_page_and_the_demo_know_it() -> None:
    async with running(**ADDRESSES) as server:
        servers = (await server.get("/v1/server/status"))["servers"]
        assert ("tallysessions", "Tally") in [(each["collection"], each["name"]) for each in servers]
        port = server.app.servers["Tally"].ports["tallyAddress"]
        assert f"tally://localhost:{port}/demo" in "\n".join(demo_addresses(server.app))


# Sources, pushes and the library


async def test_its_sources_are_pulled() -> None:
    paths = {"cam": {"source": "tally://host/x"}, "other": {"source": ["rtsp://127.0.0.1:1/x", "tally://host/y"]}}
    async with running(**ADDRESSES, paths=paths) as server:
        await server.until(lambda: all(path.stream is not None for path in server.app.hub))
        cam = await server.get("/v1/paths/get/cam")
        assert (cam["source"], cam["tracks"]) == ({"type": "tallySource"}, ["Opus"])


@pytest.mark.parametrize(
    ("path", "source", "message"),
    [
        ("cam", "tally://", r"'tally://' is not a valid Tally URL \(write tally://host/path\)"),
        ("all", "tally://host/x", "cannot have a Tally source"),
        ("cam", "talli://host/x", r"a URL that begins with rtsp://, .* or tally://"),
    ],
)
def test_its_sources_are_checked(path: str, source: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        from_mapping({"paths": {path: {"source": source}}})


def test_the_library_leaves_it_off_unless_it_is_wanted_and_tells_its_address() -> None:
    with polycast.Server({"rtspAddress": "127.0.0.1:0"}) as server:
        assert "tallyAddress" not in server.ports
        with pytest.raises(ConfigurationError, match="no Tally"):
            server.url("cam", protocol="Tally")
    with polycast.Server(
        {"rtspAddress": "127.0.0.1:0", "tallyDisable": False, "tallyAddress": "127.0.0.1:0"}
    ) as server:
        assert server.ports["tallyDatagramAddress"] not in (0, 7002)
        assert server.url("cam", protocol="Tally") == f"tally://127.0.0.1:{server.ports['tallyAddress']}/cam"
        with socket.create_connection(("127.0.0.1", server.ports["tallyAddress"]), PATIENCE) as client:
            client.sendall(b"cam\n")
            assert client.recv(10) == b"1\n"
            (session,) = server.statistics().sessions
            assert (session.protocol, session.path, session.bytes_received) == ("Tally", "cam", 4)
            assert server.disconnect(session.id)


def test_the_library_reads_and_publishes_its_urls() -> None:
    TallyPusher.opened.clear()
    with polycast.publish("tally://host/x", tracks=[polycast.Opus()]):
        assert TallyPusher.opened == [("tally://host/x", ["Opus"])]
    with pytest.raises(ValueError, match="tally://"):
        polycast.publish("talli://host/x", tracks=[polycast.Opus()])
    with polycast.read("tally://host/x", decode=False, timeout=0.05) as reader, pytest.raises(polycast.ReadTimeout):
        next(iter(reader))
