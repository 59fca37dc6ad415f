"""WebRTC sessions: one for each viewer and publisher, from its offer to its end."""

from __future__ import annotations

import secrets
import uuid
from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final, Protocol

from polycast.codecs.registry import reorders
from polycast.errors import RemoteProtocolError
from polycast.hub.errors import PathError
from polycast.hub.path import Path, Publisher
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import Stream
from polycast.hub.warnings import LossWarning
from polycast.items import SessionState
from polycast.log import Log
from polycast.media.track import Track, describe_tracks
from polycast.net.address import join_host_port, plain_host
from polycast.net.dtls import DtlsIdentity
from polycast.protocols.base import ServerContext, new_secret
from polycast.protocols.session_fields import session_fields
from polycast.protocols.transcoding import Target
from polycast.protocols.webrtc.inbound import InboundMedia
from polycast.protocols.webrtc.incoming import Incoming
from polycast.protocols.webrtc.item import WebRtcSessionItem
from polycast.protocols.webrtc.negotiation import (
    NOT_ACCEPTABLE,
    STREAM_NAME,
    accept_tracks,
    answer_to_publisher,
    answer_to_viewer,
    received_extension,
)
from polycast.protocols.webrtc.outgoing import B_FRAMES, OutgoingTrack
from polycast.protocols.webrtc.peer import LitePeer, PeerState
from polycast.protocols.webrtc.selection import Conversion, choose_tracks, missing, name_of
from polycast.protocols.webrtc.viewer import Viewer, ViewerTrack
from polycast.wire.webrtc.candidates import TCP, UDP, Candidate
from polycast.wire.webrtc.description import (
    MID_EXTENSION,
    TRANSPORT_SEQUENCE_EXTENSION,
    RemoteDescription,
    parse_fragment,
)
from polycast.wire.webrtc.ice import make_credentials
from polycast.wire.webrtc.local_description import LocalDescription, LocalMedia

REORDERING_FOUND: Final = f"{B_FRAMES}, as is known only now: its picture is converted for those who connect again"


class Host(Protocol):
    """The server, as sessions use it."""

    log: Log
    context: ServerContext
    identity: DtlsIdentity
    now: Callable[[], float]
    """Monotonic seconds."""

    @property
    def handshake_timeout(self) -> float:
        """Seconds from the offer to the connection."""
        ...

    @property
    def gather_timeout(self) -> float:
        """Seconds from the connection until a publisher's tracks are considered known."""
        ...

    @property
    def transcodes_audio(self) -> bool:
        """Whether sound that WebRTC cannot carry is converted to Opus on all paths."""
        ...

    @property
    def queue_minimum(self) -> int:
        """Minimum queue size for a slow reader in bytes."""
        ...

    @property
    def transcodes_video(self) -> bool:
        """Whether pictures that viewers cannot show are converted to H264."""
        ...

    @property
    def refuses_reordering(self) -> bool:
        """Whether streams with B-frames are refused, instead of dropping these."""
        ...

    def on_internal_error(self) -> None:
        """Log and count the exception that is being handled, a bug."""

    def candidates(self) -> list[Candidate]:
        """Return the server's candidates."""
        ...

    def local_candidate(self, transport: str) -> str:
        """Return the best candidate of a transport, as in logs and the API; empty if there is none."""
        ...

    def outgoing(self, stream: Stream, track: Track) -> OutgoingTrack:
        """Return the outgoing track of a stream, shared by all viewers."""
        ...

    def transcoded(self, path: Path, stream: Stream, track: Track, target: Target) -> OutgoingTrack:
        """Return a track of a stream in another codec, shared by all viewers."""
        ...

    def has_reordering(self, stream: Stream, track: Track) -> bool:
        """Whether a track had B-frames already."""
        ...

    def rename(self, session: Session, old_ufrag: str) -> None:
        """Register the new ICE credentials of a session."""

    def permit(self, session: Session, hosts: Sequence[str]) -> None:
        """Let relays accept what a session's client sends from these IP addresses."""

    def remove(self, session: Session) -> None:
        """Remove a session that has ended."""


class Session:
    """What viewers and publishers have in common. A session starts with an authorised offer."""

    state: ClassVar[SessionState] = "idle"
    answer: bytes
    """The answer to the offer."""
    notices: Sequence[str] = ()
    """What the user should know about the session: sentences."""
    query: str = ""
    """The query of the client's URL."""
    user_agent: str = ""
    """The program of the client, as far as it tells."""

    def __init__(self, server: Host, path: Path, offer: RemoteDescription, address: str, user: str) -> None:
        """``address`` is the source of the offer."""
        self._server = server
        self.path = path
        self.user = user
        self.id = str(uuid.uuid4())
        self.secret = new_secret(server.context.workers)
        """The last part of the session's URL: it allows changing and ending the session."""
        self.created = datetime.now(UTC)
        self.log = server.log.child(f"session {self.id[:8]}")
        self.counters = Counters()
        self._offer = offer
        self._remote_credentials = offer.credentials
        self.address = address
        """IP address that the offer came from."""
        now = server.now()
        self._deadline = now + server.handshake_timeout
        credentials, meter = make_credentials(secrets.token_bytes), server.context.hub.cipher_meter
        self.peer = LitePeer(server.identity, offer, credentials, self, meter, now)
        self._is_closed = False

    def describe(self, medias: Sequence[LocalMedia]) -> bytes:
        """Return the answer with these media."""
        server = self._server
        return LocalDescription(
            session_id=secrets.randbits(62),
            credentials=self.peer.ice.credentials,
            fingerprint=server.identity.fingerprint,
            setup="active" if self._offer.setup == "passive" else "passive",
            medias=medias,
            candidates=server.candidates(),
            cname=STREAM_NAME,
        ).serialize()

    def receive_fragment(self, body: bytes) -> bytes | None:
        """Process a PATCH of a client, after its offer. Only relays need its candidates, because the client sends the
        checks; different ICE credentials mean a restart, which is answered with new local ones.

        Raises RemoteProtocolError.
        """
        fragment = parse_fragment(body)
        self._server.permit(self, hosts_of(fragment.candidates))
        if fragment.credentials is None or fragment.credentials == self._remote_credentials:
            return None
        self._remote_credentials = fragment.credentials
        old = self.peer.ice.credentials.ufrag
        self.peer.ice.restart(make_credentials(secrets.token_bytes))
        self._server.rename(self, old)
        credentials = self.peer.ice.credentials
        media = next(iter(self._offer.medias))
        own = f"a=ice-ufrag:{credentials.ufrag}", f"a=ice-pwd:{credentials.password}"
        lines = [
            "a=ice-lite",
            *own,
            f"m={media.kind} 9 UDP/TLS/RTP/SAVPF 0",
            f"a=mid:{media.mid}",
            *own,  # where MediaMTX has them, and some clients look for them
            *(f"a=candidate:{candidate.serialize()}" for candidate in self._server.candidates()),
            "a=end-of-candidates",
            "",
        ]
        return "\r\n".join(lines).encode()

    @property
    def hosts(self) -> list[str]:
        """IP addresses from which the client may send, according to its offer and the source of it."""
        return [self.address, *hosts_of(self._offer.candidates)]

    @property
    def remote_address(self) -> str:
        """``ip:port`` of the peer; before it is connected, the IP address of the offer."""
        address = self.peer.address
        return join_host_port(plain_host(address[0]), address[1]) if address else self.address

    @property
    def remote_candidate(self) -> str:
        """The selected candidate, as in logs and the API; empty before it is known."""
        address, socket = self.peer.address, self.peer.socket
        if not address or socket is None:
            return ""
        return f"prflx/{UDP if socket.outbox is None else TCP}/{plain_host(address[0])}/{address[1]}"

    @property
    def local_candidate(self) -> str:
        """The candidate of the server, in the same form."""
        socket = self.peer.socket
        if not self.peer.address or socket is None:
            return ""
        return socket.relayed or self._server.local_candidate(UDP if socket.outbox is None else TCP)

    def reference(self) -> Reference:
        """Return its reference in the API."""
        return Reference("webRTCSession", self.id)

    def item(self) -> WebRtcSessionItem:
        """Return the item for the API."""
        return WebRtcSessionItem(
            address=self.remote_address,
            state=self.state,
            path=self.path.name,
            query=self.query,
            user=self.user,
            user_agent=self.user_agent,
            transport="WebRTC",
            peer_connection_established=self.peer.state is PeerState.CONNECTED,
            local_candidate=self.local_candidate,
            remote_candidate=self.remote_candidate,
            **session_fields(self.created, self.counters),
        )

    # PeerOwner

    def on_connected(self, now: float) -> None:
        self.log.info(
            "peer connection established, local candidate: %s, remote candidate: %s",
            self.local_candidate,
            self.remote_candidate,
        )
        try:
            self.begin(now)
        except PathError as error:
            self.close(str(error))

    def on_rtp(self, packet: bytes, now: float) -> None:
        """Viewers send no media."""

    def on_rtcp(self, packet: bytes, now: float) -> None:
        """Handled by subclasses."""

    def on_end_of_read(self) -> None:
        """Handled by publishers."""

    def on_internal_error(self) -> None:
        self._server.on_internal_error()

    def on_peer_closed(self, reason: str) -> None:
        self.close(f"peer connection closed ({reason})")

    # Life

    @abstractmethod
    def begin(self, now: float) -> None:
        """The peer is connected. Raises PathError."""

    @abstractmethod
    def leave(self, reason: str) -> None:
        """Stop publishing or reading."""

    def tick(self, now: float) -> None:
        """Called about once a second, and more often before the peer is connected."""
        self.peer.tick(now)
        if self.peer.state in (PeerState.WAITING, PeerState.HANDSHAKE) and now >= self._deadline:
            self.close("deadline exceeded while waiting connection")

    def close(self, reason: str) -> None:
        """End the session."""
        if self._is_closed:
            return
        self._is_closed = True
        self.leave(reason)
        self.peer.close(reason)
        self._server.remove(self)
        self._server.context.hub.release(self.path)
        self.log.info("closed (%s)", reason)


def hosts_of(candidates: Sequence[Candidate]) -> list[str]:
    """Return the IP addresses of candidates."""
    return [candidate.address for candidate in candidates if candidate.is_ip_address]


class ViewerSession(Session):
    """A peer that watches a path."""

    state = "read"

    def __init__(
        self,
        server: Host,
        path: Path,
        stream: Stream,
        offer: RemoteDescription,
        address: str,
        user: str,
    ) -> None:
        """Raises RemoteProtocolError if the peer cannot receive any track of the stream."""
        tracks = stream.descriptions
        conversion = Conversion(
            audio=server.transcodes_audio or path.configuration.transcode_audio,
            video=server.transcodes_video,
            has_b_frames=lambda track: reorders(track.codec) or server.has_reordering(stream, track),
        )
        chosen = choose_tracks(offer, tracks, conversion)
        outgoing = [
            server.outgoing(stream, item.track)
            if item.target is None
            else server.transcoded(path, stream, item.track, item.target)
            for item in chosen
        ]
        has_reordering = any(item.target is None and conversion.has_b_frames(item.track) for item in chosen)
        if has_reordering and server.refuses_reordering:
            raise RemoteProtocolError(_reordering(server), NOT_ACCEPTABLE)
        super().__init__(server, path, offer, address, user)
        self._stream = stream
        self.answer = self.describe(answer_to_viewer(offer, chosen, outgoing))
        self._tracks = [ViewerTrack(out, item.format) for out, item in zip(outgoing, chosen, strict=True)]
        self.viewer: Viewer | None = None
        self._has_warned = False
        self._knows_reordering = has_reordering
        """Whether B-frames were known when its tracks were chosen: then they could not be converted for this viewer."""
        problems = missing(offer, tracks, chosen, conversion)
        for text in problems:
            self.log.warning("%s", text)
        notices = [item.notice for item in chosen if item.notice]
        for text in notices:
            self.log.info("%s", text)
        self.notices = problems + notices + [_reordering(server)] * has_reordering

    def begin(self, now: float) -> None:
        viewer = Viewer(
            self.peer,
            self._tracks,
            self.counters,
            close=self.close,
            reference=self.reference,
            request_key_frame=self._request_key_frame,
            cname=STREAM_NAME,
            now=now,
        )
        viewer.query = self.query
        self.path.attach_reader(viewer, self._stream)
        self.viewer = viewer
        for track in self._tracks:
            track.outgoing.attach(viewer, self._stream)
        tracks = [track.outgoing.track for track in self._tracks]
        self.log.info("is reading from path '%s', %s", self.path.name, describe_tracks(tracks))
        self._request_key_frame()

    def on_rtcp(self, packet: bytes, now: float) -> None:
        if self.viewer is not None:
            self.counters.reports_received += 1
            self.viewer.receive_rtcp(packet, now)

    def leave(self, reason: str) -> None:
        if self.viewer is not None:
            self.path.remove_reader(self.viewer)
            for track in self._tracks:
                track.outgoing.detach(self.viewer)
            self.viewer = None  # it refers to the session

    def tick(self, now: float) -> None:
        super().tick(now)
        if self.viewer is None:
            return
        self.viewer.tick(now)
        socket = self.peer.socket
        if socket is not None and socket.outbox is not None:
            socket.outbox.set_bit_rate(self._stream.meter.bit_rate, self._server.queue_minimum)
        if not self._has_warned and any(track.outgoing.has_reordering for track in self._tracks):
            self._has_warned = True
            if self._server.transcodes_video and not self._knows_reordering:
                self.close(REORDERING_FOUND)
            elif self._server.refuses_reordering:
                self.close(_reordering(self._server))
            else:
                self.log.warning("%s", _reordering(self._server))

    def _request_key_frame(self) -> None:
        publisher = self.path.publisher
        if not any(track.outgoing.request_key_frame() for track in self._tracks) and publisher is not None:
            publisher.request_key_frame()


def _reordering(server: Host) -> str:
    """Return what happens to B-frames that are not converted, and what can be done about it."""
    conversion = "" if server.transcodes_video else " set webrtcTranscodeVideo,"
    remedy = f"encode without B-frames,{conversion} or read the stream over HLS"
    return (
        f"{B_FRAMES} (webrtcReorder is 'refuse'): {remedy}"
        if server.refuses_reordering
        else (f"{B_FRAMES}; they are dropped ({remedy})")
    )


class PublisherSession(Session, Publisher):
    """A peer that publishes on a path."""

    state = "publish"

    def __init__(self, server: Host, path: Path, offer: RemoteDescription, address: str, user: str) -> None:
        """Raises RemoteProtocolError if nothing in the offer is supported, CannotPublish if the path is in use."""
        received = accept_tracks(offer)
        super().__init__(server, path, offer, address, user)
        self._has_warned = False
        self._loss = LossWarning(self.log)
        self.answer = self.describe(answer_to_publisher(offer, received))
        media = InboundMedia(
            [item.inbound for item in received],
            server.now(),
            mid_extension=received_extension(offer, MID_EXTENSION),
            transport_sequence_extension=received_extension(offer, TRANSPORT_SEQUENCE_EXTENSION),
        )
        self.incoming = Incoming(
            server.context.loop,
            self.peer,
            media,
            [(item.inbound, item.track) for item in received],
            self.counters,
            self._start,
            gather_seconds=server.gather_timeout,
        )
        # Last: whatever fails before, the path stays free for others.
        path.set_publisher(self)

    def begin(self, now: float) -> None:
        self.incoming.connect(now)

    def on_rtp(self, packet: bytes, now: float) -> None:
        self.incoming.receive_rtp(packet, now)

    def on_rtcp(self, packet: bytes, now: float) -> None:
        self.counters.reports_received += 1
        self.incoming.receive_rtcp(packet, now)

    def on_end_of_read(self) -> None:
        self.incoming.end_of_read()

    def request_key_frame(self) -> None:
        self.incoming.request_key_frame()

    def tick(self, now: float) -> None:
        super().tick(now)
        stream = self.incoming.stream
        self._warn_of_silence(now)
        self._loss.update(self.counters.packets_lost, now)
        if stream is None:
            return
        self.peer.weight = 1 + len(stream.readers)
        self.incoming.tick(now)

    def close_publisher(self, reason: str) -> None:
        self.close(reason)

    def leave(self, reason: str) -> None:
        self.incoming.close()
        self.path.remove_publisher(self, reason)

    def _warn_of_silence(self, now: float) -> None:
        """Chromium, for example, sends nothing of Opus with seven channels, though it has agreed to."""
        silent = self.incoming.silent_tracks(now) if not self._has_warned else []
        if silent:
            self._has_warned = True
            names = ", ".join(name_of(track.codec) for track in silent)
            self.log.warning("the publisher has agreed to send %s, but nothing of it has arrived", names)

    def _start(self, tracks: Sequence[Track]) -> Stream | None:
        is_late = self.incoming.stream is not None
        try:
            stream = self.path.start_publishing(self, tracks, publishes_packets=True)
        except PathError as error:
            if is_late and self.path.publisher is self:
                self.log.warning("a track that has started late is left out: %s", error)
            else:
                self.close(str(error))
            return None
        if is_late:
            self.log.warning("a track has started late: the stream begins again with it")
        self.log.info("is publishing to path '%s', %s", self.path.name, describe_tracks(tracks))
        return stream
