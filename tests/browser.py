"""Headless Chromium for tests, spoken to over its DevTools protocol: open pages, evaluate, wait, press keys, look.

::

    async with launch(tmp_path) as browser:
        page = await browser.open("http://127.0.0.1:8888/cam/")
        await page.wait_for("document.querySelector('video').currentTime > 1")
        await page.screenshot(tmp_path / "page.png")
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import PATIENCE
from websockets.asyncio.client import ClientConnection, connect

POLL_SECONDS = 0.1

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--disable-extensions", "--mute-audio", "--hide-scrollbars", "--force-color-profile=srgb",
    "--remote-debugging-port=0", "--window-size=1280,720",
)  # fmt: skip


CLOCK = """const ticking = (period, onTick) => {
  let before = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    onTick(Math.min(now - before, 2 * period));
    before = now;
  }, period);
  return () => clearInterval(timer);
};"""
"""JavaScript: ``ticking(period, onTick)`` calls ``onTick`` every ``period`` milliseconds, with those that have passed,
until the function that it returns is called. While a busy machine lets the page stand still, no time passes: so it
measures what the page was sent, not how fast the machine is."""


class BrowserError(Exception):
    """The browser refused a command, or a script in a page failed."""


def require_chromium() -> str:
    """Return the browser's program; skip the test where there is none, fail where every tool must be there (CI)."""
    for program in PROGRAMS:
        found = shutil.which(program)
        if found is not None:
            return found
    if os.environ.get("POLYCAST_REQUIRE_TOOLS"):
        pytest.fail("Chromium is not installed")
    pytest.skip("Chromium is not installed")


@dataclass
class Page:
    """A tab. ``console`` holds what scripts wrote and threw, ``requests`` each response's status and address."""

    browser: Browser
    session: str
    target: str
    console: list[str] = field(default_factory=list)
    requests: list[tuple[int, str, str]] = field(default_factory=list)
    """Status, protocol ("http/1.1", "h2") and address of each answer."""

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a DevTools command to this tab and return its result."""
        return await self.browser.call(method, self.session, **parameters)

    async def navigate(self, address: str) -> None:
        """Go to an address; raises BrowserError when nothing could be loaded."""
        result = await self.call("Page.navigate", url=address)
        if "errorText" in result:
            raise BrowserError(f"{address}: {result['errorText']}")

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, which may be a promise; raises BrowserError when it throws."""
        result = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=False
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return result["result"].get("value")

    async def wait_for(self, expression: str, seconds: float = PATIENCE) -> Any:
        """Return the expression's value once it is true; fail the test, saying what the page shows, when time is up."""
        last: object = None
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            try:
                last = await self.evaluate(expression)
            except BrowserError as error:  # the page may still be loading
                last = error
            if last and not isinstance(last, BrowserError):
                return last
            await asyncio.sleep(POLL_SECONDS)
        raise AssertionError(f"not within {seconds} s: {expression}\nlast: {last!r}\n{await self.describe()}")

    async def describe(self) -> str:
        """Return the page's text, the console and the last requests, for messages of failed tests."""
        text = await self.evaluate("document.body?.innerText ?? ''")
        requests = "\n".join(f"  {status} {protocol} {url}" for status, protocol, url in self.requests[-25:])
        console = "\n".join(f"  {line}" for line in self.console[-25:])
        return f"text: {text!r}\nconsole:\n{console}\nrequests:\n{requests}"

    async def press(self, key: str) -> None:
        """Press and release a key, by its DOM name ("m", " ", "ArrowRight", "Tab", "Enter")."""
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        code = codes.get(key, ord(key.upper()) if len(key) == 1 else 0)
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    async def click(self, selector: str) -> None:
        """Click on the middle of an element with the mouse, as a user does."""
        box = await self.evaluate(
            f"(() => {{ const r = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return {x: r.x + r.width / 2, y: r.y + r.height / 2}; })()"
        )
        await self.call("Input.dispatchMouseEvent", type="mouseMoved", **box)
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **box)

    async def resize(self, width: int, height: int) -> None:
        """Set the size of the page in CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def offline(self, off: bool) -> None:
        """Cut the page's network, or bring it back."""
        await self.call(
            "Network.emulateNetworkConditions", offline=off, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )

    async def screenshot(self, file: Path | None = None) -> bytes:
        """Return a PNG of what the page shows, and write it to ``file``."""
        result = await self.call("Page.captureScreenshot", format="png")
        picture = base64.b64decode(result["data"])
        if file is not None:
            file.write_bytes(picture)
        return picture

    async def close(self) -> None:
        await self.browser.call("Target.closeTarget", None, targetId=self.target)

    def receive(self, method: str, parameters: dict[str, Any]) -> None:
        """Take an event of this tab."""
        if method == "Runtime.consoleAPICalled":
            words = (str(word.get("value", word.get("description", ""))) for word in parameters["args"])
            self.console.append(f"{parameters['type']}: {' '.join(words)}")
        elif method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.console.append(f"exception: {details.get('exception', {}).get('description') or details['text']}")
        elif method == "Log.entryAdded":
            entry = parameters["entry"]
            self.console.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}")
        elif method == "Network.responseReceived":
            response = parameters["response"]
            self.requests.append((response["status"], response.get("protocol", ""), response["url"]))


class Browser:
    """A running Chromium."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def open(self, address: str) -> Page:
        """Open an address in a new tab."""
        target = (await self.call("Target.createTarget", None, url="about:blank"))["targetId"]
        session = (await self.call("Target.attachToTarget", None, targetId=target, flatten=True))["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Runtime", "Log", "Network", "Page"):
            await page.call(f"{domain}.enable")
        await page.navigate(address)
        return page

    async def call(self, method: str, session: str | None, **parameters: Any) -> dict[str, Any]:
        """Send a DevTools command and return its result; raises BrowserError when it is refused."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._connection.send(json.dumps(message if session is None else message | {"sessionId": session}))
        try:
            reply = await asyncio.wait_for(answer, PATIENCE)
        finally:
            self._answers.pop(number, None)
        if "error" in reply:
            raise BrowserError(f"{method}: {reply['error']['message']}")
        result: dict[str, Any] = reply["result"]
        return result

    async def stop(self) -> None:
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    async def _read(self) -> None:
        async for text in self._connection:
            message = json.loads(text)
            answer = self._answers.get(message.get("id", 0))
            page = self._pages.get(message.get("sessionId", ""))
            if answer is not None and not answer.done():
                answer.set_result(message)
            elif page is not None and "method" in message:
                page.receive(message["method"], message["params"])
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(BrowserError("the browser has gone"))


@contextlib.asynccontextmanager
async def launch(folder: Path, *flags: str, ignore_certificates: bool = False) -> AsyncIterator[Browser]:
    """Run Chromium with a new, empty profile below ``folder``, where its output goes too."""
    program = require_chromium()
    profile = Path(tempfile.mkdtemp(prefix="chromium-", dir=folder))
    extra = ("--ignore-certificate-errors",) if ignore_certificates else ()
    with (profile / "output.txt").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program, *FLAGS, *extra, *flags, f"--user-data-dir={profile}", "about:blank",
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        address = await _debugger(profile, process)
        async with connect(address, max_size=None, ping_interval=None, compression=None) as connection:
            browser = Browser(connection)
            try:
                yield browser
            finally:
                await browser.stop()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _debugger(profile: Path, process: asyncio.subprocess.Process) -> str:
    """Return the address of the debugger, which Chromium writes into its profile once it listens."""
    file = profile / "DevToolsActivePort"
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while asyncio.get_running_loop().time() < deadline and process.returncode is None:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        await asyncio.sleep(POLL_SECONDS)
    raise AssertionError(f"Chromium did not start:\n{(profile / 'output.txt').read_text(errors='replace')}")
