"""Passwords are verified against argon2 hashes in a thread: once, and a limited number; nobody else waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from polycast.config import PathConfiguration, from_mapping
from polycast.control.lag import LoopLag
from polycast.hub import argon2 as argon2_module
from polycast.hub.access import AccessControl
from polycast.hub.access_request import AccessRequest, Action, PlainCredentials
from polycast.hub.argon2 import Argon2Verifier, TooManyVerifications
from polycast.hub.errors import AccessDenied, Denial

MOST_LAG = 0.005
"""Seconds for which a verification may hold the loop."""

ATTEMPTS = 10


def hash_of(text: str, memory: int = 64) -> str:
    """Return a hash that needs ``memory`` KiB."""
    derivation = Argon2id(salt=b"saltsaltsaltsalt", length=32, iterations=2, lanes=1, memory_cost=memory)
    return "argon2:" + derivation.derive_phc_encoded(text.encode())


class Bench:
    """Replaces the verification: counts, and ends when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.may_end = threading.Event()
        monkeypatch.setattr(argon2_module, "matches_argon2", self.verify)

    def verify(self, configured: str, given: str) -> bool:
        self.calls.append(given)
        assert self.may_end.wait(60)
        return given.startswith("right")


async def test_clients_with_the_same_password_share_a_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, verifier = Bench(monkeypatch), Argon2Verifier()
    clients = [asyncio.create_task(verifier.verify("argon2:x", "right", f"192.0.2.{n}")) for n in range(100)]
    await asyncio.sleep(0)
    clients[0].cancel()  # the others get their answer nevertheless
    bench.may_end.set()
    assert await asyncio.gather(*clients[1:]) == [True] * 99
    assert bench.calls == ["right"]
    assert verifier.known("argon2:x", "right") is True
    assert verifier.known("argon2:y", "right") is None
    verifier.close()


async def test_outcomes_are_remembered_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, verifier = Bench(monkeypatch), Argon2Verifier()
    bench.may_end.set()
    assert await verifier.verify("argon2:x", "right", "a")
    assert not await verifier.verify("argon2:x", "wrong", "a")
    assert verifier.known("argon2:x", "wrong") is False
    assert await verifier.verify("argon2:x", "right", "a")
    assert not await verifier.verify("argon2:x", "wrong", "a")
    assert bench.calls == ["right", "wrong"]
    held = [*verifier._right, *verifier._wrong]
    assert len(held) == 2
    assert not any(word in key for key in held for word in (b"right", b"wrong", b"argon2"))
    verifier.close()


async def test_guesses_do_not_displace_what_was_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argon2_module, "_MAXIMUM_OUTCOMES", 3)
    bench, verifier = Bench(monkeypatch), Argon2Verifier()
    bench.may_end.set()
    await verifier.verify("argon2:x", "right", "a")
    for number in range(10):
        await verifier.verify("argon2:x", f"wrong {number}", "a")
    assert verifier.known("argon2:x", "right") is True
    assert verifier.known("argon2:x", "wrong 0") is None
    assert verifier.known("argon2:x", "wrong 9") is False
    verifier.close()


async def test_the_line_is_limited_and_one_address_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, verifier = Bench(monkeypatch), Argon2Verifier()
    pending = []

    async def flood(address: str) -> int:
        """Return how many verifications of an address are accepted."""
        for number in range(1_000):
            task = asyncio.create_task(verifier.verify("argon2:x", f"{address} {number}", address))
            await asyncio.sleep(0)
            if task.done():
                with pytest.raises(TooManyVerifications):
                    await task
                return number
            pending.append(task)
        raise AssertionError("no limit")

    assert await flood("192.0.2.1") == 64
    assert await flood("192.0.2.2") == 64
    assert await flood("192.0.2.3") == 0
    bench.may_end.set()
    assert await asyncio.gather(*pending) == [False] * 128
    assert await verifier.verify("argon2:x", "right", "192.0.2.3")
    verifier.close()


async def test_who_is_refused_because_of_the_line_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def verify(self: Argon2Verifier, configured: str, given: str, address: str) -> bool:
        raise TooManyVerifications("too many passwords are being verified")

    monkeypatch.setattr(Argon2Verifier, "verify", verify)
    users = [{"user": "u", "pass": hash_of("p"), "permissions": [{"action": "read"}]}]
    control = AccessControl(from_mapping({"authInternalUsers": users, "authenticationFailurePause": "100s"}))
    request = AccessRequest(Action.READ, "cam", "", "192.0.2.1", PlainCredentials("u", "p"))
    for _ in range(50):  # none of them waits for 100 s
        with pytest.raises(AccessDenied) as caught:
            await asyncio.wait_for(control.check(request, PathConfiguration()), 5)
        assert caught.value.denial is Denial.LIMIT


class HeldLag(LoopLag):
    """The lag of the metrics, without the time for which other processes had the processor (Linux)."""

    def _schedule(self) -> None:
        super()._schedule()
        self._waited = waited_for_processor()

    def _on_timer(self) -> None:
        lag = self._loop.time() - self._due - (waited_for_processor() - self._waited)
        self._lags.append(max(0.0, lag))
        self._schedule()


def waited_for_processor() -> float:
    """Return the seconds that this thread was ready to run and did not."""
    schedule = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
    return int(schedule.read_text().split()[1]) / 1e9 if schedule.exists() else 0.0


async def measured(work: Coroutine[Any, Any, object]) -> float:
    """Return the longest lag while something is done."""
    lag = HeldLag(asyncio.get_running_loop())
    lag.start()
    await work
    lag.stop()
    assert len(lag._lags) >= 3, "too short to measure anything"
    return lag.maximum


async def test_a_hash_of_64_mebibytes_does_not_hold_the_loop() -> None:
    """The least lag of several attempts: the machine may be busy with something else."""
    configured = hash_of("right", memory=64 * 1024)
    lags = []
    for attempt in range(ATTEMPTS):
        verifier = Argon2Verifier()

        async def log_in(verifier: Argon2Verifier = verifier, attempt: int = attempt) -> None:
            words = [f"wrong {attempt}", f"another {attempt}", "right"]
            answers = await asyncio.gather(*(verifier.verify(configured, word, "192.0.2.1") for word in words))
            assert answers == [False, False, True]

        lags.append(await measured(log_in()))
        verifier.close()
        if lags[-1] < MOST_LAG:
            break
    assert min(lags) < MOST_LAG, lags


async def test_the_measurement_would_find_a_hash_on_the_loop() -> None:
    configured = hash_of("right", memory=64 * 1024)

    async def log_in() -> None:
        for _ in range(3):
            argon2_module.matches_argon2(configured, "right")
            await asyncio.sleep(0.06)

    assert await measured(log_in()) > MOST_LAG
