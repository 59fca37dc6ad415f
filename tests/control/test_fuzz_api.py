"""Random requests: never an internal error, never half a change; and many clients at once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from tests.control.support import FILE_HEAD, running, running_file

from polycast.config import load
from polycast.config.dialects.legacy import LEGACY
from polycast.config.dialects.views import view_of

KEPT = {"api", "apiAddress", "apiEncryption", "apiUser", "apiPass", "apiPersist", "logDestinations", "logFile"}
"""Keys that would lock the test itself out, or write files."""

NAMES = ["a", "a/b", "~^x", "all", "", "/", "a//b", "..", "%2e%2e", "\u00e9", "n" * 300, "~(", "a b", "list", "?", "#"]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 7, 1 << 70, 1.5, "", "x", "yes", "10s", "50M", "127.0.0.1:0", "127.0.0.1:99999"),
    *(":", "\x00", "\ud7ff", [], ["tcp"], ["10.0.0.0/8"], {}, {"a": {}}, "rtsp://h/p", "redirect", "a" * 5000),
]


def body(randomness: random.Random, keys: list[str]) -> Any:
    if randomness.random() < 0.05:
        return randomness.choice(VALUES)
    chosen = randomness.sample(keys, randomness.randrange(4))
    return {key: randomness.choice(VALUES) for key in chosen}


async def test_random_requests() -> None:
    randomness = random.Random(17)
    keys = sorted({*view_of(LEGACY).fields, "nonsense", "paths"} - KEPT)
    path_keys = sorted(
        {*view_of(LEGACY).path_fields, "nonsense"} - {"runOnInit", "runOnReady", "runOnRead", "runOnDemand"}
    )
    seen: set[int] = set()
    async with running() as server:
        for _ in range(400):
            name = randomness.choice(NAMES)
            kind = randomness.choice(["set", "paths/add/", "paths/edit/", "paths/remove/", "paths/replace"])
            target = kind + (name if kind.endswith("/") else "")
            if kind == "paths/replace":
                sent: Any = {randomness.choice(NAMES): body(randomness, path_keys) for _ in range(2)}
            else:
                sent = body(randomness, keys if kind == "set" else path_keys)
            before = server.app.configuration
            response = await server.post(f"/v1/config/{target.replace('?', '%3F').replace('#', '%23')}", sent)
            seen.add(response.status_code)
            assert response.status_code in (200, 400, 403, 404, 405, 409), (target, sent, response.text)
            if response.status_code != 200:
                assert response.json()["error"]
                assert server.app.configuration is before
            for path in (f"/v1/paths/get/{name}", f"/v1/{name}/list"):
                answer = await server.api.get(path.replace("?", "%3F").replace("#", "%23"))
                assert answer.status_code in (200, 404, 405), path
        assert {200, 400} <= seen
        assert (await server.api.get("/v1/config/get")).status_code == 200


async def test_many_clients_at_once(tmp_path: Path) -> None:
    file = tmp_path / "server.yml"
    async with running_file(file, FILE_HEAD + "apiPersist: yes\npaths:\n  # kept\n") as server:
        adds = [server.post(f"/v1/config/paths/add/p{number}") for number in range(30)]
        reads = [server.api.get("/v1/paths/list") for _ in range(30)]
        answers = await asyncio.gather(*adds, *reads)
        assert {answer.status_code for answer in answers} == {200}
        assert set(server.app.configuration.paths) == {f"p{number}" for number in range(30)}
        assert load(str(file), {}).configuration == server.app.configuration
        assert "# kept" in file.read_text()
        again = await asyncio.gather(*(server.post("/v1/config/paths/add/same") for _ in range(10)))
        assert sorted(answer.status_code for answer in again) == [200, *[400] * 9]
