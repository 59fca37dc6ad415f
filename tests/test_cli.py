"""The command line."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.waiting import PATIENCE

from polycast import __version__
from polycast.cli import main

Start = Callable[..., subprocess.Popen[str]]

ROOT = Path(__file__).resolve().parent.parent

QUIET = (
    "rtspAddress: 127.0.0.1:0\nrtpAddress: 127.0.0.1:0\nrtcpAddress: 127.0.0.1:0\n"
    "rtmpDisable: yes\nhlsDisable: yes\npaths:\n  all:\n"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("RTSP_"):
            monkeypatch.delenv(name)
    return tmp_path


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"v{__version__}\n"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for word in ("--demo", "--check", "--version", "polycast.yml"):
        assert word in text


def test_unknown_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--nonsense"])
    assert caught.value.code == 2
    assert "--nonsense" in capsys.readouterr().err


def test_check_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    text = capsys.readouterr().out
    assert "WAR: configuration file not found, using the default configuration" in text
    assert "the default configuration is valid, with 1 path" in text


@pytest.mark.parametrize("name", ["rtsp-simple-server.yml", "mediamtx.yml", "polycast.yml"])
def test_default_files(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / name).write_text("paths:\n  a:\n  b:\n")
    assert main(["--check"]) == 0
    assert f"{folder / name} is valid, with 2 paths" in capsys.readouterr().out


def test_reference_s_file_comes_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rtsp-simple-server.yml").write_text("paths:\n  a:\n")
    (folder / "polycast.yml").write_text("paths:\n  a:\n  b:\n")
    assert main(["--check"]) == 0
    assert "rtsp-simple-server.yml is valid, with 1 path" in capsys.readouterr().out


def test_files_of_the_system_come_last(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "etc" / "mediamtx.yml"
    system.parent.mkdir()
    system.write_text("paths: {all_others: , a: }")
    monkeypatch.setattr("polycast.cli.loading.SYSTEM_FILES", (str(tmp_path / "none.yml"), str(system)))
    assert main(["--check"]) == 0
    assert f"{system} is valid, with 2 paths" in capsys.readouterr().out
    (folder / "polycast.yml").write_text("paths: {a: }")
    assert main(["--check"]) == 0
    assert "polycast.yml is valid, with 1 path" in capsys.readouterr().out


def test_the_dialect_is_chosen_by_name_key_or_option(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mediamtx.yml", "polycast.yml"):
        (folder / name).write_text("rtsp: no\npaths: {all_others: }\n")
        assert main(["--check", name]) == 0
    assert main(["--check", "--dialect", "rtsp-simple-server", "mediamtx.yml"]) == 1
    assert "mediamtx.yml: line 1: non-existent parameter: 'rtsp' (a setting of MediaMTX" in capsys.readouterr().out
    (folder / "rtsp-simple-server.yml").write_text("dialect: mediamtx\nrtsp: no\npaths: {all_others: }\n")
    assert main(["--check"]) == 0
    (folder / "mediamtx.yml").write_text("\ndialect: mediamtxx\n")
    assert main(["--check", "mediamtx.yml"]) == 1
    assert "mediamtx.yml: line 2: invalid dialect: 'mediamtxx' (one of: " in capsys.readouterr().out
    assert main(["--check", "--dialect", "x"]) == 1


def test_a_server_that_is_on_by_default_may_lack_its_packages(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polycast.app.optional.find_spec", lambda name: None if name == "OpenSSL" else name)
    off = "WAR: WebRTC is off: WebRTC needs the package pyOpenSSL: pip install pyOpenSSL, or set webrtc: no"
    for name, content, is_off in (
        ("polycast.yml", "paths: {all: }", True),
        ("mediamtx.yml", "webrtc: yes\npaths: {all: }", True),
        ("polycast.yml", "webrtc: yes\npaths: {all: }", False),
        ("rtsp-simple-server.yml", "paths: {all: }", False),
    ):
        (folder / name).write_text(content)
        main(["--check", name])
        assert (off in capsys.readouterr().out) is is_off


def test_named_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "my.yml").write_text("paths:\n  a:\n")
    assert main(["--check", "my.yml"]) == 0
    assert "my.yml is valid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense: 1\n", "ERR: my.yml: line 1: non-existent parameter: 'nonsense' ("),
        ("paths:\n  a:\n    x: 1\n", "ERR: my.yml: line 3: parameter paths, key a: non-existent parameter: 'x' ("),
    ],
)
def test_error_in_the_file(folder: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "my.yml").write_text(content)
    assert main(["my.yml"]) == 1
    assert capsys.readouterr().out.startswith(message)


@pytest.mark.parametrize("name", ["missing.yml", "."])
def test_file_that_cannot_be_read(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 1
    text = capsys.readouterr().out
    assert text.startswith(f"ERR: can't read the configuration file '{name}': ")
    assert text.count("\n") == 1


def test_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RTSP_PATHS_CAM_SOURCE", "publisher")
    assert main(["--check"]) == 0
    assert "with 1 path" in capsys.readouterr().out
    monkeypatch.setenv("RTSP_READTIMEOUT", "nonsense")
    assert main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("ERR: ")


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "polycast", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_it_cleanly(folder: Path, start: Start, number: signal.Signals) -> None:
    (folder / "my.yml").write_text(QUIET)
    process = start("my.yml")
    assert process.stdout is not None
    first = []
    for line in process.stdout:
        first.append(line)
        if "listener opened" in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert err == ""
    text = "".join(first) + out
    found = [re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "", line) for line in text.splitlines()]
    assert found[0] == f"INF polycast v{__version__}"
    assert found[1] == f"INF configuration loaded from {folder / 'my.yml'}"
    assert found[2].startswith("INF [RTSP] listener opened on 127.0.0.1:")
    assert found[-2:] == ["INF shutting down gracefully", "INF [RTSP] listener closed"]


def test_a_pipe_is_read_once(folder: Path, start: Start) -> None:
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    process = start("pipe")
    pipe.write_text(QUIET)  # waits for the server, which reads until it is closed
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "listener opened" in line:
            process.send_signal(signal.SIGHUP)
        if "last good configuration stays" in line:
            break
    assert "is not a regular file, so it is not read again" in lines[-1]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert "listener closed" in out


def test_an_interrupt_stops_waiting_for_a_pipe(folder: Path, start: Start) -> None:
    os.mkfifo(folder / "pipe")
    process = start("pipe")
    descriptor = os.open(folder / "pipe", os.O_WRONLY)  # waits until the server has it open
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    os.close(descriptor)
    assert (process.returncode, out, err) == (-signal.SIGINT, "", "")


def test_a_thread_that_hangs_does_not_keep_the_server_from_ending(folder: Path) -> None:
    program = (
        "import threading, time\n"
        "from polycast import cli\n"
        "from polycast.cli import serve\n"
        "serve.STOP_SECONDS = 0.2\n"
        "start = serve.ServiceManager.ready\n"
        "def ready(self, *args):\n"
        "    threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "    start(self, *args)\n"
        "serve.ServiceManager.ready = ready\n"
        "raise SystemExit(cli.main(['my.yml']))\n"
    )
    (folder / "my.yml").write_text(QUIET)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "listener opened" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert "listener closed" in out
    assert err == "polycast: the server did not stop in time and was terminated\n"
    assert process.returncode == 1


def test_taken_port_ends_with_an_error(folder: Path, start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (folder / "my.yml").write_text(QUIET.replace("127.0.0.1:0", address, 1))
        process = start("my.yml")
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert f"ERR [RTSP] rtspAddress: listen on {address}: " in out
    assert "Traceback" not in out + err


def test_log_file_that_cannot_be_opened(folder: Path, start: Start) -> None:
    (folder / "my.yml").write_text(QUIET + "logDestinations: [file]\nlogFile: missing/x.log\n")
    process = start("my.yml")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert out.startswith("ERR: the log cannot be opened: ")
    assert "Traceback" not in out + err
