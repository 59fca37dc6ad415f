"""Publishes to an RTSP or RTSPS server, with ANNOUNCE and RECORD (RFC 2326 sections 10.3 and 10.11), over TCP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import ClassVar

from polycast.errors import PolycastError, RemoteProtocolError
from polycast.hub.batch import PacketBatch
from polycast.hub.path import Path
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import PacketReader, Stream
from polycast.log import Log
from polycast.media.timebase import WallTime
from polycast.net.dial import connect
from polycast.net.outbox import Outbox
from polycast.protocols.outgoing import tls_of
from polycast.protocols.pull import PullError
from polycast.protocols.push import CLOSE_SECONDS, PATIENCE, Pusher
from polycast.protocols.rtsp.description import describe, is_described
from polycast.protocols.rtsp.readers import interleave, interleaved_key, resume
from polycast.protocols.rtsp.source_connection import ClientConnection
from polycast.rtp.rtcp import serialize_compound
from polycast.wire.rtsp.headers.transport import Pair, Transport
from polycast.wire.rtsp.message import Method, Response
from polycast.wire.rtsp.transport_answer import read_transport_answer
from polycast.wire.rtsp.url import RtspUrl

# Seconds between two sender reports: RFC 3550 section 6.2 allows 5 for small sessions.
REPORT_SECONDS = 5.0

# Seconds between two checks of the connection.
CHECK_SECONDS = 1.0


class PushConnection(ClientConnection):
    """A client's end that sends media."""

    lingers: ClassVar[bool] = True  # or the server may lose the end of the stream


class RtspPusher(Pusher, PacketReader):
    """One connection to an RTSP server."""

    counters: Counters
    is_passive = True

    def __init__(self, url: RtspUrl, log: Log, fingerprint: str) -> None:
        super().__init__()
        self._url = url
        self._log = log
        self._fingerprint = fingerprint
        self._loop = asyncio.get_running_loop()
        self._connection: PushConnection | None = None
        self._outbox: Outbox | None = None
        self._stream: Stream | None = None
        self._form_key = ""
        self._interleave = partial(interleave, channels=())
        self._report_channels: tuple[int, ...] = ()
        """Interleaved channel of each track's RTCP, by index; -1 for tracks that are not sent."""
        self._counts: list[list[int]] = []
        self._recording = False

    # Pusher

    async def open(self, path: Path, stream: Stream) -> None:
        url = self._url
        tls = tls_of(self._fingerprint) if url.scheme == "rtsps" else None
        credentials = (url.user, url.password or "") if url.user is not None else None
        connection = self._connection = await connect(
            lambda: PushConnection(self._loop, self._log, credentials, PATIENCE),
            url.host,
            url.effective_port,
            tls=tls,
            timeout=PATIENCE,
        )
        self._stream = stream
        base = url.without_credentials()
        tracks = [track for track in stream.descriptions if is_described(track)]
        if not tracks:
            raise PullError("the stream has no track that RTP carries")
        await connection.request(Method.OPTIONS, base.serialize(), accept=range(200, 600))
        await connection.request(
            Method.ANNOUNCE,
            base.serialize(),
            [("Content-Type", "application/sdp")],
            body=describe(tracks, base),
        )
        channels, report_channels = [-1] * len(stream.tracks), [-1] * len(stream.tracks)
        for position, track in enumerate(tracks):
            offer = Transport("TCP", delivery="unicast", interleaved=(2 * position, 2 * position + 1), mode="record")
            control = f"{base.serialize()}/trackID={position}"
            response = await connection.request(Method.SETUP, control, [("Transport", offer.serialize())])
            agreed = self._take_setup(response, offer)
            channels[track.index], report_channels[track.index] = agreed
        await connection.request(Method.RECORD, base.serialize(), [("Range", "npt=0.000-")])
        self._form_key = interleaved_key(tuple(channels))
        self._interleave = partial(interleave, channels=tuple(channels))
        self._report_channels = tuple(report_channels)
        self._counts = [[0, 0] for _ in stream.tracks]
        self._outbox = connection.outbox
        connection.set_media_handler(lambda run, now: None, lambda coalesced: None, self._loop.time())
        self._recording = True
        path.attach_reader(self, stream)

    async def wait(self) -> None:
        connection, outbox = self._connection, self._outbox
        if connection is None or outbox is None:
            raise PullError("not connected")
        next_report = 0.0
        while not connection.lost.done():
            now = time.monotonic()
            if outbox.is_stuck(now, PATIENCE):
                raise TimeoutError(f"the server has taken nothing for {PATIENCE:g} s")
            if self._stream is not None:
                outbox.set_bit_rate(self._stream.meter.bit_rate)
            if now >= next_report and self._send_reports():
                next_report = now + REPORT_SECONDS
            await asyncio.wait((connection.lost,), timeout=CHECK_SECONDS if next_report else CHECK_SECONDS / 10)
        connection.lost.result()
        raise PullError("closed by the server")

    async def close(self, path: Path) -> None:
        path.remove_reader(self)
        connection = self._connection
        if connection is None:
            return
        with contextlib.suppress(PolycastError, OSError, TimeoutError, asyncio.CancelledError):
            if self._recording and not connection.lost.done():
                connection.send(Method.TEARDOWN, self._url.without_credentials().serialize())
        await connection.finish_within(CLOSE_SECONDS)

    # PacketReader

    def deliver(self, batch: PacketBatch) -> None:
        stream, outbox = self._stream, self._outbox
        if stream is None or outbox is None or self._connection is None or not self._connection.is_open:
            return
        if not outbox.ready:
            dropped = outbox.dropped
            resumed = resume(batch, outbox, stream.key_track)
            self.counters.packets_dropped += outbox.dropped - dropped
            if resumed is None:
                return
            batch = resumed
        data, packets = batch.form(self._form_key, self._interleave)
        if data:
            outbox.write(data)
            self.counters.bytes_sent += len(data)
            self.counters.packets_sent += packets
        for run in batch.runs:
            count = self._counts[run.track_index]
            count[0] += run.count
            count[1] += run.payload_size

    def close_reader(self, reason: str) -> None:
        """The stream has ended; the supervisor notices that."""

    def reference(self) -> Reference:
        return Reference("rtspPusher")

    @staticmethod
    def _take_setup(response: Response, offer: Transport) -> Pair:
        """Return the negotiated interleaved channels."""
        try:
            agreed = read_transport_answer(response.headers.get_all("Transport"), offer)
        except RemoteProtocolError as error:
            raise PullError(str(error)) from error
        return agreed.interleaved or offer.interleaved or (0, 1)

    def _send_reports(self) -> bool:
        """Send a sender report for each track (RFC 3550 section 6.4.1); return whether all tracks had one."""
        stream, outbox = self._stream, self._outbox
        if stream is None or outbox is None or not outbox.ready or self._connection is None:
            return False
        now = self._loop.time()
        complete = True
        for track, channel, (packets, octets) in zip(stream.tracks, self._report_channels, self._counts, strict=True):
            if channel < 0 or track.ssrc is None:
                complete = complete and channel < 0
                continue
            stream.update_clock(track, now)
            report = track.reports.report(track.ssrc, now, WallTime(time.time_ns()), packets, octets)
            if report is None:
                complete = False
                continue
            data = serialize_compound([report])
            self._connection.send_interleaved(channel, data)
            self.counters.reports_sent += 1
        return complete
