"""Sessions of viewers: each is authenticated once, by whatever means its player has to name the session."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.protocols.hls.support import Fixture, names, running
from tests.support.tokens import Issuer, key_set

from polycast.config.authentication import Action, InternalUser, Permission
from polycast.hub.access_request import AccessRequest, PlainCredentials
from polycast.log import Log
from polycast.net.http.request import MAXIMUM_USER_AGENT
from polycast.net.http.server import HttpServer
from polycast.net.http.transaction import BODY_LIMIT, Transaction
from polycast.protocols.hls import viewers as viewers_module
from polycast.protocols.hls.audience import IDLE_SECONDS, Visits
from polycast.protocols.hls.viewers import Viewers, with_query
from polycast.wire.http.response import Response

ISSUER = Issuer("ES256")
TOKEN = ISSUER.token()
BASIC = "Basic dTpw"
"""User u, password p."""
ATTRIBUTES = "; SameSite=None; Secure; Partitioned; HttpOnly"


class Decider:
    """An external server that lets user u with password p in; and a key server."""

    body_limit = BODY_LIMIT

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.allowed = True

    def handle(self, transaction: Transaction) -> None:
        if transaction.request.method == "GET":
            transaction.respond(Response(200, [], key_set(ISSUER)))
            return
        self.asked.append(json.loads(transaction.request.body))
        is_right = self.asked[-1]["user"] == "u" and self.asked[-1]["password"] == "p"
        transaction.respond(Response(200 if is_right and self.allowed else 401, []))


@contextlib.asynccontextmanager
async def deciding(method: str, **values: Any) -> AsyncIterator[tuple[Fixture, Decider]]:
    decider = Decider()
    server = HttpServer(decider, "127.0.0.1:0", Log())
    await server.start()
    url = f"http://127.0.0.1:{server.port}/auth"
    addresses = {"authHTTPAddress": url, "authJWTJWKS": url}
    users = [{"user": "u", "pass": "p", "permissions": [{"action": "read"}]}]
    own = {"authInternalUsers": users} if method == "internal" else {"authMethod": method, **addresses}
    try:
        async with running(hlsTrustedProxies=["127.0.0.1"], **own, **values) as it:
            yield it, decider
    finally:
        await server.stop("the test ends")


async def start(it: Fixture, target: str, **headers: str) -> str:
    """Publish, and return the multivariant playlist for a request that follows the redirection."""
    it.publish("cam").play(4)
    redirected = await it.get(target, 302, **headers)
    assert redirected.headers["set-cookie"] == "cookieCheck=1" + ATTRIBUTES
    location = "/cam/" + redirected.headers["location"]
    task = it.soon_with(location, headers)
    await it.until(lambda: "cam" in it.server.remuxers)
    it.app.hub.paths["cam"].publisher.play(4)  # type: ignore[union-attr]
    answer = await task
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.parametrize(
    ("method", "target", "authorization"),
    [
        ("internal", "/cam/index.m3u8", BASIC),
        ("internal", "/cam/index.m3u8", "Bearer u:p"),
        ("http", "/cam/index.m3u8", BASIC),
        ("jwt", "/cam/index.m3u8", f"Bearer {TOKEN}"),
        ("jwt", f"/cam/index.m3u8?jwt={TOKEN}", ""),
    ],
)
async def test_a_player_without_cookies(method: str, target: str, authorization: str) -> None:
    headers = {"authorization": authorization} if authorization else {}
    async with deciding(method, authJWTInHTTPQuery=True) as (it, decider):
        index = await start(it, target, **headers)
        (media,) = names(index)
        name, _, query = media.partition("?")
        assert name == "stream.m3u8"
        assert ("jwt=" in query) == ("jwt=" in target)
        assert "session=" in query
        playlist = (await it.get(f"/cam/{media}", range="bytes=0-")).text  # as FFmpeg asks
        segments = names(playlist)
        assert all(segment.endswith(query.rpartition("session=")[2]) for segment in segments)
        assert f'{query}"' in playlist, "the initialization"
        for segment in segments:
            await it.get(f"/cam/{segment}")
            await it.get(f"/cam/{segment.partition('?')[0]}", 401)
        asked = [question for question in decider.asked if question["user"] == "u"]
        assert len(asked) == (1 if method == "http" else 0)
        if method == "http":
            assert asked[0]["query"] == "", "what is only meant for this server"


async def test_a_player_with_cookies() -> None:
    async with deciding("http") as (it, decider):
        it.publish("cam").play(4)
        location = "/cam/" + (await it.get("/cam/index.m3u8?x=1", 302)).headers["location"]
        assert location == "/cam/index.m3u8?cookieCheck=1&x=1"
        assert decider.asked == [], "the first step asks nobody"
        task = it.soon_with(location, {"authorization": BASIC, "cookie": "a=b; cookieCheck=1"})
        await it.until(lambda: "cam" in it.server.remuxers)
        it.app.hub.paths["cam"].publisher.play(4)  # type: ignore[union-attr]
        answer = await task
        assert names(answer.text) == ["stream.m3u8"], "nothing in the addresses"
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("hlsSession=")
        assert cookie.endswith(ATTRIBUTES)
        kept = {"cookie": cookie.partition(";")[0]}
        segments = names((await it.get("/cam/stream.m3u8", **kept)).text)
        for segment in segments:
            found = await it.get(f"/cam/{segment}", **kept)
            assert found.headers["cache-control"].startswith("private")
            await it.get(f"/cam/{segment}", 401)
        assert "set-cookie" not in (await it.get("/cam/index.m3u8", **kept)).headers, "the session goes on"
        assert len(decider.asked) == 1 + len(segments)
        # It is of this stream and this address.
        await it.get("/other/stream.m3u8", 401, **kept)
        await it.get("/cam/stream.m3u8", 401, x_forwarded_for="192.0.2.1", **kept)
        await it.get("/cam/stream.m3u8", 401, cookie="hlsSession=" + "0" * 36)
        assert it.server.kick("nobody") is False


async def test_a_check_without_a_value_does_not_redirect_for_ever() -> None:
    async with deciding("http") as (it, _):
        answer = await it.get("/cam/index.m3u8?x=1&cookieCheck=", 302)
        assert answer.headers["location"] == "index.m3u8?cookieCheck=1&x=1"
        await it.get("/cam/" + answer.headers["location"], 401)


async def test_an_external_server_is_told_the_beginning_of_a_long_name() -> None:
    async with deciding("http") as (it, decider):
        await start(it, "/cam/index.m3u8", **{"authorization": BASIC, "user-agent": "x" * 10_000})
        assert decider.asked[0]["userAgent"] == "x" * MAXIMUM_USER_AGENT


async def test_a_player_that_sends_credentials_with_each_request() -> None:
    async with deciding("http") as (it, decider):
        await start(it, "/cam/index.m3u8", authorization=BASIC)
        for _ in range(5):
            playlist = (await it.get("/cam/stream.m3u8", authorization=BASIC)).text
            await it.get(f"/cam/{names(playlist)[-1]}", authorization=BASIC)
            await it.get("/cam/stream.m3u8", 401, authorization="Basic dTp4")
        assert sum(question["password"] == "p" for question in decider.asked) == 1
        assert sum(question["password"] == "x" for question in decider.asked) == 5


@pytest.mark.parametrize("end", ["kick", "idle"])
async def test_the_end_of_a_session(end: str) -> None:
    async with deciding("http") as (it, _):
        media = names(await start(it, "/cam/index.m3u8", authorization=BASIC))[0]
        await it.get(f"/cam/{media}")
        (viewer,) = it.server.handler.viewers._viewers.values()
        if end == "kick":
            assert it.server.kick(viewer.id)
            assert not it.server.kick(viewer.id)
        else:
            it.pass_time(IDLE_SECONDS - 1)
            await it.get(f"/cam/{media}")
            it.pass_time(IDLE_SECONDS - 1)
            await it.get(f"/cam/{media}")
            it.pass_time(IDLE_SECONDS + 1)
        assert len(it.server.handler.viewers) == 0
        await it.get(f"/cam/{media}", 401)


async def test_a_reload_ends_the_sessions_of_those_who_may_no_longer_read() -> None:
    async with deciding("internal") as (it, _):
        media = names(await start(it, "/cam/index.m3u8", authorization=BASIC))[0]
        read = (Permission(action=Action.READ),)
        for password, status in (("p", 200), ("other", 401), ("p", 401)):
            users = (InternalUser(user="u", pass_=password, permissions=read), InternalUser(user="new"))
            await it.app.reload(msgspec.structs.replace(it.app.configuration, auth_internal_users=users))
            await it.get(f"/cam/{media}", status)


async def test_an_external_server_is_asked_again_after_a_reload() -> None:
    async with deciding("http") as (it, decider):
        media = names(await start(it, "/cam/index.m3u8", authorization=BASIC))[0]
        count = len(decider.asked)
        await it.app.reload(msgspec.structs.replace(it.app.configuration, log_file="x"))
        await it.get(f"/cam/{media}")
        await it.get(f"/cam/{media}")
        assert len(decider.asked) == count + 1
        decider.allowed = False
        await it.get(f"/cam/{media}")
        await it.app.reload(msgspec.structs.replace(it.app.configuration, log_file="y"))
        await it.get(f"/cam/{media}", 401)


async def test_streams_that_need_no_credentials_have_no_sessions() -> None:
    users = [{"user": "any", "permissions": [{"action": "read"}]}]
    async with running(authInternalUsers=users) as it:
        await it.playing("cam")
        answer = await it.get("/cam/index.m3u8")
        assert "set-cookie" not in answer.headers
        assert len(it.server.handler.viewers) == 0


async def test_addresses_alone_make_no_session_for_each_file() -> None:
    users = [{"user": "any", "ips": ["127.0.0.1"], "permissions": [{"action": "read"}]}]
    async with running(authInternalUsers=users) as it:
        _, playlist = await it.playing("cam")
        await it.get(f"/cam/{names(playlist)[0]}")
        assert len(it.server.handler.viewers) == 0


def request(path: str = "cam", user: str = "u", query: str = "", token: str = "") -> AccessRequest:
    return AccessRequest(Action.READ, path, query, "192.0.2.1", PlainCredentials(user, "p", token))


def test_the_number_of_viewers_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewers_module, "MAXIMUM_VIEWERS", 3)
    viewers = Viewers(Visits())
    first = viewers.add(request(user="0"), 0.0)
    for number in range(1, 6):
        viewers.add(request(user=str(number)), float(number))
        assert viewers.find([first.secret], "cam", "192.0.2.1", float(number)) is first, "who is there stays"
    assert len(viewers) == 3
    assert len(viewers._by_credentials) == 3
    assert viewers.find_same(request(user="1"), 9.0) is None
    assert viewers.find_same(request(user="5"), 9.0) is not None
    assert viewers.find_same(request(path="other", user="5"), 9.0) is None


@pytest.mark.parametrize("field", ["query", "user", "token"])
def test_what_viewers_have_sent_is_limited_in_all(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    monkeypatch.setattr(viewers_module, "MAXIMUM_SIZE", 100_000)
    viewers = Viewers(Visits())
    added = [viewers.add(request(**{field: f"{number:040000}"}), float(number)) for number in range(6)]
    assert len(viewers) == 2
    for viewer in added:
        viewers.remove(viewer)
        viewers.remove(viewer)
    assert len(viewers) == len(viewers._by_credentials) == viewers._size == 0


def test_every_address_of_a_playlist_gets_the_query() -> None:
    playlist = (
        b'#EXTM3U\n#EXT-X-MAP:URI="a_init.mp4"\n#EXTINF:1,\na_0.mp4\r\n'
        b'#EXT-X-PART:DURATION=0.2,URI="a_1.mp4",INDEPENDENT=YES\n'
    )
    kind = [(b"content-type", b"application/vnd.apple.mpegurl")]
    found = with_query(Response(200, kind, playlist), 'x="&session=1')
    assert bytes(found.body) == (
        b'#EXTM3U\n#EXT-X-MAP:URI="a_init.mp4?x=%22&session=1"\n#EXTINF:1,\na_0.mp4?x=%22&session=1\r\n'
        b'#EXT-X-PART:DURATION=0.2,URI="a_1.mp4?x=%22&session=1",INDEPENDENT=YES\n'
    )
    assert (b"content-length", b"%d" % len(found.body)) in found.headers
    assert sum(name == b"content-length" for name, _ in found.headers) == 1
    for response in (Response(404, kind, b"x"), Response(200, [(b"content-type", b"video/mp4")], b"x")):
        assert with_query(response, "session=1") is response
