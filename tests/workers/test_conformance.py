"""The API and the metrics of a server with two workers: the documents and names are those of a single process."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.control.test_schemathesis import UNKNOWN, call_all, prepared
from tests.interop.rtsp_client import RtspClient, key_frame, play, publish
from tests.soak.test_soak_rtsp import FULL
from tests.support.waiting import PATIENCE
from tests.workers.support import KEPT, Server, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")


def unchanging(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document without what changes the configuration: with two processes that takes long, and it is the
    same code."""
    document["paths"] = {
        path: {
            method: operation
            for method, operation in operations.items()
            if method == "get" or not path.startswith(("/v1/config/", "/v3/config/", "/v1/nodes", "/v3/nodes"))
        }
        for path, operations in document["paths"].items()
    }
    document["paths"] = {path: operations for path, operations in document["paths"].items() if operations}
    return document


def wait_for_stream(client: RtspClient, url: str) -> None:
    """Wait until the worker of a client knows of a stream: another one may have it since a millisecond."""
    deadline = time.monotonic() + PATIENCE
    while client.request("DESCRIBE", url, {"Accept": "application/sdp"}).status != 200:
        assert time.monotonic() < deadline, f"{url} is not published"


def connect(ports: dict[int, int]) -> list[RtspClient]:
    """Publish at one worker, read at both."""
    clients = [RtspClient(ports[worker], timeout=PATIENCE) for worker in (1, 1, 2)]
    publisher, *readers = clients
    publish(publisher, f"rtsp://127.0.0.1:{ports[1]}/live")
    for packet in key_frame(0, 0):
        publisher.send_frame(0, packet)
    for reader, worker in zip(readers, (1, 2), strict=True):
        wait_for_stream(reader, f"rtsp://127.0.0.1:{ports[worker]}/live")
        play(reader, f"rtsp://127.0.0.1:{ports[worker]}/live")
    return clients


def samples(text: str) -> dict[str, set[frozenset[str]]]:
    """Return the names of samples with those of their labels."""
    found: dict[str, set[frozenset[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).add(frozenset(sample.labels))
    return found


async def use(server: Server) -> list[RtspClient]:
    """Let clients publish and read."""
    if server.values["workers"] == 1:
        port = server.ports["rtsp"]
        return await asyncio.to_thread(connect, {1: port, 2: port})
    async with server.at(1, "rtsp") as one, server.at(2, "rtsp") as two:
        return await asyncio.to_thread(connect, {1: one, 2: two})


@pytest.mark.timeout(600)
async def test_every_operation_keeps_to_the_document(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    async with running(tmp_path, **KEPT, readTimeout="300s") as server:
        clients = await use(server)
        sessions = list((await server.get("/v1/rtspsessions/list"))["items"])
        assert sorted(int(each) % 1000 for each in sessions) == [0, 0, 1]
        names = {"name": ["live", "all_others", "none"], "id": [*sessions, UNKNOWN], "number": ["1", "99"]}
        versions = ("v1", "v3") if FULL else ("v3",)
        documents = [await server.get(f"/{version}/openapi.json") for version in versions]
        asked = [(unchanging(prepared(document, names)), False) for document in documents]
        api = SimpleNamespace(app=SimpleNamespace(control=SimpleNamespace(ports={"apiAddress": server.ports["api"]})))
        code, output, errors = await call_all(api, asked)  # type: ignore[arg-type]
        assert code == 0, errors
        assert "/v3/rtspsessions/list" in output
        for client in clients:
            client.socket.close()


async def test_metrics_have_the_same_names_and_labels(tmp_path: Path) -> None:
    found: list[dict[str, set[frozenset[str]]]] = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        async with running(folder, workers, **KEPT, readTimeout="300s") as server:
            clients = await use(server)
            text = await server.get("/metrics", "metrics")
            found.append(samples(text))
            states = sorted(
                sample.labels["state"]
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == "rtsp_sessions"
            )
            assert states == ["publish", "read", "read"]
            for client in clients:
                client.socket.close()
    single, several = found
    assert {name: labels for name, labels in single.items() if several.get(name) != labels} == {}
    assert all("worker" in name for name in several.keys() - single.keys())
