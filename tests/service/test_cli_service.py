"""``polycast service install``: the files it makes, as systemd and an XML parser read them, and its errors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from polycast.cli import main
from polycast.cli import service as cli_service
from polycast.service import systemd, winsw

Output = pytest.CaptureFixture[str]
TRUE = shutil.which("true") or "/bin/true"

UNITS = {
    "plain": systemd.Unit(command=(TRUE, "/etc/hosts"), working_directory="/etc"),
    "user": systemd.Unit(
        command=(TRUE,), working_directory="/", user="daemon", group="daemon", writable=("/var/tmp", "/srv")
    ),
    "odd": systemd.Unit(
        command=(TRUE, '/a b/c"d.yml', "/100%/$HOME/é.yml", "back\\slash"),
        working_directory="/tmp",
        writable=("/var/tmp/100%",),
        in_home=True,
        starts_child=True,
    ),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def config(folder: Path) -> Path:
    file = folder / "my cameras.yml"
    file.write_text("paths:\n  all:\n")
    return file


def install(*arguments: str) -> int:
    return main(["service", "install", "--format", "systemd", *arguments])


def settings(text: str) -> dict[str, list[str]]:
    """Return the values of a unit's settings."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("["):
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit(name: str, folder: Path) -> None:
    file = folder / systemd.UNIT_NAME
    file.write_text(systemd.render(UNITS[name]))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    # Other units of the machine are read as well, and may have faults of their own.
    complaints = [line for line in done.stderr.splitlines() if systemd.UNIT_NAME in line]
    assert complaints == []
    file.write_text(systemd.render(UNITS[name]).replace("WatchdogSec=30", "WatchdogSec=soon"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert f"{systemd.UNIT_NAME}:" in done.stderr, "the check must be one that fails"


def test_unit(config: Path, capsys: Output) -> None:
    assert install("--print", config.name) == 0
    captured = capsys.readouterr()
    found = settings(captured.out)
    assert found["Type"] == ["notify"]
    assert found["WatchdogSec"] == ["30"]
    assert found["Restart"] == ["on-failure"]
    assert int(found["LimitNOFILE"][0]) > 65_536
    assert found["DynamicUser"] == ["yes"]
    assert "User" not in found
    assert found["WantedBy"] == ["multi-user.target"]
    assert found["WorkingDirectory"] == [str(config.parent)]
    program, argument = found["ExecStart"][0].split(" ", 1)[0], found["ExecStart"][0].split(' "', 1)[1]
    assert os.path.isabs(program)
    assert argument == f'{config}"'


@pytest.mark.parametrize(
    "setting",
    # They take away cameras, ports, clients or what commands need.
    ["PrivateDevices", "ProtectClock", "PrivateNetwork", "IPAddressDeny", "MemoryDenyWriteExecute", "SystemCallFilter"],
)
def test_hardening_does_not_break_commands(setting: str) -> None:
    assert not any(setting in systemd.render(unit) for unit in UNITS.values())
    families = settings(systemd.render(UNITS["plain"]))["RestrictAddressFamilies"][0].split()
    assert {"AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"} <= set(families)


def test_characters_that_mean_something_to_systemd() -> None:
    found = settings(systemd.render(UNITS["odd"]))
    assert found["ExecStart"] == [f'{TRUE} "/a b/c\\"d.yml" "/100%%/$$HOME/é.yml" "back\\\\slash"']
    assert found["ReadWritePaths"] == ["/var/tmp/100%%"]
    assert found["NotifyAccess"] == ["all"]
    assert found["ProtectHome"] == ["read-only"]


def test_user_and_directories(config: Path, capsys: Output, folder: Path) -> None:
    (folder / "recordings").mkdir()
    assert install("--print", "--user", "camera", "--group", "video", "--writable", "recordings", str(config)) == 0
    found = settings(capsys.readouterr().out)
    assert (found["User"], found["Group"]) == (["camera"], ["video"])
    assert "DynamicUser" not in found
    assert found["ReadWritePaths"] == [str(folder / "recordings")]


def test_written_once(config: Path, capsys: Output, folder: Path) -> None:
    target = folder / "polycast.service"
    assert install("--output", str(target), str(config)) == 0
    text = capsys.readouterr().out
    assert "systemctl daemon-reload" in text
    assert "systemctl enable --now polycast" in text
    written = target.read_text()
    assert target.stat().st_mode & 0o777 == 0o644
    assert install("--print", str(config)) == 0
    assert capsys.readouterr().out == written

    assert install("--output", str(target), str(config)) == 0, "the same again"
    target.write_text("# mine\n")
    assert install("--output", str(target), str(config)) == 1
    assert "--force" in capsys.readouterr().err
    assert target.read_text() == "# mine\n"
    assert install("--output", str(target), "--force", str(config)) == 0
    assert target.read_text() == written
    assert sorted(path.name for path in folder.iterdir()) == ["my cameras.yml", "polycast.service"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_without_rights(config: Path, capsys: Output, folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o500)
    assert install("--output", str(closed / "polycast.service"), str(config)) == 1
    assert "run this as root" in capsys.readouterr().err


def test_without_rights_as_told_by_the_system(
    config: Path, capsys: Output, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cli_service.tempfile, "mkstemp", refuse)
    assert install("--output", str(folder / "polycast.service"), str(config)) == 1
    error = capsys.readouterr().err
    assert "polycast.service cannot be written: Permission denied; run this as root" in error
    assert not (folder / "polycast.service").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.yml"], "does not exist"),
        (["--group", "video"], "--group needs --user"),
        (["--writable", "missing"], "does not exist"),
        (["--output", "missing/polycast.service"], "does not exist"),
        (["--user", "nobody-of-this-name"], "there is no user 'nobody-of-this-name'"),
    ],
)
def test_errors(arguments: list[str], message: str, capsys: Output) -> None:
    assert install("--output", "polycast.service", *arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert not Path("polycast.service").exists()


def test_default_file_and_none(folder: Path, capsys: Output) -> None:
    assert install("--print") == 0
    captured = capsys.readouterr()
    assert "anyone can publish" in captured.err
    assert settings(captured.out)["WorkingDirectory"] == ["/"]
    (folder / "polycast.yml").write_text("")
    assert install("--print") == 0
    assert str(folder / "polycast.yml") in settings(capsys.readouterr().out)["ExecStart"][0]


def test_the_command_in_the_unit_runs(config: Path, capsys: Output) -> None:
    """Run what ExecStart says, with --check added, as systemd would: without a shell, in an empty environment."""
    assert install("--print", str(config)) == 0
    line = settings(capsys.readouterr().out)["ExecStart"][0]
    head, quoted = line.split(' "', 1)
    environment = {"PYTHONPATH": str(Path(cli_service.__file__).parents[2])}
    done = subprocess.run(
        [*head.split(), "--check", quoted.removesuffix('"')],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == f"{config} is valid, with 1 path\n", done.stderr


def test_winsw(config: Path, capsys: Output) -> None:
    assert main(["service", "install", "--format", "winsw", "--print", str(config)]) == 0
    service = ElementTree.fromstring(capsys.readouterr().out)
    assert service.tag == "service"
    values = {child.tag: child.text for child in service}
    assert values["id"] == "polycast"
    assert os.path.isabs(values["executable"] or "")
    assert (values["arguments"] or "").endswith(f'"{config}"')
    assert values["workingdirectory"] == str(config.parent)
    failure = service.find("onfailure")
    assert failure is not None
    assert failure.attrib == {"action": "restart", "delay": "2 sec"}
    # The elements of WinSW 2, from its documentation.
    assert values.keys() <= {
        "id", "name", "description", "executable", "arguments", "workingdirectory", "startmode", "onfailure",
        "stoptimeout", "log",
    }  # fmt: skip


def test_winsw_is_written_beside(config: Path, capsys: Output, folder: Path) -> None:
    assert main(["service", "install", "--format", "winsw", str(config)]) == 0
    assert "WinSW-x64 install" in capsys.readouterr().out
    ElementTree.parse(folder / winsw.FILE_NAME)


def test_winsw_with_characters_that_mean_something_to_xml() -> None:
    text = winsw.render(("C:\\Program Files\\A & B\\polycast.exe", "C:\\<x>\\p.yml"), "C:\\A & B")
    values = {child.tag: child.text for child in ElementTree.fromstring(text)}
    assert values["executable"] == "C:\\Program Files\\A & B\\polycast.exe"
    assert values["arguments"] == "C:\\<x>\\p.yml"


@pytest.mark.parametrize(("platform", "word"), [("linux", "[Unit]"), ("win32", "<service>")])
def test_the_format_is_that_of_the_system(
    platform: str, word: str, config: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert cli_service.main(["install", "--print", str(config)]) == 0
    assert word in capsys.readouterr().out


def test_a_system_without_a_known_service_manager(
    config: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cli_service.main(["install", "--print", str(config)]) == 1
    assert "--format" in capsys.readouterr().err
