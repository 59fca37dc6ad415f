"""Every operation of the API's own document, called with what schemathesis makes of it, right and wrong."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.control.support import Server, running
from tests.support.rtp import key_unit, rtp

pytest.importorskip("schemathesis")

ROOT = Path(__file__).resolve().parents[2]

LOCKING_OUT = {
    *("api", "apiAddress", "apiEncryption", "apiUser", "apiPass", "apiPersist", "logDestinations", "logFile"),
    *("metrics", "metricsAddress", "pprof", "pprofAddress", "rtspAddress", "rtmpAddress", "hlsAddress"),
    *("rtspDisable", "rtmpDisable", "hlsDisable"),
}
"""Settings that would take a service away from the test (its list is answered with 404 then), or write files."""

COMMANDS = {"runOnInit", "runOnDemand", "runOnReady", "runOnRead", "runOnConnect"}
"""Settings that start programs with random names."""


def prepared(document: dict[str, Any], known: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """Return the document without the settings that would end the test; with ``known``, only with names from there."""
    changed = copy.deepcopy(document)
    for name in ("ConfInput", "PathConfInput"):
        properties = changed["components"]["schemas"][name]["properties"]
        for key in LOCKING_OUT | COMMANDS:
            properties.pop(key, None)
    if known is not None:
        for operations in changed["paths"].values():
            for operation in operations.values():
                for parameter in operation.get("parameters", ()):
                    parameter["schema"] = {"enum": known[parameter["name"]]}
    return changed


async def call_all(server: Server, documents: list[tuple[dict[str, Any], bool]]) -> tuple[int, str, str]:
    """Run the program that calls; return its exit status and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.control.schemathesis_program"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    asked = {"base": f"http://127.0.0.1:{server.app.control.ports['apiAddress']}", "documents": documents}
    output, errors = await process.communicate(json.dumps(asked).encode())
    return await process.wait(), output.decode(), errors.decode()


async def test_every_operation_keeps_to_the_document() -> None:
    async with running(paths={"all": {}, "cam": {}}) as server:
        for name in ("live", "other"):
            publisher = await server.publisher(name)
            publisher.send_frame(0, rtp(1, key_unit()))
            await server.reader(name)
        sessions = list((await server.get("/v1/rtspsessions/list"))["items"])
        assert len(sessions) == 4
        document = await server.get("/v1/openapi.json")
        known = prepared(document, {"name": ["live", "cam", "all", "none"], "id": [*sessions, "0"]})
        code, output, errors = await call_all(server, [(known, False), (prepared(document), True)])
        assert code == 0, errors
        assert (await server.api.get("/v1/config/get")).status_code == 200
    statuses = {path: set(seen) for path, seen in json.loads(output).items()}
    assert len(statuses) >= 14
    for path in ("/v1/paths/get/{name}", "/v1/rtspsessions/kick/{id}"):
        assert statuses[path] == {200, 404}, path
    for change in ("set", "paths/add/{name}", "paths/edit/{name}", "paths/remove/{name}", "paths/replace"):
        assert {200, 400} <= statuses[f"/v1/config/{change}"], change


async def test_a_difference_to_the_document_is_found() -> None:
    async with running() as server:
        document = prepared(await server.get("/v1/openapi.json"))
        document["components"]["schemas"]["ConfStatus"]["required"].append("nonsense")
        code, _, errors = await call_all(server, [(document, False)])
        assert code == 1
        assert "Response violates schema" in errors
