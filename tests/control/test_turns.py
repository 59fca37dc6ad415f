"""Changes of the configuration that wait for their turn have a limit."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import httpx2
from tests.control.support import Server, running
from tests.support.waiting import PATIENCE

from polycast.config.edits import AddPath, Edit
from polycast.config.schema import Configuration
from polycast.control.turns import MAXIMUM_PENDING


def added(name: str, _: Configuration) -> Edit:
    return AddPath(name, {})


async def answers(server: Server) -> list[httpx2.Response]:
    text = (await server.get("/v1/config/text"))["text"]
    return [
        await server.post("/v1/config/paths/add/more", {}),
        await server.post("/v1/config/replace", {"text": text}),
        await server.api.post("/v3/config/paths/add/other", json={}),
    ]


async def test_changes_that_wait_are_limited_also_if_their_clients_have_left() -> None:
    begun, released = threading.Event(), threading.Event()

    def make(_: Configuration) -> Edit:
        begun.set()
        released.wait()
        return AddPath("cam", {})

    def ignore(*_: object) -> None:
        """Check or record nothing."""

    async with running() as server:
        server.api.timeout = httpx2.Timeout(PATIENCE)
        edit = server.app.settings.edit
        try:
            first = asyncio.create_task(edit(make, ignore, ignore))
            await asyncio.to_thread(begun.wait)
            waiting = [
                asyncio.create_task(edit(partial(added, f"cam{number}"), ignore, ignore))
                for number in range(MAXIMUM_PENDING - 1)
            ]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            refused = await answers(server)
        finally:
            released.set()
        await first
        reason = "too many changes of the configuration are waiting; nothing was changed: send the request again later"
        assert [answer.status_code for answer in refused] == [503] * 3
        assert [answer.json() for answer in refused] == [
            {"error": reason},
            {"error": reason},
            {"status": "error", "error": reason},
        ]
        await edit(partial(added, "last"), ignore, ignore)
        assert {"cam", f"cam{MAXIMUM_PENDING - 2}", "last"} <= server.app.configuration.paths.keys()
        assert [answer.status_code for answer in await answers(server)] == [200] * 3
