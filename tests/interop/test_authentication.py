"""Methods of authentication, protocols and places of credentials, as a table; with FFmpeg and HTTP clients."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from tests.control.support import Server, running
from tests.interop import tools
from tests.protocols.rtsp.support import H264_ONLY, RtspClient
from tests.support.listeners import serving
from tests.support.tokens import Issuer, key_set

pytestmark = pytest.mark.interop

ISSUER = Issuer("ES256")
PERMISSIONS = [
    {"action": action, "path": path}
    for action, path in (("publish", "~^new"), ("read", "cam"), ("api", ""), ("metrics", ""), ("pprof", ""))
]
TOKEN = ISSUER.token(PERMISSIONS, sub="bob")
WRONG_TOKEN = Issuer("ES256").token(PERMISSIONS, sub="bob")
FFMPEG_USER_INFORMATION = 127
"""Characters of user and password in an RTSP URL, of which FFmpeg cuts off the rest."""

SERVICES = {"api": "/v1/config/get", "metrics": "/metrics", "pprof": "/debug/pprof/"}


def sha256(text: str) -> str:
    return "sha256:" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def argon2(text: str) -> str:
    derivation = Argon2id(salt=b"saltsaltsaltsalt", length=32, iterations=1, lanes=1, memory_cost=1024)
    return "argon2:" + derivation.derive_phc_encoded(text.encode())


def users(user: str, password: str) -> dict[str, Any]:
    """Return the settings for a user who may do everything that the table tries, beside a publisher of ``cam``."""
    publisher = {"user": "publisher", "pass": "secret", "permissions": [{"action": "publish", "path": "cam"}]}
    return {"authInternalUsers": [publisher, {"user": user, "pass": password, "permissions": PERMISSIONS}]}


class Decider:
    """An HTTP server that decides by user and password, or by token, and serves the keys of tokens."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.url = ""
        self.connections: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections[writer] = task
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                body = key_set(ISSUER)
                status = 200
                if head.startswith("POST"):
                    length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length"))
                    question = json.loads(await reader.readexactly(int(length.partition(":")[2])))
                    self.asked.append(question)
                    status, body = (200 if self.agrees(question) else 401), b"no, thank you"
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()

    async def close(self) -> None:
        for writer in self.connections:
            writer.close()
        await asyncio.gather(*self.connections.values())

    @staticmethod
    def agrees(question: dict[str, Any]) -> bool:
        who = (question["user"], question["password"])
        return who in (("u", "p"), ("publisher", "secret")) or question.get("token") == TOKEN


@contextlib.asynccontextmanager
async def decider() -> AsyncIterator[Decider]:
    server = Decider()
    async with serving(server.serve) as port:
        server.url = f"http://127.0.0.1:{port}/auth"
        yield server
        await server.close()


@dataclass(frozen=True)
class Place:
    """How credentials are sent: in the user information of a URL, in its query, or in a header."""

    user_information: str = ""
    query: str = ""
    header: str = ""


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


NOTHING = Place()
RIGHT = [Place("u:p"), Place(query="user=u&pass=p"), Place(header=basic("u", "p")), Place(header="Bearer u:p")]
WRONG = [Place("u:x"), Place(query="user=u&pass=x"), Place(header=basic("u", "x")), Place(header="Bearer u:x")]
RIGHT_TOKEN = [
    Place(f"any:{TOKEN}"),
    Place(query=f"user=any&pass={TOKEN}"),
    Place(query=f"token={TOKEN}"),
    Place(query=f"jwt={TOKEN}"),
    Place(header=f"Bearer {TOKEN}"),
    Place(header=basic("any", TOKEN)),
]
WRONG_TOKENS = [
    Place(f"any:{WRONG_TOKEN}"),
    Place(query=f"user=any&pass={WRONG_TOKEN}"),
    Place(query=f"token={WRONG_TOKEN}"),
    Place(header=f"Bearer {WRONG_TOKEN}"),
]


def takes(protocol: str, place: Place, *, token_in_query: bool = False) -> bool:
    """Return whether a protocol has such a place for credentials."""
    is_token_in_query = place.query.startswith(("token=", "jwt="))
    if protocol == "rtsp":
        return bool(place.user_information) or is_token_in_query
    if protocol == "rtmp":
        return bool(place.query)
    if is_token_in_query:
        return token_in_query
    return bool(place.header) or (protocol == "webrtc" and bool(place.query))


def can_send(protocol: str, place: Place) -> bool:
    """Return whether a client can send such credentials, even if the protocol does not take them."""
    if place.user_information:
        return protocol == "rtsp"
    return bool(place.query) or protocol not in ("rtsp", "rtmp")


async def is_let_in(
    server: Server, protocol: str, place: Place, media: dict[str, Path], ffmpeg: FFmpeg = tools.ffmpeg
) -> bool:
    """Return whether a client with these credentials may read (``rtsp``, ``rtmp``, ``hls``, ``webrtc``), publish
    (``rtsp publish``, ``rtmp publish``), or use a service."""
    name, _, verb = protocol.partition(" ")
    query = f"?{place.query}" if place.query else ""
    if name in ("rtsp", "rtmp"):
        ports = server.app.servers[name.upper()].ports
        if name == "rtsp" and len(place.user_information) > FFMPEG_USER_INFORMATION:
            return await asks_rtsp(ports["rtspAddress"], place.user_information, publishes=bool(verb))
        user = f"{place.user_information}@" if place.user_information and name == "rtsp" else ""
        path = f"new{name}" if verb else "cam"
        url = f"{name}://{user}127.0.0.1:{ports[f'{name}Address']}/{path}{query}"
        transport = ["-rtsp_transport", "tcp"] if name == "rtsp" else []
        if verb:
            output = ["-f", "rtsp", *transport] if name == "rtsp" else ["-f", "flv"]
            return await runs(ffmpeg("-t", "0.5", "-i", media["h264"], "-c", "copy", *output, url))
        return await runs(ffmpeg(*transport, "-i", url, "-c", "copy", "-frames:v", "2", "-f", "null", "-"))
    headers = {"Authorization": place.header} if place.header else {}
    if name in SERVICES:
        response = await server.http(name).get(SERVICES[name] + query, headers=headers)
    else:
        target = "/cam/index.m3u8" if name == "hls" else "/cam/whep"
        client = server.http("api")
        client.event_hooks["request"] = []
        client.follow_redirects = True
        port = next(iter(server.app.servers[{"hls": "HLS", "webrtc": "WebRTC"}[name]].ports.values()))
        method = "GET" if name == "hls" else "OPTIONS"
        response = await client.request(method, f"http://127.0.0.1:{port}{target}{query}", headers=headers)
    assert response.status_code in (200, 204, 401), response.text
    return response.status_code != 401


async def asks_rtsp(port: int, user_information: str, *, publishes: bool) -> bool:
    """Return whether a client with Basic credentials that are too long for FFmpeg is let in."""
    client = await RtspClient.connect(port)
    user, _, password = user_information.partition(":")
    try:
        method, path, body = ("ANNOUNCE", "newrtsp", H264_ONLY) if publishes else ("DESCRIBE", "cam", "")
        headers = {"Authorization": basic(user, password)}
        answer = await client.request(method, f"rtsp://127.0.0.1:{port}/{path}", headers, body)
        return answer.status == 200
    finally:
        await client.close()


async def runs(command: list[str]) -> bool:
    """Return whether a program ends without an error."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0 or any(word in errors for word in (b"401", b"Unauthorized", b"failed", b"error"))
    return process.returncode == 0


READING = ["rtsp", "rtmp", "hls", "webrtc", *SERVICES]
PUBLISHING = ["rtsp publish", "rtmp publish"]
FFmpeg = Callable[..., list[str | Path]]


@contextlib.asynccontextmanager
async def published(media: dict[str, Path], token: str = "", **values: Any) -> AsyncIterator[Server]:
    """Run a server on whose path ``cam`` FFmpeg publishes without end."""
    more = {"webrtc": True, "webrtcAddress": "127.0.0.1:0", "webrtcLocalUDPAddress": "127.0.0.1:0", "pprof": True}
    async with running(**more, **values) as server:
        url = f"rtsp://publisher:secret@127.0.0.1:{server.rtsp_port}/cam"
        if token:
            url = f"rtsp://127.0.0.1:{server.rtsp_port}/cam?jwt={token}"
        publisher = await asyncio.create_subprocess_exec(
            *tools.quick_ffmpeg("-re", "-stream_loop", "-1", "-i", media["h264"], "-c", "copy", "-f", "rtsp",
                                "-rtsp_transport", "tcp", url)
        )  # fmt: skip
        try:
            await server.log.wait("is publishing to path 'cam'")
            yield server
        finally:
            publisher.kill()
            await publisher.wait()


async def check(
    server: Server,
    media: dict[str, Path],
    right: list[Place],
    wrong: list[Place],
    *,
    ffmpeg: FFmpeg = tools.ffmpeg,
    **options: bool,
) -> None:
    """Try every place over every protocol."""

    async def mistakes(protocol: str) -> list[str]:
        name = protocol.partition(" ")[0]
        expected = {}
        for place in [NOTHING, *right, *(place for place in wrong if takes(name, place, **options))]:
            # What cannot be sent at all over a protocol is no credentials.
            sent = place if can_send(name, place) else NOTHING
            expected[sent] = place in right and takes(name, place, **options)
        return [
            f"{protocol}, {place}: should {'' if is_right else 'not '}be let in"
            for place, is_right in expected.items()
            if await is_let_in(server, protocol, place, media, ffmpeg) is not is_right
        ]

    found = await asyncio.gather(*map(mistakes, [*READING, *PUBLISHING]))
    assert not [each for of_protocol in found for each in of_protocol]


async def test_internal_users(media: dict[str, Path]) -> None:
    async with published(media, **users("u", "p")) as server:
        await check(server, media, RIGHT, WRONG)


@pytest.mark.parametrize("hashed", [sha256, argon2])
async def test_hashes(hashed: Callable[[str], str], media: dict[str, Path]) -> None:
    async with published(media, **users(hashed("u"), hashed("p"))) as server:
        for protocol, right, wrong in (
            ("rtsp", Place("u:p"), Place("u:x")),
            ("rtmp", Place(query="user=u&pass=p"), Place(query="user=u&pass=x")),
            *(
                (name, Place(header=basic("u", "p")), Place(header=basic("u", "x")))
                for name in ("hls", "webrtc", "api")
            ),
        ):
            assert await is_let_in(server, protocol, right, media, tools.quick_ffmpeg), protocol
            assert not await is_let_in(server, protocol, wrong, media, tools.quick_ffmpeg), protocol


async def test_external_server(media: dict[str, Path]) -> None:
    async with decider() as external, published(media, authMethod="http", authHTTPAddress=external.url) as server:
        places = [*RIGHT, *RIGHT_TOKEN], [*WRONG, *WRONG_TOKENS]
        await check(server, media, *places, ffmpeg=tools.quick_ffmpeg)
    fields = ["ip", "user", "password", "token", "action", "path", "protocol", "id", "query", "userAgent"]
    assert all(list(question) == fields for question in external.asked)
    assert {question["ip"] for question in external.asked} == {"127.0.0.1"}
    told = {(question["action"], question["path"], question["protocol"]) for question in external.asked}
    assert told == {
        ("publish", "cam", "rtsp"),
        ("publish", "newrtsp", "rtsp"),
        ("publish", "newrtmp", "rtmp"),
        *(("read", "cam", protocol) for protocol in ("rtsp", "rtmp", "hls", "webrtc")),
        *((service, "", "") for service in SERVICES),
    }
    first = external.asked[0]
    assert (first["user"], first["password"], first["token"]) == ("", "", "")
    assert first["userAgent"].startswith("Lavf")
    rtmp = [question for question in external.asked if question["protocol"] == "rtmp"]
    assert {question["user"] for question in rtmp if question["query"] == "user=u&pass=p"} == {"u"}
    assert all(question["id"] for question in rtmp)


@pytest.mark.parametrize("in_query", [False, True])
async def test_tokens(in_query: bool, media: dict[str, Path]) -> None:
    publisher = ISSUER.token([{"action": "publish", "path": "cam"}])
    settings = {"authMethod": "jwt", "authJWTInHTTPQuery": in_query}
    async with decider() as keys, published(media, token=publisher, authJWTJWKS=keys.url, **settings) as server:
        places = RIGHT_TOKEN, [*WRONG, *WRONG_TOKENS]
        await check(server, media, *places, ffmpeg=tools.quick_ffmpeg, token_in_query=in_query)
        if not in_query:
            await server.app.reload(server.app.configuration)
            client = server.http("api")
            response = await client.get(SERVICES["api"], headers={"Authorization": f"Bearer {TOKEN}"})
            assert response.json()["authMethod"] == "jwt"


@pytest.mark.parametrize("method", ["http", "jwt"])
async def test_ffmpeg_is_authenticated_once_over_hls(method: str, media: dict[str, Path]) -> None:
    """With user and password in the address, or a token; what follows is requested with the session."""
    token = ISSUER.token([{"action": "publish", "path": "cam"}]) if method == "jwt" else ""
    own = {"authMethod": method, "authJWTInHTTPQuery": True}
    async with decider() as it, published(media, token, authHTTPAddress=it.url, authJWTJWKS=it.url, **own) as server:
        port = server.app.servers["HLS"].ports["hlsAddress"]
        user, query = ("", f"?jwt={TOKEN}") if method == "jwt" else ("u:p@", "")
        url = f"http://{user}127.0.0.1:{port}/cam/index.m3u8{query}"
        assert await runs(tools.ffmpeg("-i", url, "-c", "copy", "-t", "3", "-f", "null", "-"))
        asked = [question["user"] for question in it.asked if question["protocol"] == "hls"]
        assert asked == (["", "u"] if method == "http" else [])
