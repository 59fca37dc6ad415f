"""``polycast encrypt`` and ``polycast decrypt``, and a server that starts with what libsodium encrypted."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import nacl.secret
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.control.support import FILE_HEAD, serving

from polycast.cli import main
from polycast.config import load

KEY = "0123456789abcdef0123456789abcdef"
PLAIN = "# Gr\u00fc\u00dfe\r\nlogLevel: debug\npaths:\n  cam:\n".encode()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTSP_CONFKEY", KEY)


def test_there_and_back(tmp_path: Path) -> None:
    source, encrypted, back = tmp_path / "a.yml", tmp_path / "a.enc", tmp_path / "b.yml"
    source.write_bytes(PLAIN)
    assert main(["encrypt", str(source), str(encrypted)]) == 0
    box = base64.b64decode(encrypted.read_bytes())
    assert nacl.secret.SecretBox(KEY.encode()).decrypt(box) == PLAIN
    assert main(["decrypt", str(encrypted), str(back)]) == 0
    assert back.read_bytes() == PLAIN
    assert main(["--check", str(encrypted)]) == 0


async def test_a_server_starts_with_what_libsodium_encrypted(tmp_path: Path) -> None:
    file = tmp_path / "server.yml"
    text = f"{FILE_HEAD}logLevel: debug\npaths:\n  cam:\n"
    file.write_bytes(base64.b64encode(nacl.secret.SecretBox(KEY.encode()).encrypt(text.encode())))
    async with serving(load(str(file), {"RTSP_CONFKEY": KEY})) as server:
        assert (await server.get("/v1/config/get"))["logLevel"] == "debug"
        assert list((await server.get("/v1/paths/list"))["items"]) == ["cam"]


def test_a_file_onto_itself_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    file.write_bytes(PLAIN)
    file.chmod(0o640)
    assert main(["encrypt", str(file), str(file)]) == 0
    assert main(["decrypt", str(file), str(file)]) == 0
    assert file.read_bytes() == PLAIN
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["a.yml"]


class Stream(io.StringIO):
    def __init__(self, content: bytes = b"") -> None:
        super().__init__()
        self.buffer = io.BytesIO(content)  # type: ignore[assignment]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_standard_streams(content: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", Stream(content))
        patch.setattr("sys.stdout", encrypted := Stream())
        assert main(["encrypt"]) == 0
        patch.setattr("sys.stdin", Stream(encrypted.buffer.getvalue()))
        patch.setattr("sys.stdout", plain := Stream())
        assert main(["decrypt", "-"]) == 0
    assert plain.buffer.getvalue() == content


def test_a_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RTSP_CONFKEY")
    source, key_file, encrypted = tmp_path / "a.yml", tmp_path / "key", tmp_path / "a.enc"
    source.write_bytes(PLAIN)
    key_file.write_text(KEY + "\n")
    assert main(["encrypt", "--key-file", str(key_file), str(source), str(encrypted)]) == 0
    assert nacl.secret.SecretBox(KEY.encode()).decrypt(base64.b64decode(encrypted.read_bytes())) == PLAIN


def test_what_goes_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    source, encrypted = tmp_path / "a.yml", tmp_path / "a.enc"
    source.write_bytes(PLAIN)
    main(["encrypt", str(source), str(encrypted)])
    monkeypatch.setenv("RTSP_CONFKEY", "another key of some length")
    assert main(["decrypt", str(encrypted), str(tmp_path / "b")]) == 1
    assert "ERR: decryption error" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
    assert main([str(encrypted)]) == 1
    assert "decryption error" in capsys.readouterr().out
    assert main(["encrypt", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err
    monkeypatch.delenv("RTSP_CONFKEY")
    assert main(["encrypt", str(source)]) == 1
    assert "there is no key" in capsys.readouterr().err


def test_a_file_named_like_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RTSP_CONFKEY")
    monkeypatch.chdir(tmp_path)
    Path("encrypt").write_text("logLevel: debug\n")
    assert main(["--check", "./encrypt"]) == 0
