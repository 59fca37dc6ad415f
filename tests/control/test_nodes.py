"""Two servers of a cluster: each tells of both, of the paths of both, and drains the other."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import trustme
from tests.cluster.memory import MemoryStore, Network
from tests.control.support import Server, running
from tests.control.test_openapi import complaints

from polycast.app import StartError, cluster
from polycast.app.openapi_document import document_of_v3
from polycast.control.v3 import nodes
from polycast.hub.errors import CannotPublish

Pair = tuple[Server, Server]


@pytest.fixture
async def servers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    network = Network(1)
    monkeypatch.setattr(cluster, "_import_store", lambda: lambda *_: MemoryStore(network))
    settings: dict[str, Any] = {
        "cluster": ["nats://127.0.0.1:1"], "clusterToken": "secret", "nodeAddress": "127.0.0.1:0",
    }  # fmt: skip
    async with running(nodeName="a", **settings) as a, running(nodeName="b", **settings) as b:
        for server in (a, b):
            await server.until(lambda each=server: len(each.app.nodes) == 2)  # type: ignore[misc]
        yield a, b


async def online(server: Server, path: str) -> bool:
    found = (await server.get(path))["items"]
    return any(item["name"] == "cam" and item["online"] for item in found)


async def test_nodes_are_listed(servers: Pair) -> None:
    a, b = servers
    listed = await b.get("/v3/nodes/list")
    assert listed["itemCount"] == 2
    assert [(item["name"], item["isSelf"], item["isDraining"]) for item in listed["items"]] == [
        ("a", False, False),
        ("b", True, False),
    ]
    assert listed["items"][0]["address"] == a.app.nodes[0].address
    item = await b.get("/v3/nodes/get/a")
    assert item["name"] == "a"
    assert complaints(item, document_of_v3()["components"]["schemas"]["Node"], {}) == []
    assert (await b.api.get("/v3/nodes/get/z")).status_code == 404
    assert (await b.post("/v3/nodes/drain/z")).status_code == 404


async def test_any_node_lists_the_paths_of_all(servers: Pair) -> None:
    a, b = servers
    await a.publisher("cam")
    await b.until(lambda: b.app.cluster.node.registry.directory.owner_of("cam") is not None)  # type: ignore[union-attr]
    assert await online(b, "/v3/paths/list?cluster=1")
    assert not await online(b, "/v3/paths/list")
    # Once it is read at the other node as well, it is still one path, with the readers of its owner.
    await b.reader("cam")
    assert await online(b, "/v3/paths/list")
    items = [item for item in (await b.get("/v3/paths/list?cluster=1"))["items"] if item["name"] == "cam"]
    assert [item["source"]["type"] for item in items] == ["rtspSession"]
    assert (await b.get("/v3/nodes/paths"))["items"] == [{"name": "cam", "node": "a"}]


async def test_a_node_of_another_version_tells_less() -> None:
    answers = [("a", b'[{"name": "cam"}]'), ("b", b'[{"name": "cam", "online": true}, {}]'), ("c", b"no JSON")]

    async def paths_elsewhere() -> list[tuple[str, bytes]]:
        return answers

    server: Any = SimpleNamespace(cluster=SimpleNamespace(paths_elsewhere=paths_elsewhere))
    assert await nodes.paths_of_cluster(server, []) == [{"name": "cam", "online": True}]


async def test_a_node_that_drains_takes_no_publishers(servers: Pair) -> None:
    a, b = servers
    await a.publisher("cam")
    reader = await a.reader("cam")
    assert (await b.post("/v3/nodes/drain/a")).status_code == 200
    assert a.app.nodes[0].is_draining
    with pytest.raises(CannotPublish, match="the server is going to be stopped"):
        a.app.hub.path("other").set_publisher(object())  # type: ignore[arg-type]
    assert await online(a, "/v3/paths/list"), "what is published goes on"
    await b.until(lambda: b.app.nodes[0].is_draining)
    assert (await b.post("/v3/nodes/resume/a")).status_code == 200
    await a.publisher("other")
    await reader.close()


async def test_without_a_cluster_there_are_no_nodes() -> None:
    async with running() as server:
        assert (await server.get("/v3/nodes/list"))["items"] == []
        assert (await server.get("/v3/nodes/paths"))["items"] == []
        assert (await server.get("/v3/paths/list?cluster=1"))["items"] == []
        assert (await server.post("/v3/nodes/drain/a")).status_code == 404


async def test_nodes_encrypt_what_they_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    network = Network(1)
    monkeypatch.setattr(cluster, "_import_store", lambda: lambda *_: MemoryStore(network))
    settings: dict[str, Any] = {
        "cluster": ["nats://127.0.0.1:1"], "clusterToken": "secret", "nodeAddress": "127.0.0.1:0",
        "clusterEncryption": True, "clusterCA": "ca.crt",
    }  # fmt: skip
    authority = trustme.CA()
    issued = authority.issue_cert("node.invalid")
    issued.private_key_pem.write_to_path(tmp_path / "server.key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "server.crt")
    with pytest.raises(StartError, match=r"the cluster cannot be joined: the file 'ca\.crt' cannot be read"):
        async with running(nodeName="a", **settings):
            pass
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    async with running(nodeName="a", **settings) as a, running(nodeName="b", **settings) as b:
        await a.publisher("cam")
        await b.until(lambda: b.app.cluster.node.registry.directory.owner_of("cam") is not None)  # type: ignore[union-attr]
        await b.reader("cam")
        assert await online(b, "/v3/paths/list")
        context = ssl.create_default_context(cafile="ca.crt")
        context.check_hostname = False
        issued.configure_cert(context)
        host, _, port = a.app.nodes[0].address.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
        writer.close()


async def test_readers_are_sent_to_the_node_that_publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without their credentials; and from a node that is draining to another one."""
    network = Network(1)
    monkeypatch.setattr(cluster, "_import_store", lambda: lambda *_: MemoryStore(network))
    settings: dict[str, Any] = {
        "cluster": ["nats://127.0.0.1:1"], "clusterToken": "secret", "nodeAddress": "127.0.0.1:0",
        "clusterRedirect": True, "webrtc": True, "webrtcAddress": "127.0.0.1:0", "webrtcLocalUDPAddress": "127.0.0.1:0",
    }  # fmt: skip
    async with running(nodeName="a", nodeHost="a.example", **settings) as a, running(nodeName="b", **settings) as b:
        await a.publisher("x/cam")
        for server in (a, b):
            assert server.app.cluster.node is not None
            directory = server.app.cluster.node.registry.directory
            await server.until(lambda each=directory: each.owner_of("x/cam") is not None)  # type: ignore[misc]
            await server.until(lambda each=directory: [bool(n.clients) for n in each.nodes.values()] == [True] * 2)  # type: ignore[misc]

        def port(server: Server, name: str) -> int:
            return next(iter(server.app.servers[name].ports.values()))

        client = await b.rtsp()
        response = await client.request("DESCRIBE", b.url("x/cam?user=me&pass=secret"))
        assert response.status == 302
        assert response.headers.get("Location") == f"rtsp://a.example:{port(a, 'RTSP')}/x/cam"
        async with httpx2.AsyncClient(trust_env=False, verify=False) as http:
            for name, method, file in (("HLS", "GET", "index.m3u8"), ("WebRTC", "POST", "whep")):
                answer = await http.request(
                    method,
                    f"http://127.0.0.1:{port(b, name)}/x/cam/{file}?user=me&pass=secret",
                    headers={"Content-Type": "application/sdp", "Authorization": "Basic bWU6c2VjcmV0"},
                    content=b"v=0\r\n" if method == "POST" else None,
                )
                assert answer.status_code == 307, answer.text
                assert answer.headers["location"] == f"http://a.example:{port(a, name)}/x/cam/{file}"
        assert "x/cam" not in b.app.hub.paths, "nothing is copied"
        b.app.hub.redirect("x/cam", "HLS", "https")  # raises nothing: nobody is sent from TLS to a connection without

        assert (await b.post("/v3/nodes/drain/a")).status_code == 200
        await b.until(lambda: b.app.nodes[0].is_draining)
        response = await (await a.rtsp()).request("DESCRIBE", a.url("x/cam"))
        assert response.headers.get("Location") == f"rtsp://127.0.0.1:{port(b, 'RTSP')}/x/cam"
        await b.reader("x/cam")  # which copies it from there
