"""The API: every endpoint and field, errors, limits, credentials, origins."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec
import pytest
from tests.control.support import Server, running
from tests.support.connections import open_connection
from tests.support.rtp import key_unit, rtp
from tests.support.waiting import PATIENCE

from polycast.config import Duration, replace
from polycast.config.dialects.legacy import LEGACY
from polycast.config.dialects.views import view_of
from polycast.control import slices
from polycast.control.service import MAXIMUM_BODY
from polycast.items import LazyItems


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running(paths={"all": {}, "cam": {"disablePublisherOverride": True}, "a/b": {}}) as started:
        yield started


def is_moment(text: str) -> bool:
    """Whether a text is a time as RFC 3339 writes it."""
    return bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", text)) and bool(
        datetime.fromisoformat(text)
    )


async def test_configuration_has_every_key(server: Server) -> None:
    shown = await server.get("/v1/config/get")
    assert set(shown) == {*view_of(LEGACY).fields, "paths"}
    assert shown["readTimeout"] == "10s"
    assert shown["protocols"] == ["tcp"]
    assert shown["hlsSegmentMaxSize"] == "50M"
    assert shown["encryption"] == "no"
    assert list(shown["paths"]) == ["~^.*$", "cam", "a/b"]
    assert set(shown["paths"]["cam"]) == set(view_of(LEGACY).path_fields)


async def test_headers_and_access_log(server: Server) -> None:
    response = await server.api.get("/v1/config/get?x=1")
    assert response.headers["server"] == "polycast"
    assert response.headers["content-type"] == "application/json"
    assert "access-control-allow-origin" not in response.headers
    assert await server.log.wait(r"INFO \[API\] \[conn 127\.0\.0\.1:\d+\] GET /v1/config/get\?x=1$")


async def test_set_takes_effect_before_the_answer(server: Server) -> None:
    await server.changed("/v1/config/set", {"readTimeout": "20s", "logLevel": "debug"})
    assert float(server.app.configuration.read_timeout) == 20
    assert (await server.get("/v1/config/get"))["readTimeout"] == "20s"
    assert server.log.find(r"reloading configuration \(API request\)")


async def test_set_ignores_paths(server: Server) -> None:
    await server.changed("/v1/config/set", {"paths": {"new": {}}})
    assert "new" not in (await server.get("/v1/config/get"))["paths"]


async def test_paths_are_added_changed_and_removed(server: Server) -> None:
    await server.changed("/v1/config/paths/add/c/d.e", {"readUser": "u", "readPass": "p"})
    assert (await server.get("/v1/config/get"))["paths"]["c/d.e"]["readUser"] == "u"
    assert "c/d.e" in server.app.hub.paths
    await server.changed("/v1/config/paths/edit/c/d.e", {"readUser": "w"})
    conf = (await server.get("/v1/config/get"))["paths"]["c/d.e"]
    assert (conf["readUser"], conf["readPass"]) == ("w", "p")
    await server.changed("/v1/config/paths/remove/c/d.e")
    assert "c/d.e" not in (await server.get("/v1/config/get"))["paths"]
    assert "c/d.e" not in server.app.hub.paths


@pytest.mark.parametrize("name", ["~^.*$", "~%5E.%2A%24", "all"])
async def test_the_entry_for_all_paths_has_two_names(server: Server, name: str) -> None:
    await server.changed(f"/v1/config/paths/edit/{name}", {"fallback": "/cam"})
    assert (await server.get("/v1/config/get"))["paths"]["~^.*$"]["fallback"] == "/cam"


async def test_all_paths_are_replaced_at_once(server: Server) -> None:
    publisher = await server.publisher("cam")
    reader = await server.reader("cam")
    entry = {"disablePublisherOverride": True}
    await server.changed("/v1/config/paths/replace", {"x/y": None, "cam": entry})
    assert list((await server.get("/v1/config/get"))["paths"]) == ["x/y", "cam"]
    publisher.send_frame(0, rtp(1, key_unit()))
    assert (await reader.frame())[1] == rtp(1, key_unit())
    refused = await server.post("/v1/config/paths/replace", {"ok": {}, "bad name": {}})
    assert refused.status_code == 400
    assert "invalid path name" in refused.json()["error"]
    assert list((await server.get("/v1/config/get"))["paths"]) == ["x/y", "cam"]


async def test_paths_show_publisher_readers_and_counters(server: Server) -> None:
    publisher = await server.publisher("cam")
    reader = await server.reader("cam")
    packet = rtp(1, key_unit())
    publisher.send_frame(0, packet)
    publisher.send_frame(0, rtp(4, key_unit()))
    await reader.packets(2)
    item = (await server.get("/v1/paths/list"))["items"]["cam"]
    assert {"confName", "conf", "source", "sourceReady", "tracks", "readers"} <= set(item)
    assert item["confName"] == "cam"
    assert set(item["conf"]) == set(view_of(LEGACY).path_fields)
    assert set(item["source"]) == {"type", "id"}
    assert item["source"]["type"] == "rtspSession"
    assert item["sourceReady"] is True
    assert item["tracks"] == ["H264"]
    assert [entry["type"] for entry in item["readers"]] == ["rtspSession"]
    assert is_moment(item["readySince"])
    assert item["bytesReceived"] == 2 * len(packet)
    assert item["packetsReceived"] == 2
    assert item["packetsLost"] == 2
    assert item["packetsSent"] == 2
    assert item["bytesSent"] == 2 * (len(packet) + 4)
    assert item["trackDetails"][0]["codec"] == "H264"
    one = await server.get("/v1/paths/get/cam")
    assert one.pop("name") == "cam"
    assert set(one) == set(item)
    # What has left still counts.
    await reader.close()
    await publisher.close()
    await server.until(lambda: server.app.hub.paths["cam"].stream is None)
    gone = await server.get("/v1/paths/get/cam")
    assert gone["source"] is None
    assert gone["sourceReady"] is False
    assert gone["readers"] == []
    assert gone["tracks"] == []
    assert (gone["bytesReceived"], gone["packetsSent"], gone["bytesSent"]) == (
        item["bytesReceived"],
        item["packetsSent"],
        item["bytesSent"],
    )


async def test_a_redirect_is_a_source(server: Server) -> None:
    await server.changed("/v1/config/paths/add/away", {"source": "redirect", "sourceRedirect": "rtsp://host/path"})
    assert (await server.get("/v1/paths/get/away"))["source"] == {"type": "redirect"}


async def test_sessions_are_listed_and_kicked(server: Server) -> None:
    publisher = await server.publisher("cam")
    await server.reader("cam")
    items: dict[str, Any] = (await server.get("/v1/rtspsessions/list"))["items"]
    by_state = {item["state"]: (session, item) for session, item in items.items()}
    assert set(by_state) == {"read", "publish"}
    session, item = by_state["publish"]
    assert is_moment(item["created"])
    assert item["remoteAddr"] == publisher.address
    assert item["path"] == "cam"
    assert item["transport"] == "TCP"
    assert item["user"] == ""
    assert 0 <= item["uptime"] < 60
    assert {"bytesReceived", "bytesSent", "packetsReceived", "packetsSent", "packetsLost", "packetsDropped"} <= set(
        item
    )
    assert {"jitter", "roundTrip"} <= set(item)
    await server.changed(f"/v1/rtspsessions/kick/{session}")
    assert await publisher.ended()
    assert (await server.post(f"/v1/rtspsessions/kick/{session}")).status_code == 404


async def test_collections_exist_only_while_their_servers_run(server: Server) -> None:
    for collection in ("rtmpconns", "hlsmuxers"):
        assert await server.get(f"/v1/{collection}/list") == {"items": {}}
    assert (await server.api.get("/v1/rtmpsconns/list")).status_code == 404
    await server.changed("/v1/config/set", {"rtmpDisable": True})
    assert (await server.api.get("/v1/rtmpconns/list")).status_code == 404
    await server.changed("/v1/config/set", {"rtmpDisable": False})
    assert await server.get("/v1/rtmpconns/list") == {"items": {}}


BAD_REQUESTS = [
    ("set", b"{", 400, "invalid JSON"),
    ("set", b"[]", 400, "must be an object"),
    ("set", b"\xff\xfe", 400, "invalid JSON"),
    ("set", b'{"logLevel": "loud"}', 400, "invalid log level: loud"),
    ("set", b'{"nonsense": 1}', 400, "non-existent parameter: 'nonsense'"),
    ("set", b'{"readTimeout": {"a": 1}}', 400, "readTimeout"),
    ("set", b'{"readBufferCount": 1e400}', 400, ""),
    ("set", b'{"readBufferCount": 3}', 400, "power of two"),
    ("set", b"[" * 100_000, 400, "invalid JSON"),
    ("set", b'{"a":' + b"[" * 15 + b"]" * 15 + b"}", 400, "non-existent parameter: 'a'"),
    ("set", b'{"a":' + b"[" * 16 + b"]" * 16 + b"}", 400, "more than 16 levels of objects and lists"),
    ("set", b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400, "more than 16 levels of objects and lists"),
    ("set", b'{"logLevel": "%s"}' % (b"x" * 100_000), 400, "invalid log level"),
    ("set", b" " * (MAXIMUM_BODY + 1), 413, "larger than"),
    ("paths/add/cam", b"{}", 400, "already exists"),
    ("paths/add/bad%20name", b"{}", 400, "invalid path name"),
    ("paths/add/", b"{}", 400, "cannot be empty"),
    ("paths/add//x", b"{}", 400, "can't begin with a slash"),
    ("paths/add/" + "n" * 10_000, b"{}", 400, "longer than"),
    ("paths/add/%C3%A9", b"{}", 400, "alphanumeric"),
    ("paths/add/~(", b"{}", 400, "invalid regular expression"),
    ("paths/add/new", b'{"sourc": "x"}', 400, "non-existent parameter: 'sourc'"),
    ("paths/edit/missing", b"{}", 400, "does not exist"),
    ("paths/remove/missing", b"", 400, "does not exist"),
    ("paths/replace", b'{"a": 1}', 400, "not a map"),
    ("paths/replace", b'{"all": {}, "~^.*$": {}}', 400, "the same path"),
]


@pytest.mark.parametrize(("path", "body", "status", "text"), BAD_REQUESTS)
async def test_bad_requests_change_nothing(server: Server, path: str, body: bytes, status: int, text: str) -> None:
    before = server.app.configuration
    response = await server.api.post(f"/v1/config/{path}", content=body)
    assert response.status_code == status, response.text
    assert text in response.json()["error"]
    assert server.app.configuration is before


async def test_unknown_things_and_methods(server: Server) -> None:
    for path in ("/v1/nothing", "/v2/paths/list", "/v1/paths/get/none", "/v1/nothing/list", "/static/../api.py"):
        response = await server.api.get(path)
        assert response.status_code == 404, path
        assert response.json()["error"]
    response = await server.api.get("/v1/config/set")
    assert response.status_code == 405
    assert response.json()["error"]


async def test_a_client_that_stops_within_its_body_is_disconnected(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polycast.net.http.server.REQUEST_TIMEOUT", 0.05)
    reader, writer = await open_connection("127.0.0.1", server.app.control.ports["apiAddress"])
    writer.write(b"POST /v1/config/set HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert b"408" in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_credentials() -> None:
    digest = base64.b64encode(hashlib.sha256(b"secret").digest()).decode()
    async with running(apiUser="admin", apiPass=f"sha256:{digest}", metricsUser="m", metricsPass="n") as server:
        refused = await server.api.get("/v1/config/get")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic realm=")
        assert refused.json() == {"error": "credentials are needed"}
        for auth in (("admin", "wrong"), ("wrong", "secret"), ("admin", "")):
            refused = await server.api.get("/v1/config/get", auth=auth)
            assert refused.status_code == 401
            assert refused.json() == {"error": "these credentials are not valid, or have no permission for this"}
        assert (await server.api.get("/v1/config/get", headers={"Authorization": "Basic !"})).status_code == 401
        assert (await server.api.get("/v1/config/get", auth=("admin", "secret"))).status_code == 200
        assert (await server.metrics.get("/metrics")).status_code == 401
        assert (await server.metrics.get("/metrics", auth=("m", "n"))).status_code == 200
        # New credentials need no new listener.
        port = server.app.control.ports["apiAddress"]
        body = {"apiUser": "", "apiPass": ""}
        assert (await server.api.post("/v1/config/set", json=body, auth=("admin", "secret"))).status_code == 200
        assert (await server.api.get("/v1/config/get")).status_code == 200
        assert server.app.control.ports["apiAddress"] == port


async def test_web_pages_of_others_can_change_nothing(server: Server) -> None:
    foreign = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    response = await server.api.post("/v1/config/set", content=b'{"logLevel": "debug"}', headers=foreign)
    assert response.status_code == 403
    own = {"Origin": f"http://127.0.0.1:{server.app.control.ports['apiAddress']}"}
    host = {"Host": f"127.0.0.1:{server.app.control.ports['apiAddress']}"}
    assert (await server.api.post("/v1/config/set", content=b"{}", headers={**own, **host})).status_code == 200
    await server.changed("/v1/config/set", {"apiAllowOrigin": "http://evil.example"})
    response = await server.api.post("/v1/config/set", content=b"{}", headers=foreign)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "http://evil.example"
    preflight = {**foreign, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a"}
    response = await server.api.options("/v1/config/set", headers=preflight)
    assert response.status_code == 204
    assert response.headers["access-control-allow-headers"] == "x-a"


async def test_events(server: Server) -> None:
    events: list[tuple[str, Any]] = []

    async def listen() -> None:
        async with server.http("api").stream("GET", "/v1/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            name = ""
            async for line in response.aiter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    events.append((name, json.loads(line[6:])))

    listener = asyncio.create_task(listen())
    await server.until(lambda: server.app.control._events is not None and server.app.control._events._subscribers)
    publisher = await server.publisher("cam")
    await server.reader("cam")
    await server.changed("/v1/config/paths/add/late")
    await server.post("/v1/config/set", {"bogus": 1})
    await server.until(lambda: "session_created" in dict(events))
    await publisher.close()
    await server.until(lambda: {"path_not_ready", "session_closed"} <= set(dict(events)))
    listener.cancel()
    names = [name for name, _ in events]
    ready = dict(events)["path_ready"]
    assert ready == {"path": "cam", "tracks": ["H264"]}
    assert dict(events)["path_created"] == {"path": "late"}
    assert dict(events)["config_reloaded"] == {"source": "api"}
    assert dict(events)["reader_added"]["reader"]["type"] == "rtspSession"
    assert names.index("path_ready") < names.index("reader_added") < names.index("reader_removed")
    assert server.app.control._events is not None
    await server.until(lambda: not server.app.control._events._subscribers)  # type: ignore[union-attr]


BODY = b'{"readTimeout": "33s"}'


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 1000\r\n\r\n" + BODY,
        b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:-1],
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (len(BODY) + 1) + BODY,
        b"\r\n" + BODY,
    ],
)
async def test_a_truncated_body_changes_nothing(version: bytes, body: bytes) -> None:
    async with running() as server:
        before = server.app.configuration
        reader, writer = await asyncio.open_connection("127.0.0.1", server.app.control.ports["apiAddress"])
        writer.write(b"POST /v1/config/set " + version + b"\r\nHost: 127.0.0.1\r\n" + body)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            await reader.read()
        writer.close()
        await server.changed("/v1/config/set", {"writeTimeout": "12s"})  # later than anything before
        assert server.app.configuration == replace(before, write_timeout=Duration(12))


async def test_other_work_is_done_while_sessions_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0.0)
    async with running() as server:
        await server.publisher("cam")
        rtsp = server.app.servers["RTSP"]
        ((key, item),) = rtsp.items().items()
        turns = 0
        seen: list[int] = []

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        def make() -> msgspec.Struct:
            seen.append(turns)
            return item

        with monkeypatch.context() as context:
            context.setattr(rtsp, "items", lambda: LazyItems({f"{key}{number}": make for number in range(10)}))
            other = asyncio.create_task(count())
            items = (await server.get("/v1/rtspsessions/list"))["items"]
            other.cancel()
        assert [each["path"] for each in items.values()] == ["cam"] * 10
        assert seen[-1] - seen[0] >= 9
