"""ASGI applications on the HTTP server: what they receive, what clients get, and what happens when a side fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network

import pytest
from httpx2 import AsyncClient, Limits, RemoteProtocolError
from tests.support.running import Lines
from tests.support.waiting import PATIENCE

from polycast.log import Log
from polycast.net.http import asgi
from polycast.net.http.asgi import Application, AsgiHandler, Receive, Scope, Send
from polycast.net.http.connection import STREAM_LIMIT
from polycast.net.http.server import HttpServer
from polycast.net.http.transaction import Transaction


class Handler:
    body_limit = 1000

    def __init__(self, inner: AsgiHandler) -> None:
        self.inner = inner

    def handle(self, transaction: Transaction) -> None:
        self.inner.handle(transaction, [(b"x-common", b"yes")])


@contextlib.asynccontextmanager
async def serving(application: Application, *trusted: str) -> AsyncIterator[tuple[HttpServer, str, Lines]]:
    logger = logging.Logger("polycast.test", logging.INFO)
    lines = Lines()
    logger.addHandler(lines)
    log = Log(logger)
    handler = Handler(AsgiHandler(application, asyncio.get_running_loop(), log))
    networks = tuple(map(ip_network, trusted))
    server = HttpServer(handler, "127.0.0.1:0", log, trusted_proxies=lambda: networks)
    await server.start()
    try:
        yield server, f"http://127.0.0.1:{server.port}", lines
    finally:
        await server.stop("the test ends")


@pytest.fixture(params=[False, True], ids=["HTTP/1.1", "HTTP/2"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[AsyncClient]:
    options = {"http1": not request.param, "http2": request.param}
    # A connection that is kept would hold up the end of the server, which waits for clients to close theirs.
    limits = Limits(max_keepalive_connections=0)
    async with AsyncClient(trust_env=False, timeout=PATIENCE, limits=limits, **options) as made:
        yield made


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def start(send: Send, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"Content-Type", b"text/plain")]})


async def test_what_the_application_receives(client: AsyncClient) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        shown = {name: str(scope[name]) for name in ("method", "path", "query_string", "scheme", "http_version")}
        shown["body"] = message["body"].decode()
        shown["client"] = scope["client"][0]
        shown["port"] = str(scope["server"][1])
        await start(send, 201)
        await send({"type": "http.response.body", "body": json.dumps(shown).encode()})

    async with serving(application) as (server, url, _):
        response = await client.post(f"{url}/a%20b/%C3%A9?x=%20y", content=b"hello")
        assert response.status_code == 201
        assert response.headers["x-common"] == "yes"
        assert response.headers["content-type"] == "text/plain"
        assert response.headers["content-length"] == str(len(response.content))
        version = "2" if response.http_version == "HTTP/2" else "1.1"
        assert response.json() == {
            "method": "POST", "path": "/a b/\u00e9", "query_string": "b'x=%20y'", "scheme": "http",
            "http_version": version, "body": "hello", "client": "127.0.0.1", "port": str(server.port),
        }  # fmt: skip
        head = await client.head(f"{url}/")
        assert (head.status_code, head.content) == (201, b"")


@pytest.mark.parametrize(
    ("trusted", "sent", "scheme", "address"),
    [
        ("127.0.0.1", "https", "https", "192.0.2.7"),
        ("127.0.0.1", "HTTP", "http", "192.0.2.7"),
        ("127.0.0.1", "javascript", "http", "192.0.2.7"),
        ("10.0.0.0/8", "https", "http", "127.0.0.1"),
    ],
)
async def test_what_trusted_proxies_say_of_the_client(
    client: AsyncClient, trusted: str, sent: str, scheme: str, address: str
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": f"{scope['scheme']} {scope['client'][0]}".encode()})

    async with serving(application, trusted) as (_, url, _):
        headers = {"X-Forwarded-Proto": sent, "X-Forwarded-For": "192.0.2.7"}
        assert (await client.get(url, headers=headers)).text == f"{scheme} {address}"


async def test_a_streamed_response_waits_for_its_reader(client: AsyncClient) -> None:
    sent = 0
    piece = bytes(16_384)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await start(send)
        for _ in range(1000):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            sent += 1
        await send({"type": "http.response.body"})

    async with serving(application) as (_, url, _), client.stream("GET", url) as response:
        received = 0
        chunks = response.aiter_raw()
        async for data in chunks:
            received += len(data)
            if received > 100_000:
                break
        before = -1
        while sent != before:  # as far as buffers go
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 900, f"more than {STREAM_LIMIT} bytes and the buffers of the system wait"
        async for data in chunks:
            received += len(data)
        assert received == 1000 * len(piece)


async def test_an_application_that_fails(client: AsyncClient) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/early":
            raise ValueError("before it has begun")
        await start(send)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("in the middle")

    async with serving(application) as (_, url, log):
        response = await client.get(f"{url}/early")
        assert (response.status_code, response.text) == (500, "internal error\n")
        with pytest.raises(RemoteProtocolError):
            await client.get(f"{url}/late")
        assert len([line for line in log.lines if "internal error" in line]) == 2


async def test_an_application_that_returns_without_a_response(client: AsyncClient) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/half":
            await start(send)

    async with serving(application) as (_, url, _):
        for path in ("/", "/half"):
            assert (await client.get(url + path)).status_code == 500


async def test_a_client_that_leaves_ends_the_application(client: AsyncClient) -> None:
    ended: list[str] = []
    begun = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await receive()
            await start(send)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            begun.set()
            await receive()
        finally:
            ended.append(scope["path"])

    async with serving(application) as (_, url, log):
        async with client.stream("GET", f"{url}/gone"):
            await begun.wait()
        await client.aclose()
        await until(lambda: ended == ["/gone"])
        assert not [line for line in log.lines if "internal error" in line]


async def test_requests_under_way_are_answered_when_the_server_stops(client: AsyncClient) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await release.wait()
        await start(send)
        await send({"type": "http.response.body", "body": b"in time"})

    async with serving(application) as (server, url, _):
        asked = asyncio.ensure_future(client.get(url))
        await begun.wait()
        stopping = asyncio.ensure_future(server.stop("the test says so"))
        await asyncio.sleep(0)
        release.set()
        assert (await asked).text == "in time"
        await stopping
        assert not server._connections


async def test_one_request_starts_per_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends many at once shares the loop with others."""
    turn = 0
    begun: list[int] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(turn)
        await start(send)
        await send({"type": "http.response.body", "body": b""})

    def count() -> None:
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(count)

    async with serving(application) as (_, url, _), AsyncClient(http1=False, http2=True, trust_env=False) as client:
        await client.get(url)
        begun.clear()
        count()
        await asyncio.gather(*(client.get(url) for _ in range(20)))
        assert len(set(begun)) == 20


async def test_too_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "MAXIMUM_REQUESTS", 2)
    waiting = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await waiting.wait()
        await start(send)
        await send({"type": "http.response.body", "body": b""})

    async with serving(application) as (_, url, _), AsyncClient(trust_env=False) as client:
        asked = [asyncio.ensure_future(client.get(url)) for _ in range(3)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        assert [task.result().status_code for task in done] == [503]
        waiting.set()
        assert sorted([(await task).status_code for task in asked]) == [200, 200, 503]
