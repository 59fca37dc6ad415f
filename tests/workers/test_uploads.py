"""Recorded files of all workers are uploaded by one of them, also after it was replaced."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from tests.interop.tools import require
from tests.record.test_uploads import Storage, storage
from tests.support.waiting import until
from tests.workers.support import running
from tests.workers.test_streams import clip, publishing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")

__all__ = ["clip", "storage"]


async def test_one_worker_uploads_the_files_of_all(storage: Storage, tmp_path: Path, clip: tuple[Path, object]) -> None:
    require("ffmpeg")
    path = {
        "record": True,
        "recordPath": str(tmp_path / "%path/%s-%f"),
        "recordSegmentDuration": "1s",
        "recordUpload": storage.address(),
    }
    async with (
        running(tmp_path, paths={"all_others": path}) as server,
        server.at(2, "rtmp") as second,
        publishing(server, clip[0], f"rtmp://127.0.0.1:{second}/cam", "-f", "flv"),
    ):
        await server.wait(r"ERR \[worker 1\] \[upload\] .* cannot be uploaded")  # there is no bucket yet
        start = len(server.lines)
        os.kill((await server.pids())[1], signal.SIGKILL)
        await server.wait(r"\[worker 1\] replaced", start)
        storage.request("PUT", "films")
        files = {f"cameras/cam/{file.name}" for file in (tmp_path / "cam").iterdir()}
        await until(lambda: len(files & set(storage.names())) >= len(files) - 1, server.lines)
        assert not any("[worker 2] [upload]" in line for line in server.lines), server.log
