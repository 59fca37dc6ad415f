"""Verifies passwords against argon2 hashes, which takes tenths of a second and many MiB: in threads, each once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import secrets
import sys
import threading
import time
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from polycast.security.credentials import ARGON2_PREFIX

# Threads that verify: each needs the memory of the hash, often 64 MiB, and a processor. While that memory is mapped,
# the whole process cannot map any, so that more threads would hold the loop longer.
_THREADS: Final = 1

# Added to the niceness of the thread, so that the event loop comes first where processors are few (Linux).
_NICENESS: Final = 5

# Verifications that wait for a thread, in all and for one address. Further ones are refused: they would have to wait
# for many seconds. The second number leaves room for other addresses.
_MAXIMUM_PENDING: Final = 128
_MAXIMUM_PENDING_OF_ADDRESS: Final = 64

# Outcomes that are remembered, right and wrong ones separately, so that guesses do not displace right ones.
_MAXIMUM_OUTCOMES: Final = 4_096

# Seconds for which a wrong password is remembered: it may be due to a lack of memory, which looks the same.
_WRONG_SECONDS: Final = 60.0


class TooManyVerifications(Exception):
    """So many passwords are being verified that no further one is accepted."""


class Argon2Verifier:
    """Verifies passwords, and remembers the outcomes without the passwords. Used from one event loop."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._wrong: OrderedDict[bytes, float] = OrderedDict()
        """Outcomes, and when they were found; monotonic seconds."""
        self._pending: dict[bytes, asyncio.Task[bool]] = {}
        self._pending_of: Counter[str] = Counter()
        """Number of pending verifications by address."""
        self._threads: ThreadPoolExecutor | None = None

    def known(self, configured: str, given: str) -> bool | None:
        """Return the outcome if it is known, otherwise None."""
        key = self._key(configured, given)
        if key in self._right:
            self._right.move_to_end(key)
            return True
        since = self._wrong.get(key)
        return None if since is None or time.monotonic() - since > _WRONG_SECONDS else False

    async def verify(self, configured: str, given: str, address: str) -> bool:
        """Return whether a user or password given by a client at an IP address is the one of an ``argon2:`` hash.

        Requests for the same verification share it. Raises TooManyVerifications.
        """
        outcome = self.known(configured, given)
        if outcome is not None:
            return outcome
        key = self._key(configured, given)
        task = self._pending.get(key)
        if task is None:
            if len(self._pending) >= _MAXIMUM_PENDING or self._pending_of[address] >= _MAXIMUM_PENDING_OF_ADDRESS:
                raise TooManyVerifications("too many passwords are being verified")
            task = self._pending[key] = asyncio.get_running_loop().create_task(self._verify(key, configured, given))
            self._pending_of[address] += 1
            task.add_done_callback(lambda _: self._forget(key, address))
        return await asyncio.shield(task)  # others may wait for it when this client goes

    async def _verify(self, key: bytes, configured: str, given: str) -> bool:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, "polycast-argon2", initializer=_be_nice)
        loop = asyncio.get_running_loop()
        outcome = await loop.run_in_executor(self._threads, matches_argon2, configured, given)
        outcomes = self._right if outcome else self._wrong
        outcomes[key] = time.monotonic()
        if len(outcomes) > _MAXIMUM_OUTCOMES:
            outcomes.popitem(last=False)
        return outcome

    def _forget(self, key: bytes, address: str) -> None:
        del self._pending[key]
        self._pending_of[address] -= 1
        if not self._pending_of[address]:
            del self._pending_of[address]

    def close(self) -> None:
        """Stop the threads; pending verifications end without an outcome."""
        for task in self._pending.values():
            task.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    def _key(self, configured: str, given: str) -> bytes:
        """Return what identifies a verification; it reveals nothing of the password without the secret."""
        text = f"{configured}\n{given}".encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, text, hashlib.sha256).digest()


def _be_nice() -> None:
    if sys.platform == "linux":  # elsewhere, threads have no niceness of their own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + _NICENESS)


def matches_argon2(configured: str, given: str) -> bool:
    """Return whether a given text is the one of an ``argon2:`` hash. Takes as long as the hash demands."""
    from nacl.exceptions import CryptoError  # slow to import
    from nacl.pwhash import verify

    try:
        return verify(configured.removeprefix(ARGON2_PREFIX).encode(), given.encode("utf-8", "surrogatepass"))
    except (CryptoError, MemoryError):
        return False
