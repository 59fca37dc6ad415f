"""The store on NATS: claims in a bucket of JetStream's key-value store, heartbeats and requests as messages.

Needs nats-py, and a NATS server with JetStream, 2.11 or later (markers of deleted keys then expire).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, KeyValueConfig
from nats.js.kv import KV_OP, KV_PURGE, KeyValue

from polycast.cluster.key_value import Conflict, StoreListener
from polycast.cluster.registry import NodeUnreachable, RegistryAway
from polycast.config.redact import redact
from polycast.errors import PolycastError
from polycast.log import Log

BUCKET: Final = "polycast_claims"
_STREAM: Final = f"KV_{BUCKET}"
"""The stream of the bucket, and what its subjects begin with (NATS ADR-8)."""
_PREFIX: Final = f"$KV.{BUCKET}."
SUBJECT: Final = "polycast"
"""Nodes send messages to ``polycast.nodes.alive`` and ``gone``, and requests to ``polycast.node.<name>.<subject>``."""

ANSWER_SECONDS: Final = 2.0
"""For an answer of the server."""
NAME_SECONDS: Final = 1.0
"""Seconds to wait for a response of another server with the same name."""
RETRY_SECONDS: Final = 1.0
"""Between two attempts to connect, or to watch."""
PING_SECONDS: Final = 2
"""Between two checks of the connection; it counts as lost after two that were not answered."""
MARKER_SECONDS: Final = 3600.0
"""For which the server keeps the marker of a deleted key: nodes that are connected learn of it at once, others get a
new snapshot."""
HEARTBEAT_SECONDS: Final = 2.0
"""Seconds between two heartbeats of the server while nothing changes."""
HEARTBEATS_MISSED: Final = 3
"""Heartbeats missed after which all entries are read again."""
FORGET_SECONDS: Final = 300.0
"""Seconds after which the server deletes the consumer of a client that has disconnected."""
MINIMUM_VERSION: Final = (2, 11)

_ROLLUP: Final = "Nats-Rollup"
_MARKER: Final = "Nats-Marker-Reason"
"""The server's own marker of a key that has expired."""
_STATUS: Final = "Status"
"""The header in which nats-py stores the status of a message without content, such as a heartbeat."""
_LAST: Final = "Nats-Last-Consumer"
_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_WRONG_SEQUENCE: Final = (10071, 10164)
"""Error codes of a write whose expected revision is not the present one."""

_Result = TypeVar("_Result")


def key_of(path: str) -> str:
    """Return the key of a path: what keys may not contain is written in hexadecimal, after an equals sign."""
    return re.sub(r"[^A-Za-z0-9/_-]", lambda match: "".join(f"={byte:02X}" for byte in match[0].encode()), path)


def path_of(key: str) -> str:
    """Return the path of a key."""
    return unquote(key.replace("=", "%"), errors="replace")


class NatsStore:
    """The store on NATS."""

    def __init__(self, servers: Sequence[str], credentials: str, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        """``servers``: addresses ``nats://user:password@host:port``, or ``tls://``, of one NATS cluster.
        ``credentials``: a file with credentials of NATS, or an empty text."""
        self._servers = list(servers)
        self._credentials = credentials
        self._loop = loop
        self._log = log
        self._client = Client()
        self._bucket: KeyValue | None = None
        self._epoch = 0
        """Distinguishes the revisions of a bucket from those of an earlier one: when it was made, in seconds."""
        self._listener: StoreListener | None = None
        self._name = ""
        self._task: asyncio.Task[None] | None = None
        self._problem = ""
        """The problem that was logged last, so that it is logged only once."""
        self._lost = asyncio.Event()
        """Set when the connection was lost, or everything must be read again."""

    # Store

    async def open(self, name: str, listener: StoreListener) -> None:
        self._name, self._listener = name, listener
        try:
            await self._connect()
        except PolycastError:
            raise
        except (OSError, nats.errors.Error, TimeoutError) as error:
            where = ", ".join(map(redact, self._servers))
            self._log.warning("NATS cannot be reached (%s): %s; retrying", where, _text(error))
        self._task = self._loop.create_task(self._run())

    async def write(self, path: str, value: bytes, revision: int) -> int:
        bucket, key = self._present, key_of(path)
        sequence = self._sequence(revision)
        try:
            written = await self._ask(self._publish(key, value, {_EXPECTED: str(sequence)}))
        except Conflict:
            if sequence:
                raise
            # The key may exist, but be deleted.
            return self._revision(await self._ask(bucket.create(key, value)))
        return self._revision(written)

    async def delete(self, path: str, revision: int) -> None:
        _ = self._present
        headers = {KV_OP: KV_PURGE, _ROLLUP: "sub", _EXPECTED: str(self._sequence(revision))}
        await self._ask(self._publish(key_of(path), b"", headers, MARKER_SECONDS))

    async def _publish(self, key: str, value: bytes, headers: dict[str, str], ttl: float | None = None) -> int:
        stream = self._client.jetstream(timeout=ANSWER_SECONDS)
        return (await stream.publish(f"{_PREFIX}{key}", value, headers=headers, msg_ttl=ttl)).seq

    async def send(self, value: bytes, *, is_last: bool) -> None:
        if not self._client.is_connected:
            raise RegistryAway("there is no connection to the registry")
        await self._ask(self._client.publish(f"{SUBJECT}.nodes.{'gone' if is_last else 'alive'}", value))
        if is_last:
            await self._ask(self._client.flush(timeout=1))

    async def request(self, node: str, subject: str, body: bytes, timeout: float) -> bytes:
        if not self._client.is_connected:
            raise RegistryAway("there is no connection to the registry")
        try:
            answer = await self._client.request(f"{SUBJECT}.node.{key_of(node)}.{subject}", body, timeout=timeout)
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError) as error:
            raise NodeUnreachable(f"node '{node}' does not answer") from error
        except nats.errors.Error as error:
            raise RegistryAway(_text(error)) from error
        return answer.data

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await _close(self._client)

    # Errors

    @property
    def _present(self) -> KeyValue:
        if self._bucket is None or not self._client.is_connected:
            raise RegistryAway("there is no connection to the registry")
        return self._bucket

    def _sequence(self, revision: int) -> int:
        """Return the server's number of a revision. Raises Conflict if it is one of an earlier bucket."""
        if revision and revision >> 32 != self._epoch:
            raise Conflict("the registry was started anew")
        return revision & 0xFFFFFFFF

    def _revision(self, sequence: int) -> int:
        return self._epoch << 32 | sequence

    async def _ask(self, answer: Awaitable[_Result]) -> _Result:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except nats.js.errors.KeyWrongLastSequenceError as error:
            raise Conflict("the entry was changed") from error
        except nats.js.errors.APIError as error:
            if error.err_code in _WRONG_SEQUENCE:
                raise Conflict("the entry was changed") from error
            raise RegistryAway(_text(error)) from error
        except (OSError, nats.errors.Error) as error:
            raise RegistryAway(_text(error)) from error

    # The connection

    async def _connect(self) -> None:
        """Connect once. Raises OSError, nats.errors.Error; PolycastError for what does not help to repeat."""
        tls: dict[str, Any] = {}
        if any(server.startswith("tls://") for server in self._servers):
            tls["tls"] = await asyncio.to_thread(ssl.create_default_context)
        if self._credentials:
            tls["user_credentials"] = self._credentials
        client = Client()
        try:
            async with asyncio.timeout(ANSWER_SECONDS * len(self._servers) + 1):
                await client.connect(
                    servers=self._servers,
                    name=f"polycast {self._name}",
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.5,  # type: ignore[arg-type]
                    connect_timeout=int(ANSWER_SECONDS),
                    ping_interval=PING_SECONDS,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    **tls,
                )
        except BaseException as error:
            await _close(client)
            if isinstance(error, Exception) and "authorization" in str(error).lower():
                raise PolycastError(f"NATS rejects the user and password: {error}") from error
            raise
        if await self._is_name_taken(client):
            await _close(client)
            raise PolycastError(f"another server is node '{self._name}' already: 'nodeName' must be unique")
        self._client = client
        self._problem = ""
        await client.subscribe(f"{SUBJECT}.nodes.*", cb=self._on_message)
        await client.subscribe(f"{SUBJECT}.node.{key_of(self._name)}.*", cb=self._on_request)

    async def _is_name_taken(self, client: Client) -> bool:
        """Whether a server answers to this node's name; one that was killed, or hangs, does not."""
        try:
            await client.request(f"{SUBJECT}.node.{key_of(self._name)}.name", timeout=NAME_SECONDS)
        except nats.errors.Error:
            return False
        return True

    def _log_problem(self, error: BaseException) -> None:
        """Log errors that the user has to fix once each; others are for developers."""
        text = _text(error)
        is_refusal = "authorization" in text.lower()
        if text == self._problem or not (is_refusal or type(error) is PolycastError):
            self._log.debug("NATS: %s", text)
            return
        self._problem = text
        if is_refusal:
            text = f"NATS rejects the user and password, or the credentials ({text}); retrying"
        self._log.warning("%s", text)

    async def _run(self) -> None:
        """Stay connected, and follow the entries."""
        while True:
            self._lost.clear()
            try:
                if not self._client.is_connected and not self._client.is_reconnecting:
                    await self._connect()
                await self._follow()
            except (OSError, PolycastError, nats.errors.Error) as error:
                self._log_problem(error)
            self._set_away()
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        """Tell the listener what there is, and what changes, until the connection is lost."""
        stream = self._client.jetstream(timeout=ANSWER_SECONDS)
        bucket = await stream.create_key_value(KeyValueConfig(BUCKET, history=1, max_value_size=4096))
        info = await stream.stream_info(_STREAM)
        self._epoch = int(info.created.timestamp()) if info.created is not None else 0
        self._check_version()
        following = Following(self._revision, self._listener, lambda: self._set_present(bucket), self._lost.set)
        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox, cb=following.on_message)
        try:
            consumer = await stream.add_consumer(_STREAM, consumer_of(inbox))
            if not consumer.num_pending:
                following.on_nothing_pending()
            while not self._lost.is_set() and following.is_alive():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await self._lost.wait()
        finally:
            following.is_over = True
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    def _set_present(self, bucket: KeyValue) -> None:
        self._bucket = bucket
        if self._listener is not None:
            self._listener.on_connection(is_connected=True)

    def _check_version(self) -> None:
        version = self._client.connected_server_version
        if (version.major, version.minor) < MINIMUM_VERSION:
            minimum = ".".join(map(str, MINIMUM_VERSION))
            self._log.warning("the NATS server is older than %s: it keeps a marker of every path forever", minimum)

    def _set_away(self) -> None:
        if self._bucket is not None and self._listener is not None:
            self._bucket = None
            self._listener.on_connection(is_connected=False)

    # Called by the client

    async def _on_error(self, error: Exception) -> None:
        self._log_problem(error)

    async def _on_disconnected(self) -> None:
        self._set_away()
        self._lost.set()

    async def _on_reconnected(self) -> None:
        self._problem = ""  # the subscriptions ended with the connection

    async def _on_message(self, received: Msg) -> None:
        if self._listener is not None:
            self._listener.on_message(received.data, is_last=received.subject.endswith(".gone"))

    async def _on_request(self, received: Msg) -> None:
        if self._listener is not None:
            answer = await self._listener.on_request(received.subject.rpartition(".")[2], received.data)
            await received.respond(answer)


def consumer_of(inbox: str) -> ConsumerConfig:
    """Return the configuration of a consumer that sends the last entry of each path to a subject, then each change.

    It has no flow control, since nats-py answers its requests only four times a second, which would delay bursts.
    """
    return ConsumerConfig(
        deliver_subject=inbox,
        filter_subject=f"{_PREFIX}>",
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        ack_policy=AckPolicy.NONE,
        max_deliver=1,
        mem_storage=True,
        num_replicas=1,
        idle_heartbeat=HEARTBEAT_SECONDS,
        inactive_threshold=FORGET_SECONDS,
    )


class Following:
    """Reads one subscription to all entries: first the existing ones, then each change."""

    def __init__(
        self,
        revision: Callable[[int], int],
        listener: StoreListener | None,
        on_complete: Callable[[], None],
        on_gap: Callable[[], None],
    ) -> None:
        """``revision`` returns that of a sequence number. ``on_complete`` is called when all that there was is told,
        ``on_gap`` when something is missing."""
        self._revision = revision
        self._listener = listener
        self._on_complete = on_complete
        self._on_gap = on_gap
        self._told: set[str] | None = set()
        """The paths with an entry so far; None once all existing entries were received."""
        self._count = 0
        """Number of messages received so far, as the server counts them."""
        self._silence = 0
        self.is_over = False

    def is_alive(self) -> bool:
        """Return whether a message has arrived lately. Called after each interval between the server's heartbeats."""
        self._silence += 1
        return self._silence <= HEARTBEATS_MISSED

    async def on_message(self, received: Msg) -> None:
        """Called by the client, in order."""
        if self.is_over or self._listener is None:
            return
        self._silence = 0
        headers = received.headers or {}
        if _STATUS in headers:
            if headers.get(_LAST, str(self._count)) != str(self._count):
                self._on_gap()
            return
        # $JS.ACK.stream.consumer.deliveries.sequence in stream.in consumer.time.pending; with a domain and an account
        # before the stream, and more at the end, since 2.2.
        fields = received.reply.split(".")
        shift = 2 if len(fields) > 9 else 0
        sequence, count, pending = (int(fields[index + shift]) for index in (5, 6, 8))
        if count != self._count + 1:
            self._on_gap()
            return
        self._count = count
        path, is_gone = path_of(received.subject[len(_PREFIX) :]), KV_OP in headers or _MARKER in headers
        if self._told is not None:
            (self._told.discard if is_gone else self._told.add)(path)
        self._listener.on_entry(path, None if is_gone else received.data, self._revision(sequence))
        if not pending:
            self._complete()

    def on_nothing_pending(self) -> None:
        """Called if there are no entries."""
        self._complete()

    def _complete(self) -> None:
        if self._told is not None and self._listener is not None:
            told, self._told = self._told, None
            self._listener.on_snapshot(frozenset(told))
            self._on_complete()


async def _close(client: Client) -> None:
    # Before it was connected once, a client cannot be closed.
    with contextlib.suppress(nats.errors.Error, OSError, AssertionError):
        await client.close()


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
