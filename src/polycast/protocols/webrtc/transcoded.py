"""A track that is transcoded for the viewers, as RTP packets."""

from __future__ import annotations

from collections.abc import Callable

from polycast.hub.batch import FrameBatch
from polycast.hub.stream import FrameReader, Stream
from polycast.media.frame import Frame
from polycast.media.timebase import WallTime
from polycast.protocols.transcoding import TranscodedTrack
from polycast.protocols.webrtc.outgoing import OutgoingPackets, OutgoingTrack


class TranscodedOutgoingTrack(OutgoingTrack):
    """An outgoing track whose frames are transcoded first."""

    def __init__(self, transcoded: TranscodedTrack, wall_time_of: Callable[[Frame, int], WallTime]) -> None:
        """``wall_time_of`` is that of `OutgoingTrack`."""
        super().__init__(transcoded.track, wall_time_of)
        self.transcoded = transcoded

    def attach(self, viewer: FrameReader, stream: Stream) -> None:
        self.transcoded.attach(viewer, stream)

    def detach(self, viewer: FrameReader) -> None:
        self.transcoded.detach(viewer)

    def request_key_frame(self) -> bool:
        if self.track.kind != "video":
            return False
        self.transcoded.request_key_frame()
        return True

    def packets_of(self, batch: FrameBatch) -> OutgoingPackets | None:
        self.transcoded.take(batch)
        return super().packets_of(batch)
