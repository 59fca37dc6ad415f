"""Calls every operation of an OpenAPI document with what schemathesis makes of it.

A program of its own: it parses sources in a thread, which some Pythons (3.11) do not bear while another one does.
Reads JSON (the address, documents and whether to send wrong bodies), writes JSON: the statuses of each operation.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import schemathesis
import schemathesis.checks as checks
import schemathesis.specs.openapi.checks as openapi
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples

EXAMPLES = 6
"""Of each kind (right, wrong) for each operation, of which there are 14 and 36."""

ENDLESS = {"/v1/events", "/v3/events"}
"""Answers without an end; `tests.control.test_api` reads them."""

# The rest has no bodies, and a string in an address cannot be wrong; what a map's keys forbid is not generated.
WITH_WRONG_BODIES = {
    *("/v1/config/set", "/v1/config/paths/add/{name}", "/v1/config/paths/edit/{name}"),
    *("/v3/config/global/patch", "/v3/config/pathdefaults/patch", "/v3/config/paths/patch/{name}"),
    *("/v3/config/paths/add/{name}", "/v3/config/paths/replace/{name}"),
}

CHECKS = [
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_schema_conformance,
    openapi.negative_data_rejection,
]


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
        """Read, kick sessions, change the configuration, and read again; with ``wrong``, with wrong bodies too.

        What follows another document, which has just read everything, need not read it first.
        """
        every = [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]
        reads = [operation for operation in every if operation.method == "get" and operation.path not in ENDLESS]
        changes = sorted(
            (operation for operation in every if operation.method != "get"), key=lambda it: "/kick/" not in it.path
        )
        for operation in [*([] if self.statuses else reads), *changes, *reads]:
            call = partial(self.call, self.statuses.setdefault(operation.path, set()))
            try_examples(operation.as_strategy(), call)
            if wrong and operation.path in WITH_WRONG_BODIES:
                try_examples(operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE), call)

    def call(self, seen: set[int], case: Any) -> None:
        response = case.call(base_url=self.base, timeout=60)
        seen.add(response.status_code)
        case.validate_response(response, checks=CHECKS)


def main() -> None:
    asked = json.load(sys.stdin)
    caller = Caller(asked["base"])
    for document, wrong in asked["documents"]:
        caller.call_all(document, wrong=wrong)
    json.dump({path: sorted(statuses) for path, statuses in caller.statuses.items()}, sys.stdout)


if __name__ == "__main__":
    main()
