"""What the server sends of the entries: first what there is, then what changes, and whether anything is missing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("nats")

from nats.aio.msg import Msg

from polycast.cluster.nats_store import HEARTBEATS_MISSED, Following


class Listener:
    def __init__(self) -> None:
        self.told: list[Any] = []
        self.following = Following(lambda sequence: 1000 + sequence, self, self._on_complete, self._on_gap)

    def on_entry(self, path: str, value: bytes | None, revision: int) -> None:
        self.told.append((path, value, revision))

    def on_snapshot(self, paths: frozenset[str]) -> None:
        self.told.append(paths)

    def _on_complete(self) -> None:
        self.told.append("complete")

    def _on_gap(self) -> None:
        self.told.append("gap")

    def on_message(self, value: bytes, *, is_last: bool) -> None:
        raise AssertionError

    def on_connection(self, *, is_connected: bool) -> None:
        raise AssertionError

    async def on_request(self, subject: str, body: bytes) -> bytes:
        raise AssertionError

    def receive(self, key: str, value: bytes, reply: str, **headers: str) -> None:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        message = Msg(None, f"$KV.polycast_claims.{key}", reply, value, named or None)  # type: ignore[arg-type]
        asyncio.run(self.following.on_message(message))

    def heartbeat(self, last: int) -> None:
        self.receive("", b"", "", Status="100", Nats_Last_Consumer=str(last))


def place(sequence: int, count: int, pending: int) -> str:
    """Return where a message is in the stream, in the server's words."""
    return f"$JS.ACK.KV_polycast_claims.x1.1.{sequence}.{count}.1700000000000000000.{pending}"


def test_what_there_is_comes_before_what_changes() -> None:
    listener = Listener()
    listener.receive("a/b", b"one", place(7, 1, 2))
    listener.receive("gone", b"", place(8, 2, 1), KV_Operation="PURGE")
    listener.receive("c=2Ed", b"two", place(9, 3, 0))
    listener.receive("a/b", b"three", place(10, 4, 0))
    listener.receive("c=2Ed", b"", place(11, 5, 0), Nats_Marker_Reason="MaxAge")
    listener.heartbeat(5)
    assert listener.told == [
        ("a/b", b"one", 1007),
        ("gone", None, 1008),
        ("c.d", b"two", 1009),
        frozenset({"a/b", "c.d"}),
        "complete",
        ("a/b", b"three", 1010),
        ("c.d", None, 1011),
    ]


def test_an_address_with_a_domain_is_understood() -> None:
    listener = Listener()
    listener.receive("a", b"one", "$JS.ACK.domain.account.KV_polycast_claims.x1.1.7.1.1700000000000000000.0.random")
    assert listener.told[0] == ("a", b"one", 1007)
    assert listener.told[-1] == "complete"


def test_nothing_is_there() -> None:
    listener = Listener()
    listener.following.on_nothing_pending()
    assert listener.told == [frozenset(), "complete"]


def test_what_is_missing_is_noticed() -> None:
    listener = Listener()
    listener.receive("a", b"one", place(7, 1, 0))
    listener.told.clear()
    listener.heartbeat(1)
    assert listener.told == []
    listener.heartbeat(2)  # the second message was lost
    assert listener.told == ["gap"]
    listener.receive("a", b"three", place(9, 3, 0))
    assert listener.told == ["gap", "gap"]


def test_a_server_that_is_silent_is_noticed() -> None:
    listener = Listener()
    for _ in range(10):
        assert listener.following.is_alive()
        listener.heartbeat(0)
    alive = [listener.following.is_alive() for _ in range(HEARTBEATS_MISSED + 1)]
    assert alive == [True] * HEARTBEATS_MISSED + [False]
