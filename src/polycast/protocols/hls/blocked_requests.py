"""Requests that are blocked until a muxer publishes the requested resource, grouped by resource."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Waiter = TypeVar("Waiter", bound=Hashable)
Result = TypeVar("Result")


class BlockedGroup(Generic[Key, Waiter, Result]):
    """Requests for one resource."""

    __slots__ = ("deadlines", "key", "owner", "timeout")

    def __init__(self, owner: BlockedRequests[Key, Waiter, Result], key: Key, timeout: float) -> None:
        self.owner = owner
        self.key = key
        self.timeout = timeout
        """Seconds."""
        self.deadlines: dict[Waiter, float] = {}
        """By waiter, in the order of arrival."""

    def remove(self, waiter: Waiter) -> None:
        """Remove a cancelled waiter; does nothing if it has its result."""
        if self.deadlines.pop(waiter, None) is not None:
            self.owner.on_removed(self)


class BlockedRequests(Generic[Key, Waiter, Result]):
    """Blocked requests. Each resource is looked up once, however many requests wait for it.

    It keeps no callbacks: they would refer to its owner.
    """

    def __init__(self) -> None:
        self.groups: dict[Key, BlockedGroup[Key, Waiter, Result]] = {}
        self.count = 0
        """Number of blocked requests."""

    def add_group(self, key: Key, timeout: float) -> BlockedGroup[Key, Waiter, Result]:
        """Return a new group; `add` a waiter at once. `tick` gives up after ``timeout`` seconds."""
        group = self.groups[key] = BlockedGroup(self, key, timeout)
        return group

    def add(self, group: BlockedGroup[Key, Waiter, Result], waiter: Waiter, now: float) -> None:
        """Add a request to a group."""
        group.deadlines[waiter] = now + group.timeout
        self.count += 1

    def on_removed(self, group: BlockedGroup[Key, Waiter, Result]) -> None:
        """Called when a waiter of a group was removed."""
        self.count -= 1
        if not group.deadlines:
            del self.groups[group.key]

    def wake(
        self, look_up: Callable[[Key], Result | None], deliver: Callable[[Sequence[Waiter], Result], None]
    ) -> None:
        """Look up all resources again; requests for available ones are answered at once, in a plain loop.

        ``look_up`` returns None while there is no result; ``deliver`` passes it to all waiters.
        """
        for key in list(self.groups):
            result = look_up(key)
            if result is None:
                continue
            group = self.groups.pop(key, None)
            if group is not None:
                waiters = list(group.deadlines)
                group.deadlines.clear()  # waiters that are cancelled from now on have their result
                self.count -= len(waiters)
                deliver(waiters, result)

    def tick(
        self, now: float, give_up: Callable[[Key], Result], deliver: Callable[[Sequence[Waiter], Result], None]
    ) -> None:
        """Called about once a second: ends the requests that have waited too long, with the result of ``give_up``."""
        for group in list(self.groups.values()):
            late = [waiter for waiter, deadline in group.deadlines.items() if now >= deadline]
            for waiter in late:
                group.remove(waiter)
            if late:
                deliver(late, give_up(group.key))
