"""The embedded server: its life, its configuration, its hooks and its numbers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import EMBEDDED, PATIENCE, picture, psnr, settle

import polycast

ROOT = Path(__file__).resolve().parents[2]


def test_the_ports_are_told() -> None:
    server = polycast.Server({**EMBEDDED, "rtmpDisable": False, "rtmpAddress": "127.0.0.1:0"})
    assert not server.running
    with pytest.raises(polycast.StreamEnded, match="not started"):
        _ = server.ports
    with server:
        ports = server.ports
        assert set(ports) == {"rtspAddress", "rtpAddress", "rtcpAddress", "rtmpAddress"}
        assert all(ports.values())
        assert server.url("cam") == f"rtsp://127.0.0.1:{ports['rtspAddress']}/cam"
        for key in ("rtspAddress", "rtmpAddress"):
            socket.create_connection(("127.0.0.1", ports[key]), PATIENCE).close()
    assert not server.running
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", ports["rtspAddress"]), PATIENCE)


def test_start_and_stop_may_be_repeated() -> None:
    server = polycast.Server(EMBEDDED)
    server.stop()
    for _ in range(2):
        assert server.start() is server
        assert server.start() is server
        assert server.running
        assert not server.wait(timeout=0)
        server.stop()
        server.stop()
        assert server.wait(timeout=0)
        assert server.wait()


def test_several_servers_in_one_process() -> None:
    image = picture()
    with polycast.Server(EMBEDDED) as first, polycast.Server(EMBEDDED) as second:
        assert first.ports["rtspAddress"] != second.ports["rtspAddress"]
        with first.publish("cam", size=(320, 240)) as video, first.read("cam", timeout=PATIENCE) as reader:
            video.write(image)
            assert reader.read() is not None
            with pytest.raises(polycast.NotFound):
                second.read("cam", reconnect=False).read()


def test_a_port_that_is_taken() -> None:
    with polycast.Server(EMBEDDED) as server:
        taken = server.ports["rtspAddress"]
        with pytest.raises(polycast.StartError, match="in use"):
            polycast.Server({**EMBEDDED, "rtspAddress": f"127.0.0.1:{taken}"}).start()


def test_a_wrong_configuration() -> None:
    with pytest.raises(polycast.ConfigurationError, match="nonsense"):
        polycast.Server({"nonsense": 1})


def test_a_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "server.yml"
    file.write_text(
        "rtspAddress: 127.0.0.1:0\nprotocols: [tcp]\nrtmpDisable: yes\nhlsDisable: yes\npaths:\n  cam: {}\n"
    )
    for name in (file, str(file)):
        with polycast.Server(name) as server:
            assert set(server.ports) == {"rtspAddress"}
            with pytest.raises(polycast.NotFound):
                server.publish("other", size=(64, 64))


async def test_in_the_loop_of_the_caller() -> None:
    before = set(threading.enumerate())
    async with polycast.Server(EMBEDDED) as server:
        new = {thread.name for thread in set(threading.enumerate()) - before}
        assert {name.partition("_")[0] for name in new} <= {"polycast log", "asyncio"}
        assert server.statistics().streams == {}
        assert await server.start_async() is server
        with pytest.raises(RuntimeError, match="asynchronous"):
            server.stop()
    assert not server.running
    await server.stop_async()


def test_calls_from_many_threads(server: polycast.Server) -> None:
    errors: list[BaseException] = []

    def work(index: int) -> None:
        try:
            with (
                server.publish(f"cam{index}", size=(64, 64)) as video,
                server.read(f"cam{index}", timeout=PATIENCE) as reader,
            ):
                for _ in range(5):
                    video.write(picture(64, 64, index), key=True)
                    assert reader.read() is not None
                server.statistics()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == []


@pytest.mark.parametrize("asynchronous", [False, True])
def test_authenticate(asynchronous: bool) -> None:
    asked: list[polycast.AuthenticationRequest] = []

    def decide(request: polycast.AuthenticationRequest) -> bool:
        asked.append(request)
        return (request.user, request.password) == ("alice", "secret")

    async def decide_later(request: polycast.AuthenticationRequest) -> bool:
        await asyncio.sleep(0)
        return decide(request)

    with polycast.Server(EMBEDDED, authenticate=decide_later if asynchronous else decide) as server:
        with server.publish("cam", size=(320, 240)) as video:  # the program itself is not asked about
            address = server.url("cam").removeprefix("rtsp://")
            with pytest.raises(polycast.AccessRefused, match="wrong user or password"):
                polycast.read(f"rtsp://alice:wrong@{address}").read(timeout=PATIENCE)
            with polycast.read(f"rtsp://alice:secret@{address}?token=1", timeout=PATIENCE) as reader:
                while "rtspSession" not in server.statistics().streams["cam"].readers:
                    pass
                video.write(picture(), key=True)
                assert reader.read() is not None
        with pytest.raises(polycast.AccessRefused):
            polycast.publish(f"rtsp://bob:secret@{address}", size=(64, 64))
    assert {(request.action, request.path) for request in asked} == {("read", "cam"), ("publish", "cam")}
    assert ("alice", "secret", "127.0.0.1", "token=1") in {
        (request.user, request.password, request.address, request.query) for request in asked
    }


def test_hooks_in_order_and_with_access_to_the_server() -> None:
    told: list[Any] = []
    done = threading.Event()

    def on_ready(stream: polycast.StreamStatistics) -> None:
        assert threading.current_thread() is not threading.main_thread()
        told.append(("ready", stream.name, str(stream.tracks[0]), server.statistics().streams[stream.name].publisher))

    async def on_read(stream: polycast.StreamStatistics, reader: str) -> None:
        told.append(("read", stream.name, reader))

    def on_close(stream: polycast.StreamStatistics) -> None:
        told.append(("close", stream.name))
        done.set()

    server = polycast.Server(EMBEDDED, on_ready=on_ready, on_read=on_read, on_close=on_close)
    with server:
        with server.publish("cam", size=(320, 240)), server.read("cam"):
            settle(server)
        assert done.wait(PATIENCE)
        server.publish("other", size=(320, 240))
    assert told[:3] == [("ready", "cam", "H264", "pythonPublisher"), ("read", "cam", "pythonReader"), ("close", "cam")]
    assert ("close", "other") in told  # streams that end with the server, too


def test_a_hook_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def on_ready(stream: polycast.StreamStatistics) -> None:
        raise RuntimeError("my fault")

    with polycast.Server(EMBEDDED, on_ready=on_ready) as server:
        server.publish("cam", size=(320, 240)).close()
    assert "the function on_ready failed" in caplog.text
    assert "my fault" in caplog.text


def test_a_hook_may_stop_the_server() -> None:
    server = polycast.Server(EMBEDDED, on_ready=lambda _: server.stop())
    with server:
        server.publish("cam", size=(320, 240))
        begin = time.monotonic()
        assert server.wait(timeout=PATIENCE)
        assert time.monotonic() - begin < 4  # it did not wait for itself


def test_a_server_without_rtsp() -> None:
    with polycast.Server({"rtspDisable": True}) as server:
        assert server.ports == {}
        with pytest.raises(polycast.ConfigurationError, match="no RTSP"):
            server.url("cam")


def test_statistics(server: polycast.Server) -> None:
    with server.publish("cam", size=(320, 240)) as video, server.read("cam", timeout=PATIENCE) as reader:
        video.write(picture())
        assert reader.read() is not None
        with polycast.read(server.url("cam"), timeout=PATIENCE) as remote:
            while "rtspSession" not in server.statistics().streams["cam"].readers:
                pass
            video.write(picture(), key=True)
            assert remote.read() is not None
            statistics = server.statistics()
            stream = statistics.streams["cam"]
            assert stream.ready
            assert stream.publisher == "pythonPublisher"
            assert sorted(stream.readers) == ["pythonReader", "rtspSession"]
            assert stream.bytes_received > 0
            assert stream.ready_since is not None
            (session,) = statistics.sessions
            assert (session.protocol, session.state, session.path, session.transport) == ("RTSP", "read", "cam", "TCP")
            assert server.disconnect(session.id)
            assert not server.disconnect("0")


def test_importing_the_package_is_light() -> None:
    script = (
        "import sys, polycast\n"
        "assert {'Server', 'read', 'publish', 'H264'} <= set(dir(polycast))\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & {'asyncio', 'av', 'numpy', 'msgspec', 'ssl'}))\n"
        "print(*sorted(name for name in sys.modules if name.startswith('polycast.')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout == "\npolycast._version polycast.providers\n"


def test_every_public_name_is_there() -> None:
    for name in polycast.__all__:
        assert getattr(polycast, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = polycast.nothing


CTRL_C = """
import polycast, sys
try:
    with polycast.Server({"rtspAddress": "127.0.0.1:0"}) as server:
        print("started", flush=True)
        %s
except KeyboardInterrupt:
    print("interrupted", server.running)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent in another way")
@pytest.mark.parametrize("wait", ["server.wait()", "list(server.read('nobody'))", "server.read('nobody').read()"])
def test_ctrl_c_stops_it(wait: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CTRL_C % wait],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=PATIENCE)
    assert out == "interrupted False\n", error
    assert "Traceback" not in error


def test_a_program_that_forgets_to_stop_ends() -> None:
    script = (
        "import polycast\n"
        "server = polycast.Server({'rtspAddress': '127.0.0.1:0'}).start()\n"
        "reader = server.read('nobody')\n"
        "writer = server.publish('cam', tracks=[polycast.H264()])\n"
        "other = polycast.publish(server.url('other'), tracks=[polycast.G711()])\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_two_publishers_of_one_path(server: polycast.Server) -> None:
    first = server.publish("cam", size=(320, 240))
    with server.publish("cam", size=(320, 240)) as second, server.read("cam", timeout=PATIENCE) as reader:
        with pytest.raises(polycast.StreamEnded, match="another client publishes"):
            first.write(picture())
        second.write(picture(seed=2))
        frame = reader.read()
        assert frame is not None
        assert psnr(picture(seed=2), frame.image) > 30
    with polycast.Server({**EMBEDDED, "paths": {"all": {"disablePublisherOverride": True}}}) as strict:
        strict_first = strict.publish("cam", size=(320, 240))
        with pytest.raises(polycast.PublishRefused, match="someone is already publishing"):
            strict.publish("cam", size=(320, 240))
        assert not strict_first.closed


@pytest.mark.parametrize("workers", [2, 4, "auto"])
def test_several_processes_are_refused(workers: object) -> None:
    text = "a server in a Python program is one process; start the command polycast for more"
    with pytest.raises(polycast.PolycastError, match=text):
        polycast.Server({**EMBEDDED, "workers": workers})
