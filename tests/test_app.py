"""The application: it starts, takes new settings, stops, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.protocols.rtsp.support import Fixture, loaded, running
from tests.support.ports import free_port
from tests.support.rtp import rtp, slice_unit
from tests.support.running import Lines

from polycast.app import Application, StartError
from polycast.config import LoadedConfiguration
from polycast.config.schema import Configuration
from polycast.log import Log
from polycast.protocols.rtsp.configuration import RtspConfiguration


def changed(**values: Any) -> Configuration:
    return loaded(values).configuration


async def can_connect(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def test_start_and_stop() -> None:
    async with running() as it:
        port = it.port
        assert await can_connect(port)
        assert it.log.lines[0].startswith("INFO polycast v")
    assert not await can_connect(port)


async def test_nothing_is_left_behind() -> None:
    async def life() -> None:
        async with running() as it:
            publisher = await it.publisher("cam")
            reader = await it.reader("cam")
            publisher.send_frame(0, rtp(1, slice_unit()))
            await reader.packets(1)

    await life()
    gc.collect()
    descriptors, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
    for _ in range(5):
        await life()
    gc.collect()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == tasks
    assert len(os.listdir("/proc/self/fd")) <= descriptors


async def test_taken_port_is_told_and_everything_else_closed() -> None:
    with socket.socket() as taken, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        probe.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        app = Application(loaded({"rtspAddress": f"127.0.0.1:{port}"}))
        with pytest.raises(
            StartError, match=rf"\[RTSP\] rtspAddress: listen on 127\.0\.0\.1:{port}: .*another program"
        ):
            await app.start()
        assert not app.servers


async def test_second_server_that_fails_stops_the_first(tmp_path: Path) -> None:
    values = {
        "encryption": "optional",
        "serverCert": str(tmp_path / "none.crt"),
        "serverKey": str(tmp_path / "none.key"),
    }
    app = Application(loaded(values))
    with pytest.raises(StartError, match=r"\[RTSPS\] the TLS certificate '.*none.crt' does not exist"):
        await app.start()
    assert not app.servers


async def test_certificate_that_is_none(tmp_path: Path) -> None:
    for name in ("server.crt", "server.key"):
        (tmp_path / name).write_text("nonsense")
    values = {
        "encryption": "strict",
        "protocols": ["tcp"],
        "serverCert": str(tmp_path / "server.crt"),
        "serverKey": str(tmp_path / "server.key"),
    }
    with pytest.raises(StartError, match="cannot be used"):
        await Application(loaded(values)).start()


async def test_commands_that_cannot_run_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = Application(loaded({"paths": {"a": {"runOnReady": "no-such-program"}}}))
    await app.start()
    assert "path 'a': runOnReady: the program 'no-such-program' does not exist" in caplog.text
    caplog.clear()
    await app.reload(
        loaded({"paths": {"a": {"runOnReady": "no-such-program"}, "b": {"runOnRead": "sh '"}}}).configuration
    )
    assert "path 'b': runOnRead: the command cannot be parsed: No closing quotation" in caplog.text
    assert "no-such-program" not in caplog.text
    await app.stop()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"rtspAddress": ":5", "hlsAddress": ":5"}, "hlsAddress: port 5 is also that of rtspAddress"),
        (
            {"rtspAddress": "127.0.0.1:5", "rtmpDisable": False, "rtmpAddress": ":5"},
            "rtmpAddress: port 5 is also that of rtspAddress",
        ),
        ({"api": True, "apiAddress": ":5", "hlsAddress": ":5"}, "apiAddress: port 5 is also that of hlsAddress"),
    ],
)
async def test_two_settings_with_one_port(values: dict[str, Any], text: str) -> None:
    with pytest.raises(StartError) as caught:
        await Application(loaded({"hlsDisable": False, **values})).start()
    assert str(caught.value) == text
    app = Application(loaded({"hlsDisable": True}))
    await app.start()
    with pytest.raises(StartError) as caught:
        await app.reload(loaded({"hlsDisable": False, **values}).configuration)
    assert str(caught.value) == text
    assert "RTSP" in app.servers
    await app.stop()


async def test_the_port_of_tcp_is_reported_first() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        first = datagrams.getsockname()[1] & ~1
        values = {
            "rtspAddress": address,
            "protocols": ["udp", "tcp"],
            "rtpAddress": f"127.0.0.1:{first}",
            "rtcpAddress": f"127.0.0.1:{first + 1}",
        }
        with pytest.raises(StartError, match=rf"rtspAddress: listen on {address}: .*is another polycast running\?"):
            await Application(loaded(values)).start()


async def test_disabled_server() -> None:
    app = Application(loaded({"rtspDisable": True}))
    await app.start()
    assert not app.servers
    await app.stop()


async def test_stop_twice() -> None:
    app = Application(loaded({}))
    await app.start()
    await app.stop()
    await app.stop()


async def pair_goes_on(it: Fixture) -> None:
    publisher = await it.publisher("cam")
    reader = await it.reader("cam")
    publisher.send_frame(0, rtp(1, slice_unit()))
    assert await reader.packets(1) == [rtp(1, slice_unit())]


async def test_reload_without_a_change_restarts_nothing() -> None:
    async with running() as it:
        server = it.server
        publisher = await it.publisher("cam")
        await it.app.reload(changed())
        assert it.server is server
        await publisher.sync(it.url("cam"))


async def test_reload_of_the_address_restarts_the_server() -> None:
    async with running() as it:
        server, port = it.server, it.port
        publisher = await it.publisher("cam")
        free = free_port()
        await it.app.reload(changed(rtspAddress=f"127.0.0.1:{free}"))
        assert it.server is not server
        assert it.port == free
        assert await publisher.ended()
        assert it.log.find(r"destroyed \(the configuration changed\)")
        assert not await can_connect(port)
        await pair_goes_on(it)


async def test_reload_to_a_taken_port_leaves_the_old_server_running() -> None:
    async with running() as it:
        publisher = await it.publisher("cam")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(StartError, match="in use by another program"):
                await it.app.reload(changed(rtspAddress=f"127.0.0.1:{taken.getsockname()[1]}"))
        await publisher.sync(it.url("cam"))
        assert it.app.configuration[RtspConfiguration].rtsp_address == "127.0.0.1:0"


async def test_reload_takes_timeouts_at_once() -> None:
    async with running() as it:
        server = it.server
        publisher = await it.publisher("cam")
        await it.app.reload(changed(readTimeout="2s"))
        assert it.server is server
        it.pass_time(2)
        assert await publisher.ended()


async def test_reload_can_disable_and_enable_a_server() -> None:
    async with running() as it:
        port = it.port
        await it.app.reload(changed(rtspDisable=True))
        assert not it.app.servers
        assert not await can_connect(port)
        await it.app.reload(changed())
        await pair_goes_on(it)


async def test_warnings_of_the_configuration_are_logged() -> None:
    """A warning of the loader is one line of the log."""
    logger = logging.Logger("polycast.test.app")
    lines = Lines()
    logger.addHandler(lines)
    base = loaded({})
    app = Application(LoadedConfiguration(base.configuration, None, ["careful"], base.given), log=Log(logger))
    await app.start()
    assert lines.lines[1] == "WARNING careful"
    await app.stop()


@pytest.mark.parametrize(
    ("name", "dialect", "words"),
    [
        ("mediamtx.yml", "mediamtx", ""),
        ("my.yml", "mediamtx", " (dialect: mediamtx)"),
        ("rtsp-simple-server.yml", "polycast", " (dialect: polycast)"),
        ("my.yml", "rtsp-simple-server", ""),
    ],
)
async def test_the_log_tells_a_dialect_that_the_file_does_not(name: str, dialect: str, words: str) -> None:
    logger = logging.Logger("polycast.test.app")
    lines = Lines()
    logger.addHandler(lines)
    base = loaded({})
    configuration = msgspec.structs.replace(base.configuration, dialect=dialect)
    app = Application(LoadedConfiguration(configuration, Path("/x") / name, [], base.given), log=Log(logger))
    await app.start()
    assert lines.lines[1] == f"INFO configuration loaded from {Path('/x') / name}{words}"
    await app.stop()
