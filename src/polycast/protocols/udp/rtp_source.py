"""Receives RTP (RFC 3550) over UDP, or from a Unix socket; a setting has its session description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from polycast.config.fields import field_value
from polycast.errors import ConfigurationError, RemoteProtocolError
from polycast.log import Log
from polycast.media.track import Track
from polycast.protocols.described_tracks import track_of
from polycast.protocols.pull import PullContext, Puller, PullError
from polycast.protocols.rtp_receiver import MediaReceiver
from polycast.protocols.udp.address import parse_address
from polycast.protocols.udp.input import Input
from polycast.rtp.header import HEADER_SIZE
from polycast.wire.sdp import parse_sdp

_REORDER_TICK_SECONDS: Final = 0.05
"""Seconds between two checks of packets that wait for a missing one."""


class RtpPuller(Puller):
    """One address of the server that RTP is sent to."""

    label: ClassVar[str] = "rtp source"
    type_name: ClassVar[str] = "rtpSource"

    async def pull(self, context: PullContext) -> None:
        try:
            address = parse_address(self.url)
        except ConfigurationError as error:
            raise PullError(str(error)) from error
        if address.socket_path:
            context.log.warning("unix+rtp is deprecated: a Unix socket does not keep packets apart; use udp+rtp")
        media = _Media(context, _read_tracks(context.path_configuration.rtp_sdp, context.log))
        received = Input(context, "rtp", media.receive, media.end_of_read)
        context.log.debug("waiting for a sender")
        try:
            own = context.path_configuration.rtp_udp_read_buffer_size
            await received.open(address, int(own or field_value(context.configuration, "udpReadBufferSize")))
            await received.wait(media.tick)
        finally:
            received.close()
            media.close()


def _read_tracks(text: str, log: Log) -> list[Track]:
    """Return the tracks of a session description. Raises PullError."""
    try:
        description = parse_sdp(text.encode())
    except RemoteProtocolError as error:
        raise PullError(f"rtpSDP: {error}") from error
    tracks: list[Track] = []
    for number, media in enumerate(description.medias, 1):
        try:
            track = track_of(len(tracks), media)
        except RemoteProtocolError as error:
            log.warning("media %d (%s) of rtpSDP is skipped: %s", number, media.media, error)
            continue
        if any(_payload_type(other) == _payload_type(track) for other in tracks):
            raise PullError(f"rtpSDP: two media have the payload type {_payload_type(track)}")
        tracks.append(track)
    if not tracks:
        raise PullError("rtpSDP has no usable track")
    return tracks


def _payload_type(track: Track) -> int:
    assert track.rtp is not None  # it was described
    return track.rtp.payload_type


class _Media:
    """The tracks of one attempt, which are told apart by their payload types."""

    def __init__(self, context: PullContext, tracks: Sequence[Track]) -> None:
        self._context = context
        self._tracks = tracks
        self._indexes = {_payload_type(track): track.index for track in tracks}
        self._receiver: MediaReceiver | None = None
        """None until the first packet."""
        self._next_flush = 0.0

    def receive(self, data: bytes, start: int, end: int) -> None:
        """Process a datagram. What is not RTP is ignored, as is RTCP: it does not say which track it is about."""
        if end - start < HEADER_SIZE or data[start] >> 6 != 2:
            return
        index = self._indexes.get(data[start + 1] & 0x7F)
        if index is None:
            if 192 <= data[start + 1] <= 223:  # RTCP (RFC 5761 section 4)
                return
            if len(self._tracks) > 1:
                if self._receiver is not None:
                    self._receiver.stream.on_foreign_packet(0, data[start + 1] & 0x7F)
                return
            index = 0  # senders announce one dynamic type and send another; the receiver decides
        now = self._context.loop.time()
        receiver = self._receiver
        if receiver is None:
            stream = self._context.publish(self._tracks, True)
            receiver = self._receiver = MediaReceiver(
                stream, self._context.counters, self._context.log, now, reorders=True
            )
        receiver.tracks[index].receive_datagram(data, start, end, now)

    def end_of_read(self) -> None:
        """What has arrived so far was processed."""
        receiver = self._receiver
        if receiver is None:
            return
        now = self._context.loop.time()
        if now >= self._next_flush:
            self._next_flush = now + _REORDER_TICK_SECONDS
            receiver.give_up_missing(now)
        receiver.end_of_read()

    def tick(self, now: float) -> None:
        """Called about twice a second."""
        if self._receiver is not None:
            self._receiver.tick(now)

    def close(self) -> None:
        """End it."""
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None
