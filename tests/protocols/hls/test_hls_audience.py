"""Viewers in the API: all who watch are listed, with or without a session, and can be sent away."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Any

import httpx2
import pytest
from tests.protocols.hls.support import PATIENCE, Fixture, names, running
from tests.protocols.hls.test_hls_viewers import BASIC, deciding, start

from polycast.hub.path import Path, PathObserver
from polycast.hub.stats import Reference
from polycast.net.http.request import MAXIMUM_USER_AGENT
from polycast.protocols.hls import audience as audience_module
from polycast.protocols.hls import reports
from polycast.protocols.hls.audience import IDLE_SECONDS, MAXIMUM_QUERY, Audience, Visit, Visits
from polycast.protocols.hls.remuxer import LINGER_SECONDS

API = {"api": True, "apiAddress": "127.0.0.1:0"}

FIELDS = {"id", "created", "remoteAddr", "path", "query", "user", "userAgent", "isCDN", "outboundBytes"}


async def ask(it: Fixture, method: str, target: str) -> httpx2.Response:
    port = it.app.control.ports["apiAddress"]
    async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE) as client:
        url = f"http://127.0.0.1:{port}/v3/{target}"
        return await client.request(method, url, headers={"authorization": BASIC})


async def listed(it: Fixture) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await ask(it, "GET", "hlssessions/list")).json()["items"]
    return found


async def test_viewers_without_a_session() -> None:
    async with running(**API) as it:
        _, playlist = await it.playing("cam")
        (first,) = await listed(it)
        segment = names(playlist)[0]
        sent = 0
        for user_agent in ("one", "other", "one"):
            answer = await it.get(f"/cam/{segment}?x=1&token=secret", user_agent=user_agent)
            sent = len(answer.content)
        found = {item["userAgent"]: item for item in await listed(it)}
        assert set(found) == {first["userAgent"], "one", "other"}
        one = found["one"]
        assert set(one) == FIELDS
        assert uuid.UUID(one["id"])
        assert datetime.fromisoformat(one["created"]).tzinfo is not None
        assert (one["path"], one["query"], one["user"], one["isCDN"]) == ("cam", "x=1&token=***", "", False)
        assert one["remoteAddr"].startswith("127.0.0.1:")
        assert (one["outboundBytes"], found["other"]["outboundBytes"]) == (2 * sent, sent)
        assert (await ask(it, "GET", f"hlssessions/get/{one['id']}")).json() == one
        readers = (await ask(it, "GET", "paths/get/cam")).json()["readers"]
        assert readers == sorted(
            ({"type": "hlsSession", "id": item["id"]} for item in found.values()), key=lambda reader: reader["id"]
        )
        page = (await ask(it, "GET", "hlssessions/list?itemsPerPage=2&page=1")).json()
        assert (page["itemCount"], page["pageCount"], len(page["items"])) == (3, 2, 1)


async def test_a_viewer_who_is_kicked_must_start_again() -> None:
    async with running(**API) as it:
        await it.playing("cam")
        for name in ("index.m3u8", "stream.m3u8"):
            await it.get(f"/cam/{name}", user_agent="one")
        one = next(item for item in await listed(it) if item["userAgent"] == "one")
        assert (await ask(it, "POST", f"hlssessions/kick/{one['id']}")).json() == {"status": "ok"}
        refused = await it.get("/cam/stream.m3u8", 401, user_agent="one")
        assert "www-authenticate" not in refused.headers, "browsers would ask for a password"
        await it.get("/cam/stream.m3u8", user_agent="other")
        for method, action in (("POST", "kick"), ("GET", "get")):
            answer = await ask(it, method, f"hlssessions/{action}/{one['id']}")
            assert (answer.status_code, answer.json()["error"]) == (404, "session not found")
        assert one["id"] not in {item["id"] for item in await listed(it)}
        await it.get("/cam/index.m3u8", user_agent="one")
        await it.get("/cam/stream.m3u8", user_agent="one")
        again = next(item for item in await listed(it) if item["userAgent"] == "one")
        assert again["id"] != one["id"]


async def test_errors_of_the_list() -> None:
    async with running(**API) as it:
        assert (await ask(it, "GET", "hlssessions/list")).json() == {"itemCount": 0, "pageCount": 0, "items": []}
        answer = await ask(it, "GET", "hlssessions/get/12")
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid UUID length: 2")
        answer = await ask(it, "POST", f"hlssessions/kick/{uuid.uuid4()}")
        assert (answer.status_code, answer.json()["error"]) == (404, "session not found")
        assert (await ask(it, "POST", "hlsmuxers/kick/cam")).status_code == 404


async def test_viewers_with_a_session() -> None:
    async with deciding("http", **API, paths={"all": {}}) as (it, _):
        (media,) = names(await start(it, "/cam/index.m3u8?token=x", authorization=BASIC))
        answer = await it.get(f"/cam/{media}")
        (item,) = await listed(it)
        assert (item["user"], item["path"], item["query"]) == ("u", "cam", "token=***")
        assert item["outboundBytes"] > len(answer.content) > 0
        assert media.partition("session=")[2] not in str(item), "whoever knows the secret is the viewer"
        assert (await ask(it, "POST", f"hlssessions/kick/{item['id']}")).status_code == 200
        await it.get(f"/cam/{media}", 401)
        assert await listed(it) == []


async def manifest(it: Fixture, **headers: str) -> tuple[str, int]:
    """Publish and read the manifest of DASH; return the name of a segment, and the bytes of the manifest."""
    first = it.soon_with("/cam/index.mpd", headers)
    await it.until(lambda: "cam" in it.server.remuxers)
    it.app.hub.paths["cam"].publisher.play(4)  # type: ignore[union-attr]
    answer = await first
    assert answer.status_code == 200, answer.text
    template, time = re.search(r'media="([^"]+)".*?<S t="([^"]+)"', answer.text, re.DOTALL).groups()  # type: ignore[union-attr]
    return template.replace("$Time$", time), len(answer.content)


async def test_viewers_of_dash() -> None:
    async with running(dash=True, **API) as it:
        it.publish("cam")
        segment, size = await manifest(it)
        answer = await it.get(f"/cam/{segment}")
        (item,) = await listed(it)
        assert (item["path"], item["outboundBytes"]) == ("cam", size + len(answer.content))
        readers = (await ask(it, "GET", "paths/get/cam")).json()["readers"]
        assert readers == [{"type": "hlsSession", "id": item["id"]}]
        assert (await ask(it, "POST", f"hlssessions/kick/{item['id']}")).status_code == 200
        await it.get("/cam/index.mpd", 401)
        assert await listed(it) == []


async def test_viewers_of_dash_with_credentials_are_one_for_all_their_requests() -> None:
    async with deciding("http", dash=True, **API, paths={"all": {}}) as (it, _):
        it.publish("cam")
        segment, _ = await manifest(it, authorization=BASIC)
        for name in (segment, "index.mpd", segment):
            await it.get(f"/cam/{name}", authorization=BASIC)
        (item,) = await listed(it)
        assert (item["user"], item["path"]) == ("u", "cam")
        await it.get(f"/cam/{segment}", 401)


async def test_addresses_alone_make_one_viewer() -> None:
    users = [{"user": "any", "ips": ["127.0.0.1"], "permissions": [{"action": action} for action in ("read", "api")]}]
    async with running(authInternalUsers=users, **API) as it:
        _, playlist = await it.playing("cam")
        for segment in names(playlist):
            await it.get(f"/cam/{segment}")
        assert len(await listed(it)) == 1


async def test_those_who_have_left_are_forgotten() -> None:
    async with running(**API) as it:
        publisher, _ = await it.playing("cam")
        await it.get("/cam/stream.m3u8", user_agent="one")
        (_, one) = await listed(it)
        it.pass_time(IDLE_SECONDS - 1)
        await it.get("/cam/stream.m3u8", user_agent="one")
        it.pass_time(2)
        assert await listed(it) == [one | {"outboundBytes": (await listed(it))[0]["outboundBytes"]}]
        publisher.stop()
        it.pass_time(IDLE_SECONDS + 1)
        assert await listed(it) == []


class Observer(PathObserver):
    """Remembers the viewers that it is told about."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ids: list[str] = []

    def on_viewer_added(self, path: Path, viewer: Reference, query: str) -> None:
        self.lines.append(f"{path.name} +{viewer.type} {query}")
        self.ids.append(viewer.id)

    def on_viewer_removed(self, path: Path, viewer: Reference, query: str) -> None:
        self.lines.append(f"{path.name} -{viewer.type} {query}")
        self.ids.remove(viewer.id)


async def test_observers_of_paths_are_told_about_viewers() -> None:
    async with running(**API) as it:
        observer = Observer()
        it.app.hub.observers.append(observer)
        publisher, _ = await it.playing("cam")
        for _ in range(2):
            await it.get("/cam/stream.m3u8?who=me", user_agent="one")
        assert observer.lines == ["cam +hlsSession ", "cam +hlsSession who=me"]
        assert set(observer.ids) == {item["id"] for item in await listed(it)}
        one = next(item for item in await listed(it) if item["userAgent"] == "one")
        await ask(it, "POST", f"hlssessions/kick/{one['id']}")
        assert observer.lines[2:] == ["cam -hlsSession who=me"]
        it.pass_time(IDLE_SECONDS + 1)
        assert observer.lines[3:] == ["cam -hlsSession "]
        publisher.stop()


async def test_viewers_leave_with_the_muxer_and_return_with_it() -> None:
    async with running() as it:
        observer = Observer()
        it.app.hub.observers.append(observer)
        publisher, _ = await it.playing("cam")
        (first,) = observer.ids
        publisher.stop()
        assert observer.ids == [first], "the playlist remains available"
        it.pass_time(LINGER_SECONDS)
        assert observer.ids == []
        await it.playing("cam")
        assert observer.ids == [first]


async def test_observers_are_told_about_so_many_viewers_of_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAXIMUM_PER_ADDRESS", 2)
    async with running(**API) as it:
        observer = Observer()
        it.app.hub.observers.append(observer)
        await it.playing("cam")
        for number in range(3):
            await it.get("/cam/stream.m3u8", user_agent=str(number))
        assert len(await listed(it)) == 4
        assert len(observer.ids) == 2
        it.pass_time(IDLE_SECONDS + 1)
        assert observer.ids == []


def visit() -> Visit:
    return Visit("cam", "192.0.2.1:9", "", "", "x")


def test_the_number_of_viewers_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience_module, "MAXIMUM_VIEWERS", 3)
    visits = Visits()
    audience = Audience(visits)
    clients = [("cam", "192.0.2.1", str(number).encode()) for number in range(5)]
    for number, client in enumerate(clients):
        audience.add(client, visit(), float(number))
        assert audience.find(clients[0], float(number)) is not None, "who is there stays"
    assert len(list(visits)) == len(visits.of("cam")) == 3
    assert audience.find(clients[1], 9.0) is None
    audience.forget_idle(200.0, 60.0)
    assert list(visits) == list(visits.of("cam")) == []


def test_one_who_is_kicked_can_begin_another_visit() -> None:
    visits = Visits()
    audience = Audience(visits)
    client = "cam", "192.0.2.1", b"x"
    first, second = visit(), visit()
    audience.add(client, first, 0.0)
    assert audience.kick(first.id)
    assert not audience.kick(first.id)
    assert audience.find(client, 1.0) is first
    assert list(visits) == []
    audience.add(client, second, 1.0)
    assert audience.find(client, 2.0) is second
    assert list(visits) == [second]


async def test_long_queries_and_names_of_programs_are_kept_in_part() -> None:
    async with running(**API) as it:
        await it.playing("cam")
        await it.get("/cam/stream.m3u8?x=" + "y" * 6_000, user_agent="z" * 6_000)
        item = next(item for item in await listed(it) if item["userAgent"].startswith("z"))
        assert (len(item["query"]), len(item["userAgent"])) == (MAXIMUM_QUERY, MAXIMUM_USER_AGENT)
        await it.get("/cam/stream.m3u8", user_agent="z" * 6_000)
        assert len(await listed(it)) == 2
