"""The owner's side: nodes that subscribe to paths of this one, over TCP or a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import ssl
from collections.abc import Callable
from typing import ClassVar, Final, Protocol

from polycast.cluster.encoding import frame_messages, packet_messages, report_message
from polycast.cluster.encryption import CONNECT_SECONDS, describe_tls_failure
from polycast.cluster.subscriptions import MAXIMUM_CONNECTIONS, Subscriptions
from polycast.errors import RemoteProtocolError
from polycast.hub.batch import FrameBatch, PacketBatch
from polycast.hub.errors import PathError
from polycast.hub.hub import Hub
from polycast.hub.path import Path
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader, PacketReader, Stream
from polycast.log import Log
from polycast.net.address import join_host_port, peer_of
from polycast.net.connection_slots import ConnectionSlots, SlotHolder
from polycast.net.listen import BACKLOG, open_tcp_listener
from polycast.net.listener import Listener
from polycast.net.tcp import CLOSE_GRACE_SECONDS, TcpConnection
from polycast.net.tls import MutualCertificate
from polycast.net.tls_listener import TlsListener
from polycast.rtp.rtcp import SenderReport
from polycast.security.addresses import parse_address
from polycast.wire.subscription.connection import (
    NONCE_SIZE,
    Hello,
    KeyFrameWanted,
    OwnerConnection,
    Reason,
    State,
    Subscribed,
)
from polycast.wire.subscription.messages import Start

WRITE_TIMEOUT: Final = 10.0
"""Seconds without progress after which a subscriber is given up."""


class Claims(Protocol):
    """What the node knows of its own claims."""

    def own_revision(self, path: str) -> int:
        """Return the revision of this node's claim on a path; 0 if there is none, or it is not confirmed."""


class PacketSubscriber(PacketReader):
    """Forwards packets to a node."""

    def __init__(self, connection: Subscriber, key_track: int) -> None:
        self._connection = connection
        self._key_track = key_track
        self._is_dropping = False

    def deliver(self, batch: PacketBatch) -> None:
        outbox = self._connection.outbox
        if outbox.ready and not self._is_dropping:
            outbox.write(packet_messages(batch))
            return
        self._is_dropping = True
        if not batch.has_key or not outbox.has_drained():
            outbox.dropped += batch.packet_count
            return
        self._is_dropping = False
        outbox.ready = True
        outbox.write(packet_messages(batch.from_key(self._key_track)))

    def on_sender_report(self, track_index: int, report: SenderReport, now: float) -> None:
        self._connection.outbox.write(report_message(track_index, report))

    def close_reader(self, reason: str) -> None:
        self._connection.on_stream_ended(reason)

    def reference(self) -> Reference:
        return Reference("node")


class FrameSubscriber(FrameReader):
    """Forwards frames to a node."""

    def __init__(self, connection: Subscriber, key_track: int) -> None:
        self._connection = connection
        self._key_track = key_track
        self._is_dropping = False

    def deliver_frames(self, batch: FrameBatch) -> None:
        outbox = self._connection.outbox
        form = frame_messages(batch, self._key_track)
        if outbox.ready and not self._is_dropping:
            outbox.write(form.data)
            return
        self._is_dropping = True
        if not form.from_key or not outbox.has_drained():
            outbox.dropped += form.frame_count
            return
        self._is_dropping = False
        outbox.ready = True
        outbox.write(form.from_key)

    def close_reader(self, reason: str) -> None:
        self._connection.on_stream_ended(reason)

    def reference(self) -> Reference:
        return Reference("node")


class Subscriber(TcpConnection):
    """The connection of a node that subscribes to a path."""

    is_divisible: ClassVar[bool] = True
    lingers: ClassVar[bool] = False
    peer_name: ClassVar[str] = "node"
    unread_reason: ClassVar[str] = "the node does not read what is sent to it"

    def __init__(self, server: SubscriptionServer, token: bytes, clock: Callable[[], float]) -> None:
        super().__init__(server.loop, server.log, clock)
        self._server = server
        self._engine = OwnerConnection(token, secrets.token_bytes(NONCE_SIZE), clock())
        self._path: Path | None = None
        self._reader: PacketSubscriber | FrameSubscriber | None = None
        self._task: asyncio.Task[None] | None = None

    # The shell

    def on_connected(self) -> None:
        self._server.subscriptions.add(self)

    @property
    def slots(self) -> ConnectionSlots[SlotHolder]:
        return self._server.subscriptions.strangers

    def receive(self, data: bytes, now: float) -> bool:
        for happened in self._engine.receive_data(data, now):
            if isinstance(happened, Subscribed):
                self.silent_since = None
                self._server.subscriptions.admit(self)
                if not self.is_open:
                    break
                self.log = self._server.log.child(f"node {happened.hello.node}")
                self._task = self.loop.create_task(self._subscribe(happened.hello))
            elif isinstance(happened, KeyFrameWanted) and self._path is not None and self._path.publisher is not None:
                self._path.publisher.request_key_frame()
        self._flush()
        if self._engine.state is State.ENDED:
            self.close("it does not belong to the cluster, or is of another version")
        return False

    @property
    def held_size(self) -> int:
        return self._engine.held_size

    def tick(self, now: float) -> None:
        """Called about once a second."""
        try:
            self._engine.handle_timeout(now)
        except RemoteProtocolError as error:
            self.close(str(error))
            return
        self._flush()
        if self._path is not None and self._path.stream is not None:
            self.outbox.set_bit_rate(self._path.stream.meter.bit_rate)
        dropped = self.outbox.take_dropped()
        if dropped:
            self.log.warning("the node is too slow: %d packets or frames dropped", dropped)
        self.check_progress(now, WRITE_TIMEOUT)

    def on_protocol_error(self, error: RemoteProtocolError) -> None:
        self._flush()
        self.log.warning("a node sent invalid data: %s", error)
        super().on_protocol_error(error)

    def on_closing(self, reason: str) -> None:
        if self._task is not None:
            self._task.cancel()
        path, self._path = self._path, None
        reader, self._reader = self._reader, None
        if path is not None and reader is not None:
            path.remove_reader(reader)
        self._server.subscriptions.remove(self)

    def _flush(self) -> None:
        data = self._engine.data_to_send()
        if data:
            self.answer(data)

    # The subscription

    async def _subscribe(self, hello: Hello) -> None:
        try:
            await self._open(hello)
        except PathError as error:
            self._refuse(Reason.NO_STREAM, str(error))
        except Exception:
            self.on_internal_error()

    async def _open(self, hello: Hello) -> None:
        hub, own = self._server.hub, self._server.claims.own_revision(hello.path)
        if hello.revision > own:
            self._refuse(Reason.NOT_THE_OWNER, f"path '{hello.path}' is not published here")
            return
        path = hub.path(hello.path)
        try:
            stream = await path.wait_ready(is_node=True)
            if not self.is_open:
                return
            self._attach(path, stream)
        finally:
            hub.release(path)

    def _attach(self, path: Path, stream: Stream) -> None:
        now = self.clock()
        revision = self._server.claims.own_revision(path.name)
        # Reports first: they place the tracks exactly.
        self._engine.accept(
            Start(revision, stream.publishes_packets, stream.descriptions, stream.clock.sync_point), now
        )
        self._flush()
        reader: PacketSubscriber | FrameSubscriber
        if stream.publishes_packets:
            for index, report in stream.clock_reports(now):
                self.outbox.write(report_message(index, report))
            reader = PacketSubscriber(self, stream.key_track)
        else:
            reader = FrameSubscriber(self, stream.key_track)
        self._path, self._reader = path, reader
        path.attach_reader(reader, stream)
        self.log.info("copies path '%s'", path.name)

    def _refuse(self, reason: Reason, text: str) -> None:
        self._engine.refuse(reason, text)
        self._flush()
        self.close(text)

    def on_stream_ended(self, reason: str) -> None:
        """The stream has ended: the subscriber's readers end, too, unless another node continues it."""
        path, self._path, self._reader = self._path, None, None
        is_moved = path is not None and self._server.is_owned_elsewhere(path.name)
        self._engine.end(Reason.NOT_THE_OWNER if is_moved else Reason.STREAM_ENDED, reason)
        self._flush()
        self.close(reason)


class SubscriptionServer:
    """Accepts the subscriptions of other nodes."""

    def __init__(
        self,
        hub: Hub,
        claims: Claims,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        *,
        token: bytes,
        is_owned_elsewhere: Callable[[str], bool],
        clock: Callable[[], float],
        certificate: MutualCertificate | None = None,
    ) -> None:
        """``token``: the cluster's. ``is_owned_elsewhere`` tells whether another node publishes a path. ``clock``
        returns monotonic seconds. ``certificate``: for TLS; None without."""
        self.hub = hub
        self.claims = claims
        self.loop = loop
        self.log = log
        self.is_owned_elsewhere = is_owned_elsewhere
        self.subscriptions = Subscriptions(loop, clock, self._on_second)
        self._token = token
        self._clock = clock
        self._listener: Listener | None = None
        self._certificate = certificate
        self._renewal: asyncio.Task[None] | None = None

    async def start(self, address: str) -> None:
        """Listen on ``host:port``, or on a Unix socket whose path begins with a slash. Raises OSError."""
        if address.startswith("/"):
            # Only processes of the same server can open it: there are no strangers.
            self.subscriptions.strangers.limit = MAXIMUM_CONNECTIONS
            self._listener = Listener(await asyncio.to_thread(_open_unix_listener, address), self.make_connection)
        else:
            listener = await asyncio.to_thread(open_tcp_listener, *parse_address(address))
            if self._certificate is None:
                self._listener = Listener(listener, self.make_connection)
            else:
                self._listener = self._listen_encrypted(listener, self._certificate)
        self.subscriptions.housekeeping.start()

    def _listen_encrypted(self, listener: socket.socket, certificate: MutualCertificate) -> TlsListener:
        return TlsListener(
            listener,
            certificate.context,
            self.make_connection,
            self._on_handshake_failed,
            handshake_timeout=lambda: CONNECT_SECONDS,
            shutdown_timeout=CLOSE_GRACE_SECONDS,
        )

    def _on_handshake_failed(self, address: object, error: Exception) -> None:
        peer = join_host_port(*peer_of(address))
        self.log.warning("a node at %s was refused: %s", peer, describe_tls_failure(error))

    @property
    def port(self) -> int:
        """The TCP port; 0 for a Unix socket, and while it is closed."""
        sockets = self._listener.sockets if self._listener is not None else ()
        name = sockets[0].getsockname() if sockets else ""
        return int(name[1]) if isinstance(name, tuple) else 0

    def make_connection(self) -> Subscriber:
        """Return the protocol of a new connection."""
        return Subscriber(self, self._token, self._clock)

    def _on_second(self, now: float) -> None:
        certificate = self._certificate
        if certificate is not None and self._renewal is None and certificate.is_check_due(now):
            self._renewal = self.loop.create_task(self._renew(certificate))

    async def _renew(self, certificate: MutualCertificate) -> None:
        """Use changed files for new connections; if they cannot be loaded, log that and keep the old ones."""
        try:
            has_changed = await asyncio.to_thread(certificate.renew)
        except (OSError, ssl.SSLError) as error:
            self.log.warning("the new certificate cannot be used: %s", error.strerror or error)
        else:
            if has_changed and isinstance(self._listener, TlsListener):
                self._listener.context = certificate.context
                self.log.info("the certificate was reloaded")
        finally:
            self._renewal = None

    async def stop(self, reason: str) -> None:
        """Stop listening, and end all subscriptions."""
        self.subscriptions.housekeeping.stop()
        if self._renewal is not None:
            self._renewal.cancel()
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(self.subscriptions.members):
            connection.close(reason)
        if self._listener is not None:
            await self._listener.wait_closed()  # the address can be used again


def _open_unix_listener(path: str) -> socket.socket:
    """Return a listening, non-blocking Unix socket that only the same user can open. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # left by a process that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
