"""``polycast doctor``: what it finds, and what it says to do about it."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from polycast.cli import doctor, main, system_checks

CONFIGURATION = """dialect: polycast
rtspAddress: 127.0.0.1:0
rtspTransports: [tcp]
rtmp: no
hls: no
webrtc: no
srt: no
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def diagnose(
    capsys: pytest.CaptureFixture[str], text: str, *arguments: str, mode: int = 0o600
) -> tuple[int, list[str]]:
    file = Path("polycast.yml")
    file.write_text(CONFIGURATION + text)
    file.chmod(mode)
    status = main(["doctor", *arguments])
    return status, capsys.readouterr().out.splitlines()


def about(lines: list[str], name: str) -> str:
    """Return what is said about something, with the remedies."""
    found: list[str] = []
    is_wanted = False
    for line in lines:
        if not line.startswith(" "):
            is_wanted = line[9:].startswith(name)
        if is_wanted:
            found.append(re.sub(r" +", " ", line))
    return "\n".join(found)


def test_a_machine_and_a_configuration_that_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = diagnose(capsys, "paths:\n  all:\n")
    assert status == 0
    assert (
        about(lines, "configuration")
        == f"ok configuration {Path('polycast.yml').absolute()} (dialect polycast), 1 path"
    )
    assert re.fullmatch(r"ok Polycast \S+, Python 3\S+ \(.*\), \w+", about(lines, "Polycast"))
    assert about(lines, "ports") == "ok ports to open in a firewall: none"
    assert re.fullmatch(r"0 errors, \d+ warnings?", lines[-1])


def test_a_configuration_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = diagnose(capsys, "readTimout: 10s\npaths:\n  all:\n")
    assert status == 1
    assert about(lines, "configuration").startswith("error configuration")
    assert "readTimeout" in about(lines, "configuration")
    assert lines[-1].startswith("1 error,")


def test_what_the_check_of_the_configuration_finds(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        _, lines = diagnose(capsys, f"api: yes\napiAddress: 127.0.0.1:{port}\npaths:\n  all:\n")
    assert f"warning configuration apiAddress: listen on 127.0.0.1:{port}: Address already in use" in about(
        lines, "configuration"
    )


def test_ports_for_the_firewall(capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = diagnose(capsys, "hls: yes\nhlsAddress: :48888\napi: yes\napiAddress: 127.0.0.1:49997\npaths:\n  all:\n")
    assert about(lines, "ports") == "ok ports to open in a firewall: 48888/tcp (hlsAddress)"


def test_ports_that_need_privileges(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_may_use_low_ports", lambda: False)
    monkeypatch.setattr(doctor, "first_free_port", lambda: 1024)
    _, lines = diagnose(capsys, "hls: yes\nhlsAddress: 127.0.0.1:443\npaths:\n  all:\n")
    assert "warning ports hlsAddress: port 443 needs privileges" in about(lines, "ports")
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in about(lines, "ports")


@pytest.mark.parametrize(
    ("days", "state", "text"), [(-1, "error", "expired on"), (3, "warning", "expires on"), (90, "ok", "is valid until")]
)
def test_certificates(days: int, state: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    expiry = datetime.now(UTC) + timedelta(days=days)
    issued = trustme.CA().issue_cert("localhost", not_before=expiry - timedelta(days=300), not_after=expiry)
    issued.cert_chain_pems[0].write_to_path("server.crt")
    issued.private_key_pem.write_to_path("server.key")
    encrypted = (
        "rtspEncryption: optional\nrtspsAddress: 127.0.0.1:0\nrtspServerCert: server.crt\nrtspServerKey: server.key\n"
    )
    status, lines = diagnose(capsys, f"{encrypted}paths:\n  all:\n")
    assert status == (1 if state == "error" else 0)
    expected = f"{state} certificates rtspServerCert: server.crt {text} {expiry:%Y-%m-%d}"
    assert about(lines, "certificates").startswith(expected)
    assert ("certbot renew" in about(lines, "certificates")) == (state != "ok")


def test_passwords_that_others_may_read(capsys: pytest.CaptureFixture[str]) -> None:
    paths = "paths:\n  cam:\n    source: rtsp://user:secret@127.0.0.1:1/\n    sourceOnDemand: yes\n"
    _, lines = diagnose(capsys, paths, mode=0o644)
    assert "chmod o= " in about(lines, "permissions")
    _, lines = diagnose(capsys, paths)
    assert about(lines, "permissions") == ""
    _, lines = diagnose(capsys, "paths:\n  cam:\n", mode=0o644)
    assert about(lines, "permissions") == ""


def test_where_recordings_go(capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = f"paths:\n  cam:\n    record: yes\n    recordPath: {folder}/recordings/%path/%Y-%m-%d_%H-%M-%S-%f\n"
    _, lines = diagnose(capsys, paths)
    assert re.search(rf"(ok|warning) recordings \d+ GiB free in {folder}, for cam", about(lines, "recordings"))
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    status, lines = diagnose(capsys, paths)
    assert status == 1
    assert f"sudo chown $USER {folder}" in about(lines, "recordings")


def checks() -> dict[str, system_checks.Check]:
    return {check.name: check for check in system_checks.system_checks()}


def test_limits_and_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    read = Path.read_text

    def small(file: Path, *arguments: Any, **options: Any) -> str:
        return "212992\n" if str(file).startswith("/proc/sys/net/core/") else read(file, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", small)
    found = checks()
    assert found["open files"].state == "warning"
    assert "LimitNOFILE=65536" in found["open files"].remedy
    for kind, use in (("rmem_max", "receive"), ("wmem_max", "send")):
        check = found[f"{use} buffers"]
        assert (check.state, "208 KiB" in check.text) == ("warning", True)
        assert f"net.core.{kind}=4194304" in check.remedy


@pytest.mark.parametrize(("status", "state"), [(0x40, "warning"), (0x2001, "ok"), (None, None)])
def test_the_clock(status: int | None, state: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_checks, "clock_status", lambda: status)
    clock = checks().get("clock")
    assert (clock.state if clock is not None else None) == state


@pytest.mark.skipif(sys.platform != "linux", reason="adjtimex is Linux's")
def test_the_clock_of_this_machine_can_be_asked() -> None:
    assert system_checks.clock_status() is not None


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_checks, "find_spec", lambda _: None)
    monkeypatch.setattr(system_checks.shutil, "which", lambda _: None)


@pytest.mark.usefixtures("no_programs")
def test_what_is_not_installed() -> None:
    found = checks()
    assert found["FFmpeg"].state == "warning"
    for extra in ("media", "webrtc", "rich", "s3", "cluster"):
        assert found[f"extra {extra}"].remedy.endswith(f'pip install ".[{extra}]"')


def test_an_ffmpeg_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(127, "ffmpeg")

    monkeypatch.setattr(system_checks.shutil, "which", lambda _: "/opt/ffmpeg")
    monkeypatch.setattr(system_checks.subprocess, "run", fail)
    assert checks()["FFmpeg"].state == "error"
