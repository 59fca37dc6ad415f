"""The pages in a real browser: the picture moves, breaks are survived, troubles are told, keys and embedding work."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.browser import Browser, Page, launch
from tests.interop import tools
from tests.support.waiting import until
from tests.web.page_server import EMBEDDING, PREFIX, RATE, Publisher, Site, serve

pytestmark = pytest.mark.interop

PLAYING = "polycast.supervisor.state === 'playing' && polycast.video.currentTime > 0"
FRAMES = "polycast.video.getVideoPlaybackQuality().totalVideoFrames"
TITLE = "document.getElementById('message').hidden ? '' : document.getElementById('title').textContent"

# Colours in the picture, counted coarsely: the test picture has many, a black or grey one has not.
COLOURS = """(() => {
  const canvas = new OffscreenCanvas(64, 36);
  const context = canvas.getContext("2d");
  context.drawImage(polycast.video, 0, 0, 64, 36);
  const { data } = context.getImageData(0, 0, 64, 36);
  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) {
    seen.add((data[i] >> 6) * 16 + (data[i + 1] >> 6) * 4 + (data[i + 2] >> 6));
  }
  return seen.size;
})()"""

MASTER = '#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-STREAM-INF:BANDWIDTH=1000000,CODECS="{codecs}"\nstream.m3u8\n'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serve(tmp_path / "stream") as site:
        yield site


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    tools.require("ffmpeg")
    publisher = Publisher(tmp_path / "stream")
    try:
        yield publisher
    finally:
        publisher.stop()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with launch("--window-size=640,480") as browser:  # the more of a picture is painted, the more it costs
        yield browser


def unexpected(page: Page) -> list[str]:
    """Return console lines that are no plain report of a 404 while nobody publishes."""
    return [line for line in page.console if not line.startswith("info:") and "status of 404" not in line]


async def lines(page: Page, selector: str) -> list[str]:
    """Return the lines of text that an element shows."""
    text = await page.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")
    return [line for line in text.split("\n") if line]


async def test_the_picture_moves_and_survives_a_break(
    site: Site, publisher: Publisher, browser: Browser, tmp_path: Path
) -> None:
    page = await browser.open(f"{site.address}{PREFIX}?token=a%20b/c&info=1")
    await page.wait_for(f"{TITLE} === 'Waiting for the stream'")
    for run in range(2):
        publisher.start()
        await page.wait_for(PLAYING)
        start = await page.evaluate(f"[polycast.video.currentTime, {FRAMES}]")
        await page.wait_for(f"polycast.video.currentTime > {start[0]} + 2 && {FRAMES} > {start[1]} + {1.6 * RATE}")
        assert await page.evaluate(TITLE) == ""
        assert await page.evaluate(COLOURS) >= 8
        assert (await page.screenshot(tmp_path / f"playing{run}.png")).startswith(b"\x89PNG")
        await page.wait_for("document.getElementById('live').dataset.state === 'live'")
        figures = await page.evaluate("document.getElementById('info').innerText")
        for figure in ("320 × 180", "H.264 video, AAC audio", "bit/s", "frames/s"):
            assert figure in figures
        publisher.stop()
        await page.wait_for(f"{TITLE} === 'The stream has stopped'")
    media = [target for target in site.requests if target.startswith(PREFIX)]
    assert len(media) > 10
    for target in media:
        assert parse_qs(urlsplit(target).query)["token"] == ["a b/c"], target
    assert unexpected(page) == []


async def test_mpeg_ts_plays(site: Site, publisher: Publisher, browser: Browser) -> None:
    publisher.start(container="mpegts")
    page = await browser.open(f"{site.address}{PREFIX}")
    await page.wait_for(f"{PLAYING} && {FRAMES} > {1.2 * RATE}")
    assert await page.evaluate(COLOURS) >= 8
    assert unexpected(page) == []


async def test_sound_alone_plays(site: Site, publisher: Publisher, browser: Browser) -> None:
    publisher.start(video=False)
    page = await browser.open(f"{site.address}{PREFIX}")
    await page.wait_for(f"{PLAYING} && !document.getElementById('soundOnly').hidden")
    assert unexpected(page) == []


async def test_keys_and_buttons(site: Site, publisher: Publisher, browser: Browser) -> None:
    publisher.start()
    page = await browser.open(f"{site.address}{PREFIX}")
    await page.wait_for(PLAYING)
    assert await page.evaluate("polycast.video.muted")
    await page.wait_for("!document.getElementById('unmute').hidden")
    await page.click("#unmute")
    await page.wait_for("!polycast.video.muted && document.getElementById('unmute').hidden")
    assert await page.evaluate("document.activeElement.id") == "mute"
    await page.press("m")
    await page.wait_for("polycast.video.muted && document.getElementById('mute').title === 'Unmute (m)'")
    await page.press("i")
    await page.wait_for("!document.getElementById('info').hidden")
    await page.press("k")
    await page.wait_for("polycast.video.paused && document.getElementById('live').dataset.state === 'behind'")
    # Far enough behind that going to live is a jump.
    await page.wait_for("polycast.supervisor.secondsBehind > 3")
    before = await page.evaluate("polycast.video.currentTime")
    await page.evaluate(
        "polycast.video.addEventListener('seeking', () => { self.target = polycast.video.currentTime; }, {once: true})"
    )
    await page.press("ArrowRight")
    await page.wait_for(f"!polycast.video.paused && self.target > {before} + 1")
    await page.press("f")
    await page.wait_for("document.fullscreenElement?.id === 'player'")
    await page.press("f")
    await page.wait_for("document.fullscreenElement === null")
    # The space bar on a button works that button, not the player.
    await page.evaluate("document.getElementById('infoButton').focus()")
    await page.press(" ")
    await page.wait_for("document.getElementById('info').hidden && !polycast.video.paused")


async def test_embedded(site: Site, publisher: Publisher, browser: Browser) -> None:
    publisher.start(audio=False)
    page = await browser.open(f"{site.address}{PREFIX}?controls=0&autoplay=0&fit=cover")
    await page.wait_for("!document.getElementById('start').hidden && polycast.video.readyState >= 2")
    assert await page.evaluate("polycast.video.paused")
    for width, height in ((1280, 720), (320, 180), (160, 90)):
        await page.resize(width, height)
        size = "[document.scrollingElement.scrollWidth, document.scrollingElement.scrollHeight]"
        assert await page.evaluate(size) == [width, height]
    assert await page.evaluate(
        "document.getElementById('controls').hidden && document.getElementById('heading').hidden"
    )
    assert await page.evaluate("getComputedStyle(polycast.video).objectFit") == "cover"
    await page.click("#start")
    await page.wait_for(PLAYING)
    assert await page.evaluate("document.getElementById('unmute').hidden")
    await page.navigate(f"{site.address}{PREFIX}?muted=no")
    await page.wait_for(PLAYING)


async def test_another_site_embeds_it(site: Site, publisher: Publisher, browser: Browser, tmp_path: Path) -> None:
    publisher.start()
    site.embedding = f'<body><iframe src="{site.address}{PREFIX}?info=1" width="480" height="270"></iframe>'
    page = await browser.open(f"http://localhost:{site.port}{EMBEDDING}")
    # The browser keeps what happens in a frame of another origin to itself. A segment of later is fetched only by a
    # player that plays on, from wherever it began.
    try:
        await until(lambda: len({target for target in site.requests if urlsplit(target).path.endswith(".m4s")}) >= 5)
    except AssertionError:
        pytest.fail(await page.describe())
    assert (await page.screenshot(tmp_path / "embedded.png")).startswith(b"\x89PNG")
    assert unexpected(page) == []


async def test_a_password_in_the_address(site: Site, publisher: Publisher, browser: Browser) -> None:
    publisher.start()
    site.credentials = "user:secret"
    page = await browser.open(f"http://user:secret@127.0.0.1:{site.port}{PREFIX}")
    await page.wait_for(PLAYING)
    assert unexpected(page) == []


async def test_troubles_are_told_in_plain_words(site: Site, browser: Browser) -> None:
    page = await browser.open(f"{site.address}{PREFIX}")
    await page.wait_for(f"{TITLE} === 'Waiting for the stream'")
    for status, text, button in (
        (500, "The server answered with an error (500)", False),
        (403, "You are not allowed to watch this stream", True),
        (401, "This stream requires a user name and password", True),
    ):
        site.status = status
        await page.call("Page.reload")
        await page.wait_for(f"{TITLE} === {json.dumps(text)}")
        assert await page.evaluate("!document.getElementById('retry').hidden") is button
        requests = len(site.requests)
        if button:
            await page.evaluate("new Promise(resolve => setTimeout(resolve, 1500))")
            assert len(site.requests) == requests, "asked again, where the browser would ask for a password each time"
    site.status = 0
    for playlist, text in (
        (MASTER.format(codecs="ac-3"), "This browser cannot play AC-3 audio"),
        (MASTER.format(codecs="dvh1.05.06,mp4a.40.2"), "This browser cannot play dvh1.05.06"),
        ("<html>Welcome to the hotel</html>", "The server's answer is not a stream"),
    ):
        site.playlist = playlist.encode()
        await page.call("Page.reload")
        await page.wait_for(f"{TITLE} === {json.dumps(text)}")
    await page.offline(True)
    await page.wait_for(f"{TITLE} === 'You are offline'")
    site.playlist = None
    await page.offline(False)
    await page.wait_for(f"{TITLE} === 'Waiting for the stream'")
    assert await lines(page, "[role=status]") == [
        "Waiting for the stream",
        "Nobody is publishing it at the moment. Playback starts automatically.",
    ]


PROBLEMS = [
    (404, {"reason": "unsupported-codecs", "codecs": ["VP8"], "variant": "mpegts"},
     "VP8 cannot be played over HLS", "publish H.264"),
    (404, {"reason": "unsupported-codecs", "codecs": ["VP9"], "variant": "mpegts", "otherVariants": ["fmp4"]},
     "VP9 cannot be played with the server's HLS variant", 'set "hlsVariant: fmp4"'),
    (404, {"reason": "unsupported-codecs", "codecs": ["VP8"], "variant": "fmp4", "webrtcPort": 8889},
     "VP8 cannot be played over HLS", "watch it over WebRTC at http://127.0.0.1:8889/live/cam/, publish H.264"),
    (404, {"reason": "source-failed", "error": "connection refused", "failedFor": 190.5, "nextAttemptIn": 41.2},
     "The source of this stream has failed",
     "Connection refused. It has been down for 3 minutes. The next attempt is in 41 seconds."),
    (404, {"reason": "source-failed", "error": "401", "failedFor": 0.1},
     "The source of this stream has failed", "401. The server is trying again."),
    (404, {"reason": "source-connecting"}, "Waiting for the source", "is connecting"),
    (404, {"reason": "source-timed-out", "timeout": 10}, "The source does not answer", "within 10 seconds"),
    (404, {"reason": "command-timed-out", "timeout": 1}, "The stream did not start", "within 1 second."),
    (404, {"reason": "not-configured"}, "There is no such stream", "Check the address"),
    (404, {"reason": "no-publisher"}, "Waiting for the stream", "Playback starts automatically"),
    (404, {"reason": "of a later version"}, "Waiting for the stream", "Playback starts automatically"),
    (503, {"reason": "no-media"}, "The publisher sends nothing", "no video or audio arrives"),
    (503, {"reason": "no-key-frames"}, "The publisher sends no key frames", "key frame interval"),
    (401, {"reason": "credentials-refused"}, "Wrong user name or password", "sign in"),
    (401, {"reason": "externally-refused"}, "You are not allowed to watch this stream", "authentication server"),
    (403, {"reason": "host-refused", "address": "evil.example"},
     "This host name is not allowed", "allowedHosts"),
    (403, {"reason": "address-refused", "address": "192.0.2.7"},
     "You are not allowed to watch this stream from here", "Your address (192.0.2.7)"),
]  # fmt: skip


async def test_every_reason_of_the_server_is_told_in_words(site: Site, browser: Browser) -> None:
    page = await browser.open(f"{site.address}{PREFIX}")
    await page.wait_for("self.polycast !== undefined")
    for status, problem, title, advice in PROBLEMS:
        site.status, site.problem = status, problem
        await page.evaluate("polycast.supervisor.retry()")
        said = "document.getElementById('advice').textContent"
        await page.wait_for(f"{TITLE} === {json.dumps(title)} && {said}.includes({json.dumps(advice)})")
        assert await page.evaluate("!document.getElementById('retry').hidden") is (status in (401, 403))
    assert await page.evaluate("document.title") == "live/cam"


async def test_a_refused_page_tells_the_reason_and_asks_for_nothing(site: Site, browser: Browser) -> None:
    site.page_problem = json.dumps({"reason": "address-refused", "address": '"><b>1.2.3.4'})
    page = await browser.open(f"{site.address}{PREFIX}")
    await page.wait_for(f"{TITLE} === 'You are not allowed to watch this stream from here'")
    said = await page.evaluate("document.getElementById('advice').textContent")
    assert said.startswith('Your address ("><b>1.2.3.4) is not in the list')
    assert await page.evaluate("!document.getElementById('retry').hidden")
    assert not [target for target in site.requests if target.endswith(".m3u8")]


async def test_a_stalled_live_stream_is_restarted(site: Site, publisher: Publisher, browser: Browser) -> None:
    publisher.start()
    page = await browser.open(f"{site.address}{PREFIX}")
    await page.wait_for(PLAYING)
    publisher.suspend()
    await page.wait_for(f"{TITLE} === 'No new pictures are arriving'")
    publisher.stop()
    publisher.start()
    await page.wait_for(PLAYING)


async def test_options_and_addresses(site: Site, browser: Browser) -> None:
    page = await browser.open(f"{site.address}{PREFIX}")
    await page.wait_for(f"{TITLE} === 'Waiting for the stream'")
    await page.evaluate(
        "(async () => { const folder = document.querySelector('script[type=module]').src.replace(/[^/]*$/, '');"
        " self.options = await import(folder + 'options.js'); self.codecs = await import(folder + 'codecs.js'); })()"
    )
    for search, changed in (
        ("", {}),
        ("?controls=0&muted=FALSE&autoplay=off", {"controls": False, "muted": False, "autoplay": False}),
        ("?info&lowlatency=no&fit=stretch", {"info": True, "lowLatency": False}),
        ("?fit=fill&token=x", {"fit": "fill"}),
    ):
        preset = {
            "controls": True,
            "muted": True,
            "autoplay": True,
            "info": False,
            "lowLatency": True,
            "fit": "contain",
        }
        assert await page.evaluate(f"options.readOptions({json.dumps(search)})") == preset | changed
    for address, base, expected in (
        ("index.m3u8", "http://h/a/", "http://h/a/index.m3u8"),
        ("index.m3u8", "http://h/a/?t=1%20x+y&u#z", "http://h/a/index.m3u8?t=1%20x+y&u"),
        ("s.m3u8?_HLS_msn=4", "http://h/a/?t=1&_HLS_msn=9", "http://h/a/s.m3u8?_HLS_msn=4&t=1"),
        ("s.m3u8?t=2", "http://h/a/?t=1", "http://h/a/s.m3u8?t=2"),
        ("s.m3u8", "http://me:secret@h/a/?t=1", "http://h/a/s.m3u8?t=1"),
        ("http://other/s.m3u8", "http://h/a/?t=1", "http://other/s.m3u8"),
    ):
        call = f"options.withPageQuery({json.dumps(address)}, {json.dumps(base)})"
        assert await page.evaluate(call) == expected
    for path, depth, name in (
        ("/cam/", 1, "cam"), ("/prefix/a/b/", 2, "a/b"), ("/a%20b/%zz/", 2, "a b/%zz"),
    ):  # fmt: skip
        assert await page.evaluate(f"options.streamName({json.dumps(path)}, {depth})") == name
    for codec, name in (
        ("avc1.42c028", "H.264 video"), ("hvc1.1.6.L93.B0", "H.265 video"), ("av01.0.04M.08", "AV1 video"),
        ("vp09.00.10.08", "VP9 video"), ("mp4a.40.2", "AAC audio"), ("mp4a.40.34", "MP3 audio"),
        ("mp4a.6B", "MP3 audio"), ("Opus", "Opus audio"), ("fLaC", "FLAC audio"), ("xyz.1", "xyz.1"),
    ):  # fmt: skip
        assert await page.evaluate(f"codecs.codecName({json.dumps(codec)})") == name
    two = MASTER.format(codecs="avc1.42c028,mp4a.40.2") + MASTER.format(codecs="avc1.42c028, opus")
    assert await page.evaluate(f"codecs.codecsOf({json.dumps(two)})") == ["avc1.42c028", "mp4a.40.2", "opus"]
    playable = "['avc1.42c028', 'mp4a.40.2', 'opus', 'fLaC', 'vp09.00.10.08', 'mp4a.40.34', 'mp4a.6B']"
    assert await page.evaluate(f"codecs.unsupported({playable})") == []


async def test_the_list_of_streams(site: Site, browser: Browser, tmp_path: Path) -> None:
    page = await browser.open(f"{site.address}/?token=x")
    await page.wait_for("!document.getElementById('empty').hidden")
    assert "rtsp://127.0.0.1:8554/mystream" in await page.evaluate("document.body.innerText")
    camera = {"name": "yard/cam 1", "ready_since": "2020-01-01T00:00:00Z", "tracks": ["H264", "Opus"], "readers": 1}
    site.paths = [{**camera, "name": "zoo", "readers": 3}, camera]
    await page.wait_for("document.querySelectorAll('.card').length === 2")
    assert await page.evaluate("document.getElementById('empty').hidden")
    first, second = await lines(page, ".card:first-child"), await lines(page, ".card:last-child")
    assert first[:3] == ["yard/cam 1", "H264, Opus", "1 reader"]
    assert re.fullmatch(r"for \d{4,} d \d+ h", first[3])
    assert second[:3] == ["zoo", "H264, Opus", "3 readers"]
    links = await page.evaluate("[...document.querySelectorAll('.card a')].map(link => link.href)")
    assert links == [f"{site.address}/yard/cam%201/?token=x", f"{site.address}/zoo/?token=x"]
    await page.evaluate("document.querySelector('.card a').focus()")
    site.paths = [{**camera, "readers": 2, "ready_since": 4102444800}, *({**camera, "name": f"a{n}"} for n in range(9))]
    await page.wait_for("document.querySelectorAll('.card').length === 10")
    assert await page.evaluate("document.activeElement.innerText") == "yard/cam 1"
    assert await lines(page, ".card:last-child") == ["yard/cam 1", "H264, Opus", "2 readers", "for 0 s"]
    await page.evaluate(
        "(f => { f.value = 'YARD'; f.dispatchEvent(new Event('input')); })(document.getElementById('find'))"
    )
    assert await page.evaluate("document.querySelectorAll('.card').length") == 1
    assert await page.evaluate("document.getElementById('count').textContent") == "1 stream"
    await page.offline(True)
    await page.wait_for("document.getElementById('trouble').innerText.includes('cannot be reached')")
    await page.offline(False)
    await page.wait_for("document.getElementById('trouble').hidden")
    assert (await page.screenshot(tmp_path / "list.png")).startswith(b"\x89PNG")
    assert [line for line in unexpected(page) if "ERR_INTERNET_DISCONNECTED" not in line] == []


async def test_streams_that_hls_does_not_carry_are_marked(site: Site, browser: Browser) -> None:
    entry = {"name": "cam", "ready_since": 0, "readers": 0}
    site.paths = [
        {**entry, "tracks": ["VP8", "Opus"], "unsupported": ["VP8"]},
        {**entry, "name": "old", "tracks": ["MJPEG"], "unsupported": ["MJPEG"]},
    ]
    page = await browser.open(f"{site.address}/")
    await page.wait_for("document.querySelectorAll('.card').length === 2")
    assert (await lines(page, ".card:first-child"))[1] == "VP8 (not in HLS), Opus"
    assert (await lines(page, ".card:last-child"))[1] == "MJPEG (not in HLS)"
    marked = "[...document.querySelectorAll('.card')].map(card => card.classList.contains('unplayable'))"
    assert await page.evaluate(marked) == [False, True]
