"""What is imported while streams run is imported beside the loop; a start loads only what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """
import asyncio, sys, threading

from polycast.app import Application
from polycast.config import PathConfiguration, load_bytes, replace, validate
from polycast.hub.access_request import AccessRequest, Action, PlainCredentials

START = (
    "rtspAddress: 127.0.0.1:0\\nprotocols: [tcp]\\nrtmpDisable: yes\\nhlsDisable: yes\\napiAddress: 127.0.0.1:0\\n"
    "metricsAddress: 127.0.0.1:0\\npprofAddress: 127.0.0.1:0\\nrtmpAddress: 127.0.0.1:0\\nhlsAddress: 127.0.0.1:0\\n"
    "paths: {all: {}}\\n"
)

SMALL = {"resource"}  # parts of the standard library that take no time

class Watch:
    found = []

    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is threading.main_thread():
            self.found.append(name)

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    writer.close()

async def main():
    external = await asyncio.start_server(answer, "127.0.0.1", 0)
    app = Application(load_bytes(START.encode(), {}))
    await app.start()
    sys.meta_path.insert(0, Watch())
    port = external.sockets[0].getsockname()[1]
    new = validate(replace(
        app.configuration, rtmp=True, hls=True, api=True, metrics=True, pprof=True,
        external_authentication_url=f"http://127.0.0.1:{port}/", hls_encryption=False,
        paths={
            "all": PathConfiguration(),
            "a": PathConfiguration(source="rtmp://127.0.0.1:1/a", source_on_demand=True),
            "b": PathConfiguration(source=f"http://127.0.0.1:{port}/b"),
        },
    ))
    await app.reload(new)
    await app.hub.authorize(AccessRequest(Action.READ, "x", "", "127.0.0.1", PlainCredentials("u", "p")))
    reader, writer = await asyncio.open_connection("127.0.0.1", app.servers["HLS"].ports["hlsAddress"])
    writer.write(b"GET /x/ HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    await reader.read()
    writer.close()
    await asyncio.sleep(0)
    print(sorted(name for name in Watch.found if name not in SMALL))
    await app.stop()
    external.close()

asyncio.run(main())
"""


def run(program: str) -> str:
    """Return what a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nothing_is_imported_on_the_loop_when_a_configuration_changes() -> None:
    assert run(PROGRAM) == "[]"


def loaded_for(configuration: str) -> str:
    """Return what a start of the server with this configuration has loaded: packages, and the authorities."""
    program = (
        "import sys\n"
        "import polycast.cli.serve\n"
        "from polycast.app.prepare import import_for\n"
        "from polycast.config import load_bytes\n"
        "from polycast.net import dial\n"
        f"import_for(load_bytes({configuration.encode()!r}, {{}}).configuration)\n"
        "print(*(name for name in ('av', 'httpx2', 'numpy', 'starlette') if name in sys.modules))\n"
        "print(dial._verifying_context.cache_info().currsize, 'list of authorities')\n"
    )
    return run(program).replace("\n", " ").strip()


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ("paths: {all: {}}", "0 list of authorities"),
        ("paths: {a: {source: rpiCamera}}", "0 list of authorities"),
        ("api: yes\npaths: {all: {}}", "starlette 0 list of authorities"),
        ("paths: {a: {source: 'rtsps://127.0.0.1/a'}}", "1 list of authorities"),
        ("paths: {a: {source: redirect, sourceRedirect: 'rtsps://127.0.0.1/a'}}", "1 list of authorities"),
        ("paths: {a: {fallback: 'rtsps://127.0.0.1/a'}}", "1 list of authorities"),
        ("paths: {a: {source: 'https://127.0.0.1/a'}}", "httpx2 1 list of authorities"),
    ],
)
def test_a_start_loads_what_its_configuration_needs_and_nothing_else(configuration: str, expected: str) -> None:
    assert loaded_for(configuration) == expected
