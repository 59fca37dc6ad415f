"""Encrypted configuration files, against PyNaCl."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_secretbox

from polycast.config import load
from polycast.config.crypto import decrypt, encrypt
from polycast.errors import ConfigurationError

KEY = "testing123testin"
NONCE = bytes(range(24))
CONTENT = b"paths:\n  path1:\n  path2:\n"


def sealed(key: bytes) -> bytes:
    """What another implementation of the format writes."""
    return base64.b64encode(NONCE + crypto_secretbox(CONTENT, NONCE, key))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (KEY, KEY.encode().ljust(32, b"\0")),
        ("x" * 40, b"x" * 32),
        ("", bytes(32)),
        ("\udce9", b"\xe9".ljust(32, b"\0")),
    ],
)
def test_keys_are_padded_or_cut(text: str, key: bytes) -> None:
    assert decrypt(sealed(key), text) == CONTENT
    assert encrypt(CONTENT, text, NONCE) == sealed(key)


def test_lines_of_base64() -> None:
    box = sealed(KEY.encode().ljust(32, b"\0"))
    assert decrypt(box[:10] + b"\r\n" + box[10:] + b"\n", KEY) == CONTENT


def test_every_encryption_has_its_own_nonce() -> None:
    assert encrypt(CONTENT, KEY) != encrypt(CONTENT, KEY)


def test_load(tmp_path: Path) -> None:
    file = tmp_path / "encrypted.yml"
    file.write_bytes(encrypt(CONTENT, KEY))
    loaded = load(str(file), {"RTSP_CONFKEY": KEY})
    assert list(loaded.configuration.paths) == ["path1", "path2"]
    assert loaded.warnings == []


def test_the_key_matters_even_when_it_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "plain.yml"
    file.write_bytes(CONTENT)
    with pytest.raises(ConfigurationError, match=r"decryption error \(the file is not encrypted"):
        load(str(file), {"RTSP_CONFKEY": ""})


@given(st.binary(max_size=80))
def test_anything_else_is_a_decryption_error(data: bytes) -> None:
    for encrypted in (data, base64.b64encode(data)):
        with pytest.raises(ConfigurationError, match=r"^decryption error$"):
            decrypt(encrypted, KEY)
