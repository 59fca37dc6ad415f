"""Publishes what is in an MPEG transport stream that a client sends in RTP (RFC 2250), instead of the stream itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from polycast.hub.batch import PacketBatch
from polycast.hub.errors import PathError
from polycast.hub.path import Path, Publisher
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import PacketReader, Stream
from polycast.media.codec import MPEGTS
from polycast.media.track import Track, describe_tracks
from polycast.protocols.rtsp.context import MediaOwner, SessionContext
from polycast.protocols.transport_ingest import TransportIngest


def is_demuxed(path: Path, tracks: Sequence[Track]) -> bool:
    """Whether the tracks that a client announces are a transport stream that the path wants demuxed."""
    return path.configuration.rtsp_demux_mpegts and len(tracks) == 1 and isinstance(tracks[0].codec, MPEGTS)


class DemuxedStream(PacketReader):
    """Reads the packets of a stream of its own, and publishes their contents on a path.

    So the packets come the same way as those of other publishers, whatever their transport.
    """

    def __init__(
        self,
        session: MediaOwner,
        context: SessionContext,
        path: Path,
        publisher: Publisher,
        tracks: Sequence[Track],
    ) -> None:
        self._session = session
        self._path = path
        self._publisher = publisher
        self._clock: Callable[[], float] = context.clock
        self.stream = Stream(tracks, publishes_packets=True, loop=context.loop, log=session.log, now=context.clock())
        """For the received packets."""
        self._ingest = TransportIngest(self._publish, Counters(), session.log)
        self.stream.add_reader(self)

    def _publish(self, tracks: Sequence[Track]) -> Stream:
        session = self._session
        stream = self._path.start_publishing(self._publisher, tracks, publishes_packets=False)
        name, transport = self._path.name, session.transport_name
        session.log.info("is publishing to path '%s', with %s, %s", name, transport, describe_tracks(tracks))
        return stream

    def deliver(self, batch: PacketBatch) -> None:
        data = b"".join(packet.payload_bytes() for run in batch.runs for packet in run.packets)
        try:
            self._ingest.receive(data, self._clock())
        except PathError as error:  # another publisher has taken the path
            self._session.close(str(error))

    def tick(self, now: float) -> None:
        """Called about once a second."""
        try:
            if not self._ingest.tick(now):
                self._session.close(self._ingest.problem)
        except PathError as error:
            self._session.close(str(error))

    def stop(self) -> None:
        """Nothing more is received."""
        self.stream.flush()
        self.stream.close()
        if self._ingest.stream is not None:
            self._ingest.finish(self._clock())

    def close_reader(self, reason: str) -> None:
        """Its stream only ends with the session."""
        self._session.close(reason)

    def reference(self) -> Reference:
        return Reference("demuxer")
