"""Headless Firefox for tests, spoken to over WebDriver BiDi: open a page, evaluate, wait."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import PATIENCE
from websockets.asyncio.client import ClientConnection, connect

POLL_SECONDS = 0.1

_SETTINGS = """
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("browser.startup.page", 0);
user_pref("dom.ipc.processPrelaunch.enabled", false);
"""


class FirefoxPage:
    """A tab, with a profile of its own."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._profile = ""
        self._context = ""

    async def begin(self) -> None:
        """Make the empty profile and the tab."""
        await self._call("session.new", capabilities={})
        self._profile = (await self._call("browser.createUserContext"))["userContext"]
        created = await self._call("browsingContext.create", type="tab", userContext=self._profile)
        self._context = created["context"]

    async def open(self, address: str) -> None:
        """Open an address."""
        await self._call("browsingContext.navigate", context=self._context, url=address, wait="complete")

    async def end(self) -> None:
        """Close the tab, and let others use the browser."""
        await self._call("browser.removeUserContext", userContext=self._profile)
        await self._call("session.end")

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
            await asyncio.sleep(POLL_SECONDS)  # a page cannot set an event
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


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run Firefox with a new profile below ``folder``, and yield its address; skip the test where there is none.

    Its start takes five seconds of a processor, so tests share it.
    """
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        if os.environ.get("POLYCAST_REQUIRE_TOOLS"):
            pytest.fail("Firefox is not installed")
        pytest.skip("Firefox is not installed")
    (folder / "user.js").write_text(_SETTINGS)
    output = folder / "output.txt"
    with output.open("wb") as errors:
        process = subprocess.Popen(
            [program, "--headless", "--no-remote", "--profile", folder, "--remote-debugging-port=0", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            env={**os.environ, "HOME": str(folder)},
        )  # fmt: skip
    try:
        yield f"{_address(process, output)}/session"
    finally:
        process.terminate()
        process.wait()


def _address(process: subprocess.Popen[bytes], output: Path) -> str:
    """Return the address at which Firefox says that it listens."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"WebDriver BiDi listening on (ws://\S+)", output.read_text(errors="replace"))
        if found:
            return found[1]
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"Firefox did not start:\n{output.read_text(errors='replace')}")


@contextlib.asynccontextmanager
async def tab(address: str) -> AsyncIterator[FirefoxPage]:
    """Use a tab of Firefox, which listens at this address, until the block ends; one at a time."""
    async with connect(address, max_size=None, ping_interval=None, compression=None) as connection:
        page = FirefoxPage(connection)
        await page.begin()
        try:
            yield page
        finally:
            await page.end()
