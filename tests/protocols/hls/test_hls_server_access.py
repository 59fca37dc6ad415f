"""Who may read: passwords, hashes, addresses behind proxies, the external server; and that nothing starts before."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json

import pytest
from tests.protocols.hls.support import Fixture, running

from polycast.hub.access_request import AccessRequest
from polycast.log import Log
from polycast.net.http.server import HttpServer
from polycast.net.http.transaction import BODY_LIMIT, Transaction
from polycast.wire.http.response import Response

LOCKED = {"cam": {"readUser": "viewer", "readPass": "secret"}}
TARGETS = ("/cam/", "/cam/index.m3u8", "/cam/stream.m3u8", "/cam/x_stream_seg1.mp4")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def assert_locked(it: Fixture, right: str) -> None:
    """Check every kind of file without, with wrong and with right credentials."""
    for target in TARGETS:
        for given in ({}, {"authorization": basic("viewer", "wrong")}, {"authorization": "Bearer x"},
                      {"authorization": "Basic !!!"}, {"authorization": "Basic " + "A" * 5000}):  # fmt: skip
            answer = await it.get(target, 401, **given)
            assert answer.headers["www-authenticate"] == 'Basic realm="rtsp-simple-server"', given  # D9
    for target in TARGETS[:3]:
        await it.get(target, authorization=right)
    await it.get(TARGETS[3], 404, authorization=right)


@pytest.mark.parametrize("is_hashed", [False, True])
async def test_credentials(is_hashed: bool) -> None:
    user, password = "viewer", "sécret:with colon" if is_hashed else "secret(1)"
    paths = {"cam": {"readUser": user, "readPass": password}}
    if is_hashed:  # D8

        def digest(text: str) -> str:
            return "sha256:" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

        paths = {"cam": {"readUser": digest(user), "readPass": digest(password)}}
    async with running(paths=paths, hlsAlwaysRemux=True) as it:
        publisher = it.publish("cam")
        await it.until(lambda: it.server.remuxers)
        publisher.play(4)
        await assert_locked(it, basic(user, password))
        assert it.log.find(r"WARNING \[path cam\] 127\.0\.0\.1 may not read as user '\w+': invalid credentials")


async def test_nothing_starts_before_the_client_may_read() -> None:
    paths = {
        "cam": {**LOCKED["cam"], "source": "rtsp://127.0.0.1:1/x", "sourceOnDemand": True},
        "~^any/.*$": {**LOCKED["cam"], "runOnDemand": "false"},
    }
    async with running(paths=paths) as it:
        for target in (*TARGETS, "/any/x/index.m3u8", "/any/x/"):
            await it.get(target, 401)
            await it.get(target, 401, authorization=basic("viewer", "wrong"))
        path = it.app.hub.paths["cam"]
        assert path.on_demand is not None
        assert path.on_demand.state.name.lower() in ("idle", "stopped", "off"), path.on_demand.state
        assert list(it.app.hub.paths) == ["cam"]
        assert not it.server.remuxers


async def test_a_viewer_who_loses_the_right_to_read() -> None:
    allowed = True

    def authenticate(request: AccessRequest) -> bool:
        return allowed

    async with running(authenticate) as it:
        await it.playing("cam")
        allowed = False
        await it.get("/cam/stream.m3u8", 401)
        await it.get("/cam/", 401)


async def test_a_client_that_keeps_guessing_waits() -> None:
    async with running(paths=LOCKED, authenticationFailurePause="1h") as it:
        for _ in range(10):
            await it.get("/cam/", 401, authorization=basic("viewer", "guess"))
        guess = asyncio.create_task(it.get("/cam/", 401, authorization=basic("viewer", "guess")))
        await it.until(lambda: it.app.hub.access._failures._turns)
        assert sum("may not read as user 'viewer'" in line for line in it.log.lines) == 1
        await it.get("/cam/", 401)  # without credentials nobody guesses
        assert not guess.done()
        guess.cancel()
        await asyncio.gather(guess, return_exceptions=True)


async def test_the_external_server_is_asked() -> None:
    asked: list[dict[str, str]] = []
    status = 200

    class External:
        body_limit = BODY_LIMIT

        def handle(self, transaction: Transaction) -> None:
            asked.append(json.loads(transaction.request.body))
            transaction.respond(Response(status, []))

    external = HttpServer(External(), "127.0.0.1:0", Log())
    await external.start()
    try:
        url = f"http://127.0.0.1:{external.port}/auth"
        async with running(externalAuthenticationURL=url, hlsIndex=True, hlsTrustedProxies=["127.0.0.1"]) as it:
            it.publish("cam")
            await it.get("/cam/?token=x&y", authorization=basic("u", "p"), x_forwarded_for="9.8.7.6")
            assert asked == [
                {
                    "ip": "9.8.7.6", "user": "u", "password": "p",
                    "path": "cam", "action": "read", "query": "token=x&y",
                }
            ]  # fmt: skip
            await it.get("/cam/index.m3u8")
            assert asked[-1]["user"] == ""
            assert it.server.remuxers
            assert (await it.get("/_polycast/paths.json")).json() == [], "who may see a path is not known here"
            status = 403
            for target in TARGETS:
                await it.get(target, 401)
            assert len(asked) == 6
    finally:
        await external.stop("the test ends")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 403),
        ([("x-forwarded-for", "10.1.2.3")], 200),
        ([("x-forwarded-for", "1.2.3.4, 10.1.2.3")], 200),
        ([("x-forwarded-for", "10.1.2.3, 1.2.3.4")], 403),  # the left part is what the client claims
        ([("x-forwarded-for", "10.1.2.3, 127.0.0.1")], 200),  # the right one is a proxy of ours
        ([("x-forwarded-for", "10.1.2.3"), ("x-forwarded-for", "127.0.0.1")], 200),
        ([("x-forwarded-for", "10.1.2.3"), ("x-forwarded-for", "1.2.3.4")], 403),
        ([("x-forwarded-for", "10.1.2.3, nonsense")], 403),
        ([("x-forwarded-for", "::ffff:10.1.2.3")], 200),
        ([("x-forwarded-for", ",,,")], 403),
        ([("x-forwarded-for", ",".join(["127.0.0.1"] * 1000))], 403),
        ([("x-real-ip", "10.1.2.3")], 200),
        ([("x-real-ip", "nonsense")], 403),
    ],
)
async def test_addresses_behind_proxies(headers: list[tuple[str, str]], status: int) -> None:
    paths = {"cam": {"readIPs": ["10.0.0.0/8"]}}
    async with running(paths=paths, hlsTrustedProxies=["127.0.0.1", "192.168.0.0/16"]) as it:
        it.publish("cam")
        assert (await it.client.get("/cam/", headers=headers)).status_code == status


async def test_no_proxy_is_trusted_by_default() -> None:
    async with running(paths={"cam": {"readIPs": ["10.0.0.0/8"]}}) as it:
        await it.get("/cam/", 403, x_forwarded_for="10.1.2.3", x_real_ip="10.1.2.3")


@pytest.mark.parametrize("locked", [{"readUser": "viewer", "readPass": "secret"}, {"readIPs": ["127.0.0.1"]}])
async def test_protected_streams_are_asked_for_by_names_of_the_server(locked: dict[str, object]) -> None:
    """Else a web page whose name resolves to this machine could read them through a browser (DNS rebinding)."""
    right = basic("viewer", "secret")
    async with running(paths={"cam": locked, "open": {}}, allowedHosts=["media.example.com"]) as it:
        await it.playing("open")
        it.publish("cam")
        for target in (*TARGETS, "/cam/"):
            refused = await it.get(target, 403, host="evil.example", authorization=right)
            assert "'evil.example' is not a name of this server; the setting allowedHosts" in refused.text
            assert "www-authenticate" not in refused.headers
        page = await it.get("/cam/", 403, host="evil.example", accept="text/html")
        assert "host-refused" in page.text
        for host in ("localhost", "media.example.com", f"127.0.0.1:{it.port}"):
            await it.get("/cam/", host=host, authorization=right)
        await it.get("/open/stream.m3u8", host="cdn.example.net")
        await it.get("/open/", host="cdn.example.net")
