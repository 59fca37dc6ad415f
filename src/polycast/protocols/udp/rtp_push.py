"""Sends the packets of a stream over UDP, all tracks to one port (RFC 3550)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from polycast.hub.batch import PacketBatch
from polycast.hub.path import Path
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import PacketReader, Stream
from polycast.log import Log
from polycast.media.timebase import WallTime
from polycast.media.track import Track
from polycast.protocols.pull import PullError
from polycast.protocols.push import Pusher
from polycast.protocols.rtsp.description import describe, is_described
from polycast.protocols.rtsp.readers import datagram_key, to_datagrams
from polycast.protocols.udp.destination import Output, SendingAddress
from polycast.rtp.rtcp import serialize_compound
from polycast.wire.rtsp.url import RtspUrl

REPORT_SECONDS: Final = 5.0
"""Seconds between two sender reports, which go to the next port (RFC 3550 sections 6.2 and 11)."""


class RtpPusher(Pusher, PacketReader):
    """One address."""

    counters: Counters
    is_passive = True

    def __init__(self, address: SendingAddress, log: Log) -> None:
        super().__init__()
        self._address = address
        self._log = log
        self._output: Output | None = None
        self._stream: Stream | None = None
        self._indexes: tuple[int, ...] = ()
        self._counts: dict[int, list[int]] = {}
        """Packets and bytes of payload that were sent of each track."""

    # Pusher

    async def open(self, path: Path, stream: Stream) -> None:
        tracks = self._select(stream.descriptions)
        if not tracks:
            raise PullError("the stream has no track that RTP carries")
        self._output = await Output.open(self._address)
        self._stream = stream
        self._indexes = tuple(track.index for track in tracks)
        self._counts = {index: [0, 0] for index in self._indexes}
        self._log.info("receivers need this description:\n%s", session_description(tracks, self._address))
        path.attach_reader(self, stream)

    def _select(self, tracks: Sequence[Track]) -> list[Track]:
        """Return the tracks that are sent: receivers tell them apart by their payload types."""
        selected: dict[int, Track] = {}
        for track in tracks:
            if track.rtp is None or not is_described(track):
                continue
            other = selected.setdefault(track.rtp.payload_type, track)
            if other is not track:
                self._log.warning(
                    "track %d (%s) is left out: track %d has the same payload type",
                    track.index + 1,
                    track.codec_name,
                    other.index + 1,
                )
        return list(selected.values())

    async def wait(self) -> None:
        while True:  # nobody answers, so the connection is never lost
            await asyncio.sleep(REPORT_SECONDS)
            self._send_reports()

    async def close(self, path: Path) -> None:
        path.remove_reader(self)
        output, self._output = self._output, None
        if output is not None:
            output.close()

    # PacketReader

    def deliver(self, batch: PacketBatch) -> None:
        output, counters = self._output, self.counters
        if output is None:
            return
        for index in self._indexes:
            calls, count, size = batch.form(datagram_key(index), partial(to_datagrams, track_index=index))
            for data, segment_size in calls:
                output.socket.send_segments(data, segment_size, output.address)
            counters.packets_sent += count
            counters.bytes_sent += size
        for run in batch.runs:
            sent = self._counts.get(run.track_index)
            if sent is not None:
                sent[0] += run.count
                sent[1] += run.payload_size

    def close_reader(self, reason: str) -> None:
        """The stream has ended; the supervisor notices that."""

    def reference(self) -> Reference:
        return Reference("rtpPusher")

    def _send_reports(self) -> None:
        """Send a sender report for each track (RFC 3550 section 6.4.1), as far as its clock is known."""
        stream, output = self._stream, self._output
        if stream is None or output is None:
            return
        now = time.monotonic()
        for index, (packets, octets) in self._counts.items():
            track = stream.tracks[index]
            if track.ssrc is None:
                continue
            stream.update_clock(track, now)
            report = track.reports.report(track.ssrc, now, WallTime(time.time_ns()), packets, octets)
            if report is not None:
                output.socket.send(serialize_compound([report]), output.next_address)
                self.counters.reports_sent += 1


def session_description(tracks: Sequence[Track], address: SendingAddress) -> str:
    """Return the description (RFC 8866) with which others can receive what is sent to an address."""
    url = RtspUrl("rtsp", address.host, address.port, "/")
    kind = "IP6" if ":" in address.host else "IP4"
    lines = [line for line in describe(tracks, url).decode().splitlines() if not line.startswith("a=control:")]
    lines = [re.sub(r"^(m=\S+) 0 ", rf"\1 {address.port} ", line) for line in lines]
    return "\n".join(f"c=IN {kind} {address.host}" if line.startswith("c=") else line for line in lines)
