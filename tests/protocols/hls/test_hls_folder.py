"""Copies of playlists and segments on disk (hlsDirectory)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.protocols.hls.support import Fixture, names, running
from tests.support.waiting import until

from polycast.log import Log
from polycast.protocols.hls.folder import MuxerFolder
from polycast.wire.hls.resource import Resource


async def started(it: Fixture, path: str) -> list[str]:
    """Publish, and return the names in the media playlist."""
    it.publish(path).play(4)
    task = it.soon_with(f"/{path}/index.m3u8", {})
    await it.until(lambda: path in it.server.remuxers)
    it.app.hub.paths[path].publisher.play(4)  # type: ignore[union-attr]
    assert (await task).status_code == 200
    return names((await it.get(f"/{path}/stream.m3u8")).text)


@pytest.mark.parametrize("variant", ["mpegts", "fmp4"])
@pytest.mark.parametrize("path", ["cam", "floor2/door"])
async def test_the_files_are_those_that_are_served(tmp_path: Path, variant: str, path: str) -> None:
    async with running(hlsDirectory=str(tmp_path), hlsVariant=variant) as it:
        segments = await started(it, path)
        folder = tmp_path.joinpath(*path.split("/"))
        await it.until(lambda: all((folder / name).exists() for name in (*segments, "index.m3u8", "stream.m3u8")))
        for name in (*segments, "index.m3u8"):
            assert (await it.get(f"/{path}/{name}")).content == (folder / name).read_bytes()
        assert set(names((folder / "stream.m3u8").read_text())) <= {file.name for file in folder.iterdir()}
        it.app.hub.paths[path].publisher.play(20)  # type: ignore[union-attr]
        await it.until(lambda: not (folder / segments[0]).exists())
        it.server.remuxers[path].close("the test closes it")
        await it.until(lambda: not folder.exists())


async def test_the_folder_is_there_before_the_first_segment(tmp_path: Path) -> None:
    async with running(hlsDirectory=str(tmp_path), hlsAlwaysRemux=True) as it:
        it.publish("cam")
        await it.until(lambda: (tmp_path / "cam").is_dir())
        it.server.remuxers["cam"].close("the test closes it")
        await it.until(lambda: not (tmp_path / "cam").exists())


async def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with running(hlsDirectory=str(tmp_path / "file")) as it:
        await started(it, "cam")
        await it.log.wait(r"WARNING .* files cannot be written to '.*file/cam': ")


async def test_a_slow_disk_gets_the_latest_state(tmp_path: Path) -> None:
    folder = MuxerFolder(tmp_path / "cam", asyncio.get_running_loop(), Log())
    for number in range(100):
        folder.update({f"seg{number}.ts": Resource(b"%d" % number, "", immutable=True)})
    await until(lambda: not folder._is_busy)
    assert [file.name for file in (tmp_path / "cam").iterdir()] == ["seg99.ts"]
