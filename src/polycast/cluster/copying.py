"""The subscriber's side: a source that copies a path from the node that publishes it."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable
from typing import ClassVar, Final, NamedTuple, Protocol, TypeVar

from polycast.cluster.directory import Claim
from polycast.cluster.encryption import CONNECT_SECONDS, describe_tls_failure
from polycast.errors import PolycastError, RemoteProtocolError
from polycast.hub.batch import FramedRun, PacketRun
from polycast.hub.path import Path
from polycast.hub.publisher import Source
from polycast.hub.retry import Ended as AttemptEnded
from polycast.hub.retry import Failure, Next, RetryPauses, Supervisor
from polycast.hub.stats import Reference
from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.media.track import describe_tracks
from polycast.net.dial import connect, describe_failure
from polycast.net.tcp import TcpConnection
from polycast.rtp.rtcp import SenderReport
from polycast.security.addresses import parse_address
from polycast.wire.subscription import connection as engine
from polycast.wire.subscription.connection import NONCE_SIZE, Reason, SubscriberConnection
from polycast.wire.subscription.messages import Start

PAUSES: Final = RetryPauses(first=0.2, longest=2.0)
"""Between two attempts; a new claim on the path ends the pause."""

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)


class Dial(Protocol):
    """Connects to another node. Raises OSError."""

    async def __call__(self, factory: Callable[[], _Protocol], address: str) -> _Protocol: ...


async def dial(factory: Callable[[], _Protocol], address: str) -> _Protocol:
    """Connect to a node: ``host:port``, or a Unix socket whose path begins with a slash."""
    if not address.startswith("/"):
        return await connect(factory, *parse_address(address), timeout=CONNECT_SECONDS)
    async with asyncio.timeout(CONNECT_SECONDS):
        _, protocol = await asyncio.get_running_loop().create_unix_connection(factory, address)
    return protocol


class Owner(NamedTuple):
    """The node to copy from."""

    node: str
    address: str
    revision: int
    """Of its claim; 0 if it is only expected to publish the path."""


class Neighbours(Protocol):
    """The other nodes, as a source sees them."""

    @property
    def name(self) -> str:
        """The name of this node."""

    @property
    def token(self) -> bytes:
        """What all nodes of the cluster know."""

    def clock(self) -> float:
        """Return monotonic seconds."""

    def owner_of(self, path: str) -> Owner | None:
        """Return the other node that publishes a path; None if there is none."""

    def remove_source(self, source: NodeSource) -> None:
        """A source was stopped."""


class NotPublished(PolycastError):
    """No other node publishes the path."""


class Moved(PolycastError):
    """Another node than the one that is read publishes the path now."""


class SubscriptionRefused(PolycastError):
    """The other node has refused, or ended, the subscription."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class NodeSource(Source):
    """Copies a path from the node that publishes it, whichever that is, while there are readers."""

    is_copy: ClassVar[bool] = True

    def __init__(self, path: Path, neighbours: Neighbours, loop: asyncio.AbstractEventLoop, dial: Dial) -> None:
        self.path = path
        self.neighbours = neighbours
        self._loop = loop
        self._dial = dial
        self._accepted = 0
        """The highest revision whose owner was read: an owner of a lower one is not read any more."""
        self._tried = -1
        """The revision of the last attempt."""
        self._owner: Owner | None = None
        self._connection: Subscription | None = None
        self._logged = ""
        """The failure that was logged last: it is not logged again at each attempt."""
        self._woken = asyncio.Event()
        self._supervisor = Supervisor(
            self._attempt,
            self._on_ended,
            pauses=lambda: PAUSES,
            describe=describe_failure,
            log=lambda: self.log,
            sleep=self._sleep,
        )

    @property
    def log(self) -> Log:
        """Its log."""
        return self.path.log.child("node")

    # Source

    @property
    def failure(self) -> Failure | None:
        return self._supervisor.failure

    def start(self) -> None:
        if not self._supervisor.is_running:
            self._supervisor.start(self._loop)

    def stop(self, reason: str) -> None:
        self.neighbours.remove_source(self)
        if self._supervisor.stop() is not None:
            self.path.remove_publisher(self, reason, for_good=True)

    def close_publisher(self, reason: str) -> None:
        self.stop(reason)

    def reference(self) -> Reference:
        return Reference("node", self._owner.node if self._owner is not None else "")

    def request_key_frame(self) -> None:
        if self._connection is not None:
            self._connection.request_key_frame()

    # The owner

    def on_claim(self, claim: Claim | None) -> None:
        """The claim on the path has changed."""
        self._woken.set()
        owner, connection = self._owner, self._connection
        if claim is None or owner is None or connection is None or claim.revision <= owner.revision:
            return
        if claim.node == owner.node:
            self._owner = owner._replace(revision=claim.revision)
            self._accepted = max(self._accepted, claim.revision)
        else:
            connection.fail(Moved(f"node '{claim.node}' publishes the path now"))

    async def _sleep(self, seconds: float) -> None:
        self._woken.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _attempt(self) -> None:
        owner = self.neighbours.owner_of(self.path.name)
        # A path that is placed on a node has a stream even while nobody publishes; then, there is no claim.
        if owner is None or 0 < owner.revision < self._accepted:
            raise NotPublished("no other node publishes the path")
        self._owner, self._tried = owner, owner.revision
        connection = await self._dial(lambda: Subscription(self, owner, self._loop), owner.address)
        self._connection = connection
        try:
            await connection.wait()
        finally:
            self._connection = None
            connection.abort("not needed any more")

    def begin(self, owner: Owner, start: Start) -> Stream:
        """The owner has accepted. Raises PolycastError if its claim is outdated."""
        if start.revision < (max(owner.revision, self._accepted) if owner.revision else 0):
            raise NotPublished(f"the claim of node '{owner.node}' is outdated")
        self._accepted = max(self._accepted, start.revision)
        stream = self.path.start_publishing(self, start.tracks, publishes_packets=start.publishes_packets)
        if start.publishes_packets:
            stream.set_sync_point(start.sync_point)
        self._supervisor.worked()
        self._logged = ""
        self.log.info("copies from node '%s': %s", owner.node, describe_tracks(start.tracks))
        return stream

    def _on_ended(self, ended: AttemptEnded) -> Next:
        error = ended.error
        is_over = isinstance(error, SubscriptionRefused) and error.reason is not Reason.NOT_THE_OWNER
        self.path.remove_publisher(self, ended.reason, for_good=is_over)
        # That may have stopped it: nobody reads any more.
        owner = self.neighbours.owner_of(self.path.name)
        if self._supervisor.is_running and (is_over or (owner is None and self.path.stream is None)):
            self.path.stop_copying(ended.reason)
            return Next.STOP
        if ended.reason != self._logged:
            self._logged = ended.reason
            self.log.info("copying failed: %s", ended.reason)
        return Next.AT_ONCE if owner is not None and owner.revision > self._tried else Next.PAUSE


class Subscription(TcpConnection):
    """The connection to the node that publishes a path."""

    is_accepted: ClassVar[bool] = False
    is_divisible: ClassVar[bool] = True
    lingers: ClassVar[bool] = False
    peer_name: ClassVar[str] = "node"

    def __init__(self, source: NodeSource, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, source.log, source.neighbours.clock)
        self._source = source
        self._owner = owner
        self._stream: Stream | None = None
        neighbours, path = source.neighbours, source.path
        self._engine = SubscriberConnection(
            neighbours.token,
            secrets.token_bytes(NONCE_SIZE),
            self.clock(),
            node=neighbours.name,
            path=path.name,
            revision=owner.revision,
        )
        self._engine.wait_longer(float(path.configuration.source_on_demand_start_timeout), self.clock())
        self._lost: asyncio.Future[None] = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self) -> None:
        """Wait until the subscription has ended; always raises OSError or PolycastError."""
        await self._lost

    def fail(self, error: Exception) -> None:
        """It has ended for this reason."""
        self._stream = None
        if not self._lost.done():
            self._lost.set_exception(error)

    def request_key_frame(self) -> None:
        """Ask the owner for a key frame."""
        self._engine.request_key_frame()
        self._flush()

    # The shell

    def on_connected(self) -> None:
        self._flush()
        self._set_timer()

    def receive(self, data: bytes, now: float) -> bool:
        try:
            for happened in self._engine.receive_data(data, now):
                self._handle(happened, now)
        except RemoteProtocolError:
            raise
        except PolycastError as error:
            self.fail(error)
        self._flush()
        return False

    def end_slice(self, now: float) -> None:
        # Delays were applied by the owner.
        if self._stream is not None:
            self._stream.flush()

    @property
    def held_size(self) -> int:
        return self._engine.held_size

    def on_protocol_error(self, error: RemoteProtocolError) -> None:
        self.fail(error)
        super().on_protocol_error(error)

    def on_internal_error(self) -> None:
        self.fail(PolycastError("internal error"))
        super().on_internal_error()

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ssl.SSLError):
            # With TLS 1.3, the owner checks our certificate when the connection is already open on this side.
            self.fail(ConnectionError(describe_tls_failure(exc)))
        super().connection_lost(exc)

    def on_closing(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.fail(ConnectionError(reason or "the connection was lost"))

    def _flush(self) -> None:
        data = self._engine.data_to_send()
        if data:
            self.answer(data)

    def _set_timer(self) -> None:
        due = self._engine.next_timeout()
        if due is not None:
            self._timer = self.loop.call_later(max(0.0, due - self.clock()), self._on_timer)

    def _on_timer(self) -> None:
        if self.is_behind:  # the silence is our own
            self._timer = self.loop.call_later(1.0, self._on_timer)
            return
        try:
            self._engine.handle_timeout(self.clock())
        except RemoteProtocolError as error:
            self.fail(error)
        else:
            self._set_timer()

    # Media

    def _handle(self, happened: engine.SubscriberEvent, now: float) -> None:
        stream = self._stream
        if isinstance(happened, engine.Started):
            self._stream = self._source.begin(self._owner, happened.start)
        elif isinstance(happened, engine.Ended):
            self.fail(SubscriptionRefused(happened.reason, happened.text))
        elif stream is None:
            return
        elif isinstance(happened, engine.PacketsReceived):
            run = FramedRun(happened.track, happened.run)
            if not stream.publish(run, now):
                stream.publish(PacketRun(run.track_index, run.packets, run.framing), now)
        elif isinstance(happened, engine.FrameReceived):
            stream.publish_frame(happened.track, happened.frame, now)
        elif isinstance(happened, engine.TrackChanged):
            stream.set_codec(happened.track.index, happened.track.codec)
        else:
            told = happened.report
            stream.on_sender_report(
                happened.track,
                SenderReport(told.ssrc, told.ntp, told.rtp_timestamp, told.packet_count, told.octet_count),
                now,
            )
