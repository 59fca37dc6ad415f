"""New configurations while streams run: only what changed restarts, and a bad one changes nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.control.support import FILE_HEAD, Server, running, running_file
from tests.protocols.rtsp.support import RtspClient
from tests.support.rtp import key_unit, rtp
from tests.support.waiting import PATIENCE

from polycast.config import replace
from polycast.errors import PolycastError

TAKEN = r"reloading configuration \(file changed\)"


class Flow:
    """A publisher and a reader of one path; sends packets and counts what arrives."""

    def __init__(self, publisher: RtspClient, reader: RtspClient) -> None:
        self.publisher = publisher
        self.reader = reader
        self.sent = 0

    @classmethod
    async def start(cls, server: Server, path: str) -> Flow:
        return cls(await server.publisher(path), await server.reader(path))

    def send(self) -> None:
        self.sent += 1
        self.publisher.send_frame(0, rtp(self.sent, key_unit(20)))

    async def keep_sending(self) -> None:
        while True:
            self.send()
            await asyncio.sleep(0.001)

    async def check(self) -> None:
        """Every packet that was sent has arrived, in order."""
        received = await self.reader.packets(self.sent)
        assert [packet[2:4] for packet in received] == [number.to_bytes(2, "big") for number in range(1, self.sent + 1)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.yml"


CHANGES: list[tuple[str, Mapping[str, Any]]] = [
    ("times", {"readTimeout": "20s", "writeTimeout": "20s", "readBufferCount": 1024}),
    ("log", {"logLevel": "debug"}),
    ("authentication", {"externalAuthenticationTimeout": "1s", "authenticationFailurePause": "1s"}),
    ("users", {"authInternalUsers": [{"user": "bob", "pass": "p", "permissions": [{"action": "read"}]}]}),
    ("an HTTP server decides", {"authMethod": "http", "authHTTPAddress": "http://127.0.0.1:1/"}),
    ("tokens are needed", {"authMethod": "jwt", "authJWTJWKS": "http://127.0.0.1:1/"}),
    ("RTMP off", {"rtmpDisable": True}),
    ("RTMP moves", {"rtmpAddress": "localhost:0"}),
    ("HLS changes", {"hlsSegmentCount": 9, "hlsVariant": "fmp4"}),
    ("HLS off", {"hlsDisable": True}),
    ("metrics move", {"metricsAddress": "localhost:0"}),
    ("metrics off", {"metrics": False}),
    ("profiles on", {"pprof": True}),
    ("API moves", {"apiAddress": "localhost:0"}),
    ("API requires credentials", {"apiUser": "a", "apiPass": "b"}),
    ("API off", {"api": False}),
]


@pytest.mark.parametrize("values", [values for _, values in CHANGES], ids=[name for name, _ in CHANGES])
async def test_an_untouched_path_loses_nothing(values: Mapping[str, Any]) -> None:
    async with running(paths={"all": {}, "cam": {}}) as server:
        flow = await Flow.start(server, "cam")
        sending = asyncio.create_task(flow.keep_sending())
        await server.changed("/v1/config/set", values)
        sending.cancel()
        await flow.check()


LIVE_CHANGES = [
    {"maxReaders": 1},
    {"runOnReady": "true", "runOnNotReady": "true", "runOnRead": "true", "runOnUnread": "true"},
    {"disablePublisherOverride": True, "publisherGrace": "5s"},
]


@pytest.mark.parametrize("values", LIVE_CHANGES, ids=lambda values: next(iter(values)))
async def test_live_settings_of_a_path_disconnect_nobody(values: Mapping[str, Any]) -> None:
    async with running(paths={"cam": {}}, apiAllowCommands=True) as server:
        flow = await Flow.start(server, "cam")
        sending = asyncio.create_task(flow.keep_sending())
        await server.changed("/v1/config/paths/edit/cam", values)
        sending.cancel()
        await flow.check()


async def test_edits_of_other_paths_lose_nothing() -> None:
    async with running(paths={"cam": {}, "other": {}, "~^a": {}}) as server:
        flow, other, matched = [await Flow.start(server, name) for name in ("cam", "other", "abc")]
        sending = asyncio.create_task(flow.keep_sending())
        await server.changed("/v1/config/paths/add/new")
        await server.changed("/v1/config/paths/edit/other", {"fallback": "/cam"})
        assert await other.reader.ended()
        assert await other.publisher.ended()
        assert "abc" in server.app.hub.paths
        await server.changed("/v1/config/paths/edit/~%5Ea", {"fallback": "/cam"})
        assert await matched.reader.ended()
        assert "abc" not in server.app.hub.paths
        await server.changed("/v1/config/paths/remove/new")
        await server.changed("/v1/config/paths/add/all")
        sending.cancel()
        await flow.check()


async def test_connections_of_fingerprints_that_are_not_set_any_more_are_closed() -> None:
    async with running() as server:
        client = server.app._http_client
        for digit in "abc":
            await server.app.reload(replace(server.app.configuration, auth_http_fingerprint=digit * 64))
            with pytest.raises(OSError, match=r"."):
                await client.fetch("GET", "https://127.0.0.1:1/", fingerprint=digit * 64)
        assert set(client._clients) == {"c" * 64}


async def test_the_log_level_changes_at_once() -> None:
    from polycast.log import LogOutput

    async with running() as server:
        output = LogOutput(server.app.log.logger)
        server.app._log_output = output
        await server.changed("/v1/config/set", {"logLevel": "debug"})
        assert server.app.log.logger.level == logging.DEBUG
        await server.changed("/v1/config/set", {"logLevel": "info"})
        assert server.app.log.logger.level == logging.INFO
        refused = await server.post("/v1/config/set", {"logDestinations": ["file"], "logFile": "/nowhere/log"})
        assert refused.status_code == 409
        assert "the log cannot be opened" in refused.json()["error"]
        output.close()


async def test_a_port_in_use_does_not_close_connections() -> None:
    async with running(paths={"cam": {}}) as server:
        flow = await Flow.start(server, "cam")
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            for key in ("rtspAddress", "rtmpAddress", "hlsAddress", "metricsAddress", "apiAddress"):
                flow.send()
                refused = await server.post("/v1/config/set", {key: address, "readTimeout": "33s"})
                assert refused.status_code == 409
                assert "Address already in use" in refused.json()["error"]
        shown = await server.get("/v1/config/get")
        assert shown["readTimeout"] == "10s"
        assert shown["rtspAddress"] == "127.0.0.1:0"
        assert len(server.app.servers) == 3
        assert (await server.metrics.get("/metrics")).status_code == 200
        await flow.check()


async def test_a_server_that_cannot_start_leaves_the_old_ones(tmp_path: Path) -> None:
    async with running(paths={"cam": {}}) as server:
        missing = {"encryption": "optional", "serverCert": str(tmp_path / "none"), "rtspsAddress": "127.0.0.1:0"}
        refused = await server.post("/v1/config/set", missing)
        assert refused.status_code == 409
        assert "RTSPS" in refused.json()["error"]
        assert (await server.get("/v1/config/get"))["encryption"] == "no"
        assert set(server.app.servers) == {"RTSP", "RTMP", "HLS"}
        flow = await Flow.start(server, "cam")
        flow.send()
        await flow.check()


async def test_the_api_shows_a_server_after_its_restart(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key"))
    values = {"rtmpEncryption": "optional", "rtmpsAddress": "127.0.0.1:0"}
    files = {"rtmpServerCert": str(tmp_path / "cert"), "rtmpServerKey": str(tmp_path / "key")}
    async with running(**values, **files) as server:
        await server.changed("/v1/config/set", {"rtmpsAddress": "localhost:0"})
        port = server.app.servers["RTMPS"].ports["rtmpsAddress"]
        import ssl

        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        items = (await server.get("/v1/rtmpsconns/list"))["items"]
        assert [item["state"] for item in items.values()] == ["idle"]
        assert (await server.get("/v1/rtmpconns/list"))["items"] == {}
        text = (await server.metrics.get("/metrics")).text
        assert 'rtmps_conns{state="idle"} 1\n' in text
        assert 'rtmp_conns{state="idle"} 0\n' in text
        writer.close()


async def test_the_api_accepts_tls_on_its_own_port(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key"))
    import ssl

    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    async with running() as server:
        port = server.app.control.ports["apiAddress"]
        await server.changed("/v1/config/set", {"apiAddress": f"127.0.0.1:{port}"})
        await server.until(lambda: server.app.control.ports.get("apiAddress") == port)
        values = {"apiServerCert": str(tmp_path / "cert"), "apiServerKey": str(tmp_path / "key")}
        await server.changed("/v1/config/set", {"apiEncryption": True, **values})
        await server.until(lambda: "apiAddress" in server.app.control.ports)
        client = server.http("api", verify=context)
        response = await client.get(f"https://127.0.0.1:{port}/v1/config/get")
        assert response.json()["apiEncryption"] is True


# The file


async def test_included_files_are_watched(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "1.yml").write_text("paths:\n  a:\n")
    file.write_text(FILE_HEAD + "include: conf.d/*.yml\n")
    async with running_file(file) as server:
        assert list(server.app.hub.paths) == ["a"]
        (folder / "1.yml").write_text("paths:\n  b:\n")
        await server.until(lambda: list(server.app.hub.paths) == ["b"])
        (folder / "2.yml").write_text("paths:\n  c:\n")
        await server.until(lambda: list(server.app.hub.paths) == ["b", "c"])
        (folder / "2.yml").write_text("paths:\n  b:\n")
        await server.log.wait(f"{folder / '2.yml'}: line 2: the path 'b' is also in {folder / '1.yml'}")
        assert list(server.app.hub.paths) == ["b", "c"]
        (folder / "2.yml").unlink()
        await server.until(lambda: list(server.app.hub.paths) == ["b"])
        file.write_text(FILE_HEAD + "include: other.yml\n")
        await server.log.wait("other.yml': No such file")
        (tmp_path / "other.yml").write_text("paths:\n  d:\n")
        await server.until(lambda: list(server.app.hub.paths) == ["d"])


async def test_edits_in_place_renames_and_links(file: Path, tmp_path: Path) -> None:
    versions = {name: tmp_path / name for name in ("..v1", "..v2")}
    for directory in versions.values():
        directory.mkdir()
    target = FILE_HEAD + "paths: {a: {}}\n"
    (versions["..v1"] / "server.yml").write_text(target)
    (tmp_path / "..data").symlink_to("..v1")
    file.symlink_to("..data/server.yml")  # as Kubernetes does it
    async with running_file(file) as server:
        assert list(server.app.hub.paths) == ["a"]
        (versions["..v2"] / "server.yml").write_text(target.replace("a:", "b:"))
        (tmp_path / "..new").symlink_to("..v2")
        os.replace(tmp_path / "..new", tmp_path / "..data")
        await server.until(lambda: list(server.app.hub.paths) == ["b"])
        (versions["..v2"] / "server.yml").write_text(target.replace("a:", "c:"))
        await server.until(lambda: list(server.app.hub.paths) == ["c"])
        new = tmp_path / "new"
        new.write_text(target.replace("a:", "d:"))
        os.replace(new, file)
        await server.until(lambda: list(server.app.hub.paths) == ["d"])
        file.unlink()
        file.write_text(target.replace("a:", "e:"))
        await server.until(lambda: list(server.app.hub.paths) == ["e"])
        assert server.log.find(TAKEN)


async def test_changes_in_quick_succession_are_all_seen(file: Path) -> None:
    async with running_file(file, FILE_HEAD + "paths: {p0: {}}\n") as server:
        for number in range(1, 30):
            file.write_text(FILE_HEAD + f"paths: {{p{number}: {{}}}}\n")
            await asyncio.sleep(0.002)
        await server.until(lambda: list(server.app.hub.paths) == ["p29"])


async def test_a_bad_file_changes_nothing_and_is_reported(file: Path) -> None:
    async with running_file(file, FILE_HEAD + "paths: {cam: {}}\n") as server:
        flow = await Flow.start(server, "cam")
        flow.send()
        file.write_text(FILE_HEAD + "logLevel: loud\nreadTimeout: soon\n")
        head = "ERROR the configuration file has an error, the last good configuration stays in effect: "
        lines = len(FILE_HEAD.splitlines())
        await server.log.wait(f"{head}{file}: line {lines + 1}: logLevel: invalid log level: loud")
        await server.log.wait(f"{head}{file}: line {lines + 2}: readTimeout: 'soon' is not a duration")
        status = await server.get("/v1/config/status")
        assert status["ok"] is False
        assert "invalid log level: loud" in status["error"]
        assert (status["source"], status["failures"], status["file"]) == ("file", 1, str(file))
        text = (await server.metrics.get("/metrics")).text
        assert "polycast_config_last_reload_successful 0\n" in text
        assert 'polycast_config_reloads_total{result="failure"} 1\n' in text
        file.write_text(FILE_HEAD + "readTimeout: 33s\npaths: {cam: {}}\n")
        await server.until(lambda: float(server.app.configuration.read_timeout) == 33)
        status = await server.get("/v1/config/status")
        assert (status["ok"], status["error"], status["successes"]) == (True, None, 1)
        flow.send()
        await flow.check()


async def test_a_file_that_becomes_empty_or_vanishes_changes_nothing(file: Path) -> None:
    text = FILE_HEAD + "paths: {cam: {}}\n"
    async with running_file(file, text) as server:
        for break_it, told in (
            (lambda: file.write_text("\n"), "is empty; the last good configuration stays"),
            (file.unlink, "No such file or directory; the last good configuration stays"),
            (lambda: os.mkfifo(file), "is not a regular file, so it is not read again; the last good"),
            (lambda: os.truncate(new_file(file), 2**31), "is too large .*; the last good configuration stays"),
        ):
            break_it()
            await server.log.wait(f"WARNING the configuration file .*{told}|WARNING can't read the .*{told}")
            assert not await server.reload()
            assert list(server.app.hub.paths) == ["cam"]
            assert (await server.get("/v1/config/status"))["ok"] is False
        # The one that is in use again, and then another one.
        new_file(file).write_text(text)
        await server.log.wait("INFO the configuration file matches the running configuration again")
        assert (await server.get("/v1/config/status"))["ok"] is True
        file.write_text(FILE_HEAD + "paths: {other: {}}\n")
        await server.until(lambda: list(server.app.hub.paths) == ["other"])


def new_file(file: Path) -> Path:
    """Replace what is there by an empty file, at once."""
    new = file.with_suffix(".new")
    new.write_bytes(b"")
    os.replace(new, file)
    return file


async def test_a_file_that_cannot_be_put_into_effect_changes_nothing(file: Path) -> None:
    async with running_file(file, FILE_HEAD + "paths: {cam: {}}\n") as server:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            file.write_text(FILE_HEAD.replace("rtspAddress: 127.0.0.1:0", f"rtspAddress: 127.0.0.1:{port}"))
            await server.log.wait("the configuration was not changed: .RTSP. rtspAddress: listen on")
        assert list(server.app.hub.paths) == ["cam"]
        assert await server.reload()  # the port is free now
        assert server.rtsp_port == port


async def test_sighup_reverts_changes_of_the_api(file: Path) -> None:
    async with running_file(file, FILE_HEAD + "paths: {cam: {}}\n") as server:
        await server.changed("/v1/config/paths/add/new")
        assert await server.reload()
        assert list(server.app.hub.paths) == ["cam"]


async def test_a_program_changes_the_configuration() -> None:

    async with running() as server:
        changed = replace(server.app.configuration, api_allow_origins=("*",))
        await server.app.reload(changed)
        assert (await server.get("/v1/config/get"))["apiAllowOrigin"] == "*"
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = replace(changed, rtsp_address=f"127.0.0.1:{other.getsockname()[1]}")
            with pytest.raises(PolycastError, match="Address already in use"):
                await server.app.reload(taken)
        assert server.app.configuration is changed


async def test_a_change_is_completed_even_if_its_program_stops_waiting() -> None:
    async with running() as server:
        changed = replace(server.app.configuration, api_allow_origins=("*",))
        applied = asyncio.Event()
        server.app.settings.listeners.append(lambda _: applied.set())
        task = asyncio.create_task(server.app.reload(changed))
        await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(PATIENCE):
            await applied.wait()
        assert server.app.configuration is changed


EDITS = 1000 if os.environ.get("POLYCAST_SOAK") == "full" else 250


def random_text(randomness: random.Random) -> str:
    """Return a configuration, mostly valid."""
    lines = [FILE_HEAD]
    for key, values in (
        ("readTimeout", ("10s", "20s", "30s", "0s", "1m", "x")),
        ("rtmpDisable", ("yes", "no", "yes", "no", "7")),
        ("rtmpAddress", ("127.0.0.1:0", "localhost:0")),
        ("hlsSegmentCount", ("7", "8", "9", "10", "2")),
        ("readBufferCount", ("512", "1024", "256", "2048", "5")),
        ("nonsense", ("1",)),
    ):
        if randomness.random() < (0.05 if key == "nonsense" else 0.4):
            lines.append(f"{key}: {randomness.choice(values)}\n")
    lines[0] = lines[0].replace("rtmpDisable: yes\n", "")
    lines.append("paths:\n  cam:\n")
    for number in range(randomness.randrange(6)):
        lines.append(
            f"  p{number}: {{disablePublisherOverride: {randomness.choice(('yes', 'no') * 20 + ('perhaps',))}}}\n"
        )
    if randomness.random() < 0.1:
        lines.append("  [broken\n")
    return "".join(lines)


async def test_random_edits_never_stop_it(file: Path) -> None:
    randomness = random.Random(6)
    async with running_file(file, FILE_HEAD + "paths: {cam: {}}\n") as server:
        flow = await Flow.start(server, "cam")
        sending = asyncio.create_task(flow.keep_sending())
        taken = 0
        descriptors = tasks = 0
        for number in range(EDITS):
            file.write_text(random_text(randomness))
            taken += await server.reload()
            if number == 20:
                descriptors, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
        sending.cancel()
        assert 0.3 * EDITS < taken < 0.9 * EDITS
        await flow.check()
        status = await server.get("/v1/config/status")
        assert status["successes"] + status["failures"] >= EDITS
        await server.until(lambda: len(asyncio.all_tasks()) <= tasks + 3)
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 10
