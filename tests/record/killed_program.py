"""Records made-up pictures and sound as fast as it can, until it is killed; for ``test_killed.py``.

Arguments: the directory, the format, and "sync" for ``recordSync``. Says on standard output how many bytes each part
has that was written.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.protocols.hls.support import FramePublisher
from tests.support.running import application
from tests.support.waiting import until

from polycast.config import LoadedConfiguration, from_mapping
from polycast.record import disk


async def main(folder: str, record_format: str, *options: str) -> None:
    """Record for ever."""
    settings = {
        "record": True,
        "recordPath": f"{folder}/%path/%s-%f",
        "recordFormat": record_format,
        "recordPartDuration": "500ms",
        "recordSegmentDuration": "3s",
        "recordSync": "sync" in options,
    }
    off = {"rtspDisable": True, "rtmpDisable": True, "hlsDisable": True}
    configuration = from_mapping({**off, "paths": {"cam": settings}})
    written = disk.write_all

    def write_and_tell(descriptor: int, pieces: list[bytes]) -> int:
        # In small steps, so that the end comes in the middle of a part.
        size = sum(written(descriptor, [piece]) for piece in pieces)
        print(size, flush=True)
        return size

    disk.write_all = write_and_tell  # type: ignore[assignment]
    async with application(LoadedConfiguration(configuration, None, [], frozenset())) as (app, _):
        publisher = FramePublisher(app.hub.path("cam"))
        while Path(folder).parent.exists():
            publisher.play(1, size=20_000)
            await until(lambda: not any(recording.writer.queued for recording in app.recorder.recordings))


asyncio.run(main(*sys.argv[1:]))
