"""Every operation of the API's own documents, called with what schemathesis makes of it, right and wrong."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.control.support import Server, running
from tests.support.rtp import key_unit, rtp

from polycast.app.openapi_document import document_of_v3

pytest.importorskip("schemathesis")

ROOT = Path(__file__).resolve().parents[2]

REPLACING_ALL = {"/v1/config/replace", "/v1/config/versions/restore/{number}"}
"""Operations after which the API may be off."""
LOCKING_OUT = {
    *("api", "apiAddress", "apiEncryption", "apiUser", "apiPass", "apiPersist", "logDestinations", "logFile"),
    *("metrics", "metricsAddress", "pprof", "pprofAddress", "rtspAddress", "rtmpAddress", "hlsAddress"),
    *("rtspDisable", "rtmpDisable", "hlsDisable", "rtsp", "rtmp", "hls", "webrtc", "webrtcDisable"),
}
"""Settings that would take a service away from the test (its list is answered with 404 then), or write files."""

COMMAND = re.compile(r"runOn\w+(?<!Restart)(?<!StartTimeout)(?<!CloseAfter)")
"""Settings that start programs with random names."""


UNKNOWN = "0f9e2a4e-7a07-4f5c-8d1b-5d2d5b7f3c11"
"""The id of no session."""


def prepared(document: dict[str, Any], known: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """Return the document without the settings that would end the test; with ``known``, only with names from there."""
    changed = copy.deepcopy(document)
    for path in REPLACING_ALL & changed["paths"].keys():
        del changed["paths"][path]
    for name in {"ConfInput", "GlobalConfInput", "PathConfInput"} & changed["components"]["schemas"].keys():
        properties = changed["components"]["schemas"][name]["properties"]
        for key in [key for key in properties if key in LOCKING_OUT or COMMAND.fullmatch(key)]:
            del properties[key]
    if known is not None:
        for operations in changed["paths"].values():
            for operation in operations.values():
                for parameter in operation.get("parameters", ()):
                    if parameter["in"] == "path":
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


CHANGES = {
    "v1": {"set", "paths/add/{name}", "paths/edit/{name}", "paths/remove/{name}", "paths/replace"},
    "v3": {
        *("global/patch", "pathdefaults/patch", "paths/add/{name}", "paths/patch/{name}", "paths/replace/{name}"),
        *("paths/delete/{name}", "paths"),
    },
}
REFUSED = {"/v1/config/paths/remove/{name}": 400, "/v3/config/paths/delete/{name}": 404}
"""Of changes without a body: the status if there is no such path. With wrong bodies it is 400."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("version", "operations"), [("v1", 14), ("v3", 36)])
async def test_every_operation_keeps_to_the_document(version: str, operations: int) -> None:
    async with running(paths={"all": {}, "cam": {}}, readTimeout="300s") as server:
        for name in ("live", "other"):
            publisher = await server.publisher(name)
            publisher.send_frame(0, rtp(1, key_unit()))
            await server.reader(name)
        items = (await server.get(f"/{version}/rtspsessions/list"))["items"]
        sessions = list(items) if version == "v1" else [item["id"] for item in items]
        assert len(sessions) == 4
        # The whole one of v3 includes servers that are not running.
        document = document_of_v3() if version == "v3" else await server.get("/v1/openapi.json")
        names = {"name": ["live", "cam", "all", "none"], "id": [*sessions, UNKNOWN], "number": ["1", "99"]}
        known = prepared(document, names)
        code, output, errors = await call_all(server, [(known, False), (prepared(document), True)])
        assert code == 0, errors
        assert (await server.api.get("/v1/config/get")).status_code == 200
    statuses = {path: set(seen) for path, seen in json.loads(output).items()}
    assert len(statuses) >= operations
    for path in (f"/{version}/paths/get/{{name}}", f"/{version}/rtspsessions/kick/{{id}}"):
        assert {200, 404} <= statuses[path] <= {200, 400, 404}, path
    if version == "v3":
        assert statuses["/v3/rtspssessions/list"] == {404}, "that server is not running"
    for change in (f"/{version}/config/{name}" for name in CHANGES[version]):
        assert {200, REFUSED.get(change, 400)} <= statuses[change], change


async def test_a_difference_to_the_document_is_found() -> None:
    async with running() as server:
        document = prepared(await server.get("/v1/openapi.json"))
        document["components"]["schemas"]["ConfStatus"]["required"].append("nonsense")
        code, _, errors = await call_all(server, [(document, False)])
        assert code == 1
        assert "Response violates schema" in errors
