"""Every operation of the API's own document, called with what schemathesis makes of it, right and wrong."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from tests.control.support import running
from tests.protocols.rtsp.support import key_unit, rtp

schemathesis = pytest.importorskip("schemathesis")
openapi = pytest.importorskip("schemathesis.specs.openapi.checks")
checks = pytest.importorskip("schemathesis.checks")
failures = pytest.importorskip("schemathesis.core.failures")

EXAMPLES = 12
"""Of each kind (right, wrong) for each operation; there are about 20, and the whole test has about 15 seconds."""

ENDLESS = {"/v1/events"}
"""Answers without an end; `tests.control.test_api` reads them."""

LOCKING_OUT = {
    *("api", "apiAddress", "apiEncryption", "apiUser", "apiPass", "apiPersist", "logDestinations", "logFile"),
    *("metrics", "metricsAddress", "pprof", "pprofAddress", "rtspAddress", "rtmpAddress", "hlsAddress"),
    *("rtspDisable", "rtmpDisable", "hlsDisable"),
}
"""Settings that would take a service away from the test (its list is answered with 404 then), or write files."""

COMMANDS = {"runOnInit", "runOnDemand", "runOnReady", "runOnRead", "runOnConnect"}
"""Settings that start programs with random names."""

# The rest has no bodies, and a string in an address cannot be wrong; what a map's keys forbid is not generated.
WITH_WRONG_BODIES = {"/v1/config/set", "/v1/config/paths/add/{name}", "/v1/config/paths/edit/{name}"}

CHECKS = [
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_schema_conformance,
    openapi.negative_data_rejection,
]


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


def try_examples(requests: Any, check: Callable[[Any], None]) -> None:
    """Call ``check`` with requests of a strategy, the same ones each time."""

    def body(case: Any) -> None:
        check(case)

    configured = examples(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    configured(given(requests)(body))()


class Caller:
    """Calls the operations of documents; keeps the statuses of each."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.statuses: dict[str, set[int]] = {}

    def call_all(self, document: dict[str, Any], *, wrong: bool) -> None:
        """Read, kick sessions, change the configuration, and read again; with ``wrong``, with wrong bodies too."""
        every = [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]
        reads = [operation for operation in every if operation.method == "get" and operation.path not in ENDLESS]
        changes = sorted(
            (operation for operation in every if operation.method != "get"), key=lambda it: "/kick/" not in it.path
        )
        for operation in [*reads, *changes, *reads]:
            call = partial(self.call, self.statuses.setdefault(operation.path, set()))
            try_examples(operation.as_strategy(), call)
            if wrong and operation.path in WITH_WRONG_BODIES:
                try_examples(operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE), call)

    def call(self, seen: set[int], case: Any) -> None:
        response = case.call(base_url=self.base, timeout=10)
        seen.add(response.status_code)
        case.validate_response(response, checks=CHECKS)


async def test_every_operation_keeps_to_the_document() -> None:
    async with running(paths={"all": {}, "cam": {}}) as server:
        for name in ("live", "other"):
            publisher = await server.publisher(name)
            publisher.send_frame(0, rtp(1, key_unit()))
            await server.reader(name)
        sessions = list((await server.get("/v1/rtspsessions/list"))["items"])
        assert len(sessions) == 4
        document = await server.get("/v1/openapi.json")
        caller = Caller(f"http://127.0.0.1:{server.app.control.ports['apiAddress']}")
        known = prepared(document, {"name": ["live", "cam", "all", "none"], "id": [*sessions, "0"]})
        await asyncio.to_thread(caller.call_all, known, wrong=False)
        await asyncio.to_thread(caller.call_all, prepared(document), wrong=True)
        assert (await server.api.get("/v1/config/get")).status_code == 200
    statuses = caller.statuses
    assert len(statuses) >= 14
    for path in ("/v1/paths/get/{name}", "/v1/rtspsessions/kick/{id}"):
        assert statuses[path] == {200, 404}, path
    for change in ("set", "paths/add/{name}", "paths/edit/{name}", "paths/remove/{name}", "paths/replace"):
        assert {200, 400} <= statuses[f"/v1/config/{change}"], change


async def test_a_difference_to_the_document_is_found() -> None:
    async with running() as server:
        document = prepared(await server.get("/v1/openapi.json"))
        document["components"]["schemas"]["ConfStatus"]["required"].append("nonsense")
        caller = Caller(f"http://127.0.0.1:{server.app.control.ports['apiAddress']}")
        with pytest.raises(failures.FailureGroup, match="Response violates schema"):
            await asyncio.to_thread(caller.call_all, document, wrong=False)
