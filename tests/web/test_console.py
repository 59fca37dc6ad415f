"""The console in Chromium: what is live, a stream with its player, sessions, signing in; axe-core finds no faults."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.browser import BrowserError, Page, launch
from tests.control.support import Server, running, running_file
from tests.interop import tools
from tests.support.camera import StandInCamera
from tests.support.waiting import PATIENCE
from tests.web import firefox
from tests.web.axe import violations

from polycast.app import Application
from polycast.app.cluster import ClusterMember
from polycast.control.contract import ClusterNode, ClusterPath

pytestmark = pytest.mark.interop

PATH = "yard/north"
PLAYED = "document.querySelector('video')?.currentTime ?? 0"
SIZE_IS_RIGHT = "((video) => video.videoWidth === 320 && video.videoHeight === 180)(document.querySelector('video'))"
PHONE = (360, 740)
DESK = (1280, 900)

TYPE = """(text) => {
  const field = document.querySelector("[type=search]");
  field.value = text;
  field.oninput({target: field});
}"""
SIGN_IN = """(user, password) => {
  const {elements} = document.querySelector("form");
  elements.user.value = user;
  elements.password.value = password;
  elements[elements.length - 1].click();
}"""


def address(server: Server, place: str = "") -> str:
    return f"http://127.0.0.1:{server.app.control.ports['apiAddress']}/#/{place}"


async def go(page: Page, place: str, title: str) -> None:
    """Go to another page of the console."""
    await page.evaluate(f"location.hash = {json.dumps(f'#/{place}')}")
    await page.wait_for(f"document.querySelector('#main h1')?.innerText === {json.dumps(title)}")


async def click(page: Page, selector: str) -> None:
    """Click on an element once it is there."""
    await page.wait_for(f"document.querySelector({json.dumps(selector)})")
    await page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


async def press(page: Page, text: str) -> None:
    """Click on the button with a text."""
    button = f"[...document.querySelectorAll('#main button')].find((button) => button.innerText === {json.dumps(text)})"
    await page.wait_for(f"Boolean({button})")
    await page.evaluate(f"{button}.click()")


async def has(page: Page, text: str) -> None:
    """Wait until the page shows a text."""
    await page.wait_for(f"document.body.innerText.includes({json.dumps(text)})")


async def is_usable(page: Page) -> None:
    """Check a page for faults, light, dark and on a phone."""
    for theme in ("light", "dark"):  # which differ in their colours only
        await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        assert await violations(page, only_colours=theme == "dark") == [], theme
    await page.resize(*PHONE)
    assert await violations(page) == []
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE[0], "the page is wider than a phone"
    await page.resize(*DESK)


async def in_player(page: Page, expression: str) -> Any:
    """Return the value of an expression in the page of the player, which comes from another port."""
    frames = (await page.call("Page.getFrameTree"))["frameTree"].get("childFrames", [])
    assert frames, "there is no player"
    world = await page.call("Page.createIsolatedWorld", frameId=frames[0]["frame"]["id"])
    result = await page.call(
        "Runtime.evaluate", expression=expression, contextId=world["executionContextId"], returnByValue=True
    )
    return result["result"].get("value")


async def plays(page: Page, seconds: float) -> None:
    """Wait until the player has played so long."""
    await until_player(page, f"({PLAYED}) > {seconds}")


async def until_player(page: Page, condition: str) -> None:
    """Wait until something is true in the page of the player."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(BrowserError):  # the frame is being loaded, or replaced
                if await in_player(page, condition):
                    return
            await asyncio.sleep(0.1)  # a page cannot set an event


def has_no_errors(page: Page, *expected: str) -> None:
    """Check what scripts wrote and threw. ``expected``: statuses of answers that the test provokes."""
    lines = [line for line in page.console if not any(f"status of {status} " in line for status in expected)]
    assert not [line for line in lines if line.startswith(("error", "exception"))], page.console


async def test_it_shows_plays_and_disconnects(tmp_path: Path) -> None:
    tools.require("ffmpeg")
    hls = tools.free_port()
    async with running(paths={"all": {}}, hlsAddress=f"127.0.0.1:{hls}") as server:
        publish = tools.ffmpeg(
            "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25",
            "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-pix_fmt", "yuv420p",
            "-f", "rtsp", "-rtsp_transport", "tcp", server.url(PATH),
        )  # fmt: skip
        with tools.start("publish", publish, tmp_path) as publisher:
            await server.until(lambda: (path := server.app.hub.paths.get(PATH)) and path.stream)
            reader = await server.reader(PATH)
            async with launch() as browser:
                page = await browser.open(address(server))
                await page.resize(*DESK)
                await page.wait_for("document.querySelector('.tile strong')?.innerText === '1'")
                await is_usable(page)

                await go(page, "streams", "Streams")
                await has(page, "1 of 1 stream live")
                await page.wait_for("document.querySelector('.card img')?.naturalWidth === 320")
                await is_usable(page)
                await search_and_filter(page)

                await click(page, ".card h2 a")
                await page.wait_for(f"document.title.startsWith({json.dumps(PATH)})")
                await has(page, "320 × 180, Baseline profile")
                await page.wait_for("!/Out\\s+0 bit/.test(document.querySelector('.facts').innerText)")
                await click(page, "#watch")
                await plays(page, 2)
                await until_player(page, SIZE_IS_RIGHT)
                await the_code_holds_the_address(page, "RTSP", server.url(PATH))
                await is_usable(page)
                await click(page, ".player .bar button.small")
                await page.wait_for("!document.querySelector('iframe')")

                await go(page, "sessions", "Sessions")
                await disconnects(page, server, reader)
                await is_usable(page)
                assert publisher.process.poll() is None
                assert await page.evaluate("document.getElementById('trouble').hidden")
                has_no_errors(page)


async def search_and_filter(page: Page) -> None:
    await page.evaluate(f"({TYPE})('south')")
    await has(page, "No stream matches.")
    await page.evaluate(f"({TYPE})('NORTH h264')")
    await page.wait_for("document.querySelectorAll('.card').length === 1")
    await press(page, "Failed")
    await has(page, "No stream matches.")
    await press(page, "Live")
    await press(page, "Table")
    await page.wait_for("document.querySelectorAll('tbody tr').length === 1")
    assert (await page.evaluate("document.querySelector('tbody tr').innerText")).split("\t")[:2] == [PATH, "Live"]
    assert await violations(page) == []
    await press(page, "Cards")


async def the_code_holds_the_address(page: Page, name: str, url: str) -> None:
    """Read the QR code of an address as a phone does."""
    await click(page, f"[data-qr='{name}']")
    await page.wait_for("document.querySelector('dialog[open] .qr')")
    assert await violations(page) == []
    box = await page.evaluate("document.querySelector('.qr').getBoundingClientRect().toJSON()")
    clip = {key: box[key] for key in ("x", "y", "width", "height")} | {"scale": 2}
    taken = base64.b64decode((await page.call("Page.captureScreenshot", format="png", clip=clip))["data"])
    picture = cv2.imdecode(np.frombuffer(taken, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    assert url in read_code(picture)
    await click(page, "dialog[open] button")
    await page.wait_for("!document.querySelector('dialog')")


def read_code(picture: Any) -> set[str]:
    """Return what OpenCV reads in a picture of a QR code; it does not find every code in every size."""
    found = set()
    for size in (180, 240, 330, 450, 600):
        scaled = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
        for detector in (cv2.QRCodeDetector(), cv2.QRCodeDetectorAruco()):
            found.add(detector.detectAndDecode(scaled)[0])
    return found


async def disconnects(page: Page, server: Server, reader: Any) -> None:
    """Disconnect the reader, after a question, and nobody else."""
    row = "[...document.querySelectorAll('.clients tbody tr')].find((row) => /RTSP[^]*Reading/.test(row.innerText))"
    await page.wait_for(f"Boolean({row})")
    for answer in ("no", "yes"):
        await page.evaluate(f"{row}.querySelector('button').click()")
        asked = await page.evaluate("document.querySelector('dialog').innerText")
        assert "Disconnect this client?" in asked
        assert re.search(rf"RTSP client 127\.0\.0\.1:\d+ reads the path “{PATH}”", asked)
        assert await violations(page) == []
        await click(page, f"[data-answer={answer}]")
        await page.wait_for("!document.querySelector('dialog')")
        assert answer == "yes" or len(server.app.hub.paths[PATH].readers) >= 1
    assert await reader.ended()
    await page.wait_for(f"!({row})")
    await has(page, "Publishing")


LOOPBACK = ("--allow-loopback-in-peer-connection", "--disable-features=WebRtcHideLocalIpsWithMdns")


async def test_it_plays_over_webrtc_and_over_hls_where_that_fails(tmp_path: Path) -> None:
    tools.require("ffmpeg")
    webrtc = {"webrtc": True, "webrtcAddress": "127.0.0.1:0", "webrtcLocalUDPAddress": "127.0.0.1:0"}
    async with (
        running(paths={"all": {}}, webrtcReorder="refuse", **webrtc) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        for name, options in {"fine": ("-tune", "zerolatency"), "reordered": ("-bf", "2")}.items():
            publish = tools.ffmpeg(
                "-re", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=15",
                "-c:v", "libx264", "-preset", "superfast", *options, "-g", "15", "-pix_fmt", "yuv420p",
                "-f", "rtsp", "-rtsp_transport", "tcp", server.url(name),
            )  # fmt: skip
            stack.enter_context(tools.start(name, publish, tmp_path))
            await server.until(lambda name=name: (path := server.app.hub.paths.get(name)) and path.stream)
        browser = await stack.enter_async_context(launch(*LOOPBACK))
        page = await browser.open(address(server, "streams/fine"))
        await click(page, "#watch")
        await plays(page, 0.5)
        assert await page.evaluate("document.querySelector('.player [aria-pressed=true]').innerText") == "WebRTC"
        await server.until(lambda: len(server.app.servers["WebRTC"].sessions()) == 1)  # a stalled player begins again
        await go(page, "streams/reordered", "reordered")
        await click(page, "#watch")
        await has(page, "Played over HLS instead.")
        await plays(page, 0.5)
        assert await page.evaluate("document.querySelector('.player [aria-pressed=true]').innerText") == "HLS"


async def test_it_says_why_a_source_failed() -> None:
    # Nothing listens on port 1.
    async with running(paths={"cam": {"source": "rtsp://127.0.0.1:1/x"}}) as server:
        await server.until(lambda: server.app.hub.paths["cam"].source_failure)
        async with launch() as browser:
            page = await browser.open(address(server, "streams"))
            await page.wait_for("document.querySelector('.card.failed')")
            shown = await page.evaluate("document.querySelector('.card').innerText")
            assert re.search(r"refused \(for .*, next attempt in \d+ s\)", shown)
            await go(page, "", "Overview")
            await has(page, "1 thing needs attention")
            await is_usable(page)


USERS = [
    {"user": "root", "pass": "secret", "permissions": [{"action": "api"}]},
    {"user": "viewer", "pass": "seen", "permissions": [{"action": "read"}]},
]


async def test_it_asks_who_one_is() -> None:
    async with running(authInternalUsers=USERS) as server, launch() as browser:
        page = await browser.open(address(server, "sessions"))
        await has(page, "Sign in")
        await is_usable(page)
        await page.evaluate(f"({SIGN_IN})('root', 'wrong')")
        await has(page, "These credentials are not valid.")
        await page.evaluate(f"({SIGN_IN})('viewer', 'seen')")
        await has(page, "The user 'viewer' has no permission to use the API")
        assert await violations(page) == []
        await page.evaluate(f"({SIGN_IN})('root', 'secret')")
        await has(page, "Nobody is connected.")
        await page.wait_for("document.getElementById('sign-out').innerText === 'Sign out root'")
        await page.evaluate("document.getElementById('sign-out').click()")
        await has(page, "With a token instead")


async def test_it_is_used_with_the_keyboard() -> None:
    async with running() as server, launch() as browser:
        page = await browser.open(address(server))
        await has(page, "Overview")
        await page.press("Tab")
        assert await page.evaluate("document.activeElement.innerText") == "Skip to the content"
        await page.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"
        await page.evaluate("document.activeElement.blur(); document.querySelector('#nav a').focus()")
        await page.press("Tab")
        await page.press("Enter")
        await page.wait_for("document.title.startsWith('Streams')")
        await has(page, "There are no streams yet.")
        await page.evaluate("document.getElementById('theme').click(); document.getElementById('theme').click()")
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(12, 15, 20)"
        assert await page.evaluate("document.getElementById('theme').innerText") == "Theme: dark"


@pytest.fixture(scope="module")
def firefox_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with firefox.running(tmp_path_factory.mktemp("firefox")) as address:
        yield address


async def test_firefox_shows_it(firefox_address: str) -> None:
    async with running(authInternalUsers=USERS, logLevel="info") as server, firefox.tab(firefox_address) as page:
        await page.open(address(server, "log"))
        await page.wait_for("document.querySelector('form.login')")
        await page.evaluate(f"({SIGN_IN})('root', 'secret')")
        server.app.log.warning("it is late")
        await page.wait_for("document.body.innerText.includes('it is late')")
        for place, shown in {"": "Loop lag", "streams": "There are no streams yet.", "users": "viewer"}.items():
            await page.evaluate(f"location.hash = '#/{place}'; 0")
            await page.wait_for(f"document.body.innerText.includes({json.dumps(shown)})")
        assert await page.evaluate("getComputedStyle(document.querySelector('.panel')).backgroundColor") in (
            *("rgb(255, 255, 255)", "rgb(21, 26, 34)"),
        )


CONFIGURATION = """\
# The settings of a test.
rtspAddress: 127.0.0.1:0
rtspTransports: [tcp]
rtmp: no
hls: no
srt: no
api: yes
apiAddress: 127.0.0.1:0
apiPersist: yes
paths:
  cam:
    maxReaders: 3  # not more
"""


async def test_it_changes_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "polycast.yml"
    async with running_file(file, CONFIGURATION) as server, launch() as browser:
        page = await browser.open(address(server, "configuration"))
        await page.resize(*DESK)
        await page.wait_for("document.getElementById('setting-logLevel')")
        await is_usable(page)
        await fill(page, "#setting-logLevel", "debug")
        await fill(page, "#setting-readTimeout", "soon")
        await click(page, "#review")
        await has(page, "+ logLevel: debug")
        assert await violations(page) == []
        await click(page, "#save")
        await page.wait_for("/readTimeout/.test(document.querySelector('dialog .problem').innerText)")
        await page.evaluate("document.querySelector('dialog button.plain').click()")
        await fill(page, "#setting-readTimeout", "20s")
        await click(page, "#review")
        await click(page, "#save")
        await has(page, "The configuration was changed.")
        assert "logLevel: debug" in file.read_text()
        assert "readTimeout: 20s" in file.read_text()

        await go(page, "configuration/paths", "Configuration")
        await click(page, "#add-path")
        await page.wait_for("document.querySelector('dialog form')")
        assert await violations(page) == []
        await page.evaluate("document.querySelector('dialog form').elements.name.value = 'yard/new'")
        await page.evaluate("document.querySelector('dialog .primary').click()")
        await has(page, "The path “yard/new” was added.")
        await page.wait_for("document.querySelectorAll('.list > li').length === 2")
        assert "yard/new" in server.app.configuration.paths
        await is_usable(page)
        await go(page, "configuration/paths/cam", "Configuration")
        await fill(page, "#setting-maxReaders", "5")
        await click(page, "#review")
        await click(page, "#save")
        await page.wait_for("!document.querySelector('dialog')")
        assert "maxReaders: 5  # not more" in file.read_text()

        await edits_text(page, file)

        await go(page, "configuration/versions", "Configuration")
        await is_usable(page)
        before = file.read_text()
        await click(page, "[data-version='1']")
        await page.wait_for("document.querySelector('dialog .removed')")
        assert await violations(page) == []
        await click(page, "#restore")
        await has(page, "Version 1 is in effect again.")
        assert file.read_text() == CONFIGURATION != before
        has_no_errors(page, "400")


async def fill(page: Page, selector: str, value: str) -> None:
    """Type into a field, or choose in a list."""
    await page.wait_for(f"document.querySelector({json.dumps(selector)})")
    await page.evaluate(
        f"(() => {{ const field = document.querySelector({json.dumps(selector)}); field.value = {json.dumps(value)};"
        " field.dispatchEvent(new Event('input', {bubbles: true}));"
        " field.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


async def edits_text(page: Page, file: Path) -> None:
    """Edit the file itself: errors by line, then what differs, then the file."""
    await go(page, "configuration/file", "Configuration")
    await page.wait_for("document.getElementById('text')?.value.includes('not more')")
    await is_usable(page)
    old = file.read_text()
    await fill(page, "#text", old.replace("maxReaders: 5", "maxReaders: many"))
    await has(page, "1 error")
    line = 1 + old[: old.index("maxReaders")].count("\n")
    await press(page, f"Line {line}")
    assert await page.evaluate("document.getElementById('review').disabled")
    selected = "((field) => field.value.slice(field.selectionStart, field.selectionEnd))(window.text)"
    assert await page.evaluate(selected) == "    maxReaders: many  # not more"
    assert await violations(page) == []
    await fill(page, "#text", old.replace("maxReaders: 5", "maxReaders: 6"))
    await has(page, "No errors.")
    await click(page, "#review")
    await page.wait_for("document.querySelector('dialog .added')")
    shown = await page.evaluate("document.querySelector('dialog .diff').innerText")
    assert re.search(r"-\s*maxReaders: 5  # not more\s+\+\s*maxReaders: 6  # not more", shown)
    assert await violations(page) == []
    await click(page, "#save")
    await page.wait_for("!document.querySelector('dialog')")
    assert file.read_text() == old.replace("maxReaders: 5", "maxReaders: 6")


async def test_it_shows_the_nodes_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        ClusterNode(
            name=name,
            address="10.0.0.1:8600",
            is_self=name == "a",
            is_draining=name == "b",
            cpu=0.25,
            bit_rate=3e6,
            publishers=1,
            readers=2,
        )
        for name in "ab"
    ]
    async with running() as server, launch() as browser:
        page = await browser.open(address(server))
        await has(page, "Loop lag")
        assert "Nodes" not in await page.evaluate("document.getElementById('nav').innerText")
        asked: list[tuple[str, bool]] = []

        async def drain(self: ClusterMember, name: str, *, is_draining: bool) -> bool:
            asked.append((name, is_draining))
            return True

        monkeypatch.setattr(Application, "nodes", nodes)
        monkeypatch.setattr(ClusterMember, "owners", [ClusterPath(name="cam", node="b")])
        monkeypatch.setattr(ClusterMember, "drain", drain)
        await click(page, "#nav a[href='#/nodes']")
        await has(page, "2 servers")
        rows = await page.evaluate("[...document.querySelectorAll('tbody')[0].rows].map((row) => row.innerText)")
        assert [row.split("\t")[2:4] for row in rows] == [["25.0 %", "3.0 Mbit/s"]] * 2
        assert ["this one" in rows[0], "draining" in rows[1]] == [True, True]
        await has(page, "Published paths")
        assert "cam\tb" in await page.evaluate("[...document.querySelectorAll('tbody')].at(-1).innerText")
        await page.resize(*DESK)
        await is_usable(page)
        # Draining is asked about first; it is undone without a question.
        for answer, expected in (("no", []), ("yes", [("a", True)])):
            await click(page, "[aria-label='Drain a']")
            await has(page, "Drain the server “a”?")
            assert await violations(page) == []
            await click(page, f"[data-answer={answer}]")
            await page.wait_for("!document.querySelector('dialog')")
            if answer == "yes":
                await has(page, "a is draining.")
            assert asked == expected
        await click(page, "[aria-label='Accept again on b']")
        await has(page, "b accepts publishers again.")
        assert asked[1:] == [("b", False)]


SEARCH = (
    "(() => { const form = document.querySelector('#main form'); const [hosts, user, password] = %s;"
    " Object.assign(form.elements.hosts, { value: hosts }); form.elements.user.value = user;"
    " form.elements.password.value = password; form.requestSubmit(); })()"
)
"""Fills and sends the form of the page Cameras."""


async def test_it_finds_cameras_and_adds_their_streams() -> None:
    streams = {"P1": "rtsp://127.0.0.1:1/1", "P2": "rtsp://127.0.0.1:1/2"}
    with StandInCamera(streams) as camera:
        async with running() as server, launch() as browser:
            page = await browser.open(address(server, "cameras"))
            await page.resize(*DESK)
            await has(page, "Find cameras in the network")
            await is_usable(page)
            await page.evaluate(SEARCH % json.dumps(["no:host:here", "", ""]))
            await page.wait_for("Boolean(document.querySelector('#main [role=alert]'))")
            await page.evaluate(SEARCH % json.dumps([f"127.0.0.1:{camera.probe_port}", "me", "wrong"]))
            await has(page, "refuses the user or the password")
            await page.evaluate(SEARCH % json.dumps([f"127.0.0.1:{camera.probe_port}", "me", "se!cret"]))
            await has(page, "main: H264 320x240, PTZ")
            await has(page, "1 camera, 2 streams")
            await is_usable(page)
            await fill(page, ".found input[name=name]", "door/front")
            await page.evaluate("document.querySelector('.found form').requestSubmit()")
            await has(page, "Show door/front")
            path = server.app.configuration.paths["door/front"]
            assert path.source == f"onvif://me:se%21cret@127.0.0.1:{camera.port}/?profile=P1"
            assert path.source_on_demand
            has_no_errors(page, "400")


async def test_firefox_finds_cameras_and_adds_their_streams(firefox_address: str) -> None:
    with StandInCamera({"P1": "rtsp://127.0.0.1:1/1"}) as camera:
        async with running() as server, firefox.tab(firefox_address) as page:
            await page.open(address(server, "cameras"))
            await page.wait_for("document.querySelector('#main form')")
            for password, shown in {
                "wrong": "refuses the user or the password",
                "se!cret": "main: H264 320x240",
            }.items():
                await page.evaluate(SEARCH % json.dumps([f"127.0.0.1:{camera.probe_port}", "me", password]))
                await page.wait_for(f"document.body.innerText.includes({json.dumps(shown)})")
            field = "document.querySelector('.found input[name=name]')"
            await page.evaluate(
                f"{field}.value = 'gate'; {field}.dispatchEvent(new Event('input', {{bubbles: true}})); 0"
            )
            await page.evaluate("document.querySelector('.found form').requestSubmit(); 0")
            await page.wait_for("document.body.innerText.includes('Show gate')")
            path = server.app.configuration.paths["gate"]
            assert path.source == f"onvif://me:se%21cret@127.0.0.1:{camera.port}/?profile=P1"


async def test_it_shows_the_log_and_changes_users() -> None:
    async with running(logLevel="info") as server, launch() as browser:
        page = await browser.open(address(server, "log"))
        await page.resize(*DESK)
        await has(page, ", live")
        server.app.log.warning("it is %s", "late")
        await has(page, "it is late")
        await is_usable(page)
        await page.evaluate(f"({TYPE})('nothing like this')")
        await has(page, "No line matches.")
        await page.evaluate(f"({TYPE})('LATE')")
        await page.wait_for("document.querySelectorAll('.lines li').length === 1")

        await go(page, "users", "Users")
        await has(page, "may publish, read and watch recordings of every path")
        await has(page, "Anybody who reaches the API may use it")
        await is_usable(page)
        await click(page, "#add-user")
        await page.wait_for("document.querySelector('dialog form')")
        assert await violations(page) == []
        await page.evaluate(
            "(() => { const {elements} = document.querySelector('dialog form'); elements.user.value = 'eva';"
            " elements.password.value = 'secret'; })()"
        )
        await fill(page, "dialog select", "api")
        await page.evaluate("document.querySelector('dialog .primary').click()")
        await has(page, "The users were changed.")
        made = server.app.configuration.auth_internal_users[-1]
        assert (made.user, [each.action for each in made.permissions]) == ("eva", ["api"])
        assert made.pass_.startswith("argon2:$argon2id$")
        claims = base64.urlsafe_b64encode(
            json.dumps({"sub": "eva", "exp": 1, "mediamtx_permissions": [{"action": "read", "path": "yard"}]}).encode()
        ).decode()
        await page.evaluate(
            f"(() => {{ const field = document.getElementById('token'); field.value = 'x.{claims.rstrip('=')}.y';"
            " field.dispatchEvent(new Event('input')); })()"
        )
        await has(page, "may read “yard”")
        await has(page, "It expired on")
        has_no_errors(page)
