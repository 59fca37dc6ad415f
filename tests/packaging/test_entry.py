"""Where the single executable begins: what it does before the command line, tried without building it."""

from __future__ import annotations

import importlib.util
import os
import ssl
import sys
from pathlib import Path
from types import ModuleType

import pytest

from polycast import cli
from polycast.control import command_guard

FILE = Path(__file__).resolve().parent.parent.parent / "packaging" / "executable.py"

if sys.platform == "win32":
    pytest.skip("about paths of POSIX systems", allow_module_level=True)


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "LD_LIBRARY_PATH_ORIG"):
        monkeypatch.setenv(name, "")  # so that all of them are put back afterwards
        monkeypatch.delenv(name)
    spec = importlib.util.spec_from_file_location("polycast_executable", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def authorities(monkeypatch: pytest.MonkeyPatch, file: str | None, folder: str | None) -> None:
    """Let OpenSSL know these defaults."""
    paths = ssl.get_default_verify_paths()._replace(cafile=file, capath=folder)  # type: ignore[arg-type]
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)


def test_the_command_line_gets_the_arguments(entry: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["polycast", "--check", "my.yml"])
    monkeypatch.setattr(cli, "main", lambda arguments: 3 if arguments == ["--check", "my.yml"] else 4)
    assert entry.main() == 3


def test_the_guard_of_the_commands(entry: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server starts it with the arguments that its interpreter would need."""
    ran: list[bool] = []
    arguments = ["polycast", "-I", "-S", str(Path(command_guard.__file__)), "the mark"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(command_guard, "main", lambda: ran.append(True))
    assert entry.main() == 0
    assert ran == [True]
    source = (FILE.parent.parent / "src" / "polycast" / "control" / "commands.py").read_text()
    assert '[sys.executable, "-I", "-S", str(Path(command_guard.__file__)), self._mark]' in source, (
        "they belong together"
    )


@pytest.mark.parametrize("original", [None, "/opt/lib"])
def test_commands_get_the_library_path_of_the_user(
    entry: ModuleType, monkeypatch: pytest.MonkeyPatch, original: str | None
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/tmp/unpacked")
    if original is not None:
        monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", original)
    entry._restore_library_path()
    assert os.environ.get("LD_LIBRARY_PATH") == original
    assert "LD_LIBRARY_PATH_ORIG" not in os.environ


def test_authorities_of_another_distribution(
    entry: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_text("")
    monkeypatch.setattr(entry, "CERTIFICATE_FILES", (str(tmp_path / "missing"), str(bundle)))
    authorities(monkeypatch, None, None)
    entry._find_certificates()
    assert os.environ["SSL_CERT_FILE"] == str(bundle)


def test_an_empty_folder_is_none(entry: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_text("")
    (tmp_path / "certs").mkdir()
    monkeypatch.setattr(entry, "CERTIFICATE_FILES", (str(bundle),))
    authorities(monkeypatch, None, str(tmp_path / "certs"))
    entry._find_certificates()
    assert os.environ["SSL_CERT_FILE"] == str(bundle)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", ""])
def test_authorities_that_are_known_stay(entry: ModuleType, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    authorities(monkeypatch, "" if variable else str(FILE), None)
    if variable:
        monkeypatch.setenv(variable, "/mine")
    entry._find_certificates()
    assert os.environ.get("SSL_CERT_FILE") == ("/mine" if variable == "SSL_CERT_FILE" else None)
