"""External commands as processes: many at once, in which order they get signals, and that none outlives the server."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import shlex
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.control.test_hooks import gone, is_alive, says, shell
from tests.protocols.rtmp import support as rtmp
from tests.protocols.rtsp.support import running
from tests.support.waiting import PATIENCE
from tests.wire.rtmp.support import VIDEO

from polycast.control import command_guard, commands
from polycast.hub import retry
from polycast.hub.retry import RetryPauses

ROOT = Path(__file__).resolve().parents[2]
HEAD = "rtspAddress: 127.0.0.1:0\nprotocols: [tcp]\nrtmpDisable: yes\nhlsDisable: yes\npaths:\n"
MANY = 200 if os.environ.get("POLYCAST_SOAK") == "full" else 100

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are looked up in /proc")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def written(file: Path, lines: int = 1) -> list[str]:
    await until(lambda: file.exists() and len(file.read_text().splitlines()) >= lines)
    return file.read_text().splitlines()


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(commands, "RESTART_PAUSES", RetryPauses(0.02, 0.1))


# Variables and restarts of each event


@pytest.mark.parametrize("event", ["runOnReady", "runOnRead", "runOnDemand"])
async def test_variables_and_restart_of_each_event(event: str, tmp_path: Path) -> None:
    file = tmp_path / "out"
    command = says(file, "RTSP_PATH", "RTSP_PORT", "G1", "G2", then="exit 1")
    settings = {event: command, f"{event}Restart": True, "runOnDemandCloseAfter": "3s"}
    async with running(paths={"~^(live)/(.+)$": settings}) as app:
        if event == "runOnDemand":
            request = asyncio.create_task(app.reader("live/a"))
            await written(file)
            publisher = await app.publisher("live/a")
            reader = await request
        else:
            publisher = await app.publisher("live/a")
            reader = await app.reader("live/a")
        # It fails for ever, so it is started for ever, with the same variables.
        assert set(await written(file, 4)) == {f"live/a {app.port} live a"}
        await (publisher if event == "runOnReady" else reader).close()
        await app.until(lambda: not any(key[0] == event for key in app.app._hooks._running))
        await asyncio.sleep(0)
        ran = len(file.read_text().splitlines())
        await asyncio.sleep(0.2)  # twice the longest pause
        assert len(file.read_text().splitlines()) <= ran + 1


async def test_variables_and_restart_of_a_connection_over_rtmp(tmp_path: Path) -> None:
    file = tmp_path / "out"
    command = shell(f'echo "path=$RTSP_PATH. port=${{RTSP_PORT}}" >> {file}; exit 1')
    async with rtmp.running(runOnConnect=command, runOnConnectRestart=True) as app:
        client = await app.raw()
        assert set(await written(file, 3)) == {f"path=. port={app.port('RTSP')}"}
        await client.close()
        await app.until(lambda: not app.connections)


async def test_run_on_read_of_a_reader_over_rtmp(tmp_path: Path) -> None:
    file = tmp_path / "out"
    async with rtmp.running(paths={"all": {"runOnRead": says(file, "RTSP_PATH")}}) as app:
        publisher = await app.publisher("live/cam", (VIDEO,))
        reader = await app.reader("live/cam")
        publisher.send_video(range(1, 3), keys=[1])
        assert await written(file) == ["live/cam"]
        await reader.close()
        await app.log.wait("runOnRead command stopped")


async def test_the_pause_is_reset_after_a_command_that_worked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    wait_for = asyncio.wait_for

    async def record(awaitable: Any, timeout: float | None) -> Any:
        assert timeout is not None
        pauses.append(timeout)
        return await wait_for(awaitable, 0.001)

    monkeypatch.setattr(retry, "JITTER", 0.0)
    monkeypatch.setattr(commands, "RESTART_PAUSES", RetryPauses(5.0, 60.0))
    monkeypatch.setattr(commands.asyncio, "wait_for", record)
    run_once = commands.Command._run_once

    async def run(self: commands.Command, arguments: list[str]) -> tuple[Callable[..., None], str]:
        try:
            return await run_once(self, arguments)
        finally:
            # However long a run takes on this machine, only the eighth one is long enough to count as working.
            monkeypatch.setattr(commands, "SETTLED_SECONDS", 0.0 if len(pauses) == 7 else 1e9)

    monkeypatch.setattr(commands.Command, "_run_once", run)
    file = tmp_path / "out"
    script = f"echo >> {file}"
    async with running(paths={"cam": {"runOnInit": shell(script), "runOnInitRestart": True}}):
        await written(file, 10)
    assert pauses[:9] == [5, 10, 20, 40, 60, 60, 60, 5, 10]


# Signals


async def test_signals_come_in_order_and_reach_what_the_command_has_started(tmp_path: Path) -> None:
    file = tmp_path / "out"
    trap = f"trap 'echo INT >> {file}' INT; trap 'echo TERM >> {file}' TERM"
    script = f"{trap}; echo $$ >> {file}; while :; do sleep 0.01; done"
    child = shell(script)
    async with running(paths={"cam": {"runOnInit": shell(f"{child} & {script}")}}) as app:
        processes = [int(line) for line in await written(file, 2)]
    for process in processes:
        assert not is_alive(process)
    received = file.read_text().splitlines()[2:]
    # Both of them, each signal; a shell in the background may ignore SIGINT.
    assert received[0] == "INT"
    assert received.count("TERM") == 2
    assert received.index("TERM") > max(index for index, line in enumerate(received) if line == "INT")
    assert app.log.find("did not exit, SIGKILL was sent")


# Many at once


async def test_the_loop_stays_responsive_while_many_start(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0
    starts: list[int] = []
    start = asyncio.create_subprocess_exec

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    async def record(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        starts.append(turns)
        return await start(*arguments, **options)

    monkeypatch.setattr(commands.asyncio, "create_subprocess_exec", record)
    turn()
    async with running(paths={f"cam{index}": {"runOnInit": "sleep 50"} for index in range(20)}) as app:
        await app.until(lambda: len(starts) == 20)
    assert len(set(starts)) == 20, "commands were started without a turn of the loop between them"


async def test_many_that_leave_children_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    survey = command_guard.survey

    def record(groups: set[int], mark: str = "") -> tuple[set[int], dict[str, set[int]]]:
        threads.append(threading.current_thread())
        return survey(groups, mark)

    monkeypatch.setattr(command_guard, "survey", record)
    file = tmp_path / "out"
    # A background job of a shell ignores SIGINT, so it outlives the command until SIGTERM. It says itself that it runs:
    # the shell might do so before the job ignores anything.
    script = f"sh -c 'echo $$ >> {file}; exec sleep 60' & wait"
    async with running(paths={f"cam{index}": {"runOnInit": shell(script)} for index in range(MANY)}) as app:
        await app.until(lambda: sum("command started" in line for line in app.log.lines) == MANY)
        processes = [int(line) for line in await written(file, MANY)]
    assert not any(map(is_alive, processes))
    assert sum("did not exit, SIGTERM was sent" in line for line in app.log.lines) == MANY
    # All of them are looked for at once, and not by the thread of the streams.
    assert 0 < len(threads) < MANY
    assert threading.main_thread() not in threads


async def test_many_that_fail_for_ever_back_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "RESTART_PAUSES", RetryPauses(1.0, 60.0))
    paths = {f"cam{index}": {"runOnInit": "false", "runOnInitRestart": True} for index in range(MANY)}
    began = asyncio.get_running_loop().time()
    async with running(paths=paths) as app:
        await app.until(lambda: sum("exited with code 1" in line for line in app.log.lines) >= MANY + 1)
        await asyncio.sleep(began + 2.0 - asyncio.get_running_loop().time())
        seconds = asyncio.get_running_loop().time() - began
        started = sum("command started" in line for line in app.log.lines)
    # After pauses of 1 s, 2 s, 4 s and so on, at least 80 % of each.
    assert MANY < started <= MANY * (1 + int(math.log2(seconds / 0.8 + 1)))


# No orphans


class ServerProcess:
    """``polycast`` as a process of its own; everything that it starts has a secret of this test in its environment."""

    def __init__(self, process: asyncio.subprocess.Process, secret: str) -> None:
        self.process = process
        self.secret = secret.encode()

    def descendants(self) -> list[int]:
        """All living processes that the server has started, whatever became of their parents and groups."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.process.pid:
                continue
            with contextlib.suppress(OSError):
                if self.secret in (entry / "environ").read_bytes() and is_alive(int(entry.name)):
                    found.append(int(entry.name))
        return found

    def guards(self) -> list[int]:
        """Those of the descendants that are the server's guard."""
        found: list[int] = []
        for process in self.descendants():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if b"command_guard.py" in Path(f"/proc/{process}/cmdline").read_bytes():
                    found.append(process)
        return found

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def no_descendants(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.descendants():  # noqa: ASYNC110 - it looks at every process of the machine
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def server_process(tmp_path: Path, commands: list[str]) -> AsyncIterator[ServerProcess]:
    file = tmp_path / "server.yml"
    file.write_text(
        HEAD + "".join(f"  cam{index}:\n    runOnInit: {command}\n" for index, command in enumerate(commands))
    )
    secret = secrets.token_hex(8)
    # Files, not pipes: a pipe would be held open by what outlives the server, and be waited for.
    with open(tmp_path / "stdout", "wb") as output, open(tmp_path / "stderr", "wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "polycast", str(file)),
            stdout=output,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "SECRET_OF_THE_TEST": secret},
        )
    server = ServerProcess(process, f"SECRET_OF_THE_TEST={secret}")
    try:
        yield server
    finally:
        if process.returncode is None:
            await server.kill()
        for orphan in server.descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)


async def test_output_of_commands_is_logged_line_by_line(tmp_path: Path) -> None:
    script = (
        "echo this is $0 output; printf 'frame= 1\\rframe= 2\\rerror \\033[31mx\\n' >&2; printf rest; exec sleep 50"
    )
    async with server_process(tmp_path, [shell(script)]) as server:
        await until(lambda: "error" in (tmp_path / "stdout").read_text())
        server.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(server.process.wait(), PATIENCE) == 0
    lines = [line[20:] for line in (tmp_path / "stdout").read_text().splitlines()]
    prefix = "INF [path cam0] [runOnInit] "
    printed = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    # Of a progress display, one line for some time; a terminal's commands are made visible.
    assert printed == ["this is sh output", "frame= 1", "error \\x1b[31mx", "rest"]
    assert (tmp_path / "stderr").read_text() == ""


async def test_a_command_that_prints_without_end_holds_nothing_up(tmp_path: Path) -> None:
    async with running(paths={"cam": {"runOnInit": "yes"}}) as app:
        await app.log.wait("command started")
        loop = asyncio.get_running_loop()
        latest = loop.time()
        worst = 0.0
        for _ in range(200):
            await asyncio.sleep(0.005)
            worst, latest = max(worst, loop.time() - latest), loop.time()
        printed = sum(line.endswith("[runOnInit] y") for line in app.log.lines)
    assert 0 < printed <= 100 * 20
    assert worst < 1.0  # it waits for its turn with the other thread only


async def test_what_left_its_session_ends_with_its_command(tmp_path: Path) -> None:
    file = tmp_path / "out"
    script = f"setsid sh -c 'echo $$ >> {file}; trap \"\" INT; while :; do sleep 0.05; done' & echo $$ >> {file}; wait"
    async with running(paths={"~^a": {"runOnReady": shell(script)}, "b": {"runOnInit": "sleep 50"}}) as app:
        publisher = await app.publisher("a")
        processes = [int(line) for line in await written(file, 2)]
        await publisher.close()
        await app.log.wait("runOnReady command stopped")
        assert not any(map(is_alive, processes))
        assert not app.log.find("runOnInit command stopped")  # others go on


async def test_none_outlives_a_server_that_is_killed_while_it_starts_them(tmp_path: Path) -> None:
    file = tmp_path / "out"
    command = shell(f"echo $$ >> {file}; exec sleep 50")
    async with server_process(tmp_path, [command] * 50) as server:
        await written(file)  # the first of them: others are on their way
        await server.kill()
        await server.no_descendants()


KILLED_BEFORE_IT_TELLS_THE_GUARD = """
import asyncio, os, signal, sys, time
from polycast.control.commands import CommandPool
from polycast.log import Log

file, *arguments = sys.argv[1:]

def die(*_):
    while not os.path.exists(file):  # until the command has cleared its environment
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    pool = CommandPool(asyncio.get_running_loop(), Log())
    pool._send_to_guard = die
    await pool.spawn(arguments, {}, pool.new_mark(), 2)

asyncio.run(main())
"""


async def test_none_without_an_environment_outlives_a_server_that_is_killed_while_it_starts_it(tmp_path: Path) -> None:
    """Only its group tells what it is, and the server is killed before it has told that."""
    file, script = tmp_path / "out", tmp_path / "server.py"
    script.write_text(KILLED_BEFORE_IT_TELLS_THE_GUARD)
    command = ["env", "-i", "sh", "-c", f"echo $$ > {file}.new; mv {file}.new {file}; exec sleep 50"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, file, *command, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}
    )
    assert await process.wait() == -signal.SIGKILL
    leader = int(file.read_text())
    try:
        await gone(leader)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader, signal.SIGKILL)


MIXTURE = [
    "exec sleep 50",
    "sleep 50 & wait",  # a background job ignores SIGINT
    "sleep 50 & exit 0",
    "trap '' INT; while :; do sleep 0.1; done",
    "setsid sleep 50 & wait",  # in a session of its own
    "exec env -i sleep 50",  # without an environment: only its group tells
]


async def test_none_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "out"
    lines = [shell(f"echo $$ >> {file}; {script}") for script in MIXTURE]
    async with server_process(tmp_path, lines) as server:
        leaders = [int(line) for line in await written(file, len(lines))]
        await asyncio.sleep(0.2)  # until they have started what they start
        await server.kill()
        await server.no_descendants()
        for leader in leaders:
            await gone(leader)


async def test_none_outlives_a_server_that_ends(tmp_path: Path) -> None:
    file = tmp_path / "out"
    # The child leaves the group of its command; a shell's background job would ignore SIGINT.
    script = f"import os, time; os.fork() or os.setsid(); print(file=open({str(file)!r}, 'a')); time.sleep(50)"
    async with server_process(tmp_path, [f"{sys.executable} -S -c {shlex.quote(script)}"]) as server:
        await written(file, 2)
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(server.process.wait(), PATIENCE) == 0
        assert not server.descendants()


async def test_a_killed_guard_is_replaced_and_knows_older_commands(tmp_path: Path) -> None:
    # Which of them writes first is up to the machine: each has a file of its own.
    older, other, killed = tmp_path / "older", tmp_path / "other", tmp_path / "killed"
    # The other one ends once the guard is gone, and the server notices that when it tells the guard.
    until_killed = f"echo $$ >> {other}; until test -e {killed}; do sleep 0.02; done"
    lines = [shell(f"echo $$ >> {older}; exec sleep 50"), shell(until_killed)]
    async with server_process(tmp_path, lines) as server:
        (leader,) = (int(line) for line in await written(older))
        await written(other)
        (guard,) = server.guards()
        os.kill(guard, signal.SIGKILL)
        await gone(guard)
        killed.touch()
        await until(lambda: server.guards() not in ([], [guard]))
        assert is_alive(leader)
        await server.kill()
        await server.no_descendants()
