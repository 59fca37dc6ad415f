"""Headless Firefox for tests, spoken to over WebDriver BiDi: open a page, evaluate, wait."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import PATIENCE
from websockets.asyncio.client import ClientConnection, connect

_SETTINGS = """
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("browser.startup.page", 0);
user_pref("dom.ipc.processPrelaunch.enabled", false);
"""


class FirefoxPage:
    """A tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._context = ""

    async def open(self, address: str) -> None:
        """Begin, and open an address."""
        await self._call("session.new", capabilities={})
        tree = await self._call("browsingContext.getTree")
        self._context = tree["contexts"][0]["context"]
        await self._call("browsingContext.navigate", context=self._context, url=address, wait="complete")

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression: a text, a number or a truth value."""
        target = {"context": self._context}
        result = await self._call("script.evaluate", expression=expression, target=target, awaitPromise=True)
        assert result["type"] == "success", result
        return result["result"].get("value")

    async def wait_for(self, expression: str) -> None:
        """Wait until an expression is true; fail the test, saying what the page shows, when time is up."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < deadline:
            if await self.evaluate(f"Boolean({expression})"):
                return
            await asyncio.sleep(0.1)  # a page cannot set an event
        raise AssertionError(f"not in time: {expression}\n{await self.evaluate('document.body.innerText')}")

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        async with asyncio.timeout(PATIENCE):
            while True:
                message = json.loads(await self._connection.recv())
                if message.get("id") == number:
                    assert message["type"] == "success", message
                    return dict(message["result"])


@contextlib.asynccontextmanager
async def firefox(folder: Path) -> AsyncIterator[FirefoxPage]:
    """Run Firefox with a new profile below ``folder``; skip the test where there is none."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        if os.environ.get("POLYCAST_REQUIRE_TOOLS"):
            pytest.fail("Firefox is not installed")
        pytest.skip("Firefox is not installed")
    (folder / "user.js").write_text(_SETTINGS)
    process = await asyncio.create_subprocess_exec(
        program, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port=0", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        address = ""
        async with asyncio.timeout(PATIENCE):
            while not address:
                line = (await process.stderr.readline()).decode()
                assert line, "Firefox has ended"
                found = re.search(r"WebDriver BiDi listening on (ws://\S+)", line)
                address = found[1] if found else ""
        async with connect(f"{address}/session", max_size=None, ping_interval=None, compression=None) as connection:
            yield FirefoxPage(connection)
    finally:
        process.terminate()
        # What it still writes must not stop it from ending.
        await process.communicate()
