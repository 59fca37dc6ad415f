"""The commands ``polycast encrypt`` and ``polycast decrypt``, for configuration files."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from polycast.config.crypto import KEY_SIZE, decrypt, encrypt
from polycast.config.env import KEY_VARIABLE, key_variable
from polycast.errors import ConfigurationError

STANDARD_STREAM = "-"

# Bytes of a key below which a warning is printed.
SHORT_KEY = 16


def main(command: str, arguments: Sequence[str]) -> int:
    """Run one of the commands; return the exit status."""
    options = make_parser(command).parse_args(arguments)
    try:
        key = _key(options.key_file)
        content = _read(options.input)
        if command == "encrypt":
            if len(key.encode("utf-8", "surrogateescape")) > KEY_SIZE:
                print(f"WAR: only the first {KEY_SIZE} bytes of the key are used", file=sys.stderr)
            elif len(key) < SHORT_KEY:
                print(f"WAR: the key is short; use {KEY_SIZE} random characters", file=sys.stderr)
            _write(options.output, encrypt(content, key) + b"\n")
        else:
            _write(options.output, decrypt(content, key))
    except ConfigurationError as error:
        print(f"ERR: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"ERR: {error.filename or ''}: {error.strerror or error}".replace("ERR: : ", "ERR: "), file=sys.stderr)
        return 1
    return 0


def make_parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of ``encrypt`` or ``decrypt``."""
    parser = argparse.ArgumentParser(
        prog=f"polycast {command}",
        description=f"{command.capitalize()} a configuration file. A server with {KEY_VARIABLE} in its environment "
        "reads the encrypted one.",
    )
    parser.add_argument("input", nargs="?", default=STANDARD_STREAM, help="file to read (default: standard input)")
    parser.add_argument("output", nargs="?", default=STANDARD_STREAM, help="file to write (default: standard output)")
    parser.add_argument(
        "--key-file", help=f"file whose first line is the key (default: the environment variable {KEY_VARIABLE})"
    )
    return parser


def _key(file: str | None) -> str:
    if file is not None:
        lines = Path(file).read_text("utf-8", "surrogateescape").splitlines()
        key = lines[0] if lines else ""
    else:
        key = os.environ.get(key_variable(os.environ), "")
    if not key:
        raise ConfigurationError(f"there is no key: set {KEY_VARIABLE}, or give --key-file")
    return key


def _read(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == STANDARD_STREAM else Path(file).read_bytes()


def _write(file: str, content: bytes) -> None:
    if file == STANDARD_STREAM:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    target = Path(os.path.realpath(file))
    # Written completely or not at all: input and output may be the same file.
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as new:
            new.write(content)
        if target.exists():
            os.chmod(name, target.stat().st_mode & 0o7777)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
