"""API v3: the names, forms and texts of MediaMTX v1.20, as far as programs depend on them."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from tests.control.support import Server, running, running_file
from tests.support.rtp import key_unit, rtp

from polycast.config import to_jsonable
from polycast.config.dialects.registry import MEDIAMTX
from polycast.control.contract import SessionServer
from polycast.control.ids import universal_id
from polycast.control.v3 import state
from polycast.control.v3.items import SessionFields
from polycast.control.v3.tracks import LABELS, describe_track
from polycast.items import SessionItem
from polycast.media.codec import CODEC_TYPES, H264, MPEG4Audio, Opus
from polycast.protocols.webrtc import WebRtcFields
from polycast.wire.rtmp.address import parse_url
from polycast.wire.rtmp.client import ClientConnection, Mode
from polycast.wire.rtmp.events import RequestAccepted


@pytest.fixture
async def it() -> AsyncIterator[Server]:
    async with running(paths={"cam": {}, "b/c": {"publishUser": "u", "publishPass": "p"}, "all": {}}) as server:
        yield server


async def refused(response: httpx2.Response, status: int, text: str) -> None:
    assert response.status_code == status, response.text
    assert response.json() == {"status": "error", "error": text}


async def test_info(it: Server) -> None:
    info = await it.get("/v3/info")
    assert info["version"].startswith("v")
    assert datetime.fromisoformat(info["started"]).tzinfo is not None


async def test_keys_are_fetched_again(monkeypatch: pytest.MonkeyPatch, it: Server) -> None:
    calls: list[str] = []

    async def refresh() -> None:
        calls.append("fetched")

    monkeypatch.setattr(it.app.hub.access, "refresh_keys", refresh)
    assert (await it.api.post("/v3/auth/jwks/refresh")).json() == {"status": "ok"}
    assert calls == ["fetched"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v3/none"), ("GET", "/v3/srtconns/list"), ("POST", "/v3/info"), ("GET", "/v3/")]
)
async def test_routes_that_do_not_exist(it: Server, method: str, path: str) -> None:
    response = await it.api.request(method, path)
    assert (response.status_code, response.text) == (404, "404 page not found")


# Configuration


async def test_global_settings_have_the_canonical_names(it: Server) -> None:
    settings = await it.get("/v3/config/global/get")
    assert settings["rtspTransports"] == ["tcp"]
    assert settings["readTimeout"] == "10s"
    assert {"paths", "pathDefaults", "rtspDisable", "protocols"}.isdisjoint(settings)


async def test_patching_global_settings(it: Server) -> None:
    response = await it.api.patch("/v3/config/global/patch", json={"readTimeout": "7s", "logLevel": None})
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert (await it.get("/v3/config/global/get"))["readTimeout"] == "7s"
    assert (await it.get("/v1/config/get"))["readTimeout"] == "7s"


async def test_settings_that_were_global_once_are_those_of_paths(it: Server) -> None:
    response = await it.api.patch("/v3/config/global/patch", json={"recordFormat": "mpegts", "logLevel": "warn"})
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert (await it.get("/v3/config/pathdefaults/get"))["recordFormat"] == "mpegts"
    assert (await it.get("/v3/config/global/get"))["logLevel"] == "warn"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"nothing": 1}', 'json: unknown field "nothing"'),
        (b'{"readTimeout": "soon"}', "readTimeout"),
        (b"[]", "invalid JSON: the body must be an object"),
        (b"{", "invalid JSON"),
        (b'{"moq":' + b"[" * 900 + b"]" * 900 + b"}", "more than 16 levels"),
    ],
)
async def test_wrong_settings_change_nothing(it: Server, body: bytes, text: str) -> None:
    before = await it.get("/v3/config/global/get")
    response = await it.api.patch("/v3/config/global/patch", content=body)
    assert response.status_code == 400
    assert text in response.json()["error"]
    assert await it.get("/v3/config/global/get") == before


async def test_paths_are_added_changed_replaced_and_deleted(it: Server) -> None:
    settings = {"source": "rtsp://host/a", "sourceOnDemand": True, "maxReaders": 3}
    assert (await it.api.post("/v3/config/paths/add/new/one", json=settings)).json() == {"status": "ok"}
    added = await it.get("/v3/config/paths/get/new/one")
    assert {key: added[key] for key in settings} == settings
    assert (added["name"], added["overridePublisher"]) == ("new/one", True)
    await refused(await it.api.post("/v3/config/paths/add/new/one", json={}), 400, "path already exists")
    await it.api.patch("/v3/config/paths/patch/new/one", json={"maxReaders": 4})
    patched = await it.get("/v3/config/paths/get/new/one")
    assert (patched["source"], patched["maxReaders"]) == ("rtsp://host/a", 4)
    await it.api.post("/v3/config/paths/replace/new/one", json={"maxReaders": 5})
    replaced = await it.get("/v3/config/paths/get/new/one")
    assert (replaced["source"], replaced["maxReaders"]) == ("publisher", 5)
    await it.api.post("/v3/config/paths/replace/another", json={})
    assert (await it.get("/v3/config/paths/get/another"))["source"] == "publisher"
    assert (await it.api.delete("/v3/config/paths/delete/new/one")).json() == {"status": "ok"}
    await refused(await it.api.delete("/v3/config/paths/delete/new/one"), 404, "path not found")
    await refused(await it.api.patch("/v3/config/paths/patch/new/one", json={}), 404, "path not found")
    await refused(await it.api.get("/v3/config/paths/get/new/one"), 404, "path configuration not found")


async def test_hidden_passwords_stay_when_they_are_sent_back(it: Server) -> None:
    shown = await it.get("/v3/config/paths/get/b/c")
    assert shown["publishPass"] == "<redacted>"
    for method, path in (("PATCH", "/v3/config/paths/patch/b/c"), ("POST", "/v3/config/paths/replace/b/c")):
        response = await it.api.request(method, path, json={**shown, "maxReaders": 2})
        assert response.status_code == 200, response.text
        assert it.app.configuration.paths["b/c"].publish_pass == "p"
        assert it.app.configuration.paths["b/c"].max_readers == 2


async def test_hidden_passwords_of_users() -> None:
    anyone = {"user": "any", "permissions": [{"action": "api"}, {"action": "read"}]}
    users = [anyone, {"user": "u", "pass": "p", "permissions": [{"action": "publish"}]}]
    async with running(authInternalUsers=users) as it:
        shown = (await it.get("/v3/config/global/get"))["authInternalUsers"]
        assert [user.get("pass") for user in shown] in ([None, "<redacted>"], ["", "<redacted>"])
        response = await it.api.patch("/v3/config/global/patch", json={"authInternalUsers": shown})
        assert response.status_code == 200, response.text
        assert [each["pass"] for each in to_jsonable(it.app.configuration, MEDIAMTX)["authInternalUsers"]] == ["", "p"]


async def test_defaults_of_paths(tmp_path: Path) -> None:
    file = tmp_path / "mediamtx.yml"
    file.write_text(
        "rtspAddress: 127.0.0.1:0\nrtspTransports: [tcp]\nrtmp: no\nhls: no\nwebrtc: no\nsrt: no\nmoq: no\n"
        "api: yes\napiAddress: 127.0.0.1:0\nmetricsAddress: 127.0.0.1:0\n# Kept.\napiPersist: yes\n"
        "metrics: yes\npathDefaults:\n  maxReaders: 2\npaths:\n  a:\n  b:\n    maxReaders: 7\n"
    )
    async with running_file(file) as it:
        assert (await it.get("/v3/config/pathdefaults/get"))["maxReaders"] == 2
        response = await it.api.patch("/v3/config/pathdefaults/patch", json={"maxReaders": 5})
        assert response.status_code == 200, response.text
        listed = (await it.get("/v3/config/paths/list"))["items"]
        assert {path["name"]: path["maxReaders"] for path in listed} == {"a": 5, "b": 7}
        await it.api.post("/v3/config/paths/replace/b", json={"runOnDemandCloseAfter": "3s"})
    text = file.read_text()
    assert "# Kept." in text
    written = yaml.safe_load(text)
    assert written["pathDefaults"] == {"maxReaders": 5}
    assert written["paths"] == {"a": None, "b": {"runOnDemandCloseAfter": "3s"}}


async def test_all_paths_are_replaced_at_once(it: Server) -> None:
    publisher = await it.publisher("cam")
    shown = await it.get("/v3/config/paths/get/b/c")
    paths = {"new": {"maxReaders": 3}, "cam": {}, "b/c": {"publishUser": "u", "publishPass": "<redacted>"}, "~^x": None}
    assert (await it.api.put("/v3/config/paths", json=paths)).json() == {"status": "ok"}
    assert [path["name"] for path in (await it.get("/v3/config/paths/list"))["items"]] == ["b/c", "cam", "new", "~^x"]
    assert (await it.get("/v3/config/paths/get/new"))["maxReaders"] == 3
    assert await it.get("/v3/config/paths/get/b/c") == shown, "the password is the one before"
    assert (await it.get("/v3/paths/get/cam"))["ready"], "a path that did not change keeps its publisher"
    for wrong, text in (
        ({"a": {}, "b": {"source": "x"}}, "invalid source: 'x'"),
        ({"a": {"runOnReadyRestart": "maybe"}}, "is neither yes nor no"),
        ({"a": 1}, "parameter paths, key a: not a map"),
        ({"a": {"nothing": 1}}, 'json: unknown field "nothing"'),
        ({"all": {}, "~^.*$": {}}, "are the same path"),
    ):
        response = await it.api.put("/v3/config/paths", json=wrong)
        assert response.status_code == 400
        assert text in response.json()["error"]
        assert await it.get("/v3/config/paths/get/b/c") == shown, "all or nothing"
    await publisher.close()
    assert (await it.api.put("/v3/config/paths", json={})).status_code == 200
    assert (await it.get("/v3/config/paths/list"))["items"] == []


async def test_a_path_that_two_clients_remove_or_add_is_removed_or_added_once(it: Server) -> None:
    answers = await asyncio.gather(*(it.api.delete("/v3/config/paths/delete/cam") for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 404, 404, 404, 404]
    answers = await asyncio.gather(*(it.api.post("/v3/config/paths/add/cam", json={}) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400, 400]
    assert {answer.json().get("error", "path already exists") for answer in answers} == {"path already exists"}


async def test_a_hidden_password_is_the_one_when_the_change_is_made(it: Server) -> None:
    """Not the one when the request arrived: another one may be changing it."""
    changes = [
        {"publishPass": "second"},
        {"publishUser": "u", "publishPass": "<redacted>", "maxReaders": 2},
    ]
    async with it.app.settings._turns.lock:
        both = [asyncio.ensure_future(it.api.patch("/v3/config/paths/patch/b/c", json=changes[0]))]
        await it.until(lambda: len(it.app.settings._turns.lock._waiters or ()) == 1)
        both.append(asyncio.ensure_future(it.api.post("/v3/config/paths/replace/b/c", json=changes[1])))
        await it.until(lambda: len(it.app.settings._turns.lock._waiters or ()) == 2)
    assert [answer.status_code for answer in await asyncio.gather(*both)] == [200, 200]
    path = it.app.configuration.paths["b/c"]
    assert (path.publish_pass, path.max_readers) == ("second", 2)


# Lists


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ("filter=name=cam", ["cam"]),
        ("filter=name=b*", ["b/c"]),
        ("filter=name=*", ["all", "b/c", "cam"]),
        ("filter=name!=cam", ["all", "b/c"]),
        ("filter=maxReaders>1", ["cam"]),
        ("filter=maxReaders>=2&filter=name!=cam", []),
        ("filter=maxReaders<%3D1", ["all", "b/c"]),
        ("filter=maxReaders=2", ["cam"]),
        ("filter=publishUser=", ["all", "cam"]),
        ("filter=overridePublisher=true&filter=name=*a*", ["all", "cam"]),
        ("filter=name>b", ["b/c", "cam"]),
        ("filter=name=?am", []),
        ("filter=name=[c]am", []),
    ],
)
async def test_filters(it: Server, filters: str, names: list[str]) -> None:
    await it.api.patch("/v3/config/paths/patch/cam", json={"maxReaders": 2})
    found = await it.get(f"/v3/config/paths/list?{filters}")
    assert [path["name"] for path in found["items"]] == names
    assert (found["itemCount"], found["pageCount"]) == (len(names), bool(names))


async def test_filters_of_what_is_running(it: Server) -> None:
    publisher = await it.publisher("live")
    publisher.send_frame(0, rtp(1, key_unit()))
    await it.reader("live")
    await it.publisher("other")

    async def names(query: str, key: str = "name", collection: str = "paths") -> list[str]:
        return [item[key] for item in (await it.get(f"/v3/{collection}/list?{query}"))["items"]]

    assert await names("filter=ready=true") == ["live", "other"]
    assert await names("filter=readers.type=rtspSession") == ["live"]
    assert await names("filter=readers.type!=rtspSession") == ["b/c", "cam", "other"]
    assert await names("filter=source=null") == ["b/c", "cam"]
    assert await names("filter=tracks=H264&filter=tracks2.codec=H264&filter=name=o*") == ["other"]
    assert await names("filter=readyTime>2020-01-01T00:00:00Z") == ["live", "other"]
    assert await names("filter=readyTime>2120-01-01T00:00:00Z") == []
    assert await names("filter=readyTime>2020-01-01") == [], "a time without an offset is none"
    assert await names("filter=name.other=1") == []
    assert await names("filter=state=read", "path", "rtspsessions") == ["live"]
    sessions = await names("filter=path=live", "id", "rtspsessions")
    assert len(await names(f"filter=session={sessions[0]}", "id", "rtspconns")) == 1
    assert await names("filter=path=x", "path", "hlsmuxers") == []


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("filter=", "invalid filter '' (write field=value, or !=, >, >=, <, <=)"),
        ("filter=name", "invalid filter 'name' (write field=value, or !=, >, >=, <, <=)"),
        ("filter=nothing=1", "invalid filter: there is no 'nothing' (one of: available,"),
        ("&".join(["filter=name=x"] * 17), "more than 16 filters"),
    ],
)
async def test_wrong_filters(it: Server, query: str, text: str) -> None:
    response = await it.api.get(f"/v3/paths/list?{query}")
    assert response.status_code == 400
    assert response.json()["error"].startswith(text)


async def test_events(it: Server) -> None:
    events: dict[str, Any] = {}

    async def listen() -> None:
        async with it.http("api").stream("GET", "/v3/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            name = ""
            async for line in response.aiter_lines():
                name = line[7:] if line.startswith("event: ") else name
                if line.startswith("data: "):
                    events[name] = json.loads(line[6:])

    listener = asyncio.create_task(listen())
    await it.until(lambda: it.app.control._events is not None and it.app.control._events._subscribers)
    await it.publisher("live")
    await it.reader("live")
    await it.until(lambda: {"path_ready", "reader_added", "session_created", "path_online"} <= events.keys())
    shown = await it.get("/v3/paths/get/live")
    listener.cancel()
    assert events["path_ready"] == {"path": "live", "tracks": shown["tracks"]}
    assert events["path_online"]["source"] == shown["source"]
    assert events["reader_added"]["reader"] == shown["readers"][0]
    ids = {session["id"] for session in (await it.get("/v3/rtspsessions/list"))["items"]}
    assert events["session_created"]["id"] in ids


async def test_pages(it: Server) -> None:
    first = await it.get("/v3/config/paths/list?itemsPerPage=2")
    assert (first["itemCount"], first["pageCount"]) == (3, 2)
    assert [path["name"] for path in first["items"]] == ["all", "b/c"]
    second = await it.get("/v3/config/paths/list?itemsPerPage=2&page=1")
    assert [path["name"] for path in second["items"]] == ["cam"]
    assert (await it.get("/v3/config/paths/list?page=9"))["items"] == []
    assert await it.get("/v3/rtspsessions/list") == {"itemCount": 0, "pageCount": 0, "items": []}
    await refused(await it.api.get("/v3/paths/list?itemsPerPage=0"), 400, "invalid items per page")
    text = 'strconv.ParseUint: parsing "x": invalid syntax'
    await refused(await it.api.get("/v3/paths/list?page=x"), 400, text)


PATH_FIELDS = {
    *("name", "confName", "source", "ready", "readyTime", "available", "availableTime", "online", "onlineTime"),
    *("tracks", "tracks2", "readers", "inboundBytes", "outboundBytes", "inboundFramesInError"),
    *("bytesReceived", "bytesSent"),
}


async def test_live_paths(it: Server) -> None:
    idle = await it.get("/v3/paths/get/cam")
    assert set(idle) == PATH_FIELDS
    assert (idle["source"], idle["ready"], idle["readyTime"], idle["tracks2"], idle["readers"]) == (
        *(None, False, None, [], []),
    )
    await refused(await it.api.get("/v3/paths/get/other"), 404, "path not found")
    publisher = await it.publisher("live")
    await it.reader("live")
    packet = rtp(1, key_unit())
    publisher.send(b"$\x00" + len(packet).to_bytes(2, "big") + packet)
    await it.until(lambda: it.app.hub.path("live").stream.bytes_received)  # type: ignore[union-attr]
    shown = await it.get("/v3/paths/get/live")
    assert (shown["confName"], shown["ready"], shown["online"], shown["tracks"]) == ("all", True, True, ["H264"])
    assert shown["tracks2"][0]["codecProps"]["profile"] == "Baseline"
    assert shown["inboundBytes"] == len(packet)
    assert shown["source"]["type"] == shown["readers"][0]["type"] == "rtspSession"
    sessions = (await it.get("/v3/rtspsessions/list"))["items"]
    assert {session["id"] for session in sessions} == {shown["source"]["id"], shown["readers"][0]["id"]}
    names = [path["name"] for path in (await it.get("/v3/paths/list"))["items"]]
    assert names == ["b/c", "cam", "live"]


async def test_passwords_of_rtmp_clients_are_not_shown(it: Server) -> None:
    """They are in the query of the URL."""
    query = "user=me&pass=word&token=abc&who=me"
    address = parse_url(f"rtmp://127.0.0.1/live/x?{query}")
    engine = ClientConnection(address, Mode.PUBLISH, 0.0, seed=bytes(3072))
    port = it.app.servers["RTMP"].ports["rtmpAddress"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    happened: list[Any] = []
    while not any(isinstance(event, RequestAccepted) for event in happened):
        writer.write(engine.data_to_send())
        happened += engine.receive_data(await reader.read(65536), 0.0)
    for version in ("v1", "v3"):
        text = (await it.api.get(f"/{version}/rtmpconns/list")).text
        assert "user=me&pass=***&token=***&who=me" in text
        assert "word" not in text
    writer.close()


SESSION_FIELDS = {
    *("id", "created", "remoteAddr", "state", "path", "query", "user", "userAgent", "transport", "profile", "conns"),
    *("inboundBytes", "inboundRTPPackets", "inboundRTPPacketsLost", "inboundRTPPacketsInError"),
    *("inboundRTPPacketsJitter", "inboundRTCPPackets", "inboundRTCPPacketsInError", "outboundBytes"),
    *("outboundRTPPackets", "outboundRTPPacketsReportedLost", "outboundRTPPacketsDiscarded", "outboundRTCPPackets"),
    *("bytesReceived", "bytesSent", "rtpPacketsReceived", "rtpPacketsSent", "rtpPacketsLost", "rtpPacketsInError"),
    *("rtpPacketsJitter", "rtcpPacketsReceived", "rtcpPacketsSent", "rtcpPacketsInError"),
}


def test_webrtc_sessions_lack_what_those_of_mediamtx_lack() -> None:
    own = {"peerConnectionEstablished", "localCandidate", "remoteCandidate", "outboundFramesDiscarded"}
    absent = {name for name in SESSION_FIELDS if name.endswith(("InError", "ReportedLost", "PacketsDiscarded"))}
    assert len(absent) == 6
    rtsp = {"transport", "profile", "conns"}
    assert {*SessionFields.__annotations__, *WebRtcFields.__annotations__} == SESSION_FIELDS - absent - rtsp | own


async def test_sessions_and_connections(it: Server) -> None:
    client = await it.rtsp()
    await client.publish(it.url("live?who=me&pass=word"))
    (session,) = (await it.get("/v3/rtspsessions/list"))["items"]
    assert set(session) == SESSION_FIELDS
    assert uuid.UUID(session["id"])
    assert (session["state"], session["path"], session["query"]) == ("publish", "live", "who=me&pass=***")
    assert (session["transport"], session["profile"], session["remoteAddr"]) == ("TCP", "AVP", client.address)
    (connection,) = (await it.get("/v3/rtspconns/list"))["items"]
    assert (connection["session"], connection["tunnel"]) == (session["id"], "none")
    assert session["conns"] == [connection["id"]]
    assert connection["inboundBytes"] > 100
    assert connection["outboundBytes"] > 100
    assert await it.get(f"/v3/rtspsessions/get/{session['id']}") == session
    assert (await it.get(f"/v3/rtspconns/get/{connection['id']}"))["id"] == connection["id"]
    await refused(await it.api.get(f"/v3/rtspsessions/get/{uuid.uuid4()}"), 404, "session not found")
    await refused(await it.api.get(f"/v3/rtspconns/get/{uuid.uuid4()}"), 404, "connection not found")
    await refused(await it.api.get("/v3/rtspsessions/get/12"), 400, "invalid UUID length: 2")
    assert (await it.api.post(f"/v3/rtspconns/kick/{connection['id']}")).status_code == 404
    response = await it.api.post(f"/v3/rtspsessions/kick/{session['id']}")
    assert response.json() == {"status": "ok"}
    assert await client.ended()
    assert (await it.get("/v3/rtspsessions/list"))["items"] == []
    await refused(await it.api.post(f"/v3/rtspsessions/kick/{session['id']}"), 404, "session not found")


async def test_a_page_of_sessions_describes_no_others(it: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = [await it.publisher(f"live{number}") for number in range(3)]
    described: list[str] = []

    def describe(server: SessionServer, key: str, item: SessionItem, connections: Sequence[str]) -> dict[str, Any]:
        described.append(item.path)
        return session(server, key, item, connections)

    session = state._session
    monkeypatch.setattr(state, "_session", describe)
    page = await it.get("/v3/rtspsessions/list?itemsPerPage=1&page=1")
    assert [item["path"] for item in page["items"]] == described == ["live1"], "the oldest is on the first page"
    assert (page["itemCount"], page["pageCount"]) == (len(clients), 3)


@pytest.mark.parametrize("collection", ["rtmpconns", "hlsmuxers"])
async def test_lists_of_other_servers(it: Server, collection: str) -> None:
    assert (await it.get(f"/v3/{collection}/list"))["items"] == []


async def test_an_hls_muxer(it: Server) -> None:
    await it.publisher("live")
    port = it.app.servers["HLS"].ports["hlsAddress"]
    async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
        asking = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/live/index.m3u8"))
        await it.until(lambda: it.app.servers["HLS"].items())
        (muxer,) = (await it.get("/v3/hlsmuxers/list"))["items"]
        asking.cancel()
    assert set(muxer) == {
        *("path", "created", "lastRequest", "outboundBytes", "outboundFramesDiscarded", "bytesSent"),
    }
    for key in ("created", "lastRequest"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", muxer[key]), key
    assert await it.get("/v3/hlsmuxers/get/live") | {"lastRequest": ""} == muxer | {"lastRequest": ""}
    await refused(await it.api.get("/v3/hlsmuxers/get/other"), 404, "muxer not found")


async def test_a_setting_that_has_no_effect_is_refused_if_it_should_have_one(it: Server) -> None:
    unused = {"moqServerKey": "auto.key", "moqHTTP2Address": ":8892"}
    assert (await it.api.patch("/v3/config/global/patch", json=unused)).json() == {"status": "ok"}
    response = await it.api.patch("/v3/config/global/patch", json={"moqHTTP2Address": ":1"})
    reason = "this version does not support it: there is no MoQ server"
    await refused(response, 400, f'json: unknown field "moqHTTP2Address" ({reason})')


async def test_credentials_of_the_same_moment_do_not_count(it: Server) -> None:
    """A client without credentials must not set some and a command in two requests at once."""
    async with it.app.settings._turns.lock:
        credentials = {"apiUser": "u", "apiPass": "p"}
        both = [asyncio.ensure_future(it.api.patch("/v3/config/global/patch", json=credentials))]
        await it.until(lambda: len(it.app.settings._turns.lock._waiters or ()) == 1)
        command = {"runOnAvailable": "touch /tmp/x"}
        both.append(asyncio.ensure_future(it.api.patch("/v3/config/paths/patch/cam", json=command)))
        await it.until(lambda: len(it.app.settings._turns.lock._waiters or ()) == 2)
    assert [answer.status_code for answer in await asyncio.gather(*both)] == [200, 403]


async def test_commands_need_credentials_or_permission(it: Server) -> None:
    response = await it.api.patch("/v3/config/paths/patch/cam", json={"runOnAvailable": "touch /tmp/x"})
    assert response.status_code == 403
    assert response.json()["error"].startswith("runOnAvailable runs a program")


# Tracks


def test_labels_are_those_of_codecs() -> None:
    assert set(LABELS) <= {codec.name for codec in CODEC_TYPES}


SPS = bytes.fromhex("6742c00dda0507ec0440000003004000000f03c50aa8")


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        (H264(SPS), {"width": 320, "height": 240, "profile": "Baseline", "level": "1.3"}),
        (H264(), {"width": 0, "height": 0, "profile": "", "level": ""}),
        (Opus(6), {"channelCount": 6}),
        (MPEG4Audio(b"", 44_100, 2), {"sampleRate": 44_100, "channelCount": 2}),
    ],
)
def test_properties_of_codecs(codec: Any, expected: Mapping[str, Any]) -> None:
    assert describe_track(codec)["codecProps"] == expected


def test_ids_are_uuids_and_stay_the_same() -> None:
    own = str(uuid.uuid4())
    assert universal_id(own) == own
    assert universal_id("") == ""
    assert universal_id("123456789") == universal_id("123456789") != universal_id("123456788")
    assert uuid.UUID(universal_id("123456789"))
