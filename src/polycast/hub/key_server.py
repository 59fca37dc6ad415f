"""The keys that tokens are verified with, from the address of a key server; the last good ones stay in use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from polycast.config.redact import redact
from polycast.hub.external_server import Fetch
from polycast.log import Log

if TYPE_CHECKING:
    from polycast.security.tokens import KeySet

# Seconds after which the keys are fetched again, so that those that were withdrawn are forgotten.
REFRESH_SECONDS: Final = 3600.0

# Seconds after a fetch until the next attempt: when it has failed, or when a token has an unknown key id.
RETRY_SECONDS: Final = 10.0

# Bytes of a key set. A hundred keys have some ten KiB.
MAXIMUM_KEY_SET: Final = 128 * 1024


class KeysUnavailableError(Exception):
    """There are no keys; the text says why."""


class KeyServer:
    """Fetches the keys at their first use, on a timer, and when a token has an unknown key id. One fetch at a time."""

    def __init__(self, fetch: Fetch, url: str, fingerprint: str, timeout: float, log: Log | None) -> None:
        """``timeout`` is in seconds."""
        self._fetch = fetch
        self._url = url
        self._fingerprint = fingerprint
        self._timeout = timeout
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._keys: KeySet | None = None
        self._failure = ""
        self._tried: float | None = None
        """When the last fetch ended; time of the loop."""
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def keys(self) -> KeySet:
        """Return the keys, fetched if there are none. Raises KeysUnavailableError."""
        if self._keys is None and self._may_fetch():
            await self._load()
        if self._keys is None:
            raise KeysUnavailableError(f"there are no keys: {self._failure}")
        return self._keys

    async def newer_keys(self, known: KeySet) -> KeySet | None:
        """Return other keys than the known ones, fetched if that was not done recently; None if there are no others."""
        if self._keys is known and self._may_fetch():
            await self._load()
        return self._keys if self._keys is not known else None

    def prefetch(self) -> None:
        """Fetch the keys in the background; until they are there, the present ones stay in use."""
        self._start()

    async def refresh(self) -> None:
        """Fetch the keys now, and wait for them."""
        await self._load()

    def close(self) -> None:
        """Stop fetching."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            self._failure = "fetching them was stopped"

    def _may_fetch(self) -> bool:
        return self._task is not None or self._tried is None or self._loop.time() - self._tried >= RETRY_SECONDS

    async def _load(self) -> None:
        # Neither ends with the other: others may wait when this client goes, and `close` must not cancel clients.
        await asyncio.wait([self._start()])

    def _start(self) -> asyncio.Task[None]:
        if self._task is None:
            self._task = self._loop.create_task(self._run())
            self._task.add_done_callback(self._on_done)
        return self._task

    async def _run(self) -> None:
        try:
            self._keys = await self._download()
            self._failure = ""
        except (OSError, ValueError) as error:
            self._fail(str(error))

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled() or self._is_closed:
            return
        error = task.exception()
        if error is not None:
            self._fail(f"internal error: {error!r}")
        self._tried = self._loop.time()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(RETRY_SECONDS if self._failure else REFRESH_SECONDS, self.prefetch)

    async def _download(self) -> KeySet:
        from polycast.security.tokens import KeySet  # its libraries are large

        try:
            async with asyncio.timeout(self._timeout):
                status, data = await self._fetch("GET", self._url, b"", self._fingerprint)
        except TimeoutError:
            raise OSError(f"no answer within {self._timeout:g} s") from None
        if status != 200:
            raise OSError(f"bad status code: {status}")
        if len(data) > MAXIMUM_KEY_SET:
            raise OSError(f"the answer is larger than {MAXIMUM_KEY_SET} bytes")
        return KeySet.parse(data)

    def _fail(self, reason: str) -> None:
        is_new, self._failure = reason != self._failure, reason
        if is_new and self._log is not None:
            effect = "tokens are refused" if self._keys is None else "the last ones stay in use"
            self._log.warning("the keys of tokens cannot be fetched: %s (%s); %s", reason, redact(self._url), effect)
