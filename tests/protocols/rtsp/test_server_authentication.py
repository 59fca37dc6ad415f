"""Who may publish and read: user and password, addresses, the external server, and what failures cost."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import md5, sha256
from typing import Any

import pytest
from tests.protocols.rtsp.support import (
    H264_ONLY,
    TCP_PLAY,
    RtspClient,
    rtp,
    running,
    slice_unit,
)
from tests.support.listeners import serving
from tests.support.waiting import PATIENCE

from polycast.wire.rtsp.authentication import ClientAuthenticator
from polycast.wire.rtsp.message import Response

PUBLISH = {"publishUser": "testuser", "publishPass": "testpass"}
READ = {"readUser": "testuser", "readPass": "testpass"}
HASHED_USER = "sha256:rl3rgi4NcZkpAEcacZnQ2VuOfJ0FxAqCRaKB/SwdZoQ="
HASHED_PASSWORD = "sha256:E9JJ8stBJ7QM+nV4ZoUCeHk/gU3tPFh/5YieiJp6n2w="


def basic(user: str = "testuser", password: str = "testpass") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def digest(
    challenge: Response, method: str, url: str, *, user: str = "testuser", password: str = "testpass"
) -> dict[str, str]:
    """Answer the digest challenge of a response (RFC 2617 section 3.2.2), without the code under test."""
    # Old clients take the last digest line: it must be one without an algorithm, which means MD5.
    line = [line for line in challenge.headers.get_all("WWW-Authenticate") if line.startswith("Digest")][-1]
    assert "algorithm" not in line
    nonce = line.partition('nonce="')[2].partition('"')[0]

    def hashed(text: str) -> str:
        return md5(text.encode()).hexdigest()

    response = hashed(f"{hashed(f'{user}:IPCAM:{password}')}:{nonce}:{hashed(f'{method}:{url}')}")
    fields = {"username": user, "realm": "IPCAM", "nonce": nonce, "uri": url, "response": response}
    return {"Authorization": "Digest " + ", ".join(f'{name}="{value}"' for name, value in fields.items())}


async def announce(client: RtspClient, url: str, headers: dict[str, str] | None = None) -> Response:
    return await client.request("ANNOUNCE", url, headers, H264_ONLY)


@pytest.mark.parametrize(
    ("methods", "challenges"),
    [
        (["basic", "digest"], ["Basic", "SHA-256", "MD5"]),
        (["digest", "basic"], ["SHA-256", "MD5", "Basic"]),
        (["basic"], ["Basic"]),
        (["digest"], ["SHA-256", "MD5"]),
    ],
)
async def test_challenges_in_the_order_of_the_configuration(methods: list[str], challenges: list[str]) -> None:
    async with running(authMethods=methods, paths={"all": PUBLISH}) as it:
        client = await it.client()
        response = await announce(client, it.url("cam"))
        assert response.status == 401
        lines = response.headers.get_all("WWW-Authenticate")
        found = ["Basic" if line.startswith("Basic ") else "SHA-256" if "SHA-256" in line else "MD5" for line in lines]
        assert found == challenges
        assert all('realm="IPCAM"' in line for line in lines)


async def test_nonce_belongs_to_the_connection() -> None:
    async with running(authMethods=["digest"], paths={"all": PUBLISH}) as it:
        first, second = await it.client(), await it.client()
        lines = [
            (await announce(client, it.url("cam"))).headers.get("WWW-Authenticate") for client in (first, first, second)
        ]
        assert lines[0] == lines[1] != lines[2]


async def test_basic_publisher_and_reader() -> None:
    async with running(paths={"all": {**PUBLISH, **READ}}) as it:
        publisher = await it.client()
        url = it.url("cam")
        assert (await announce(publisher, url, basic())).status == 200
        # SETUP and RECORD of a publisher are not asked again.
        transport = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record"}
        assert (await publisher.request("SETUP", f"{url}/trackID=0", transport)).status == 200
        assert (await publisher.request("RECORD", url)).status == 200

        reader = await it.client()
        assert (await reader.request("DESCRIBE", url)).status == 401
        assert (await reader.request("DESCRIBE", url, basic())).status == 200
        setup = {"Transport": TCP_PLAY}
        assert (await reader.request("SETUP", f"{url}/trackID=0", setup)).status == 401
        assert (await reader.request("SETUP", f"{url}/trackID=0", {**setup, **basic()})).status == 200
        assert (await reader.request("PLAY", url)).status == 200
        publisher.send_frame(0, rtp(1, slice_unit()))
        assert await reader.packets(1) == [rtp(1, slice_unit())]
        assert [item.user for item in it.server.sessions().values()] == ["testuser", "testuser"]


async def test_digest_with_md5() -> None:
    async with running(paths={"all": PUBLISH}) as it:
        client = await it.client()
        url = it.url("cam?x=1")
        challenge = await announce(client, url)
        assert (await announce(client, url, digest(challenge, "ANNOUNCE", url, password="wrong"))).status == 401
        assert (await announce(client, url, digest(challenge, "DESCRIBE", url))).status == 401
        assert (await announce(client, url, digest(challenge, "ANNOUNCE", url))).status == 200


async def test_digest_with_sha256() -> None:
    async with running(paths={"all": PUBLISH}) as it:
        client = await it.client()
        url = it.url("cam")
        challenge = await announce(client, url)
        (line,) = [line for line in challenge.headers.get_all("WWW-Authenticate") if "algorithm" in line]
        nonce = line.partition('nonce="')[2].partition('"')[0]

        def hashed(text: str) -> str:
            return sha256(text.encode()).hexdigest()

        response = hashed(f"{hashed('testuser:IPCAM:testpass')}:{nonce}:{hashed(f'ANNOUNCE:{url}')}")
        header = (
            f'Digest username="testuser", realm="IPCAM", nonce="{nonce}", uri="{url}", response="{response}", '
            "algorithm=SHA-256"
        )
        assert (await announce(client, url, {"Authorization": header})).status == 200


async def test_digest_over_the_presentation_url_for_setup() -> None:
    """VLC signs SETUP with the URL of the whole presentation."""
    async with running(paths={"all": READ}) as it:
        await it.publisher("cam")
        client = await it.client()
        url = it.url("cam")
        challenge = await client.request("DESCRIBE", url)
        authorization = digest(challenge, "SETUP", url)
        response = await client.request("SETUP", f"{url}/trackID=0", {"Transport": TCP_PLAY, **authorization})
        assert response.status == 200


async def test_own_client_answers_the_challenge() -> None:
    async with running(paths={"all": PUBLISH}) as it:
        client = await it.client()
        url = it.url("cam")
        challenges = (await announce(client, url)).headers.get_all("WWW-Authenticate")
        header = ClientAuthenticator("testuser", "testpass").authorize(challenges, "ANNOUNCE", url, "abc")
        assert header is not None
        assert (await announce(client, url, {"Authorization": header})).status == 200


async def test_hashed_credentials() -> None:
    async with running(paths={"all": {"publishUser": HASHED_USER, "publishPass": HASHED_PASSWORD}}) as it:
        client = await it.client()
        refused = await announce(client, it.url("cam"))
        assert refused.headers.get_all("WWW-Authenticate") == ['Basic realm="IPCAM"']
        assert (await announce(client, it.url("cam"), basic("testuser", "wrong"))).status == 401
        assert (await announce(client, it.url("cam"), basic())).status == 200


@pytest.mark.parametrize(
    ("user", "password"), [("testuser", "wrong"), ("wrong", "testpass"), ("wrong", "wrong"), ("", "")]
)
@pytest.mark.parametrize("action", ["publish", "read"])
async def test_wrong_credentials(action: str, user: str, password: str) -> None:
    async with running(paths={"all": PUBLISH if action == "publish" else READ}) as it:
        client = await it.client()
        if action == "publish":
            response = await announce(client, it.url("cam"), basic(user, password))
        else:
            await it.publisher("cam")
            response = await client.request("DESCRIBE", it.url("cam"), basic(user, password))
        assert response.status == 401
        await it.log.wait(
            r"WARNING \[path cam\] 127\.0\.0\.1 may not (publish|read)( as user '\w+')?: invalid credentials"
        )


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic !!!", "Digest", "Digest username=", "Bearer abc", "Basic " + "A" * 2000]
)
async def test_broken_credentials(header: str) -> None:
    async with running(paths={"all": PUBLISH}) as it:
        client = await it.client()
        assert (await announce(client, it.url("cam"), {"Authorization": header})).status == 401


async def test_read_credentials_do_not_publish() -> None:
    paths = {"all": {**PUBLISH, "readUser": "reader", "readPass": "secret"}}
    async with running(paths=paths) as it:
        client = await it.client()
        assert (await announce(client, it.url("cam"), basic("reader", "secret"))).status == 401


@pytest.mark.parametrize(
    ("networks", "status"), [(["127.0.0.1"], 200), (["127.0.0.0/16"], 200), (["128.0.0.1/32"], 401), (["::1"], 401)]
)
async def test_addresses_of_publishers(networks: list[str], status: int) -> None:
    async with running(paths={"all": {"publishIPs": networks}}) as it:
        client = await it.client()
        response = await announce(client, it.url("cam"))
        assert response.status == status
        if status == 401:
            assert response.headers.get("WWW-Authenticate") is None
            assert await client.ended()
            await it.log.wait(r"WARNING \[path cam\] 127\.0\.0\.1 may not publish: IP '127\.0\.0\.1' not allowed$")


async def test_addresses_of_readers() -> None:
    async with running(paths={"all": {"readIPs": ["192.0.2.0/24"]}}) as it:
        await it.publisher("cam")
        client = await it.client()
        assert (await client.request("DESCRIBE", it.url("cam"))).status == 401
        assert await client.ended()


async def test_three_failures_keep_the_connection_the_fourth_closes_it() -> None:
    async with running(paths={"all": PUBLISH}) as it:
        client = await it.client()
        for _ in range(3):
            response = await announce(client, it.url("cam"), basic("testuser", "wrong"))
            assert response.status == 401
            assert response.headers.get("WWW-Authenticate") is not None
        response = await announce(client, it.url("cam"), basic("testuser", "wrong"))
        assert response.status == 401
        assert response.headers.get("WWW-Authenticate") is None
        assert await client.ended()
        await it.log.wait(r"closed \(authentication failed: invalid credentials\)$")


async def test_fourth_failure_waits() -> None:
    async with running(authenticationFailurePause="1h", paths={"all": PUBLISH}) as it:
        client = await it.client()
        for _ in range(3):
            await announce(client, it.url("cam"))
        client.send_request("ANNOUNCE", it.url("cam"), body=H264_ONLY)
        await it.log.wait("authentication failed: invalid credentials")
        # Others are not held up.
        other = await it.client()
        assert (await announce(other, it.url("cam"), basic())).status == 200
        assert not client.frames
        # And a client that does not wait leaves nothing behind.
        await client.close()
        await it.until(lambda: it.connection_count == 1 and len(it.sessions) == 1)


async def test_success_resets_the_counter() -> None:
    async with running(paths={"all": READ}) as it:
        await it.publisher("cam")
        client = await it.client()
        for _ in range(3):
            for _ in range(3):
                assert (await client.request("DESCRIBE", it.url("cam"))).status == 401
            assert (await client.request("DESCRIBE", it.url("cam"), basic())).status == 200


async def test_guessing_on_new_connections_is_delayed() -> None:
    async with running(authenticationFailurePause="1h", paths={"all": PUBLISH}) as it:
        for _ in range(10):
            client = await it.client()
            assert (await announce(client, it.url("cam"), basic("testuser", "wrong"))).status == 401
        client = await it.client()
        client.send_request("ANNOUNCE", it.url("cam"), basic("testuser", "wrong"), H264_ONLY)
        await it.until(lambda: it.app.hub.access._failures._turns)
        assert sum("may not publish as user 'testuser'" in line for line in it.log.lines) == 1
        (waiting,) = [each for each in it.server._connections if each._task is not None]
        assert waiting is not None
        # Asking without credentials is no guess.
        other = await it.client()
        assert (await announce(other, it.url("cam"))).status == 401


@pytest.mark.parametrize(
    "authorization", [basic(), {"Authorization": 'Digest username="testuser", response="testpass-hash"'}]
)
async def test_debug_log_masks_credentials(authorization: dict[str, str]) -> None:
    async with running(level=logging.DEBUG, paths={"all": PUBLISH}) as it:
        client = await it.client()
        url = it.url("cam").replace("rtsp://", "rtsp://testuser:testpass@")
        await announce(client, url, authorization)
        text = "\n".join(it.log.lines)
        assert "[c->s] ANNOUNCE rtsp://***@127.0.0.1" in text
        assert "[s->c] RTSP/1.0 " in text
        assert "testpass" not in text
        assert authorization["Authorization"].partition(" ")[2] not in text


@dataclass
class ExternalServer:
    """An HTTP server that says yes to what `allows` names, and keeps what it was asked."""

    status: int = 200
    hold: asyncio.Event | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    url: str = ""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    int(line.partition(":")[2])
                    for line in head.split("\r\n")
                    if line.lower().startswith("content-length")
                )
                self.heads.append(head)
                self.asked.append(json.loads(await reader.readexactly(length)))
                if self.hold is not None and self.asked[-1]["user"] == "slow":
                    await self.hold.wait()
                writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def external_server(**settings: Any) -> AsyncIterator[ExternalServer]:
    external = ExternalServer(**settings)
    async with serving(external.serve) as port:
        external.url = f"http://127.0.0.1:{port}/auth?key=1"
        yield external
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*external.tasks)


async def test_external_payload() -> None:
    async with external_server() as external, running(externalAuthenticationURL=external.url) as it:
        client = await it.client()
        assert (await announce(client, it.url("cam?param=value&x"), basic())).status == 200
        assert external.asked == [
            {
                "ip": "127.0.0.1",
                "user": "testuser",
                "password": "testpass",
                "path": "cam",
                "action": "publish",
                "query": "param=value&x",
            }
        ]
        assert external.heads[0].startswith("POST /auth?key=1 HTTP/1.1\r\n")
        assert "content-type: application/json\r\n" in external.heads[0].lower()


async def test_external_asks_for_reading_too() -> None:
    async with external_server() as external, running(externalAuthenticationURL=external.url) as it:
        await it.publisher("cam")
        await it.reader("cam")
        assert [(each["action"], each["user"], each["query"]) for each in external.asked] == [
            ("publish", "", ""),
            ("read", "", ""),
        ]
        client = await it.client()
        await client.request("DESCRIBE", it.url("cam?a=b"), basic("u", "p"))
        assert external.asked[-1]["query"] == "a=b"
        assert (external.asked[-1]["user"], external.asked[-1]["password"]) == ("u", "p")


@pytest.mark.parametrize(
    ("status", "expected"), [(200, 200), (204, 200), (299, 200), (302, 401), (401, 401), (500, 401)]
)
async def test_external_status(status: int, expected: int) -> None:
    async with external_server(status=status) as external, running(externalAuthenticationURL=external.url) as it:
        client = await it.client()
        response = await announce(client, it.url("cam"), basic())
        assert response.status == expected
        if expected == 401:
            assert response.headers.get_all("WWW-Authenticate") == ['Basic realm="IPCAM"']
            await it.log.wait(
                f"external authentication failed: bad status code: {status} .http://127.0.0.1:.*/auth.key=...."
            )


async def test_external_failures_count() -> None:
    async with external_server(status=403) as external, running(externalAuthenticationURL=external.url) as it:
        client = await it.client()
        for _ in range(3):
            assert (await announce(client, it.url("cam"))).headers.get("WWW-Authenticate") is not None
        assert (await announce(client, it.url("cam"))).headers.get("WWW-Authenticate") is None
        assert await client.ended()


async def test_dead_external_server() -> None:
    async with external_server() as external:
        pass
    async with running(externalAuthenticationURL=external.url) as it:
        client = await it.client()
        assert (await announce(client, it.url("cam"), basic())).status == 401
        await it.log.wait("external authentication failed: ")


async def test_slow_external_server_delays_only_its_client() -> None:
    hold = asyncio.Event()
    async with external_server(hold=hold) as external, running(externalAuthenticationURL=external.url) as it:
        slow = await it.client()
        slow.send_request("ANNOUNCE", it.url("slow"), basic("slow", ""), H264_ONLY)
        await it.until(lambda: external.asked)
        publisher = await it.publisher("cam")
        reader = await it.reader("cam")
        publisher.send_frame(0, rtp(1, slice_unit()))
        assert await reader.packets(1) == [rtp(1, slice_unit())]
        hold.set()
        assert (await slow.response()).status == 200


async def test_external_server_that_never_answers() -> None:
    hold = asyncio.Event()
    async with (
        external_server(hold=hold) as external,
        running(externalAuthenticationURL=external.url, externalAuthenticationTimeout="30ms") as it,
    ):
        client = await it.client()
        assert (await announce(client, it.url("cam"), basic("slow", ""))).status == 401
        await it.log.wait(r"external authentication failed: no answer within 0\.03 s")
        hold.set()


async def test_client_that_disconnects_while_the_external_server_decides() -> None:
    hold = asyncio.Event()
    async with external_server(hold=hold) as external, running(externalAuthenticationURL=external.url) as it:
        client = await it.client()
        client.send_request("ANNOUNCE", it.url("cam"), basic("slow", ""), H264_ONLY)
        await it.until(lambda: external.asked)
        await client.close()
        await it.until(lambda: not it.connection_count and not it.sessions)
        assert not it.app.hub.paths
        hold.set()


@pytest.mark.parametrize(("answer", "status"), [(True, 200), (False, 401)])
async def test_python_function_decides(answer: bool, status: int) -> None:
    asked = []

    def authenticate(request: Any) -> bool:
        asked.append((request.action.value, request.path, request.query, request.address, request.credentials.plain()))
        return answer

    async with running(authenticate) as it:
        client = await it.client()
        assert (await announce(client, it.url("cam?x=1"), basic())).status == status
        assert asked == [("publish", "cam", "x=1", "127.0.0.1", ("testuser", "testpass"))]


async def test_python_function_that_fails_refuses() -> None:
    def authenticate(request: Any) -> bool:
        raise ZeroDivisionError("oops")

    async with running(authenticate) as it:
        client = await it.client()
        assert (await announce(client, it.url("cam"), basic())).status == 401
        await it.log.wait(r"the authenticate function failed: ZeroDivisionError\('oops'\)")


async def test_unknown_path_is_not_worth_a_question() -> None:
    async with external_server() as external, running(externalAuthenticationURL=external.url, paths={"a": {}}) as it:
        client = await it.client()
        assert (await announce(client, it.url("b"), basic())).status == 400
        assert not external.asked
