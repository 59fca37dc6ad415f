"""Programs that Go builds from modules: those on the PATH, or built once per test session."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from tests.interop import tools

BUILD_SECONDS = 600
"""Time to build a program, the download of its modules included."""


@functools.cache
def built(name: str, package: str, requirements: str) -> str:
    """Return the path of a program. ``requirements``: its modules with their versions, one a line."""
    found = shutil.which(name)
    if found is not None:
        return found
    tools.require("go")
    folder = Path(tempfile.mkdtemp(prefix="polycast-go-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "go.mod").write_text(f"module conformance\n\ngo 1.19\n\nrequire (\n{requirements})\n")
    command = ["go", "build", "-mod=mod", "-o", str(folder / name), package]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if result.returncode != 0 and not os.environ.get("POLYCAST_REQUIRE_TOOLS"):
        pytest.skip(f"{name} cannot be built here: {result.stderr[-300:]}")
    assert result.returncode == 0, result.stderr
    return str(folder / name)
