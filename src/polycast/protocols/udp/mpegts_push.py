"""Sends a stream as MPEG-TS over UDP, at the pace of its clock."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from polycast.hub.batch import FrameBatch
from polycast.hub.path import Path
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import FrameReader, Stream
from polycast.log import Log
from polycast.protocols.push import Pusher
from polycast.protocols.transport_form import SharedTransport, select_tracks
from polycast.protocols.udp.destination import Output, SendingAddress
from polycast.wire.mpegts.pacer import Pacer

TICK_SECONDS: Final = 0.001
"""Seconds between two looks at what is due, at least: what is sent within it is a burst of a few datagrams."""
_END_SECONDS: Final = 1.0
"""Seconds for what is held when the stream ends."""
_CHECK_SECONDS: Final = 1.0


class MpegtsPusher(Pusher, FrameReader):
    """One address."""

    counters: Counters
    is_passive = True

    def __init__(self, address: SendingAddress, log: Log) -> None:
        super().__init__()
        self._address = address
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._pacer = Pacer(address.packets)
        self._output: Output | None = None
        self._shared: SharedTransport | None = None
        self._is_flowing = False
        """Whether it has started, which it does at the first key frame."""
        self._timer: asyncio.TimerHandle | None = None
        self._told_dropped = 0
        self._drained = asyncio.Event()
        """Set whenever everything that is there was sent."""

    # Pusher

    async def open(self, path: Path, stream: Stream) -> None:
        tracks = select_tracks(stream.descriptions)
        for track in stream.descriptions:
            if track not in tracks:
                self._log.warning("the track %s is left out: MPEG-TS does not carry it here", track.codec_name)
        self._shared = SharedTransport(tracks)
        self._output = await Output.open(self._address)
        path.attach_reader(self, stream)

    async def wait(self) -> None:
        while True:  # nobody answers, so the connection is never lost
            await asyncio.sleep(_CHECK_SECONDS)
            dropped = self._pacer.dropped
            if dropped != self._told_dropped:
                self._log.warning("%d packets dropped: the stream comes faster than it can be sent", dropped)
                self._told_dropped = dropped

    async def close(self, path: Path) -> None:
        path.remove_reader(self)
        self._pacer.finish()
        self._send()
        if self._pacer.held and self._output is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), _END_SECONDS)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        output, self._output = self._output, None
        if output is not None:
            output.close()

    # FrameReader

    def deliver_frames(self, batch: FrameBatch) -> None:
        if self._shared is None or self._output is None:
            return
        before, rest = self._shared.form(batch)
        if self._is_flowing:
            self._pacer.receive_data(before, time.monotonic())
        elif not rest:
            return
        self._is_flowing = True
        self._pacer.receive_data(rest, time.monotonic())
        if self._timer is None:
            self._send()

    def close_reader(self, reason: str) -> None:
        """The stream has ended; the supervisor notices that."""

    def reference(self) -> Reference:
        return Reference("mpegtsPusher")

    # Timer

    def _on_timer(self) -> None:
        self._timer = None
        self._send()

    def _send(self) -> None:
        """Send what is due; the timer follows."""
        pacer, output, clock = self._pacer, self._output, time.monotonic
        if output is None:
            return
        while (datagram := pacer.next_datagram(clock())) is not None:
            output.socket.send(datagram, output.address)
            self.counters.bytes_sent += len(datagram)
            self.counters.packets_sent += 1
        if not pacer.held:
            self._drained.set()
        elif self._timer is None:
            self._drained.clear()
            delay = min(max(pacer.next_timeout() - clock(), TICK_SECONDS), _CHECK_SECONDS)
            self._timer = self._loop.call_later(delay, self._on_timer)
