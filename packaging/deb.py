"""Builds dist/polycast_VERSION_ARCHITECTURE.deb for the Debian or Ubuntu that runs this: ``make deb``.

The package has Polycast with its dependencies in /usr/lib/polycast, for the system's Python 3; the command, a systemd
unit, the configuration in /etc/polycast, and completion for the shells. It needs dpkg-deb and pip, and a network or a
cache for pip. The files of packaging/debian are its control files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
EXTRAS = "tls,webrtc,rich"
UNIT_USER = "polycast"
STATE = "/var/lib/polycast"
CONFIGURATION = "/etc/polycast/polycast.yml"

LAUNCHER = """#!/usr/bin/python3
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib", "polycast"))
from polycast.cli import main

sys.exit(main())
"""

INITIAL = """# Every setting, with its default and an explanation: /usr/share/doc/polycast/polycast.yml
# After a change: systemctl reload polycast. To check it: sudo polycast doctor /etc/polycast/polycast.yml
dialect: polycast
paths:
  # Everybody who can reach this machine may publish to and read from every path:
  # see /usr/share/doc/polycast/security.md before you open its ports to others.
  all:
"""


def run(*command: str | Path, **options: object) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout  # type: ignore[call-overload,no-any-return]


def install_package(python: str, tree: Path) -> None:
    """Install Polycast and its dependencies into the tree, compiled."""
    library = tree / "usr/lib/polycast"
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile",
               "--disable-pip-version-check", "--root-user-action", "ignore", "--target", str(library),
               f"{ROOT}[{EXTRAS}]"]  # fmt: skip
    subprocess.run(command, check=True)
    shutil.rmtree(library / "bin", ignore_errors=True)
    for file in library.glob("*/direct_url.json"):  # where it was built is nobody's business
        file.unlink()
    # Debug information of binary packages, a quarter of the whole.
    for shared in library.rglob("*.so*"):
        subprocess.run(["strip", "--strip-unneeded", shared], check=False, capture_output=True)


def write(file: Path, text: str, mode: int = 0o644) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def write_files(python: str, tree: Path) -> None:
    """Write the command, the unit, the configuration, completion and documents."""
    write(tree / "usr/bin/polycast", LAUNCHER, 0o755)
    environment = {**os.environ, "PYTHONPATH": str(tree / "usr/lib/polycast"), "PYTHONDONTWRITEBYTECODE": "1"}
    unit = (
        "from polycast.service.systemd import Unit, render; "
        f"print(render(Unit(('/usr/bin/polycast', '{CONFIGURATION}'), '{STATE}', '{UNIT_USER}', '{UNIT_USER}', "
        f"('{STATE}', '/etc/polycast'))), end='')"
    )
    write(tree / "usr/lib/systemd/system/polycast.service", run(python, "-c", unit, env=environment))
    write(tree / "etc/polycast/polycast.yml", INITIAL, 0o640)
    places = {
        "bash": "usr/share/bash-completion/completions/polycast",
        "zsh": "usr/share/zsh/vendor-completions/_polycast",
        "fish": "usr/share/fish/vendor_completions.d/polycast.fish",
    }
    for shell, place in places.items():
        write(tree / place, run(python, "-m", "polycast", "completion", shell, env=environment))
    documents = tree / "usr/share/doc/polycast"
    for file in (ROOT / "polycast.yml", ROOT / "docs/security.md", ROOT / "docs/recipes.md"):
        write(documents / file.name, file.read_text())
    write(documents / "copyright", (ROOT / "LICENSE").read_text() + "\n" + (ROOT / "THIRD_PARTY.md").read_text())


def write_control(python: str, tree: Path) -> str:
    """Write the control files; return the name of the package's file."""
    version = run(python, "-c", "import polycast; print(polycast.__version__)", cwd=tree / "usr/lib/polycast").strip()
    architecture = run("dpkg", "--print-architecture").strip()
    minor = run(python, "-c", "import sys; print(sys.version_info[1])").strip()
    size = sum(file.stat().st_size for file in tree.rglob("*") if file.is_file()) // 1024
    text = (HERE / "debian/control").read_text()
    values = {"VERSION": version, "ARCHITECTURE": architecture, "SIZE": size,
              "PYTHON": f"python3 (>= 3.{minor}), python3 (<< 3.{int(minor) + 1})"}  # fmt: skip
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    write(tree / "DEBIAN/control", text)
    write(tree / "DEBIAN/conffiles", f"{CONFIGURATION}\n")
    for script in ("postinst", "prerm", "postrm"):
        write(tree / "DEBIAN" / script, (HERE / "debian" / script).read_text(), 0o755)
    return f"polycast_{version}_{architecture}.deb"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="/usr/bin/python3", help="the Python 3 that the package is for")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder of the package")
    options = parser.parse_args()
    tree = ROOT / "build/deb"
    shutil.rmtree(tree, ignore_errors=True)
    os.umask(0o022)
    install_package(options.python, tree)
    write_files(options.python, tree)
    # Compiled at the end, with the names that the files have where they are installed.
    run(options.python, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", tree, "-p", "/",
        tree / "usr/lib/polycast")  # fmt: skip
    name = write_control(options.python, tree)
    options.output.mkdir(parents=True, exist_ok=True)
    run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", tree, options.output / name)
    print(options.output / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
