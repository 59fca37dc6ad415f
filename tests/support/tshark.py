"""Captures, as Wireshark's program for terminals shows them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.interop.tools import RUN_SECONDS, require


def read_capture(file: Path, *fields: str, options: Sequence[str] = ()) -> list[list[str]]:
    """Return these fields of each packet in a file; texts of a packet that are several are separated by commas."""
    require("tshark")
    command = ["tshark", "-n", "-r", str(file), "-T", "fields", *options]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]
