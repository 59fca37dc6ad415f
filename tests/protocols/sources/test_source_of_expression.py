"""Sources of paths with a regular expression: groups in their addresses, and no path that stays for nobody."""

from __future__ import annotations

import pytest
from tests.protocols.rtsp.support import running
from tests.protocols.sources.camera import camera

from polycast.config.dialects.mediamtx import MEDIAMTX
from polycast.protocols.sources import with_groups


@pytest.mark.parametrize(
    ("url", "groups", "expected"),
    [
        ("rtsp://h/$G1/$G2", ("a", "b/c"), "rtsp://h/a/b/c"),
        ("rtsp://h/$G10$G1", tuple("abcdefghij"), "rtsp://h/ja"),
        ("rtsp://h/$G1$G2", ("x",), "rtsp://h/x$G2"),
        ("rtsp://h:$G1/", ("8554",), "rtsp://h:8554/"),
        ("rtsp://h/x", (), "rtsp://h/x"),
    ],
)
def test_groups_in_addresses(url: str, groups: tuple[str, ...], expected: str) -> None:
    assert with_groups(url, groups) == expected


async def test_a_reader_gets_the_stream_of_its_group_and_the_path_goes_with_it() -> None:
    async with camera() as origin:
        paths = {
            "~^proxy/(.+)/(.+)$": {
                "source": origin.url("$G2?from=$G1"),
                "rtspTransport": "tcp",
                "sourceOnDemand": True,
                "sourceOnDemandCloseAfter": "50ms",
            }
        }
        values = {"rtspTransports": ["tcp"], "paths": paths}
        async with running(dialect=MEDIAMTX, **values) as app:
            client = await app.client()
            assert (await client.request("DESCRIBE", app.url("proxy/north/door"))).status == 200
            request = await origin.asked("DESCRIBE")
            assert request.url == origin.url("door?from=north")
            assert [path.name for path in app.app.hub] == ["proxy/north/door"]
            await app.until(lambda: not list(app.app.hub))


async def test_the_query_of_the_first_reader_in_an_address() -> None:
    async with camera() as origin:
        source = {
            "source": origin.url("door?$MTX_QUERY"),
            "rtspTransport": "tcp",
            "sourceOnDemand": True,
            "sourceOnDemandCloseAfter": "1ms",
        }
        async with running(dialect=MEDIAMTX, rtspTransports=["tcp"], paths={"~^cam_(.+)$": source}) as app:
            for query in ("key=val&who=me", "key=other"):
                client = await app.client()
                assert (await client.request("DESCRIBE", app.url(f"cam_a?{query}"))).status == 200
                assert (await origin.asked("DESCRIBE")).url == origin.url(f"door?{query}")
                await client.close()
                await app.until(lambda: not list(app.app.hub))


async def test_a_source_that_fails_leaves_no_path() -> None:
    paths = {
        "~^(.+)$": {"source": "rtsp://127.0.0.1:1/$G1", "sourceOnDemand": True, "sourceOnDemandStartTimeout": "100ms"}
    }
    async with running(dialect=MEDIAMTX, rtspTransports=["tcp"], paths=paths) as app:
        client = await app.client()
        assert (await client.request("DESCRIBE", app.url("anything"))).status in (400, 404)
        await app.until(lambda: not list(app.app.hub))
