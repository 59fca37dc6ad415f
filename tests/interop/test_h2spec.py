"""h2spec, the conformance tests of HTTP/2 and HPACK, against the listeners of HLS and the API, plain and with TLS."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.control.support import running
from tests.interop import go_programs, tools

PROGRAM = "github.com/summerwind/h2spec/cmd/h2spec"
TOTAL = "145 tests, 145 passed, 0 skipped, 0 failed"

# h2spec's release names no versions of what it needs; these are built by the Go of Debian 12, too.
REQUIREMENTS = """\
\tgithub.com/summerwind/h2spec v2.2.1+incompatible
\tgithub.com/fatih/color v1.15.0
\tgithub.com/spf13/cobra v1.7.0
\tgolang.org/x/net v0.17.0
"""

# The tests themselves take less than a second.
RUN_SECONDS = 90


@pytest.fixture(scope="module")
def h2spec() -> str:
    return go_programs.built("h2spec", PROGRAM, REQUIREMENTS)


@pytest.mark.timeout(go_programs.BUILD_SECONDS + 2 * RUN_SECONDS)
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
