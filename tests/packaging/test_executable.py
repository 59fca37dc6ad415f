"""The single executable, which takes a minute to build: POLYCAST_EXECUTABLE=dist/polycast pytest tests/packaging."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.packaging.smoke import CONFIGURATION, PATIENCE, running

from polycast import __version__

NAME = os.environ.get("POLYCAST_EXECUTABLE", "")
EXECUTABLE = Path(NAME).resolve()

pytestmark = pytest.mark.skipif(not NAME, reason="POLYCAST_EXECUTABLE is not set")

MAXIMUM_SIZE = 60_000_000
"""Bytes; a library that is taken along by mistake shows here."""


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [EXECUTABLE, *arguments], cwd=cwd, env={}, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def test_size() -> None:
    assert 5_000_000 < EXECUTABLE.stat().st_size < MAXIMUM_SIZE


def test_version(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).stdout == f"v{__version__}\n"


def test_check(tmp_path: Path) -> None:
    file = tmp_path / "polycast.yml"
    file.write_text("paths:\n  cam:\n")
    assert run("--check", cwd=tmp_path).stdout == f"{file} is valid, with 1 path\n"
    file.write_text("nonsense: 1\n")
    done = run("--check", cwd=tmp_path)
    assert done.returncode == 1
    assert "nonsense" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_other_commands(tmp_path: Path) -> None:
    file = tmp_path / "server.yml"
    file.write_text("paths:\n  cam:\n")
    (tmp_path / "key").write_text("0123456789abcdef0123456789abcdef\n")
    assert run("encrypt", "--key-file", "key", file, "encrypted", cwd=tmp_path).returncode == 0
    assert run("decrypt", "--key-file", "key", "encrypted", cwd=tmp_path).stdout == file.read_text()
    assert "usage: polycast top" in run("top", "--help", cwd=tmp_path).stdout
    unit = run("service", "install", "--print", "--format", "systemd", file, cwd=tmp_path).stdout
    assert f"ExecStart={EXECUTABLE} {file}\n" in unit
    assert "NotifyAccess=all\n" in unit


def test_server(tmp_path: Path) -> None:
    with running([EXECUTABLE], tmp_path) as server:
        server.check()
        assert server.seconds_to_start < 10
        assert server.stop().endswith("[RTSP] listener closed\n")


def test_encrypted_connections(tmp_path: Path) -> None:
    configuration = CONFIGURATION.replace("paths:", "encryption: optional\nrtspsAddress: 127.0.0.1:0\npaths:")
    trustme = pytest.importorskip("trustme")
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "server.key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "server.crt")
    with running([EXECUTABLE], tmp_path, configuration=configuration) as server:
        server.check()
        server.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="process groups and signals of POSIX")
def test_control_c_in_a_terminal(tmp_path: Path) -> None:
    """The process and its child both get the signal, and the first passes it on: still one shutdown, in good order."""
    with running([EXECUTABLE], tmp_path) as server:
        os.killpg(server.process.pid, signal.SIGINT)
        rest, _ = server.process.communicate(timeout=PATIENCE)
        assert server.process.returncode == 0
        assert "second signal" not in rest
        assert rest.endswith("[RTSP] listener closed\n")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_commands_get_the_libraries_of_the_system_and_end_with_the_server(tmp_path: Path) -> None:
    """A command must not load what comes along with the executable, and must not outlive a server that is killed."""
    script = tmp_path / "command.sh"
    script.write_text("#!/bin/sh\nenv > environment.new\nmv environment.new environment\nexec sleep 1000\n")
    script.chmod(0o755)
    configuration = f"{CONFIGURATION}  cam:\n    runOnInit: {script}\n"
    with running([EXECUTABLE], tmp_path, {"PATH": os.environ["PATH"]}, configuration) as server:
        wait_for(lambda: (tmp_path / "environment").exists())
        assert "LD_LIBRARY_PATH" not in (tmp_path / "environment").read_text()
        wait_for(lambda: any(is_guard(process, line) for process, line in processes_in(tmp_path).items()))
        children = processes_in(tmp_path)
        command = next(process for process, line in children.items() if line.startswith("sleep"))
        main = max(process for process, line in children.items() if line.endswith("smoke.yml"))
        os.kill(main, signal.SIGKILL)
        wait_for(lambda: command not in processes_in(tmp_path))
        server.process.wait(PATIENCE)


@pytest.mark.skipif(sys.platform != "linux", reason="the service manager is systemd")
def test_systemd_is_told(tmp_path: Path) -> None:
    """systemd knows the process that it started, and the server runs in its child."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(PATIENCE)
        # What the shell does not know yet when it sets the variable is its own number, so it becomes the server.
        command = ["/bin/sh", "-c", f'WATCHDOG_PID=$$ exec "{EXECUTABLE}" "$0"']
        environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
        with running(command, tmp_path, environment) as server:
            assert listener.recv(100) == b"WATCHDOG=1"
            while (message := listener.recv(100)) == b"WATCHDOG=1":
                pass
            assert message == b"READY=1"
            server.stop()


def processes_in(folder: Path) -> dict[int, str]:
    """Return the command lines of the processes whose working directory is ``folder``."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink() == folder:
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
    return found


def is_guard(process: int, line: str) -> bool:
    """Whether this is the guard of the commands, and has begun its work: it does not care for Ctrl+C."""
    if "command_guard.py" not in line:
        return False
    ignored = re.search(r"^SigIgn:\s*(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return ignored is not None and bool(int(ignored[1], 16) & 1 << (signal.SIGINT - 1))


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
