"""All workers: started together, each replaced when it ends, and configured all in the same way."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from polycast.app.servers import StartError
from polycast.config.schema import Configuration
from polycast.errors import PolycastError
from polycast.hub.retry import Backoff, RetryPauses
from polycast.log import Log
from polycast.workers.channel import ChannelError
from polycast.workers.messages import ApplyConfiguration, Shared, StartWorker
from polycast.workers.placement import Placement
from polycast.workers.ports import Ports
from polycast.workers.process import START_SECONDS, STOP_SECONDS, WorkerProcess
from polycast.workers.spare import Spare

PAUSES: Final = RetryPauses(first=0.5, longest=30.0)
"""Before a worker is replaced that did not live for long."""

TRIAL_SECONDS: Final = 30.0
"""A worker that lived for longer is replaced at once; so is the first one that did not."""

CHECK_SECONDS: Final = 5.0
"""Between two checks of a worker: it says every second that it lives."""

MAXIMUM_SILENT_CHECKS: Final = 12
"""Checks in a row without a sign of life after which it counts as hanging: far more than a busy machine needs."""

SECRET_SIZE: Final = 32
"""Bytes that all workers know."""


class Slot:
    """One worker, and those that replace it."""

    def __init__(self, number: int, log: Log) -> None:
        self.number = number
        """From 1."""
        self.log = log.child(f"worker {number}")
        self.process: WorkerProcess | None = None
        """The one that has started."""
        self.spawned: WorkerProcess | None = None
        """One that waits for its start."""
        self.is_importing = False
        """Whether that one is still busy with its imports."""
        self.task: asyncio.Task[None] | None = None


Attach = Callable[[WorkerProcess], None]
"""Sets what a worker may call, before it starts."""


class Workers:
    """The processes of a server."""

    def __init__(self, count: int, log: Log, folder: str, demo_path: str | None, attach: Attach) -> None:
        """``folder`` is for their Unix sockets. ``attach`` is called with each process before it starts."""
        self.slots = [Slot(number, log) for number in range(1, count + 1)]
        self.ports = Ports(count)
        self.placement = Placement((slot.number for slot in self.slots), demo_path)
        self.on_ended: Callable[[int], None] = lambda number: None
        """Called with the number of a worker that has ended."""
        self._log = log
        self.shared = Shared(count, secrets.token_bytes(SECRET_SIZE), folder, demo_path)
        self._attach = attach
        self._spare = Spare(log)
        self._given: Configuration | None = None
        """The configuration that is in effect, as the user wrote it."""
        self._configuration: Configuration | None = None
        """The same with the ports that the system chose."""
        self._lock = asyncio.Lock()
        """Held while a worker starts or a configuration is applied: a worker never starts with an old one."""
        self._is_stopping = False

    @property
    def running(self) -> Sequence[WorkerProcess]:
        """The workers that have started."""
        return [slot.process for slot in self.slots if slot.process is not None]

    async def start(self, configuration: Configuration) -> None:
        """Start all workers. Raises StartError."""
        self._configuration = await self.ports.prepare(configuration)
        self._given = configuration
        self.placement.placed = self.placement.planned(configuration)
        await asyncio.gather(*map(self._spawn, self.slots))
        first, *others = self.slots
        await self._start(first)  # alone, as an error that concerns all of them is to be reported once
        await asyncio.gather(*map(self._start, others))
        for slot in self.slots:
            slot.task = asyncio.get_running_loop().create_task(self._watch(slot))
        self._refill()

    async def apply(self, configuration: Configuration) -> None:
        """Apply a configuration in all workers, or in none. Raises PolycastError."""
        async with self._lock:
            old = self._configuration
            assert old is not None, "start comes first"
            placed = self.placement.planned(configuration)
            applied: list[WorkerProcess] = []
            try:
                prepared = await self.ports.prepare(configuration)
                for process in self.running:
                    # One after the other: what fails in the first one does not disturb the others.
                    if await _configure(process, ApplyConfiguration(prepared, placed)):
                        applied.append(process)
            except PolycastError:
                for process in applied:
                    with contextlib.suppress(PolycastError):
                        await _configure(process, ApplyConfiguration(old, self.placement.placed))
                if self._given is not None:
                    self.ports.keep(self._given)
                raise
            self._configuration, self._given = prepared, configuration
            self.placement.placed = placed
            self.ports.keep(configuration)

    async def call(self, subject: str, answer: Any, *, seconds: float) -> list[tuple[WorkerProcess, Any]]:
        """Ask all workers; those that end meanwhile, or do not answer, are left out."""
        running = self.running
        results = await asyncio.gather(
            *(process.channel.call(subject, None, answer, seconds=seconds) for process in running),
            return_exceptions=True,
        )
        found: list[tuple[WorkerProcess, Any]] = []
        for process, result in zip(running, results, strict=True):
            if isinstance(result, ChannelError):
                self._log.warning("worker %d: %s", process.number, result)
            elif isinstance(result, BaseException):
                raise result
            else:
                found.append((process, result))
        return found

    async def stop(self) -> None:
        """End all workers, and wait for them."""
        self._is_stopping = True
        tasks = [slot.task for slot in self.slots if slot.task is not None]
        await asyncio.gather(*(self._end(process) for process in self.running))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for slot in self.slots:
            if slot.spawned is not None:
                slot.spawned.kill()
                await slot.spawned.wait()
        await self._spare.close()
        self.ports.close()

    async def _end(self, process: WorkerProcess) -> None:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                with contextlib.suppress(ChannelError):
                    await process.channel.call("stop", seconds=STOP_SECONDS)
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _spawn(self, slot: Slot) -> None:
        """Create the process of a worker, or use the spare one, and let it do its imports. Raises StartError."""
        assert self._configuration is not None
        try:
            slot.spawned = await self._spare.take(slot.number)
        except OSError as error:
            raise StartError(f"worker {slot.number} cannot be started: {error}") from error
        slot.is_importing = True
        try:
            with contextlib.suppress(ChannelError):  # it has ended, which its start reports
                await slot.spawned.prepare(self._configuration)
        finally:
            slot.is_importing = False

    async def _start(self, slot: Slot) -> None:
        """Let a new process serve. Raises StartError."""
        process, slot.spawned = slot.spawned, None
        assert process is not None
        process.channel.calls["socket"] = lambda body: self._send_socket(process, body)
        self._attach(process)
        assert self._configuration is not None
        start = StartWorker(slot.number, self.shared, self._configuration, self.placement.placed)
        try:
            await process.channel.call("start", pickle.dumps(start), seconds=START_SECONDS)
        except BaseException as error:
            process.kill()
            await process.wait()
            self.on_ended(slot.number)
            if isinstance(error, ChannelError):
                raise StartError(str(error)) from error
            raise
        slot.process = process

    def _refill(self) -> None:
        """Start a spare process, unless one that replaces a worker still needs the processors."""
        if self._configuration is not None and not any(slot.is_importing for slot in self.slots):
            self._spare.refill(self._configuration)

    async def _send_socket(self, process: WorkerProcess, body: Raw) -> None:
        key, address = msgspec.msgpack.decode(body, type=tuple[str, str])
        process.send_socket(self.ports.sockets(key, address)[process.number - 1])

    async def _end_of(self, slot: Slot, process: WorkerProcess) -> int:
        """Wait until a worker has ended; return its status. One that hangs is ended: its share of the clients would get
        no answer, forever.
        """
        ending = asyncio.get_running_loop().create_task(process.wait())
        silent = 0
        try:
            while not (await asyncio.wait((ending,), timeout=CHECK_SECONDS))[0]:
                # Counted, not measured: a supervisor that stood still itself has read nothing either.
                silent = 0 if process.channel.has_heard else silent + 1
                process.channel.has_heard = False
                if silent == MAXIMUM_SILENT_CHECKS and not self._is_stopping:
                    slot.log.error("does not answer for %g s, and is ended", silent * CHECK_SECONDS)
                    process.kill()
            return ending.result()
        finally:
            ending.cancel()

    async def _watch(self, slot: Slot) -> None:
        """Replace a worker whenever it ends."""
        backoff, is_first = Backoff(), True
        while True:
            process, began = slot.process, time.monotonic()
            if process is not None:
                status = await self._end_of(slot, process)
                slot.process = None
                self.on_ended(slot.number)
                if self._is_stopping:
                    return
                slot.log.error("ended unexpectedly (status %d)", status)
            if time.monotonic() - began >= TRIAL_SECONDS:
                backoff.reset()
                is_first = True
            pause = 0.0 if is_first else backoff.pause(PAUSES)
            if not is_first:
                backoff.advance()
            is_first = False
            try:
                # Both at the same time, and before the lock: neither another worker nor a reload waits for imports.
                spawned, _ = await asyncio.gather(self._spawn(slot), asyncio.sleep(pause), return_exceptions=True)
                if isinstance(spawned, BaseException):
                    raise spawned
                async with self._lock:
                    await self._start(slot)
            except StartError as error:
                slot.log.error("%s", error)
            else:
                slot.log.info("replaced")
            self._refill()


async def _configure(process: WorkerProcess, change: ApplyConfiguration) -> bool:
    """Apply a configuration in a worker; False if it has ended: the one that replaces it starts with what is in effect
    then. Raises ChannelError.
    """
    try:
        await process.channel.call("apply", pickle.dumps(change), seconds=START_SECONDS)
    except ChannelError:
        if not process.channel.lost.done():
            raise
        return False
    return True
