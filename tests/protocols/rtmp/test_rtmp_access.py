"""Who may publish and read: credentials in the query, hashed ones, addresses, the external server, a callback."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.protocols.rtmp.support import Fixture, RawClient, running
from tests.support.listeners import serving
from tests.wire.rtmp.support import video_header

from polycast.hub.access_request import AccessRequest
from polycast.wire.rtmp.amf import Value
from polycast.wire.rtmp.client import FLASH_VERSION_PLAY, FLASH_VERSION_PUBLISH, Mode
from polycast.wire.rtmp.messages import Command

PUBLISH = {"publishUser": "testuser", "publishPass": "testpass"}
READ = {"readUser": "testuser", "readPass": "testpass"}
HASHED_USER = "sha256:rl3rgi4NcZkpAEcacZnQ2VuOfJ0FxAqCRaKB/SwdZoQ="
HASHED_PASSWORD = "sha256:E9JJ8stBJ7QM+nV4ZoUCeHk/gU3tPFh/5YieiJp6n2w="
HASHED = {
    "publishUser": HASHED_USER,
    "publishPass": HASHED_PASSWORD,
    "readUser": HASHED_USER,
    "readPass": HASHED_PASSWORD,
}
GOOD = "?user=testuser&pass=testpass"


@pytest.mark.parametrize("settings", [{**PUBLISH, **READ}, HASHED], ids=["plain", "hashed"])
async def test_credentials_in_the_query(settings: dict[str, str]) -> None:
    async with running(paths={"all": settings}) as it:
        publisher = await it.publisher(f"live/cam{GOOD}&param=value")
        reader = await it.reader(f"live/cam{GOOD}")
        publisher.send_video([1], keys=[1])
        await reader.frames(1)
        assert {item.user for item in it.server.sessions().values()} == {"testuser"}
        assert not any("testpass" in line for line in it.log.lines)


WRONG = ["", "?user=testuser", "?user=wrong&pass=testpass", "?user=testuser&pass=wrong", "?user=wrong&pass=wrong"]


@pytest.mark.parametrize("query", WRONG)
@pytest.mark.parametrize("settings", [{**PUBLISH, **READ}, HASHED], ids=["plain", "hashed"])
async def test_wrong_credentials(settings: dict[str, str], query: str) -> None:
    async with running(paths={"all": settings}) as it:
        refusal = await (await it.client(Mode.PUBLISH, f"live/cam{query}")).refused()
        assert (refusal.code, refusal.description) == ("NetStream.Publish.Denied", "invalid credentials")
        assert not it.app.hub.paths
        await it.publisher(f"live/cam{GOOD}")
        refusal = await (await it.client(Mode.PLAY, f"live/cam{query}")).refused()
        assert (refusal.code, refusal.description) == ("NetStream.Play.Failed", "invalid credentials")
        assert not it.path("live/cam").readers
        await it.log.wait(r"INFO \[RTMP\] \[conn 127.0.0.1:\d+\] closed \(invalid credentials\)")


async def test_addresses() -> None:
    paths = {
        "home": {"publishIPs": ["127.0.0.0/16"], "readIPs": ["127.0.0.1"]},
        "away": {"publishIPs": ["128.0.0.1/32"]},
        "shown": {"readIPs": ["128.0.0.1/32"]},
    }
    async with running(paths=paths) as it:
        await it.publisher("home")
        await it.reader("home")
        refusal = await (await it.client(Mode.PUBLISH, "away")).refused()
        assert refusal.description == "IP '127.0.0.1' not allowed"
        await it.publisher("shown")
        refusal = await (await it.client(Mode.PLAY, "shown")).refused()
        assert refusal.description == "IP '127.0.0.1' not allowed"


async def test_a_refusal_is_delayed_and_blocks_no_other_client() -> None:
    async with running(authenticationFailurePause="300ms", paths={"closed": PUBLISH, "all": {}}) as it:
        loop = asyncio.get_running_loop()
        began = loop.time()
        guessing = await it.client(Mode.PUBLISH, "closed")
        publisher = await it.publisher("open")
        reader = await it.reader("open")
        publisher.send_video([1], keys=[1])
        await reader.frames(1)
        assert not guessing.lost
        await guessing.refused()
        assert loop.time() - began >= 0.3


async def test_media_sent_before_the_answer_is_dropped_with_the_refusal() -> None:
    async with running(paths={"all": PUBLISH}) as it:
        client = await it.client(Mode.PUBLISH, "cam")
        await client.until(lambda: b"_result" in client.received)
        client.send_message(9, b"\x17\x01\x00\x00\x00" + bytes(2000))
        await client.refused()


@dataclass
class External:
    """An authentication server that notes what it is asked, and answers with ``status``."""

    port: int = 0
    status: int = 200
    requests: list[dict[str, Any]] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/auth"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.startswith("post /auth ")
        assert "content-type: application/json" in head
        length = int(head.partition("content-length:")[2].split("\r\n")[0])
        self.requests.append(json.loads(await reader.readexactly(length)))
        await self.release.wait()
        writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()


@pytest.fixture
async def external() -> AsyncIterator[External]:
    server = External()
    server.release.set()
    async with serving(server.serve) as server.port:
        yield server


async def test_the_external_server_is_asked(external: External) -> None:
    async with running(externalAuthenticationURL=external.url) as it:
        await it.publisher(f"live/cam{GOOD}&param=value")
        await it.reader("live/cam?user=other&pass=secret&token=1")
    common = {"ip": "127.0.0.1", "path": "live/cam"}
    assert external.requests == [
        {
            **common,
            "user": "testuser",
            "password": "testpass",
            "action": "publish",
            "query": "user=testuser&pass=testpass&param=value",
        },
        {
            **common,
            "user": "other",
            "password": "secret",
            "action": "read",
            "query": "user=other&pass=secret&token=1",
        },
    ]


async def test_the_external_server_refuses(external: External) -> None:
    external.status = 401
    async with running(externalAuthenticationURL=external.url) as it:
        refusal = await (await it.client(Mode.PUBLISH, "cam")).refused()
        assert refusal.description == "external authentication failed: bad status code: 401"


async def test_nothing_is_granted_while_the_external_server_thinks(external: External) -> None:
    external.release.clear()
    async with running(externalAuthenticationURL=external.url) as it:
        waiting = await it.client(Mode.PUBLISH, "cam")
        await it.until(lambda: bool(external.requests))
        assert b"onStatus" not in waiting.received
        assert not it.app.hub.paths
        # A client that gives up in the meantime leaves nothing behind.
        gone = await it.client(Mode.PUBLISH, "gone")
        await it.until(lambda: len(external.requests) == 2)
        await gone.close()
        external.release.set()
        await waiting.accepted()
        await it.until(lambda: len(it.connections) == 1)
        assert list(it.app.hub.paths) == ["cam"]


async def test_a_callback_decides() -> None:
    asked: list[AccessRequest] = []

    async def authenticate(request: AccessRequest) -> bool:
        asked.append(request)
        return request.query == "token=good"

    async with running(authenticate) as it:
        await it.publisher("cam?token=good")
        await (await it.client(Mode.PLAY, "cam?token=bad")).refused()
    assert [(request.action.value, request.path) for request in asked] == [("publish", "cam"), ("read", "cam")]


async def test_credentials_of_the_url_count_as_well() -> None:
    """``rtmp://user:password@host/...``, which clients pass on in ``tcUrl``."""
    async with running(paths={"all": PUBLISH}) as it:
        client = await it.raw()
        client.send_connect("live", f"rtmp://testuser:testpass@127.0.0.1:{it.port()}/live")
        client.send_publish("cam")
        await client.receive_until(b"onStatus")


async def ask(it: Fixture, app: str, key: str, **values: Value) -> RawClient:
    """Ask to publish, with a query wherever a client puts it."""
    client = await it.raw()
    client.send_connect(app, f"rtmp://127.0.0.1/{app}", **(values or {"type": "nonprivate"}))
    client.send_publish(key)
    await client.receive_until(b"onStatus")
    return client


SLASHED = {
    "publishUser": "sha256:C/6TXnDDIcfKOvx1zg0MovmLVCLgCLsxwAxtfx8cCtY=",
    "publishPass": "sha256:Eo2NLuqbBZFUOlKjTrtPBpgsmdk+gf2Ph0BgZaAx8vw=",
}
"""User u, password ab/cd==, which only its hash can configure."""


@pytest.mark.parametrize(
    ("paths", "app", "key", "name"),
    [
        # FFmpeg and librtmp split the URL at the slash of the password.
        ({"all": SLASHED}, "cam?user=u&pass=ab", "cd==", "cam"),
        ({"all": SLASHED}, "live/cam?pass=ab", "cd==&user=u", "live/cam"),
        ({"all": {}}, "cam?user=u&pass=ab", "cd==", "cam"),
        ({"cam": {}}, "cam?token=ab", "cd", "cam"),
        # OBS with the query after the server: the credentials tell that the key is not part of them ...
        ({"all": PUBLISH}, f"live{GOOD}", "cam", "live/cam"),
        ({"all": PUBLISH}, f"live{GOOD}/", "cam", "live/cam"),
        # ... or the configuration knows the path.
        ({"live/cam": {}}, "live?param=value", "cam", "live/cam"),
        ({"live/cam": {}, "all": {}}, "live?param=value", "cam", "live/cam"),
    ],
)
async def test_a_query_between_application_and_key(paths: dict[str, Any], app: str, key: str, name: str) -> None:
    async with running(paths=paths) as it:
        client = await ask(it, app, key)
        assert b"NetStream.Publish.Start" in client.received
        assert [connection.path_name for connection in it.connections] == [name]


async def test_the_likeliest_mistake_is_refused_with_an_explanation() -> None:
    async with running(paths={"live/cam": PUBLISH}) as it:
        client = await ask(it, "live?user=testuser&pass=wrong", "cam")
        assert b"invalid credentials" in client.received


async def test_a_simple_publisher_is_told_to_start_and_then_refused() -> None:
    """As by rtsp-simple-server; encoders, which announce their type, are told the reason instead of the start."""
    async with running(paths={"live/cam": PUBLISH}) as it:
        client = await it.raw()
        client.send_connect("live", "rtmp://127.0.0.1/live")
        client.send_publish("cam?user=testuser&pass=wrong")
        await client.receive_until(b"NetStream.Publish.Start")
        client.send_message(9, video_header())
        await client.receive_all()
        statuses = [item for item in client.messages() if isinstance(item, Command) and item.name == "onStatus"]
        informations: list[Any] = [status.arguments[0] for status in statuses]
        assert [(each["level"], each["code"]) for each in informations] == [
            ("status", "NetStream.Publish.Start"),
            ("error", "NetStream.Publish.Denied"),
        ]
        assert informations[1]["description"] == "invalid credentials"
        assert it.path("live/cam").publisher is None


async def reject(it: Fixture, app: str) -> str:
    """Connect as a publisher does and return the words of the rejection, after which the connection is closed."""
    client = await it.raw()
    client.send_connect(app, f"rtmp://127.0.0.1/{app}", type="nonprivate")
    await client.receive_all()
    (error,) = [item for item in client.messages() if isinstance(item, Command) and item.name == "_error"]
    information = error.arguments[0]
    assert isinstance(information, dict)
    return str(information["description"])


async def log_in(it: Fixture, user: str, password: str) -> RawClient:
    """Log in by Adobe's method, computed step by step, and ask to publish."""
    assert "code=403 need auth; authmod=adobe" in await reject(it, "live")
    words = await reject(it, f"live?authmod=adobe&user={user}")
    fields = dict(field.partition("=")[::2] for field in words.partition("?")[2].split("&"))
    assert fields["reason"] == "needauth"
    salted = base64.b64encode(hashlib.md5(f"{fields['user']}{fields['salt']}{password}".encode()).digest()).decode()
    digest = hashlib.md5(f"{salted}{fields['opaque']}01234567".encode()).digest()
    response = base64.b64encode(digest).decode()
    query = f"authmod=adobe&user={user}&challenge=01234567&response={response}&opaque={fields['opaque']}"
    return await ask(it, f"live?{query}", "cam", flashVer="a client that does not announce what it is")


@pytest.mark.parametrize(
    ("settings", "user", "password", "is_let_in"),
    [
        (PUBLISH, "testuser", "testpass", True),
        (PUBLISH, "testuser", "wrong", False),
        (PUBLISH, "wrong", "testpass", False),
        ({**PUBLISH, "publishUser": HASHED_USER}, "testuser", "testpass", True),
        (HASHED, "testuser", "testpass", False),
        ({}, "anybody", "anything", True),
    ],
)
async def test_login(settings: dict[str, str], user: str, password: str, is_let_in: bool) -> None:
    async with running(rtmpAuthMethods=["adobe"], paths={"all": settings}) as it:
        client = await log_in(it, user, password)
        if is_let_in:
            assert b"NetStream.Publish.Start" in client.received
            assert [connection.path_name for connection in it.connections] == ["live/cam"]
        else:
            assert b"NetStream.Publish.Denied" in client.received
            assert b"invalid credentials" in client.received


async def test_login_is_not_asked_for_unless_configured() -> None:
    async with running(paths={"all": PUBLISH}) as it:
        client = await ask(it, "live", f"cam{GOOD}")
        assert b"NetStream.Publish.Start" in client.received


async def test_who_decides_is_told_the_program_of_the_client() -> None:
    asked: list[AccessRequest] = []

    async def authenticate(request: AccessRequest) -> bool:
        asked.append(request)
        return True

    async with running(authenticate) as it:
        await it.publisher("cam")
        await it.reader("cam")
        assert [request.user_agent for request in asked] == [FLASH_VERSION_PUBLISH, FLASH_VERSION_PLAY]
