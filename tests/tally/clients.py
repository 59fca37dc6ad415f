"""A source and a push of the protocol."""

from __future__ import annotations

import asyncio

from polycast.hub.path import Path
from polycast.hub.stream import Stream
from polycast.media.codec import Opus
from polycast.media.track import Track
from polycast.protocols.pull import PullContext, Puller
from polycast.protocols.push import Pusher

TRACK = Track(0, Opus())


class TallyPuller(Puller):
    """Publishes a track and then nothing."""

    label = "tally source"
    type_name = "tallySource"

    async def pull(self, context: PullContext) -> None:
        context.publish([TRACK], False)
        await asyncio.Event().wait()


class TallyPusher(Pusher):
    """Notes what it was to push to."""

    opened: list[tuple[str, list[str]]] = []  # noqa: RUF012

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    async def open(self, path: Path, stream: Stream) -> None:
        self.opened.append((self._url, [track.codec_name for track in stream.descriptions]))

    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def close(self, path: Path) -> None:
        pass
