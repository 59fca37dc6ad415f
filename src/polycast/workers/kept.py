"""Files of streams that a worker has got from another one: the next viewer who asks for one costs no further copy."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from polycast.wire.http.message import Header

MAXIMUM_KEPT: Final = 64 * 1024 * 1024
"""Bytes that are kept: the newest segments of a hundred streams."""

KEPT_SECONDS: Final = 30.0
"""After which a file goes when another one comes: players ask for the newest ones."""

LONGEST_WAIT: Final = 0.25
"""Seconds that requests wait for the answer to the first one: that may be to a client that is refused slowly."""

MINIMUM_SIZE: Final = 4096
"""Bytes below which passing a file on costs no more than asking whether it is still the same."""


class Key(NamedTuple):
    """What is asked for."""

    worker: int
    """Its number."""
    server: str
    """The name of its server."""
    path: bytes
    """The target of the request, without the query: who may have the file is decided for each request."""


class KeptFile:
    """A file that never changes."""

    __slots__ = ("body", "since", "tag")

    def __init__(self, tag: bytes, body: bytes, since: float) -> None:
        self.tag = tag
        """The strong entity tag (RFC 9110 section 8.8.3)."""
        self.body = body
        self.since = since
        """Monotonic seconds."""


class KeptFiles:
    """The files, oldest first."""

    def __init__(self) -> None:
        self._files: OrderedDict[Key, KeptFile] = OrderedDict()
        self.size = 0
        """Bytes."""
        self._first: dict[Key, asyncio.Future[None]] = {}
        """Done when the first of several requests for the same has been answered."""

    @contextlib.asynccontextmanager
    async def turn(self, key: Key) -> AsyncIterator[None]:
        """Let the first one of several requests for the same be answered alone: many viewers ask for a new file at the
        same moment, and it is to be passed on once."""
        first = self._first.get(key)
        if first is not None:
            await asyncio.wait((first,), timeout=LONGEST_WAIT)
            yield
            return
        first = self._first[key] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self._first[key]
            first.set_result(None)

    def find(self, key: Key) -> KeptFile | None:
        """Return the file that a worker has sent for a request."""
        return self._files.get(key)

    def keep(self, key: Key, headers: list[Header], body: bytes, now: float) -> None:
        """Keep a file, if its headers say that it never changes; ``now`` in monotonic seconds."""
        tag = tag_of(headers)
        if not tag or not MINIMUM_SIZE <= len(body) <= MAXIMUM_KEPT:
            return
        self._forget(key)
        self._files[key] = KeptFile(tag, body, now)
        self.size += len(body)
        while self.size > MAXIMUM_KEPT or next(iter(self._files.values())).since < now - KEPT_SECONDS:
            self._forget(next(iter(self._files)))

    def _forget(self, key: Key) -> None:
        file = self._files.pop(key, None)
        if file is not None:
            self.size -= len(file.body)


def tag_of(headers: list[Header]) -> bytes:
    """Return the entity tag of an answer whose body never changes; empty for any other answer."""
    fields = dict(headers)
    is_immutable = b"immutable" in fields.get(b"cache-control", b"")
    tag = fields.get(b"etag", b"")
    return tag if is_immutable and not tag.startswith(b"W/") else b""
