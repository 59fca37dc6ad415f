"""The paths that a node owns: claims that are made in the background, and made again after the registry was away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from polycast.cluster.directory import Claim
from polycast.cluster.registry import ClaimRefused, Registry, RegistryAway
from polycast.log import Log

RETRY_SECONDS: Final = 1.0
"""Until the registry is asked again after it did not answer."""


class _Holding:
    """A path that the node publishes."""

    __slots__ = ("claim", "is_confirmed", "moves", "task")

    def __init__(self, *, moves: bool) -> None:
        self.moves = moves
        self.claim: Claim | None = None
        """None until the registry has confirmed it."""
        self.is_confirmed = False
        """Whether it was confirmed once: from then on, another owner is newer."""
        self.task: asyncio.Task[None] | None = None


class Ownership:
    """Keeps claims on the paths that a node publishes.

    A claim is wanted from `hold` to `give_up`; nothing waits for it, since a publisher is not to wait for a registry.
    ``on_lost(path, reason)`` is called when another node owns the path: its publisher must be closed.
    """

    def __init__(
        self,
        registry: Registry,
        instance: str,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        on_lost: Callable[[str, str], None],
        on_held: Callable[[Claim], None] = lambda claim: None,
    ) -> None:
        """``instance`` is that of the node's process. ``on_held`` is called with each claim that was made."""
        self._registry = registry
        self._instance = instance
        self._loop = loop
        self._log = log
        self._on_lost = on_lost
        self._on_held = on_held
        self._holdings: dict[str, _Holding] = {}
        self._releasing: set[asyncio.Task[None]] = set()

    def hold(self, path: str, *, moves: bool) -> None:
        """Claim a path that has a publisher here now; ``moves``: also if another node owns it."""
        holding = self._holdings.get(path)
        if holding is None:
            holding = self._holdings[path] = _Holding(moves=moves)
            self._begin(path, holding)
        elif moves:
            holding.moves = True

    def give_up(self, path: str) -> None:
        """The publisher has left."""
        holding = self._holdings.pop(path, None)
        if holding is None:
            return
        # Without an answer, the claim may have been made nevertheless. One that is made later is released then.
        claim = holding.claim or self._registry.directory.claim_of(path)
        if claim is not None and claim.instance == self._instance:
            self._release(claim)

    def claim_on(self, path: str) -> Claim | None:
        """Return the node's own claim on a path, if it has been confirmed."""
        holding = self._holdings.get(path)
        return None if holding is None else holding.claim

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that the node publishes, whether the claims are confirmed or not."""
        return tuple(self._holdings)

    async def close(self) -> None:
        """Give up everything, and wait until the registry knows, or does not answer."""
        for path in self.paths:
            self.give_up(path)
        if self._releasing:
            await asyncio.wait(self._releasing, timeout=RETRY_SECONDS)

    # What the registry tells

    def on_claim(self, path: str, claim: Claim | None) -> None:
        """A claim on a path has changed."""
        holding = self._holdings.get(path)
        if holding is None and claim is not None and claim.instance == self._instance:
            self._release(claim)  # made although the registry did not answer, or too late
        if holding is None or holding.claim is None:
            return  # nothing is published here, or the claim that is being made will be answered
        if claim is None:
            holding.claim = None  # the registry has lost it
            self._begin(path, holding)
        elif claim.revision > holding.claim.revision:
            self._lose(path, claim)

    def on_connection(self, *, is_connected: bool) -> None:
        """The registry is back: it may have forgotten everything."""
        if is_connected:
            for path, holding in tuple(self._holdings.items()):
                if holding.claim is not None:
                    self.on_claim(path, self._registry.directory.claim_of(path))
                elif holding.task is None:
                    self._begin(path, holding)

    # Claims

    def _begin(self, path: str, holding: _Holding) -> None:
        if holding.task is None:
            holding.task = self._loop.create_task(self._claim(path, holding))

    async def _claim(self, path: str, holding: _Holding) -> None:
        while self._holdings.get(path) is holding:
            try:
                claim = await self._registry.claim(path, moves=holding.moves and not holding.is_confirmed)
            except RegistryAway as error:
                self._log.debug("path '%s' cannot be claimed now: %s", path, error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except ClaimRefused as error:
                holding.task = None
                if self._holdings.get(path) is holding:
                    self._lose(path, error.claim)
                return
            if self._holdings.get(path) is holding:
                holding.task = None
                self._on_claimed(path, holding, claim)
            elif path not in self._holdings:
                self._release(claim)
            return

    def _on_claimed(self, path: str, holding: _Holding, claim: Claim) -> None:
        holding.claim = claim
        holding.is_confirmed = True
        newest = self._registry.directory.claim_of(path)
        if newest is not None and newest.revision > claim.revision:
            self._lose(path, newest)
        else:
            self._on_held(claim)

    def _lose(self, path: str, claim: Claim) -> None:
        del self._holdings[path]
        self._on_lost(path, f"node '{claim.node}' publishes the path now")

    def _release(self, claim: Claim) -> None:
        task = self._loop.create_task(self._released(claim))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def _released(self, claim: Claim) -> None:
        while claim.path not in self._holdings:
            try:
                await self._registry.release(claim)
            except RegistryAway:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            return
