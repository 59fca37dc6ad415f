"""h2spec, the conformance tests of HTTP/2 and HPACK, against the listeners of HLS and the API, plain and with TLS."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.control.support import running
from tests.interop import tools

PROGRAM = "github.com/summerwind/h2spec/cmd/h2spec"
TOTAL = "145 tests, 145 passed, 0 skipped, 0 failed"

# h2spec's release names no versions of what it needs; these are built by the Go of Debian 12, too.
MODULE = """\
module conformance

go 1.19

require (
\tgithub.com/summerwind/h2spec v2.2.1+incompatible
\tgithub.com/fatih/color v1.15.0
\tgithub.com/spf13/cobra v1.7.0
\tgolang.org/x/net v0.17.0
)
"""

# Seconds to build the program, modules included; the tests themselves take less than a second.
BUILD_SECONDS = 600
RUN_SECONDS = 90


@pytest.fixture(scope="module")
def h2spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program: the one on the PATH, or built by Go."""
    found = shutil.which("h2spec")
    if found is not None:
        return found
    tools.require("go")
    folder = tmp_path_factory.mktemp("go")
    (folder / "go.mod").write_text(MODULE)
    command = ["go", "build", "-mod=mod", "-o", str(folder / "h2spec"), PROGRAM]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if built.returncode != 0 and not os.environ.get("POLYCAST_REQUIRE_TOOLS"):
        pytest.skip(f"h2spec cannot be built here: {built.stderr[-300:]}")
    assert built.returncode == 0, built.stderr
    return str(folder / "h2spec")


@pytest.mark.timeout(BUILD_SECONDS + 2 * RUN_SECONDS)
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("service", ["HLS", "API"])
async def test_conformance(h2spec: str, service: str, encrypted: bool, tmp_path: Path) -> None:
    values: dict[str, Any] = {}
    if encrypted:
        tools.make_certificate(tmp_path)
        key, certificate = str(tmp_path / "server.key"), str(tmp_path / "server.crt")
        values = {f"{name}Encryption": True for name in ("hls", "api")}
        values |= {"hlsServerKey": key, "hlsServerCert": certificate, "apiServerKey": key, "apiServerCert": certificate}
    async with running(**values) as server:
        ports = {"HLS": server.app.servers["HLS"].ports["hlsAddress"], "API": server.app.control.ports["apiAddress"]}
        command = [h2spec, "-h", "127.0.0.1", "-p", str(ports[service]), "--timeout", "10"]
        process = await asyncio.create_subprocess_exec(
            *command, *(["-t", "-k"] if encrypted else []), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    text = output.decode()
    assert TOTAL in text, text[text.rfind("Failures:") :]
