"""Each setting gets a new value while the server runs: exactly what the table ``keys.yml`` says is restarted.

A publisher and its reader stay connected unless their server or path is restarted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.config.key_table import ROWS, Row
from tests.control.support import Server, serving
from tests.protocols.rtsp.support import RtspClient
from tests.support.rtp import key_unit, rtp

from polycast.config import LoadedConfiguration, from_mapping
from polycast.config.dialects.registry import MEDIAMTX
from polycast.config.dialects.views import view_of

VIEW = view_of(MEDIAMTX)
GLOBAL_ROWS = [row for row in ROWS if not row.of_path and row.key in VIEW.fields]
PATH_ROWS = [row for row in ROWS if row.of_path and row.key in VIEW.path_fields]
OTHER_ADDRESS = "127.0.0.2:0"

ALONE = {
    # They must be consecutive, which those that the system picks are not.
    *("rtpAddress", "rtcpAddress", "srtpAddress", "srtcpAddress"),
    # They need other machines: nothing may reach them in a test.
    *("multicastIPRange", "multicastRTPPort", "multicastRTCPPort", "multicastSRTPPort", "multicastSRTCPPort"),
}
"""Settings whose change cannot be tried here; `tests.test_live_keys` holds their servers to what they declare."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the settings that name the files of certificates, and others under ``other`` names."""
    folder = tmp_path_factory.mktemp("certificates")
    issued = trustme.CA().issue_cert("localhost")
    for name in ("", "other-"):
        (folder / f"{name}key").write_bytes(issued.private_key_pem.bytes())
        (folder / f"{name}cert").write_bytes(issued.cert_chain_pems[0].bytes())
    return {key: str(folder / key[-4:].lstrip("r").lower()) for key in VIEW.fields if is_certificate(key)}


def is_certificate(key: str) -> bool:
    return key.endswith(("ServerKey", "ServerCert"))


def everything(certificates: Mapping[str, str]) -> dict[str, Any]:
    """Return settings with which all servers and services run."""
    addresses = {key: "127.0.0.1:0" for key in VIEW.fields if key.endswith("Address") and key != "authHTTPAddress"}
    return {
        **addresses,
        **certificates,
        **dict.fromkeys(("api", "metrics", "pprof", "metricsEncryption", "pprofEncryption"), True),
        **dict.fromkeys(("rtspEncryption", "rtmpEncryption"), "optional"),
        **dict.fromkeys(("hlsEncryption", "webrtcEncryption"), True),
        "rtspTransports": ["tcp"],
        "readTimeout": "300s",
        "webrtcICEServers2": [],
        "logDestinations": [],
        "paths": {"cam": None, "all_others": None},
    }


class Viewers:
    """A publisher and a reader of the path ``cam``."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._clients: list[RtspClient] = []
        self._sessions: set[str] = set()

    async def connect(self) -> None:
        for client in self._clients:
            await client.close()
        publisher = await self._server.publisher("cam")
        publisher.send_frame(0, rtp(1, key_unit()))
        self._clients = [publisher, await self._server.reader("cam")]
        self._sessions = self._present()
        assert len(self._sessions) == 2

    def _present(self) -> set[str]:
        server = self._server.app.servers.get("RTSP")
        return set(server.items()) if server is not None else set()

    @property
    def stayed(self) -> bool:
        return self._present() == self._sessions


def parts(server: Server) -> dict[str, object]:
    """Return the running servers and services by name."""
    return {**server.app.servers, **{service.name: service.server for service in server.app.control.services.values()}}


@asynccontextmanager
async def running(values: Mapping[str, Any]) -> AsyncIterator[Server]:
    configuration = from_mapping(values, MEDIAMTX)
    async with serving(LoadedConfiguration(configuration, None, [], frozenset())) as server:
        yield server


def start_value(row: Row) -> dict[str, Any]:
    """Return what has to be set before the change: settings that need others may need a value themselves."""
    needs = {**row.needs, **row.needs_then}
    return {**needs, row.key: row.accepts[0].write} if has_start_value(row) else needs


def has_start_value(row: Row) -> bool:
    return bool(row.needs) and row.type != "address" and not is_certificate(row.key)


def new_value(row: Row, present: Any, certificates: Mapping[str, str]) -> Any:
    if row.to is not None:
        return row.to
    if has_start_value(row):
        return row.accepts[1].write
    if is_certificate(row.key):
        path = Path(certificates[row.key])
        return str(path.with_name(f"other-{path.name}"))
    if row.key in certificates or row.type == "address":
        return OTHER_ADDRESS
    return next(value.write for value in row.accepts if value.show != present)


async def test_global_settings(certificates: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = everything(certificates)
    wrong: dict[str, Any] = {}
    async with running(values) as server:
        viewers = Viewers(server)
        await viewers.connect()
        for row in GLOBAL_ROWS:
            if row.key in ALONE or (row.to is None and not row.accepts):
                continue
            field = VIEW.fields[row.key]
            present = field.kind.dump(field.of(server.app.configuration))
            needed = {**values, **start_value(row)}
            changed = {**needed, row.key: new_value(row, present, certificates)}
            await server.app.settings.replace(from_mapping(needed, MEDIAMTX))
            if not viewers.stayed:
                await viewers.connect()
            before = parts(server)
            await server.app.settings.replace(from_mapping(changed, MEDIAMTX))
            while restarting := server.app.control._background:
                await asyncio.wait(restarting)
            after = parts(server)
            replaced = {name for name in before.keys() | after.keys() if before.get(name) is not after.get(name)}
            stays = "RTSP" not in row.restarts
            if replaced != row.restarts & {*before, *after} or viewers.stayed != stays:
                wrong[row.key] = (sorted(replaced), sorted(row.restarts), viewers.stayed)
            await server.app.settings.replace(from_mapping(values, MEDIAMTX))
            if not viewers.stayed:
                await viewers.connect()
    assert wrong == {}, "by setting: what was restarted, what should have been, and whether the clients stayed"


async def test_settings_of_a_path(certificates: dict[str, str]) -> None:
    values = everything(certificates)
    wrong: dict[str, Any] = {}
    async with running(values) as server:
        viewers = Viewers(server)
        for row in PATH_ROWS:
            present = VIEW.path_fields[row.key].kind.dump(VIEW.path_fields[row.key].default)
            before = {**values, "paths": {**values["paths"], "cam": start_value(row)}}
            await server.app.settings.replace(from_mapping(before, MEDIAMTX))
            if not row.needs and (not viewers.stayed or row is PATH_ROWS[0]):
                await viewers.connect()
            servers, before_change = parts(server), server.app.hub.path("cam")
            path = {**start_value(row), row.key: new_value(row, present, certificates)}
            after = {**values, "paths": {**values["paths"], "cam": path}}
            await server.app.settings.replace(from_mapping(after, MEDIAMTX))
            is_kept = server.app.hub.path("cam") is before_change
            stayed = viewers.stayed if not row.needs else is_kept  # some need a source: then there are no clients
            if parts(server) != servers or {is_kept, stayed} != {not row.restarts}:
                wrong[row.key] = (sorted(row.restarts), is_kept, stayed)
    assert wrong == {}, "by setting: what should have been restarted, whether the path and the clients stayed"
