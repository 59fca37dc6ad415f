"""Headless Chromium for tests, spoken to over its DevTools protocol: open pages, evaluate, wait, press keys, look.

::

    async with launch() as browser:
        page = await browser.open("http://127.0.0.1:8888/cam/")
        await page.wait_for("document.querySelector('video').currentTime > 1")
        await page.screenshot(tmp_path / "page.png")
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.support.waiting import PATIENCE
from websockets.asyncio.client import ClientConnection, connect

POLL_SECONDS = 0.1

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--disable-extensions", "--mute-audio", "--hide-scrollbars", "--force-color-profile=srgb",
    "--remote-debugging-port=0", "--window-size=1280,720", "--no-startup-window",
    # Pages of the address bar that every window loads, although nobody sees them: more work than most pages of a test.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup",
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


def merged(flags: tuple[str, ...]) -> list[str]:
    """Return the flags with one list of disabled features, as Chromium obeys the last such list only."""
    name = "--disable-features="
    features = [flag.removeprefix(name) for flag in flags if flag.startswith(name)]
    return [*(flag for flag in flags if not flag.startswith(name)), name + ",".join(features)]


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

    async def call(self, method: str, *, patience: float = PATIENCE, **parameters: Any) -> dict[str, Any]:
        """Send a DevTools command to this tab and return its result, within ``patience`` seconds."""
        return await self.browser.call(method, self.session, patience=patience, **parameters)

    async def navigate(self, address: str) -> None:
        """Go to an address; raises BrowserError when nothing could be loaded."""
        result = await self.call("Page.navigate", url=address)
        if "errorText" in result:
            raise BrowserError(f"{address}: {result['errorText']}")

    async def evaluate(self, expression: str, *, seconds: float = 0.0) -> Any:
        """Return the value of an expression; raises BrowserError when it throws. It may be a promise that is kept after
        ``seconds`` at the earliest."""
        result = await self.call(
            "Runtime.evaluate",
            patience=seconds + PATIENCE,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=False,
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
    """A running Chromium, with a profile that is empty when `launch` returns."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._profile = ""
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def start(self) -> None:
        """Make the empty profile; it goes with the connection."""
        created = await self.call("Target.createBrowserContext", None, disposeOnDetach=True)
        self._profile = created["browserContextId"]

    async def open(self, address: str) -> Page:
        """Open an address in a new tab."""
        created = await self.call("Target.createTarget", None, url="about:blank", browserContextId=self._profile)
        target = created["targetId"]
        session = (await self.call("Target.attachToTarget", None, targetId=target, flatten=True))["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Runtime", "Log", "Network", "Page"):
            await page.call(f"{domain}.enable")
        await page.navigate(address)
        return page

    async def call(
        self, method: str, session: str | None, *, patience: float = PATIENCE, **parameters: Any
    ) -> dict[str, Any]:
        """Send a DevTools command and return its result; raises BrowserError when it is refused."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._connection.send(json.dumps(message if session is None else message | {"sessionId": session}))
        try:
            reply = await asyncio.wait_for(answer, patience)
        finally:
            self._answers.pop(number, None)
        if "error" in reply:
            raise BrowserError(f"{method}: {reply['error']['message']}")
        result: dict[str, Any] = reply["result"]
        return result

    async def forget(self) -> None:
        """Close the pages and remove the profile."""
        await self.call("Target.disposeBrowserContext", None, browserContextId=self._profile)

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


class Program:
    """A process of Chromium. Its start takes a second, so it stays for tests that want the same flags."""

    running: ClassVar[list[Program]] = []

    def __init__(self, flags: tuple[str, ...]) -> None:
        self.flags = flags
        self.is_used = False
        program = require_chromium()
        # Below /tmp, since the name of a Unix socket is short. Chromium keeps one beside the profile, where TMPDIR is.
        self.folder = Path(tempfile.mkdtemp(prefix="polycast-chromium-"))
        self._output = self.folder / "output.txt"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [program, *merged((*FLAGS, *flags)), f"--user-data-dir={self.folder / 'profile'}"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, "TMPDIR": str(self.folder)},
            )  # fmt: skip
        self.running.append(self)

    @classmethod
    def with_flags(cls, flags: tuple[str, ...]) -> Program:
        """Return a process with these flags that nobody uses, and end the others that nobody uses."""
        found = None
        for program in [program for program in cls.running if not program.is_used]:
            if found is None and program.flags == flags and program.process.poll() is None:
                found = program
            else:
                program.end()
        return found or cls(flags)

    async def address(self) -> str:
        """Return the address of the debugger, which Chromium writes into its profile once it listens."""
        file = self.folder / "profile" / "DevToolsActivePort"
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < deadline and self.process.poll() is None:
            lines = file.read_text().splitlines() if file.exists() else []
            if len(lines) == 2:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            await asyncio.sleep(POLL_SECONDS)
        raise AssertionError(f"Chromium did not start:\n{self._output.read_text(errors='replace')}")

    def end(self) -> None:
        """Kill it, and remove what it wrote."""
        if self in self.running:
            self.running.remove(self)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)


@atexit.register
def _end_all() -> None:
    for program in list(Program.running):
        program.end()


@contextlib.asynccontextmanager
async def launch(*flags: str, ignore_certificates: bool = False) -> AsyncIterator[Browser]:
    """Open Chromium with an empty profile until the block ends; after a failure, the next one gets another process."""
    program = Program.with_flags((*flags, "--ignore-certificate-errors") if ignore_certificates else flags)
    program.is_used = True
    try:
        async with connect(await program.address(), max_size=None, ping_interval=None, compression=None) as connection:
            browser = Browser(connection)
            try:
                await browser.start()
                yield browser
                await browser.forget()
            finally:
                await browser.stop()
    except BaseException:
        program.end()
        raise
    finally:
        program.is_used = False
