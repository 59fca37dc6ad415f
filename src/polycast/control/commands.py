"""External commands: started, monitored, restarted and terminated, including their child processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Final

from polycast.control import command_guard
from polycast.control.command_output import OutputReader
from polycast.control.process_groups import GroupWatch
from polycast.hub.retry import Backoff, RetryPauses
from polycast.log import Log

# Before a command that has ended is started again.
RESTART_PAUSES: Final = RetryPauses(first=5.0, longest=60.0)

# A command that has run for this many seconds has worked: the pause is reset.
SETTLED_SECONDS: Final = 60.0

# Seconds that a command gets to end after each signal before the next, stronger one.
GRACE_SECONDS: Final = 5.0

# Seconds for reading the last lines of a command that has exited.
OUTPUT_SECONDS: Final = 1.0

_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGKILL")


def expand(text: str, variables: Mapping[str, str]) -> list[str]:
    """Return the arguments of a command line: ``$NAME`` is replaced, then the line is split like in a shell.

    There is no shell, so no other shell syntax works. Raises ValueError for unclosed quotes.
    """
    if variables:
        # Longest first, so that $G1 does not match a part of $G10.
        names = "|".join(sorted(map(re.escape, variables), key=len, reverse=True))
        text = re.sub(rf"\$(?:({names})|\{{({names})\}})", lambda found: variables[found[1] or found[2]], text)
    return shlex.split(text, posix=os.name == "posix")


def _announce(pipe: int) -> None:
    """Tell the guard of a command, in the command's own process before it starts.

    The process has the guard's pipe until then, so the guard knows every command when the server is killed. It only
    makes system calls, because other threads may have held locks when the process was forked.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # the guard may have been killed
    with contextlib.suppress(OSError):
        os.write(pipe, b"+%d\n" % os.getpid())
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


PATIENCE_SECONDS: Final = 4.0
"""How long a command waits for the one that has to end before it, and may ignore that."""


class CommandPool:
    """All commands of a server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        self._loop = loop
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self._guard: subprocess.Popen[bytes] | None = None
        self.starting = asyncio.Lock()
        """Held while a command starts: each start takes milliseconds, between which streams are processed."""
        self._mark = secrets.token_hex(16)
        self._marks = 0
        self.groups = GroupWatch(loop, self._mark)

    def start(
        self,
        name: str,
        text: str,
        variables: Mapping[str, str],
        log: Log,
        *,
        restarts: bool,
        on_ended: Callable[[Command], None] | None = None,
        after: Command | None = None,
    ) -> Command:
        """Start a command that runs until `Command.stop`. ``name`` is for the log, ``variables`` is its environment.

        ``after`` is a command that is ending: it goes first.
        """
        command = Command(self, name, text, variables, log, restarts=restarts)
        task = self._loop.create_task(command.run(after))
        task.add_done_callback(lambda _: command.ended.set())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if on_ended is not None:
            task.add_done_callback(lambda _: on_ended(command))
        return command

    async def close(self) -> None:
        """Wait for the commands, which must have been stopped before."""
        if self._tasks:
            self._log.info("waiting for external commands")
            await asyncio.wait(self._tasks)
        guard, self._guard = self._guard, None
        if guard is not None:
            if guard.stdin is not None:
                with contextlib.suppress(OSError):
                    guard.stdin.close()
            await self._loop.run_in_executor(None, guard.wait)

    def new_mark(self) -> str:
        """Return a new mark for the processes of one command, to be set in their environment."""
        self._marks += 1
        return f"{self._mark}.{self._marks}."

    async def spawn(
        self, arguments: Sequence[str], variables: Mapping[str, str], mark: str, output: int
    ) -> asyncio.subprocess.Process:
        """Start a process in its own group, with a file descriptor for its output. Raises OSError or ValueError."""
        pipe = self._guard_pipe()  # the guard must run before the first process
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **variables, command_guard.MARK_NAME: mark},
            start_new_session=os.name == "posix",
            preexec_fn=partial(_announce, pipe.fileno()) if pipe is not None else None,
        )
        # Again: the guard that heard of it may have been killed.
        self._send_to_guard(f"+{process.pid}\n")
        return process

    def on_group_ended(self, group: int) -> None:
        """Tell the guard that a process group has ended."""
        if self._guard is not None:
            self._send_to_guard(f"-{group}\n")

    def _send_to_guard(self, line: str) -> None:
        for _ in range(2):
            pipe = self._guard_pipe()
            if pipe is None:
                return
            try:
                pipe.write(line.encode())
                pipe.flush()
            except OSError:  # the guard was killed: a new one watches the groups that start from now on
                self._guard = None
            else:
                return

    def _guard_pipe(self) -> IO[bytes] | None:
        if self._guard is None and os.name == "posix":
            try:
                self._guard = subprocess.Popen(
                    # Isolated and without site packages, so that it starts quickly.
                    [sys.executable, "-I", "-S", str(Path(command_guard.__file__)), self._mark],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError as error:
                self._log.warning("if the server is killed, commands will outlive it: %s", error)
        return self._guard.stdin if self._guard is not None else None


class Command:
    """One command, with its restarts. Created by `CommandPool.start`."""

    def __init__(
        self, pool: CommandPool, name: str, text: str, variables: Mapping[str, str], log: Log, *, restarts: bool
    ) -> None:
        self._pool = pool
        self._name = name
        self._text = text
        # Clients choose some of the values, and they are often used by shell scripts.
        self._variables = {key: without_controls(value) for key, value in variables.items()}
        self._log = log
        self._restarts = restarts
        self._stopping = asyncio.Event()
        self.ended = asyncio.Event()
        self._backoff = Backoff()
        self._mark = pool.new_mark()

    def stop(self) -> None:
        """Start terminating the command; `CommandPool.close` waits for it."""
        self._stopping.set()

    async def run(self, after: Command | None = None) -> None:
        """Run until the command has finally ended, once ``after`` has."""
        if after is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(after.ended.wait(), PATIENCE_SECONDS)
        try:
            arguments = expand(self._text, self._variables)
        except ValueError as error:
            self._log.error("%s command cannot be parsed: %s: %s", self._name, error, self._text)
            return
        if not arguments:
            self._log.error("%s command is empty", self._name)
            return
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            write, outcome = await self._run_once(arguments)
            if self._stopping.is_set():
                return
            if loop.time() - began >= SETTLED_SECONDS:
                self._backoff.reset()
            pause = self._backoff.pause(RESTART_PAUSES)
            then = f"; next attempt in {pause:.3g} s" if self._restarts else ""
            write("%s command %s%s", self._name, outcome, then)
            if not self._restarts:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            self._backoff.advance()

    async def _run_once(self, arguments: list[str]) -> tuple[Callable[..., None], str]:
        """Run the command until it exits; return how to log that unless it was stopped."""
        loop = asyncio.get_running_loop()
        async with self._pool.starting:
            if self._stopping.is_set():
                return self._log.info, "stopped"
            reading, writing = os.pipe()
            try:
                process = await self._pool.spawn(arguments, self._variables, self._mark, writing)
            except (OSError, ValueError) as error:
                os.close(reading)
                return self._log.error, f"cannot be started: {describe_start_error(arguments[0], error)}"
            except BaseException:
                os.close(reading)
                raise
            finally:
                os.close(writing)
        all_read = asyncio.Event()
        output = OutputReader(reading, self._log.child(self._name), lambda: _call_soon_threadsafe(loop, all_read.set))
        self._log.info("%s command started", self._name)
        ended = loop.create_task(process.wait())
        stopped = loop.create_task(self._stopping.wait())
        await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        exited_by_itself = ended.done()
        # Child processes are terminated as well, even if the command itself has already exited.
        await self._end(process, ended)
        self._pool.on_group_ended(process.pid)
        with contextlib.suppress(TimeoutError):  # the last lines are logged first
            async with asyncio.timeout(OUTPUT_SECONDS):
                await all_read.wait()
        if not exited_by_itself:
            self._log.info("%s command stopped", self._name)
            return self._log.info, "stopped"
        code = ended.result()
        if not code:
            return self._log.info, describe_exit(code)
        said = f" (its last line: {output.last_line})" if output.last_line else ""
        return self._log.warning, describe_exit(code) + said

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
        """Terminate the process group, and processes that left it: SIGINT, then SIGTERM, then SIGKILL."""
        groups = {process.pid}
        if os.name == "posix":
            groups |= await self._pool.groups.marked(self._mark)
        for number, name in enumerate(_SIGNALS):
            if not _signal(process, groups, name):
                break
            if number:
                self._log.warning("%s command did not exit, %s was sent", self._name, name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS):
                    await asyncio.wait((ended,))
                    if os.name == "posix":
                        await self._pool.groups.ended(groups, self._mark)
                break
        await ended


def _signal(process: asyncio.subprocess.Process, groups: set[int], name: str) -> bool:
    """Send a signal to process groups; return whether any is left. On Windows, a process can only be terminated."""
    if os.name != "posix":
        if process.returncode is not None:
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            process.terminate()
        return True
    sent = False
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, getattr(signal, name))
            sent = True
    return sent


def _call_soon_threadsafe(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed
        loop.call_soon_threadsafe(callback)


def without_controls(text: str) -> str:
    """Return a text without control characters."""
    return "".join(character for character in text if unicodedata.category(character) not in ("Cc", "Zl", "Zp"))


def describe_start_error(program: str, error: Exception) -> str:
    """Return why a program cannot be started."""
    if isinstance(error, FileNotFoundError):
        return f"the program '{program}' does not exist (No such file or directory)"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"'{program}': {reason}"


def describe_exit(code: int) -> str:
    """Return how a command ended, for the log; negative codes are signals."""
    if code >= 0:
        return f"exited with code {code}"
    with contextlib.suppress(ValueError):
        return f"was terminated by {signal.Signals(-code).name}"
    return f"was terminated by signal {-code}"
