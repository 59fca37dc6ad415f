"""What feeds a stream from a peer, on the loop that servers run on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import cast

import pytest

from polycast.hub.stats import Counters
from polycast.protocols.webrtc.inbound import InboundMedia, InboundTrack
from polycast.protocols.webrtc.incoming import Incoming
from polycast.protocols.webrtc.peer import Peer
from polycast.rtp.rtcp import PictureLossIndication, parse_compound
from polycast.wire.webrtc.description import Format


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


class Handle:
    """A timer of `Clock`."""

    def __init__(self, due: float, on_due: Callable[[], None]) -> None:
        self.due = due
        self.on_due = on_due
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """A loop whose time passes from timer to timer."""

    def __init__(self) -> None:
        self.now = 100.0
        self.handles: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, on_due: Callable[[], None]) -> Handle:
        self.handles.append(Handle(due, on_due))
        return self.handles[-1]

    def call_soon(self, on_due: Callable[[], None]) -> Handle:
        return self.call_at(self.now, on_due)

    @property
    def waiting(self) -> list[Handle]:
        self.handles = [handle for handle in self.handles if not handle.is_cancelled]
        return self.handles

    def run(self) -> None:
        """Run the next timer."""
        handle = min(self.waiting, key=lambda each: each.due)
        self.handles.remove(handle)
        self.now = max(self.now, handle.due)
        handle.on_due()


class Sent:
    """What is sent to the peer."""

    def __init__(self) -> None:
        self.key_frame_requests = 0

    def send_control(self, data: bytes) -> None:
        self.key_frame_requests += sum(isinstance(each, PictureLossIndication) for each in parse_compound(data))


def test_requests_for_key_frames_leave_one_timer() -> None:
    clock, sent = Clock(), Sent()
    loop, peer = cast("asyncio.AbstractEventLoop", clock), cast("Peer", sent)
    tracks = [InboundTrack(0, "video", "0", Format(96, "VP8", 90_000), [7])]
    media = InboundMedia(tracks, clock.now)
    incoming = Incoming(loop, peer, media, [], Counters(), lambda _tracks: None, gather_seconds=1.0)
    incoming.connect(clock.now)
    for _ in range(3):
        for _ in range(100):
            incoming.request_key_frame()
        for _ in range(20):
            clock.run()
            assert len(clock.waiting) == 1
    assert clock.now > 102.0
    assert sent.key_frame_requests == 4
    incoming.close()
    assert not clock.waiting


def test_a_key_frame_is_requested_at_once() -> None:
    clock, sent = Clock(), Sent()
    loop, peer = cast("asyncio.AbstractEventLoop", clock), cast("Peer", sent)
    media = InboundMedia([InboundTrack(0, "video", "0", Format(96, "VP8", 90_000), [7])], clock.now)
    incoming = Incoming(loop, peer, media, [], Counters(), lambda _tracks: None, gather_seconds=1.0)
    incoming.connect(clock.now)
    assert sent.key_frame_requests == 1, "the first one"
    while clock.now < 103.0:
        clock.run()
    clock.now += 0.001
    began = clock.now
    incoming.request_key_frame()
    clock.run()
    assert (sent.key_frame_requests, clock.now) == (2, began)
