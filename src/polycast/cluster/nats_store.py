"""The store on NATS: claims in a bucket of JetStream's key-value store, heartbeats and requests as messages.

Needs nats-py, and a NATS server with JetStream, 2.11 or later (markers of deleted keys then expire).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import KeyValueConfig
from nats.js.kv import KV_DEL, KV_OP, KV_PURGE, KeyValue

from polycast.cluster.key_value import Conflict, StoreListener
from polycast.cluster.registry import NodeUnreachable, RegistryAway
from polycast.config.redact import redact
from polycast.errors import PolycastError
from polycast.log import Log

BUCKET: Final = "polycast_claims"
SUBJECT: Final = "polycast"
"""Nodes send messages to ``polycast.nodes.alive`` and ``gone``, and requests to ``polycast.node.<name>.<subject>``."""

ANSWER_SECONDS: Final = 2.0
"""For an answer of the server."""
CHECK_SECONDS: Final = 0.5
"""Between two looks at whether the connection was lost."""
RETRY_SECONDS: Final = 1.0
"""Between two attempts to connect, or to watch."""
PING_SECONDS: Final = 2
"""Between two checks of the connection; it counts as lost after two that were not answered."""
MARKER_SECONDS: Final = 3600.0
"""For which the server keeps the marker of a deleted key: nodes that are connected learn of it at once, others get a
new snapshot."""
MINIMUM_VERSION: Final = (2, 11)

_ROLLUP: Final = "Nats-Rollup"
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
            self._log.warning(
                "the registry of the cluster cannot be reached (%s): %s; tries again", where, _text(error)
            )
        self._task = self._loop.create_task(self._run())

    async def write(self, path: str, value: bytes, revision: int) -> int:
        bucket, key = self._present, key_of(path)
        sequence = self._sequence(revision)
        if sequence:
            written = await self._ask(bucket.update(key, value, last=sequence))
        else:
            written = await self._ask(bucket.create(key, value))
        return self._revision(written)

    async def delete(self, path: str, revision: int) -> None:
        _ = self._present
        headers = {KV_OP: KV_PURGE, _ROLLUP: "sub", _EXPECTED: str(self._sequence(revision))}
        stream = self._client.jetstream(timeout=ANSWER_SECONDS)
        await self._ask(stream.publish(f"$KV.{BUCKET}.{key_of(path)}", b"", headers=headers, msg_ttl=MARKER_SECONDS))

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
                raise PolycastError(f"the registry of the cluster refuses user and password: {error}") from error
            raise
        self._client = client
        await client.subscribe(f"{SUBJECT}.nodes.*", cb=self._on_message)
        await client.subscribe(f"{SUBJECT}.node.{key_of(self._name)}.*", cb=self._on_request)

    async def _run(self) -> None:
        """Stay connected, and follow the entries."""
        while True:
            self._lost.clear()
            try:
                if not self._client.is_connected and not self._client.is_reconnecting:
                    await self._connect()
                await self._follow()
            except (OSError, PolycastError, nats.errors.Error) as error:
                self._log.debug("the registry of the cluster: %s", _text(error))
            self._set_away()
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        """Tell the listener what there is, and what changes, until the connection is lost."""
        stream = self._client.jetstream(timeout=ANSWER_SECONDS)
        bucket = await stream.create_key_value(KeyValueConfig(BUCKET, history=1, max_value_size=4096))
        info = await stream.stream_info(f"KV_{BUCKET}")
        self._epoch = int(info.created.timestamp()) if info.created is not None else 0
        self._check_version()
        watcher = await bucket.watchall()
        try:
            await self._listen(bucket, watcher)
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await watcher.stop()  # type: ignore[no-untyped-call]

    async def _listen(self, bucket: KeyValue, watcher: KeyValue.KeyWatcher) -> None:
        listener = self._listener
        told: set[str] = set()
        while listener is not None and not self._lost.is_set():
            try:
                entry = await watcher.updates(timeout=CHECK_SECONDS)  # type: ignore[no-untyped-call]
            except nats.errors.TimeoutError:
                continue
            if isinstance(entry, KeyValue.Entry):
                path, is_gone = path_of(entry.key), entry.operation in (KV_DEL, KV_PURGE)
                if self._bucket is None:
                    (told.discard if is_gone else told.add)(path)
                listener.on_entry(path, None if is_gone else entry.value, self._revision(entry.revision or 0))
            elif entry is None and self._bucket is None:  # the end of what there was
                self._bucket = bucket
                listener.on_snapshot(frozenset(told))
                told.clear()
                listener.on_connection(is_connected=True)

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
        self._log.debug("the registry of the cluster: %s", _text(error))

    async def _on_disconnected(self) -> None:
        self._set_away()
        self._lost.set()

    async def _on_reconnected(self) -> None:
        self._lost.set()

    async def _on_message(self, received: Msg) -> None:
        if self._listener is not None:
            self._listener.on_message(received.data, is_last=received.subject.endswith(".gone"))

    async def _on_request(self, received: Msg) -> None:
        if self._listener is not None:
            answer = await self._listener.on_request(received.subject.rpartition(".")[2], received.data)
            await received.respond(answer)


async def _close(client: Client) -> None:
    # Before it was connected once, a client cannot be closed.
    with contextlib.suppress(nats.errors.Error, OSError, AssertionError):
        await client.close()


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
