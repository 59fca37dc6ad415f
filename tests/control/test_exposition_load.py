"""The metrics, read again and again while publishers, readers, paths and configurations come and go."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.control.support import Server, running
from tests.support.rtp import key_unit, rtp

from polycast.control.metrics import exposition
from polycast.control.metrics.exposition import SLICE_SECONDS

SCRAPES = 30 if os.environ.get("POLYCAST_SOAK") == "full" else 12
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
NAMES = ("cam", "yard/north", "a-b_c.d", "~x")
ALWAYS = {"paths", "rtsp_sessions", "rtmp_conns"}
SESSIONS = {("rtsp_sessions", state) for state in ("idle", "read", "publish")}


async def come_and_go(server: Server, name: str) -> None:
    """Publish and read for a moment, for ever."""
    while True:
        publisher = await server.publisher(name)
        readers = [await server.reader(name) for _ in range(3)]
        for number in range(1, 30):
            publisher.send_frame(0, rtp(number, key_unit(500)))
            await asyncio.sleep(0.002)
        for client in (*readers, publisher):
            await client.close()


async def change_paths(server: Server) -> None:
    """Add, change and remove a path, and try what is refused, for ever."""
    while True:
        for what, body in (
            ("add", {}),
            ("edit", {"disablePublisherOverride": True}),
            ("edit", {"no": 1}),
            ("remove", {}),
        ):
            await server.post(f"/v1/config/paths/{what}/extra", body)


class Counters:
    """The highest value of each counter so far, by name and labels."""

    def __init__(self) -> None:
        self.highest: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def check(self, text: str) -> None:
        """Every family is described once, no sample comes twice, and totals of the server never fall."""
        families = list(text_string_to_metric_families(text))
        names = [family.name for family in families]
        assert len(names) == len(set(names))
        assert set(names) >= ALWAYS
        seen = set()
        for family in families:
            assert family.type != "unknown", family.name
            assert family.documentation, family.name
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                assert key not in seen, key
                seen.add(key)
                assert sample.value >= 0 or family.type == "gauge", sample
                if family.type == "counter" and not set(sample.labels) & {"path", "name", "id"}:
                    assert sample.value >= self.highest.get(key, 0), key
                    self.highest[key] = sample.value
        states = {(name, dict(labels).get("state")) for name, labels in seen}
        assert states >= SESSIONS


@pytest.mark.parametrize("seconds", [SLICE_SECONDS, 0.0], ids=["slices", "each row a slice"])
async def test_every_scrape_is_valid(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Also if everything comes and goes while a page is being written."""
    monkeypatch.setattr(exposition, "SLICE_SECONDS", seconds)
    monkeypatch.setattr(exposition, "ROWS", 1)
    async with running(paths={"all": {}}) as server:
        busy: list[Callable[[], Awaitable[None]]] = [
            *(lambda name=name: come_and_go(server, name) for name in NAMES),  # type: ignore[misc]
            lambda: change_paths(server),
        ]
        tasks = [asyncio.ensure_future(start()) for start in busy]
        counters = Counters()
        try:
            for _ in range(SCRAPES):
                response = await server.metrics.get("/metrics")
                assert response.status_code == 200
                counters.check(response.text)
                response = await server.metrics.get("/metrics", headers=OPENMETRICS)
                assert response.text.endswith("# EOF\n")
                assert list(parse_openmetrics(response.text))
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended
        assert counters.highest
