"""A registry on a store with compare-and-set, a watch, and messages: the part that does not depend on the store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from polycast.cluster.directory import NODE_LIFETIME_SECONDS, Claim, Directory, NodeInfo
from polycast.cluster.registry import ClaimRefused, NodeUnreachable, Registry, RegistryAway, Watcher
from polycast.errors import PolycastError
from polycast.log import Log

ATTEMPTS: Final = 5
"""How often a claim is tried again, because another node was faster each time."""


class Conflict(PolycastError):
    """The entry was changed by another node meanwhile."""


class StoreListener(Protocol):
    """What a store tells. Called on the event loop."""

    def on_entry(self, path: str, value: bytes | None, revision: int) -> None:
        """An entry was written, or deleted (None)."""

    def on_snapshot(self, paths: frozenset[str]) -> None:
        """After the first `on_entry` calls of a new watch: these entries exist, and no others."""

    def on_message(self, value: bytes, *, is_last: bool) -> None:
        """A node lives; ``is_last``: it has left, and this is its last message."""

    def on_connection(self, *, is_connected: bool) -> None:
        """The store was reached or lost."""

    async def on_request(self, subject: str, body: bytes) -> bytes:
        """Answer a request of another node."""


class Store(Protocol):
    """A store that all nodes share. Every method raises RegistryAway when it cannot be reached."""

    async def open(self, name: str, listener: StoreListener) -> None:
        """Connect, watch all entries, and receive messages and the requests to the node ``name``."""

    async def write(self, path: str, value: bytes, revision: int) -> int:
        """Write the entry of a path if its revision is the expected one (0: there is none); return the new revision.

        Raises Conflict.
        """

    async def delete(self, path: str, revision: int) -> None:
        """Delete an entry if its revision is the expected one. Raises Conflict."""

    async def send(self, value: bytes, *, is_last: bool) -> None:
        """Send a message to all nodes, oneself included; ``is_last``: the node leaves."""

    async def request(self, node: str, subject: str, body: bytes, timeout: float) -> bytes:
        """Ask a node. Raises NodeUnreachable."""

    async def close(self) -> None:
        """Disconnect."""


class _Holder(msgspec.Struct, frozen=True, array_like=True):
    """The value of an entry."""

    node: str
    instance: str


_encoder: Final = msgspec.msgpack.Encoder()
_holder_decoder: Final = msgspec.msgpack.Decoder(_Holder)
_node_decoder: Final = msgspec.msgpack.Decoder(NodeInfo)


class KeyValueRegistry(Registry):
    """The registry on a store."""

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        lifetime: float = NODE_LIFETIME_SECONDS,
    ) -> None:
        """``lifetime``: seconds without a heartbeat after which a node counts as dead; infinite for a store that knows
        when a node ends."""
        self._store = store
        self._loop = loop
        self._log = log
        self._watcher: Watcher | None = None
        self._own: NodeInfo | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_connected = False
        self._told = 0
        """The highest revision that the watch has told."""
        self.directory = Directory(lifetime)

    # Registry

    @property
    def is_connected(self) -> bool:
        return self._is_connected

    async def join(self, info: NodeInfo, watcher: Watcher) -> None:
        self._own = info
        self._watcher = watcher
        await self._store.open(info.name, self)

    async def claim(self, path: str, *, moves: bool) -> Claim:
        own = self._own
        if own is None:
            raise RegistryAway("the node has not joined yet")
        for _ in range(ATTEMPTS):
            known = self.directory.claim_of(path)
            if known is not None and (known.node, known.instance) == (own.name, own.instance):
                return known
            # An earlier process of this node may not be known to be dead yet.
            if known is not None and not moves and known.node != own.name and self.directory.is_valid(known):
                raise ClaimRefused(known)
            value = _encoder.encode(_Holder(own.name, own.instance))
            before = known.revision if known is not None else 0
            try:
                revision = await self._store.write(path, value, before)
            except Conflict:
                # The watch tells what has changed, soon.
                await self._until_told(path, before)
                continue
            claim = Claim(path, own.name, own.instance, revision)
            # The directory has what the watch tells, in its order. It may have told already that the claim was taken.
            if revision > self._told or self.directory.claim_of(path) == claim:
                return claim
        raise RegistryAway(f"the claim on path '{path}' was changed by other nodes {ATTEMPTS} times")

    async def release(self, claim: Claim) -> None:
        with contextlib.suppress(Conflict):
            await self._store.delete(claim.path, claim.revision)

    async def heartbeat(self, info: NodeInfo) -> None:
        self._own = info
        await self._store.send(_encoder.encode(info), is_last=False)

    async def request(self, node: str, subject: str, body: bytes, timeout: float) -> bytes:
        if self.directory.node(node) is None:
            raise NodeUnreachable(f"there is no node '{node}'")
        return await self._store.request(node, subject, body, timeout)

    async def leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._own is not None and self._is_connected:
            with contextlib.suppress(RegistryAway):
                await self._store.send(_encoder.encode(self._own), is_last=True)
        await self._store.close()

    async def _until_told(self, path: str, revision: int) -> None:
        """Wait until the watch has brought another revision of an entry, for a short time."""
        for pause in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
            known = self.directory.claim_of(path)
            if (known.revision if known is not None else 0) != revision:
                return
            await asyncio.sleep(pause)

    # StoreListener

    def on_entry(self, path: str, value: bytes | None, revision: int) -> None:
        self._told = max(self._told, revision)
        if value is None:
            if self.directory.on_release(path, revision):
                self._tell(lambda watcher: watcher.on_claim(path, None))
            return
        try:
            holder = _holder_decoder.decode(value)
        except msgspec.MsgspecError as error:
            self._log.warning("the registry has an invalid entry for path '%s': %s", path, error)
            return
        claim = Claim(path, holder.node, holder.instance, revision)
        if self.directory.on_claim(claim):
            self._tell(lambda watcher: watcher.on_claim(path, claim))

    def on_snapshot(self, paths: frozenset[str]) -> None:
        for path in self.directory.keep_claims(paths):
            self._tell(lambda watcher, path=path: watcher.on_claim(path, None))  # type: ignore[misc]

    def on_message(self, value: bytes, *, is_last: bool) -> None:
        try:
            info = _node_decoder.decode(value)
        except msgspec.MsgspecError as error:
            self._log.warning("a node sent an invalid message: %s", error)
            return
        if is_last:
            if self.directory.on_node_left(info.name, info.instance):
                self._tell(lambda watcher: watcher.on_node(info.name, None))
        elif self.directory.on_node(info, self._loop.time()):
            self._tell(lambda watcher: watcher.on_node(info.name, info))
        self._set_timer()

    def on_connection(self, *, is_connected: bool) -> None:
        self._is_connected = is_connected
        self.directory.on_connection(is_connected=is_connected, now=self._loop.time())
        self._tell(lambda watcher: watcher.on_connection(is_connected=is_connected))
        self._set_timer()

    async def on_request(self, subject: str, body: bytes) -> bytes:
        return b"" if self._watcher is None else await self._watcher.on_request(subject, body)

    def _tell(self, what: Callable[[Watcher], None]) -> None:
        if self._watcher is not None:
            what(self._watcher)

    # Time

    def _set_timer(self) -> None:
        due = self.directory.next_timeout()
        if due is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None:
            self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        for name in self.directory.handle_timeout(self._loop.time()):
            self._log.info("node '%s' does not answer any more", name)
            self._tell(lambda watcher, name=name: watcher.on_node(name, None))  # type: ignore[misc]
        self._set_timer()
