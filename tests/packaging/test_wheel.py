"""The wheel: everything that is needed is in it, and it runs from where it is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.packaging.smoke import running

from polycast import __version__

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "src" / "polycast"

BUILD = (
    [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d"]
    if importlib.util.find_spec("hatchling") is not None
    else [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", ".", "-w"]
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run([*BUILD, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode and "hatchling" in done.stderr and "hatchling" not in BUILD:
        pytest.skip("hatchling is not installed and cannot be fetched")
    assert len(wheels) == 1, done.stderr
    return wheels[0]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the installed package; the dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel],
        check=True,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    return folder


def test_every_file_of_the_package_is_there(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        there = {name for name in archive.namelist() if name.startswith("polycast/")}
    wanted = {
        f"polycast/{path.relative_to(PACKAGE).as_posix()}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert there == wanted
    for name in ("py.typed", "web/hls.min.js", "web/player.html", "control/pages/console/console.html"):
        assert f"polycast/{name}" in there


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        folder = f"polycast-{__version__}.dist-info"
        metadata = archive.read(f"{folder}/METADATA").decode()
        assert "polycast = polycast.cli:main" in archive.read(f"{folder}/entry_points.txt").decode()
        assert "Root-Is-Purelib: true" in archive.read(f"{folder}/WHEEL").decode()
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: MIT AND Apache-2.0\n" in metadata
    assert "\nClassifier: Typing :: Typed\n" in metadata
    assert {f"{folder}/licenses/LICENSE", f"{folder}/licenses/THIRD_PARTY.md"} <= set(names)


def run(installed: Path, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        arguments,
        cwd=cwd,
        env={"PYTHONPATH": str(installed), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import(installed: Path, tmp_path: Path) -> None:
    program = "import polycast, polycast.app; print(polycast.__file__); print(polycast.Server.__name__)"
    out = run(installed, sys.executable, "-c", program, cwd=tmp_path)
    assert out.splitlines() == [str(installed / "polycast" / "__init__.py"), "Server"]


def test_command(installed: Path, tmp_path: Path) -> None:
    script = installed / "bin" / "polycast"
    assert run(installed, str(script), "--version", cwd=tmp_path) == f"v{__version__}\n"


@pytest.mark.timeout(600)
def test_types_are_found(installed: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    (tmp_path / "program.py").write_text("import polycast\n\nreveal_type(polycast.__version__)\n")
    # To look into all other modules would take ten seconds; "make lint" does.
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\n[mypy-polycast.*]\nfollow_imports = skip\n"
        "[mypy-polycast]\nfollow_imports = silent\n[mypy-polycast._version]\nfollow_imports = silent\n"
    )
    environment = {"MYPYPATH": str(installed), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "program.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'Revealed type is "str"' in done.stdout or 'Revealed type is "builtins.str"' in done.stdout, done.stdout


def test_server(installed: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(installed), "PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    with running([installed / "bin" / "polycast"], tmp_path, environment) as server:
        server.check()
        assert server.stop().endswith("[RTSP] listener closed\n")
