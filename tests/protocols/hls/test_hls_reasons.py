"""What a refused viewer is told: problem details for the page, one line for everybody else."""

from __future__ import annotations

import asyncio
import html
import json
import re
from typing import Any

import pytest
from tests.protocols.hls.support import BOTH, Fixture, running
from tests.protocols.hls.test_hls_server_access import basic

from polycast.hub.access_request import AccessRequest
from polycast.hub.on_demand import State
from polycast.media.codec import G711, MJPEG, VP8, VP9, Generic
from polycast.media.track import Track

ACCEPT = "application/vnd.apple.mpegurl, application/problem+json;q=0.9, */*;q=0.5"
BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


async def problem(it: Fixture, status: int, target: str = "/cam/index.m3u8", **headers: str) -> dict[str, Any]:
    """Return the problem that a request is answered with."""
    answer = await it.get(target, status, accept=ACCEPT, **headers)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["vary"] == "accept"
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()
    assert found.pop("status") == status
    assert found.pop("detail")
    return found


async def test_nobody_publishes() -> None:
    async with running() as it:
        assert await problem(it, 404) == {"reason": "no-publisher"}
        plain = await it.get("/cam/index.m3u8", 404)
        assert plain.text == "no one is publishing to path 'cam'\n"
        assert plain.headers["content-type"].startswith("text/plain")


async def test_a_path_that_is_not_configured() -> None:
    async with running(paths={"other": {}}) as it:
        assert await problem(it, 404) == {"reason": "not-configured"}


@pytest.mark.parametrize(
    ("variant", "codecs", "names", "others"),
    [
        ("mpegts", [VP8()], ["VP8"], []),
        ("mpegts", [VP9()], ["VP9"], ["fmp4", "lowLatency"]),
        ("fmp4", [MJPEG(), G711(mu_law=False)], ["MJPEG", "PCMA"], []),
    ],
)
async def test_codecs_that_hls_does_not_carry(
    variant: str, codecs: list[Any], names: list[str], others: list[str]
) -> None:
    async with running(hlsVariant=variant) as it:
        it.publish("cam", [Track(index, codec) for index, codec in enumerate(codecs)])
        found = await problem(it, 404)
        expected = {"reason": "unsupported-codecs", "codecs": names, "variant": variant}
        assert found == (expected | {"otherVariants": others} if others else expected)


@pytest.mark.parametrize(("codec", "is_named"), [(VP8(), True), (MJPEG(), False)])
async def test_what_webrtc_can_show_is_named(codec: Any, is_named: bool) -> None:
    pytest.importorskip("OpenSSL")
    settings = {"webrtcAddress": "127.0.0.1:0", "webrtcLocalUDPAddress": "127.0.0.1:0", "webrtcEncryption": False}
    async with running(webrtc=True, **settings) as it:
        it.publish("cam", [Track(0, codec)])
        assert ("webrtcPort" in await problem(it, 404)) == is_named


async def test_tracks_that_are_skipped() -> None:
    async with running() as it:
        publisher = it.publish("cam", [BOTH[0], Track(1, G711())])
        publisher.has_audio = False
        waiting = it.soon("/cam/index.m3u8")
        await it.until(lambda: it.server.remuxers)
        publisher.play(4)
        assert (await waiting).headers["polycast-skipped-tracks"] == "audio PCMU"
        assert "polycast-skipped-tracks" not in (await it.get("/cam/stream.m3u8")).headers


async def test_a_publisher_with_many_tracks_of_long_names_makes_no_long_header() -> None:
    async with running() as it:
        odd = [Track(number, Generic(f"x-{number}, \r\n" + "y" * 5000, "audio")) for number in range(1, 60)]
        publisher = it.publish("cam", [BOTH[0], *odd])
        publisher.has_audio = False
        waiting = it.soon("/cam/index.m3u8")
        await it.until(lambda: it.server.remuxers)
        publisher.play(4)
        header = (await waiting).headers["polycast-skipped-tracks"]
        assert len(header) < 1500
        assert "\r" not in header
        it.publish("odd", [Track(track.index - 1, track.codec) for track in odd])
        assert len(str(await problem(it, 404, "/odd/index.m3u8"))) < 1500


async def test_credentials() -> None:
    async with running(paths={"cam": {"readUser": "viewer", "readPass": "secret"}}) as it:
        answer = await it.get("/cam/index.m3u8", 401, accept=ACCEPT)
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert await problem(it, 401) == {"reason": "credentials-required"}
        wrong = basic("viewer", "guess")
        assert await problem(it, 401, authorization=wrong) == {"reason": "credentials-refused"}


async def test_addresses() -> None:
    async with running(paths={"cam": {"readIPs": ["192.0.2.0/24"]}}) as it:
        assert await problem(it, 403) == {"reason": "address-refused", "address": "127.0.0.1"}


async def test_an_external_server_refuses() -> None:
    def authenticate(request: AccessRequest) -> bool:
        return False

    async with running(authenticate) as it:
        assert await problem(it, 401) == {"reason": "credentials-required"}
        assert await problem(it, 401, authorization=basic("u", "p")) == {"reason": "externally-refused"}


async def test_a_source_that_failed() -> None:
    # Nothing listens on port 1.
    async with running(paths={"cam": {"source": "rtsp://127.0.0.1:1/x", "sourceRetryPause": "30s"}}) as it:
        path = it.app.hub.path("cam")
        await it.until(lambda: path.source_failure is not None and path.source_failure.next_attempt is not None)
        found = await problem(it, 404)
        assert found["reason"] == "source-failed"
        assert "refused" in found["error"]
        assert 0 <= found["failedFor"] < 20
        assert 4 < found["nextAttemptIn"] <= 36


async def test_an_on_demand_source_that_fails() -> None:
    cam = {"source": "rtsp://127.0.0.1:1/x", "sourceOnDemand": True, "sourceOnDemandStartTimeout": "100ms"}
    async with running(paths={"cam": cam}) as it:
        found = await problem(it, 404)
        assert found["reason"] == "source-failed"
        assert "refused" in found["error"]
        assert "nextAttemptIn" not in found, "it is only tried again for the next reader"


async def test_a_command_that_does_not_publish() -> None:
    cam = {"runOnDemand": "sleep 30", "runOnDemandStartTimeout": "100ms"}
    async with running(paths={"cam": cam}) as it:
        assert await problem(it, 404) == {"reason": "command-timed-out", "timeout": 0.1}


@pytest.mark.parametrize(("silence", "reason"), [(30, "no-media"), (1, "no-key-frames")])
async def test_a_publisher_that_sends_nothing_to_play(silence: int, reason: str) -> None:
    async with running() as it:
        publisher = it.publish("cam")
        request = it.client.build_request("GET", "/cam/stream.m3u8", headers={"accept": ACCEPT})
        waiting = asyncio.ensure_future(it.client.send(request))
        await it.held("cam", 1)
        it.pass_time(30 - silence)
        publisher.write([next(publisher.frames(1))])
        it.pass_time(silence)
        answer = await waiting
        assert answer.status_code == 503
        assert answer.json()["reason"] == reason


@pytest.mark.parametrize(
    ("cam", "status", "reason"),
    [
        ({"readUser": "u", "readPass": "p"}, 401, "credentials-required"),
        ({"readIPs": ["192.0.2.0/24"]}, 403, "address-refused"),
        (None, 404, "not-configured"),
    ],
)
async def test_a_refused_page_is_the_page_with_the_reason(cam: dict[str, Any] | None, status: int, reason: str) -> None:
    async with running(paths={"cam": cam} if cam else {"other": {}}) as it:
        answer = await it.get("/cam/", status, accept=BROWSER)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "content-security-policy" in answer.headers
        assert ("www-authenticate" in answer.headers) == (status == 401)
        attribute = re.search(r'data-problem="([^"]*)"', answer.text)
        assert attribute is not None
        assert json.loads(html.unescape(attribute[1]))["reason"] == reason


@pytest.mark.parametrize(
    ("cam", "is_live", "status"),
    [
        ({}, False, 404),
        ({"source": "rtsp://127.0.0.1:1/cam"}, False, 404),
        ({"source": "rtsp://127.0.0.1:1/cam", "sourceOnDemand": True}, False, 200),
        ({"runOnDemand": "true"}, False, 200),
        ({"fallback": "/other"}, False, 200),
        ({"source": "redirect", "sourceRedirect": "rtsp://127.0.0.1:1/cam"}, False, 200),
        ({}, True, 200),
    ],
)
async def test_the_page_has_the_status_of_the_stream(cam: dict[str, Any], is_live: bool, status: int) -> None:
    """As in rtsp-simple-server, whose tests ask for the page of a path that nobody publishes. The page is sent anyway:
    it waits for the publisher. It starts nothing itself; the playlist, which it asks for next, does."""
    async with running(paths={"cam": cam}) as it:
        if is_live:
            it.publish("cam")
        page = await it.get("/cam/", status, accept=BROWSER)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "player.js" in page.text
        assert ("data-problem" in page.text) == (status == 404)
        plain = await it.get("/cam/", status)
        assert plain.headers["content-type"].startswith("text/plain") == (status == 404)
        path = it.server.context.hub.paths["cam"]
        assert path.on_demand is None or path.on_demand.state is State.STOPPED


async def test_the_page_of_a_stream_that_hls_cannot_carry() -> None:
    async with running() as it:
        it.publish("cam", [Track(0, VP8())])
        page = await it.get("/cam/", 404, accept=BROWSER)
        assert "unsupported-codecs" in page.text


async def test_the_page_of_a_path_that_only_an_expression_matches() -> None:
    """The page creates no path: what is created for it would stay, or has to be removed."""
    paths: dict[str, Any] = {"~^demand": {"runOnDemand": "true"}, "all": {}}
    async with running(paths=paths) as it:
        await it.get("/demand1/")
        await it.get("/nobody/", 404)
        assert not it.server.context.hub.paths


async def test_a_name_in_a_refused_page_cannot_end_the_attribute() -> None:
    async with running(paths={"other": {}}) as it:
        answer = await it.get("/%22%3E%3Cscript%3Ealert(1)%3C/script%3E/", 404, accept=BROWSER)
        assert "<script>alert" not in answer.text


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("/locked/index.m3u8", 401, "authentication is needed"),
        ("/locked/", 401, "authentication is needed"),
        ("/other/index.m3u8", 404, "path 'other' is not configured"),
        ("/other/", 404, "path 'other' is not configured"),
        ("/cam/index.m3u8", 404, "the stream doesn't contain a track with a codec that HLS can carry (VP8)"),
    ],
)
async def test_a_refusal_is_logged_once(target: str, status: int, text: str) -> None:
    async with running(paths={"cam": {}, "locked": {"readUser": "u", "readPass": "p"}}) as it:
        it.publish("cam", [Track(0, VP8())])
        for _ in range(3):
            await it.get(target, status)
        lines = [line for line in it.log.lines if "refused" in line]
        name = target.split("/")[1]
        (line,) = lines
        assert line.startswith(f"INFO [HLS] [conn 127.0.0.1] request for path '{name}' refused ({status}): {text}")


async def test_waiting_for_a_publisher_is_not_logged() -> None:
    async with running() as it:
        await it.get("/cam/index.m3u8", 404)
        assert it.log.find("refused") is None
