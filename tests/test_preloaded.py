"""Servers that are forked from a process that has imported everything, and what they have of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.support.preloaded import Process, forking_process, start_server
from tests.support.waiting import PATIENCE, until

SETTINGS = (
    "rtspAddress: 127.0.0.1:0\nrtspTransports: [tcp]\nrtmp: no\nhls: no\nwebrtc: no\nsrt: no\npaths: {all_others: }\n"
)


def start(folder: Path, *arguments: str, **environment: str) -> Process | subprocess.Popen[bytes]:
    env = {"PATH": os.environ["PATH"], **environment}
    env |= {name: value for name, value in os.environ.items() if name.startswith(("PYTHON", "LD_"))} | environment
    with open(folder / "out", "wb") as output, open(folder / "err", "wb") as errors:
        return start_server(arguments, stdout=output, stderr=errors, cwd=folder, env=env)


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


async def test_it_serves_until_a_signal_comes(tmp_path: Path) -> None:
    (tmp_path / "polycast.yml").write_text(SETTINGS)
    process = start(tmp_path)
    try:
        assert isinstance(process, Process)
        assert parent_of(process.pid) == forking_process().number
        await until(lambda: "[RTSP] listener opened" in (tmp_path / "out").read_text())
        assert os.getsid(process.pid) == process.pid
        assert os.readlink(f"/proc/{process.pid}/cwd") == str(tmp_path)
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
    finally:
        process.terminate()
    assert process.wait(PATIENCE) == process.returncode == process.poll() == 0
    process.kill()  # it has ended, and its number may be another's
    assert "shutting down gracefully" in (tmp_path / "out").read_text()
    assert (tmp_path / "err").read_text() == ""


def test_one_that_is_killed_leaves_the_others_alone(tmp_path: Path) -> None:
    (tmp_path / "polycast.yml").write_text(SETTINGS)
    processes = [start(tmp_path), start(tmp_path)]
    processes[0].kill()
    assert processes[0].wait(PATIENCE) == -signal.SIGKILL
    assert processes[1].poll() is None
    processes[1].kill()
    processes[1].wait(PATIENCE)


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "text"),
    [
        (("--version",), {}, 0, "v"),
        (("--check",), {}, 0, "{folder}/polycast.yml is valid"),
        (("--check",), {"POLYCAST_READTIMEOUT": "nonsense"}, 1, "ERR: "),
        (("--nonsense",), {}, 2, ""),
    ],
)
def test_arguments_environment_and_status(
    tmp_path: Path, arguments: tuple[str, ...], environment: Mapping[str, str], status: int, text: str
) -> None:
    (tmp_path / "polycast.yml").write_text(SETTINGS)
    process = start(tmp_path, *arguments, **environment)
    assert process.wait(PATIENCE) == status, (tmp_path / "err").read_text()
    assert (tmp_path / "out").read_text().startswith(text.format(folder=tmp_path))
    assert ("unrecognized arguments: --nonsense" in (tmp_path / "err").read_text()) == (status == 2)


def test_one_with_other_variables_for_python_is_started(tmp_path: Path) -> None:
    process = start(tmp_path, "--version", PYTHONFAULTHANDLER="1")
    assert isinstance(process, subprocess.Popen)
    assert process.wait(PATIENCE) == 0
    assert (tmp_path / "out").read_text().startswith("v")
