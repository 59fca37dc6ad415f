"""Loads the configuration: file, decryption, YAML, types, environment variables, rules."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from polycast.config.convert import given_keys, parse_configuration
from polycast.config.crypto import decrypt
from polycast.config.env import KEY_VARIABLE, apply_environment
from polycast.config.schema import Configuration
from polycast.config.validate import validate
from polycast.config.yaml_reader import read_yaml
from polycast.errors import ConfigurationError

MAX_FILE_SIZE: Final = 8 * 1024 * 1024  # bytes; encrypted text is a third longer than what the YAML reader takes


class LoadedConfiguration(msgspec.Struct, frozen=True):
    """A configuration and how it came about."""

    configuration: Configuration
    source_path: Path | None
    """The absolute path of the file, or None when there is none."""
    warnings: list[str]
    """One line each, for the log."""
    given: frozenset[str]
    """The keys that the user set: ``hlsVariant``, or ``paths.<name>.<key>``."""
    content_digest: str = ""
    """SHA-256 of the file as it lies on the disk, hexadecimal; empty without a file."""


def load(path: str | None, environment: Mapping[str, str]) -> LoadedConfiguration:
    """Load the file at ``path`` (None: no file) and apply ``environment``. Raises ConfigurationError."""
    content = b"" if path is None else _read_file(path)
    if path is None:
        return load_bytes(content, environment)
    plain = decrypt(content, environment[KEY_VARIABLE]) if KEY_VARIABLE in environment else content
    loaded = load_bytes(plain, environment)
    return msgspec.structs.replace(
        loaded, source_path=Path(path).absolute(), content_digest=hashlib.sha256(content).hexdigest()
    )


def load_bytes(content: bytes, environment: Mapping[str, str]) -> LoadedConfiguration:
    """Load a configuration whose (decrypted) file content is ``content``. Raises ConfigurationError."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"invalid YAML: line {line}: the file is not UTF-8 text") from error
    tree, warnings = (None, []) if not text.strip() else read_yaml(text)
    values = {} if tree is None else tree
    applied = apply_environment(parse_configuration(values), environment)
    return LoadedConfiguration(
        configuration=validate(applied.configuration),
        source_path=None,
        warnings=[*warnings, *applied.warnings],
        given=given_keys(values) | applied.given,
    )


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"can't read the configuration file '{path}': {reason}") from error
    if len(content) > MAX_FILE_SIZE:
        raise ConfigurationError(f"the configuration file '{path}' is too large (limit: {MAX_FILE_SIZE} bytes)")
    return content
