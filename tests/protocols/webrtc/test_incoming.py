"""What feeds a stream from a peer, on the loop that servers run on."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import pytest

from polycast.hub.stats import Counters
from polycast.protocols.webrtc.inbound import InboundMedia
from polycast.protocols.webrtc.incoming import Incoming
from polycast.protocols.webrtc.peer import Peer


class LateMedia(InboundMedia):
    """Media whose next timeout has passed already, as on a busy machine."""

    late_timeouts = 3

    def next_timeout(self) -> float:
        self.late_timeouts -= 1
        return asyncio.get_running_loop().time() + (-1.0 if self.late_timeouts >= 0 else 60.0)


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop")
def test_timeouts_that_have_passed() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def run() -> None:
        loop = asyncio.get_running_loop()
        media = LateMedia([], loop.time(), mid_extension=0, transport_sequence_extension=0)
        incoming = Incoming(loop, cast("Peer", None), media, [], Counters(), lambda _tracks: None, gather_seconds=1.0)
        incoming.connect(loop.time())
        incoming.end_of_read()
        while media.late_timeouts >= 0:  # noqa: ASYNC110
            await asyncio.sleep(0)
        incoming.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        errors: list[dict[str, object]] = []
        runner.get_loop().set_exception_handler(lambda _loop, context: errors.append(context))
        runner.run(run())
        assert errors == []
