"""The registry of the workers: the supervisor decides which worker owns a path, and tells all of them.

It is a store with compare-and-set for `cluster.KeyValueRegistry`: the supervisor keeps bytes and revisions. What a
worker wrote is withdrawn when its process ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from polycast.cluster import Conflict, NodeInfo, NodeUnreachable, RegistryAway, StoreListener
from polycast.workers.channel import Channel, ChannelError
from polycast.workers.messages import ReaderCount


class Entry(Struct, frozen=True, array_like=True):
    """The entry of a path, or the wish to change it."""

    path: str
    value: bytes | None
    """None: it was deleted, or is to be."""
    revision: int
    """That of the entry; in a wish, the one that is expected: 0 if there is none."""


class Message(Struct, frozen=True, array_like=True):
    """A message to all workers."""

    value: bytes
    is_last: bool


class NodeRequest(Struct, frozen=True, array_like=True):
    """A request to one worker, passed on by the supervisor."""

    node: str
    subject: str
    body: bytes
    timeout: float


_NAME: Final = "worker-"


def node_name(number: int) -> str:
    """Return the name of a worker as a node."""
    return f"{_NAME}{number}"


def number_of_node(name: str) -> int:
    """Return the number of a worker by its name as a node; 0 for an empty name."""
    return int(name.removeprefix(_NAME) or 0)


class Claims:
    """The supervisor's end."""

    def __init__(self, on_load: Callable[[int, float], None]) -> None:
        """``on_load`` is called with the number of a worker and the share of its core that it uses."""
        self._on_load = on_load
        self._listening: dict[int, Channel] = {}
        """The workers that want to know of changes, by their numbers."""
        self._entries: dict[str, tuple[bytes, int, int]] = {}
        """By path: value, revision, and the number of the worker that wrote it."""
        self._last: dict[int, bytes] = {}
        """The last message of each worker."""
        self._revision = 0
        self._readers: dict[tuple[int, str], ReaderCount] = {}
        """By worker and path."""

    def attach(self, number: int, channel: Channel) -> None:
        """Answer a worker that is about to start."""
        channel.calls |= {
            "claims": partial(self._open, number, channel),
            "write": partial(self._write, number),
            "request": self._request,
        }
        channel.notices |= {"message": partial(self._send, number), "readers": self._on_readers}

    def on_ended(self, number: int) -> None:
        """Withdraw what a worker wrote whose process has ended."""
        self._listening.pop(number, None)
        last_message = self._last.pop(number, None)
        if last_message is not None:
            self.tell("message", Message(last_message, is_last=True))
        for worker, path in [key for key in self._readers if key[0] == number]:
            del self._readers[worker, path]
            self.tell("readers", ReaderCount(worker, path, 0))
        for path, (_, _, writer) in list(self._entries.items()):
            if writer == number:
                self._change(path, None, number)

    async def _open(self, number: int, channel: Channel, _: Raw) -> list[Entry]:
        """Return all entries; the worker is told what changes from now on. Messages of the others follow at once."""
        self._listening[number] = channel
        for last in self._last.values():
            channel.tell("message", Message(last, is_last=False))
        for count in self._readers.values():
            channel.tell("readers", count)
        return [Entry(path, value, revision) for path, (value, revision, _) in self._entries.items()]

    def _on_readers(self, body: Raw) -> None:
        count = msgspec.msgpack.decode(body, type=ReaderCount)
        if count.readers:
            self._readers[count.worker, count.path] = count
        else:
            self._readers.pop((count.worker, count.path), None)
        self.tell("readers", count)

    async def _write(self, number: int, body: Raw) -> int:
        """Change an entry; return its new revision, or 0 if it has not the expected one."""
        wish = msgspec.msgpack.decode(body, type=Entry)
        known = self._entries.get(wish.path)
        if (known[1] if known is not None else 0) != wish.revision:
            return 0
        return self._change(wish.path, wish.value, number)

    def _change(self, path: str, value: bytes | None, number: int) -> int:
        self._revision += 1
        if value is None:
            self._entries.pop(path, None)
        else:
            self._entries[path] = value, self._revision, number
        self.tell("entry", Entry(path, value, self._revision))
        return self._revision

    def _send(self, number: int, body: Raw) -> None:
        message = msgspec.msgpack.decode(body, type=Message)
        if message.is_last:
            self._last.pop(number, None)
        else:
            self._last[number] = message.value
            self._on_load(number, msgspec.msgpack.decode(message.value, type=NodeInfo).load.cpu)
        self.tell("message", message)

    async def _request(self, body: Raw) -> bytes:
        request = msgspec.msgpack.decode(body, type=NodeRequest)
        for number, channel in self._listening.items():
            if node_name(number) == request.node:
                answer: bytes = await channel.call("request", request, bytes, seconds=request.timeout)
                return answer
        raise ChannelError(f"there is no node '{request.node}'")

    def tell(self, subject: str, body: object) -> None:
        """Tell all workers that listen."""
        for channel in list(self._listening.values()):
            with contextlib.suppress(ChannelError):
                channel.tell(subject, body)


class ClaimStore:
    """A worker's end (`cluster.Store`)."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._listener: StoreListener | None = None
        self._early: list[Entry] | None = None
        """Changes that came while the answer of `open` is awaited: they are later than what it says."""
        channel.notices |= {"entry": self._on_entry, "message": self._on_message}
        channel.calls["request"] = self._on_request

    async def open(self, name: str, listener: StoreListener) -> None:
        """Learn of all entries and messages. ``name`` is known to the supervisor."""
        self._listener = listener
        early: list[Entry] = []
        self._early = early
        listener.on_connection(is_connected=True)
        entries: list[Entry] = await self._call("claims", None, list[Entry])
        for entry in entries:
            listener.on_entry(entry.path, entry.value, entry.revision)
        listener.on_snapshot(frozenset(entry.path for entry in entries))
        self._early = None
        for entry in early:
            listener.on_entry(entry.path, entry.value, entry.revision)

    async def write(self, path: str, value: bytes, revision: int) -> int:
        return await self._change(Entry(path, value, revision))

    async def delete(self, path: str, revision: int) -> None:
        await self._change(Entry(path, None, revision))

    async def send(self, value: bytes, *, is_last: bool) -> None:
        self._channel.tell("message", Message(value, is_last))

    async def request(self, node: str, subject: str, body: bytes, timeout: float) -> bytes:
        try:
            answer: bytes = await self._channel.call(
                "request", NodeRequest(node, subject, body, timeout), bytes, seconds=timeout
            )
        except ChannelError as error:
            raise NodeUnreachable(str(error)) from error
        return answer

    async def close(self) -> None:
        """Learn of nothing more."""
        self._listener = None

    async def _change(self, wish: Entry) -> int:
        revision: int = await self._call("write", wish, int)
        if not revision:
            raise Conflict(f"the entry of path '{wish.path}' was changed by another worker")
        return revision

    async def _call(self, subject: str, body: object, answer: Any) -> Any:
        try:
            return await self._channel.call(subject, body, answer)
        except ChannelError as error:
            raise RegistryAway(str(error)) from error

    def _on_entry(self, body: Raw) -> None:
        entry = msgspec.msgpack.decode(body, type=Entry)
        if self._early is not None:
            self._early.append(entry)
        elif self._listener is not None:
            self._listener.on_entry(entry.path, entry.value, entry.revision)

    def _on_message(self, body: Raw) -> None:
        message = msgspec.msgpack.decode(body, type=Message)
        if self._listener is not None:
            self._listener.on_message(message.value, is_last=message.is_last)

    async def _on_request(self, body: Raw) -> bytes:
        request = msgspec.msgpack.decode(body, type=NodeRequest)
        return b"" if self._listener is None else await self._listener.on_request(request.subject, request.body)
