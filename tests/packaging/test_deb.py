"""The Debian package: its control files; and, with POLYCAST_DEB, how dpkg installs, upgrades, removes and purges it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.packaging.smoke import running

from polycast import __version__
from polycast.config import load

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "packaging" / "debian"
PACKAGE = os.environ.get("POLYCAST_DEB", "")

built = pytest.mark.skipif(not PACKAGE, reason="POLYCAST_DEB is not set")
as_root = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="dpkg needs root")

HOST = """\
root:x:0:0:root:/root:/bin/sh
"""


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_scripts_of_the_package(name: str) -> None:
    script = DEBIAN / name
    assert script.read_text().startswith("#!/bin/sh\nset -e\n")
    subprocess.run(["sh", "-n", script], check=True)


def test_the_initial_configuration_is_valid(tmp_path: Path) -> None:
    text = (ROOT / "packaging" / "deb.py").read_text()
    found = re.search(r'^INITIAL = """(.*?)"""', text, re.DOTALL | re.MULTILINE)
    assert found is not None
    file = tmp_path / "polycast.yml"
    file.write_text(found[1])
    loaded = load(str(file), {})
    assert not loaded.warnings
    assert list(loaded.configuration.paths) == ["~^.*$"]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Path]:
    """A folder that dpkg takes for an empty system."""
    root = tmp_path / "system"
    for folder in ("etc", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log"):
        (root / folder).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    (root / "etc/passwd").write_text(HOST)
    for name in ("group", "shadow", "gshadow", "login.defs"):
        (root / "etc" / name).touch()
    yield root
    shutil.rmtree(root)


def dpkg(root: Path, *arguments: str) -> None:
    # The packages that it depends on are those of this machine, which the folder does not have.
    done = subprocess.run(
        ["dpkg", f"--root={root}", "--force-script-chrootless", "--force-depends", "--force-confold", *arguments],
        capture_output=True, text=True, check=False, timeout=120,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@built
@as_root
def test_installing_upgrading_removing_and_purging(system: Path) -> None:
    dpkg(system, "--install", PACKAGE)
    users = (system / "etc/passwd").read_text()
    found = re.search(r"^polycast:x:(\d+):(\d+):.*:/var/lib/polycast:/usr/sbin/nologin$", users, re.MULTILINE)
    assert found is not None
    user, group = int(found[1]), int(found[2])
    state, file = system / "var/lib/polycast", system / "etc/polycast/polycast.yml"
    assert (state.stat().st_uid, state.stat().st_mode & 0o777) == (user, 0o750)
    assert (file.stat().st_uid, file.stat().st_gid, file.stat().st_mode & 0o777) == (0, group, 0o640)

    file.write_text("dialect: polycast\npaths:\n  cam:\n")
    dpkg(system, "--install", PACKAGE)
    assert "cam" in file.read_text(), "an upgrade keeps the configuration"
    assert users == (system / "etc/passwd").read_text()

    dpkg(system, "--remove", "polycast")
    assert file.exists()
    assert not (system / "usr/bin/polycast").exists()
    dpkg(system, "--purge", "polycast")
    assert "polycast" not in (system / "etc/passwd").read_text()
    left = [each for each in system.rglob("*polycast*") if "var/l" not in str(each)]
    assert left == []


@built
def test_what_is_in_the_package(tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", PACKAGE, tmp_path], check=True)
    control = subprocess.run(["dpkg-deb", "--field", PACKAGE], capture_output=True, text=True, check=True).stdout
    assert f"Version: {__version__}\n" in control
    assert re.search(r"^Depends: python3 \(>= 3\.\d+\), python3 \(<< 3\.\d+\)", control, re.MULTILINE)
    unit = (tmp_path / "usr/lib/systemd/system/polycast.service").read_text()
    assert "ExecStart=/usr/bin/polycast /etc/polycast/polycast.yml\n" in unit
    assert "User=polycast\n" in unit
    assert "ReadWritePaths=/var/lib/polycast\n" in unit
    for shell in ("bash-completion/completions/polycast", "zsh/vendor-completions/_polycast"):
        assert "doctor" in (tmp_path / "usr/share" / shell).read_text()
    assert not any((tmp_path / "usr/lib/polycast").rglob("direct_url.json")), "where it was built is nobody's business"
    for compiled in (tmp_path / "usr/lib/polycast/polycast").rglob("*.pyc"):
        assert str(ROOT).encode() not in compiled.read_bytes()


@built
def test_the_server_of_the_package_runs() -> None:
    """From where it was extracted, with the system's Python, as the user `nobody` if this is root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        subprocess.run(["dpkg-deb", "--extract", PACKAGE, folder / "tree"], check=True)
        program = str(folder / "tree/usr/bin/polycast")
        out = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, env={}).stdout
        assert out == f"v{__version__}\n"
        user = []
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            user = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        with running([*user, program], folder, {}) as server:
            server.check()
            server.stop()
