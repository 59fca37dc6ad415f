"""External commands: when they run, what they get, how they end, and that none is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
from tests.protocols.hls import support as hls
from tests.protocols.rtsp.support import Fixture, running
from tests.support.rtp import key_unit, rtp
from tests.support.waiting import PATIENCE

from polycast.config.dialects.registry import MEDIAMTX
from polycast.control import command_guard, commands, hooks
from polycast.control.commands import describe_exit, expand
from polycast.hub.retry import RetryPauses
from polycast.protocols.hls.audience import IDLE_SECONDS

UUID = "[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups and signals of POSIX")


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(commands, "RESTART_PAUSES", RetryPauses(0.02, 0.1))


def shell(script: str) -> str:
    return f"sh -c {shlex.quote(script)}"


def says(file: Path, *variables: str, then: str = "exec sleep 60") -> str:
    """A command that appends variables to a file, and then stays."""
    words = " ".join(f"${{{name}}}" for name in variables) or "ran"
    # Not in the form that is replaced before: the environment is meant.
    return shell(f"env > {file}.env; echo {words} >> {file}; {then}")


async def written(file: Path, lines: int = 1) -> list[str]:
    async with asyncio.timeout(PATIENCE):
        while not file.exists() or len(file.read_text().splitlines()) < lines:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return file.read_text().splitlines()


def is_alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(process: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while is_alive(process):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ffmpeg -i a.mp4", ["ffmpeg", "-i", "a.mp4"]),
        ("x 'a b' \"c d\" e\\ f", ["x", "a b", "c d", "e f"]),
        ("x rtsp://localhost:$RTSP_PORT/$RTSP_PATH", ["x", "rtsp://localhost:8554/a/b"]),
        ("x ${RTSP_PATH}_1 '$RTSP_PATH'", ["x", "a/b_1", "a/b"]),
        ("x $G1 $G10 $G2", ["x", "one", "ten", "$G2"]),
        ("x $HOME | y > z", ["x", "$HOME", "|", "y", ">", "z"]),
    ],
)
def test_command_lines(text: str, expected: list[str]) -> None:
    variables = {"RTSP_PATH": "a/b", "RTSP_PORT": "8554", "G1": "one", "G10": "ten"}
    assert expand(text, variables) == expected


@pytest.mark.parametrize(
    ("code", "text"), [(0, "exited with code 0"), (3, "exited with code 3"), (-9, "was terminated by SIGKILL")]
)
def test_exit_codes(code: int, text: str) -> None:
    assert describe_exit(code) == text


# When they run


async def test_run_on_init_lives_as_long_as_the_path(tmp_path: Path) -> None:
    file = tmp_path / "out"
    async with running(paths={"cam": {"runOnInit": says(file, "RTSP_PATH", "RTSP_PORT")}}) as app:
        assert await written(file) == [f"cam {app.port}"]
        assert app.log.find(r"INFO \[path cam\] runOnInit command started")
    assert app.log.find(r"INFO \[path cam\] runOnInit command stopped")
    assert app.log.find("INFO waiting for external commands")


async def test_run_on_ready_and_groups_of_an_expression(tmp_path: Path) -> None:
    file = tmp_path / "out"
    paths = {"~^live/(.+)-(.*)$": {"runOnReady": says(file, "RTSP_PATH", "G1", "G2")}}
    async with running(paths=paths) as app:
        publisher = await app.publisher("live/a-b")
        assert await written(file) == ["live/a-b a b"]
        environment = Path(f"{file}.env").read_text().splitlines()
        assert {"RTSP_PATH=live/a-b", "G1=a", "G2=b"} <= set(environment)
        assert any(line.startswith("PATH=") for line in environment)
        await publisher.close()
        await app.log.wait(r"\[path live/a-b\] runOnReady command stopped")


async def test_run_on_read_runs_for_each_reader(tmp_path: Path) -> None:
    file = tmp_path / "out"
    async with running(paths={"all": {"runOnRead": says(file)}}) as app:
        await app.publisher("live")
        first = await app.reader("live")
        await app.reader("live")
        assert await written(file, 2) == ["ran", "ran"]
        await first.close()
        await app.log.wait("runOnRead command stopped")


async def test_run_on_connect(tmp_path: Path) -> None:
    file = tmp_path / "out"
    async with running(runOnConnect=says(file, "RTSP_PORT")) as app:
        client = await app.client()
        assert await written(file) == [str(app.port)]
        await app.log.wait(rf"\[RTSP\] \[conn {client.address}\] runOnConnect command started")
        await client.close()
        await app.log.wait("runOnConnect command stopped")


# After something has ended


async def test_commands_about_a_publisher_that_has_left(tmp_path: Path) -> None:
    """They get the variables of the publisher. (How long each of them runs decides which one is the last.)"""
    file = tmp_path / "out"
    names = ("MTX_PATH", "RTSP_PATH", "MTX_SOURCE_TYPE", "MTX_QUERY")
    keys = ("runOnOnline", "runOnOffline", "runOnNotReady")
    settings = {key: says(tmp_path / key, *names, then=f"echo {key} >> {file}") for key in keys}
    async with running(paths={"all": settings}) as app:
        publisher = await app.publisher("live?a=b&c=d+e")
        await app.log.wait("runOnOnline command exited with code 0")
        await publisher.close()
        assert sorted(await written(file, 3)) == sorted(keys)
    for key in keys:
        assert (tmp_path / key).read_text() == "live live rtspSession a%3Db%26c%3Dd%2Be\n"
    environment = Path(f"{tmp_path / 'runOnOffline'}.env").read_text()
    assert re.search(rf"^MTX_SOURCE_ID={UUID}$", environment, re.MULTILINE)


async def test_with_publisher_grace_a_stream_without_publisher_is_ready_but_offline(tmp_path: Path) -> None:
    settings = {"publisherGrace": "100s"}
    settings |= {key: says(tmp_path / key, then="exit 0") for key in ("runOnOnline", "runOnOffline", "runOnNotReady")}
    async with running(paths={"all": settings}) as app:
        publisher = await app.publisher("live")
        await app.reader("live")
        await written(tmp_path / "runOnOnline")
        await publisher.close()
        await written(tmp_path / "runOnOffline")
        await app.publisher("live")
        await written(tmp_path / "runOnOnline", 2)
        assert not (tmp_path / "runOnNotReady").exists()


async def test_commands_about_a_reader_that_has_left(tmp_path: Path) -> None:
    file = tmp_path / "out"
    names = ("MTX_READER_TYPE", "MTX_READER_ID", "MTX_QUERY")
    settings = {"runOnRead": says(file, *names), "runOnUnread": says(file, *names, then="exit 0")}
    async with running(paths={"all": settings}) as app:
        await app.publisher("live")
        reader = await app.reader("live?who=me")
        (first,) = await written(file)
        await reader.close()
        lines = await written(file, 2)
    assert lines == [first, first]
    assert re.fullmatch(rf"rtspSession {UUID} who%3Dme", first)


async def test_viewers_of_hls_are_readers(tmp_path: Path) -> None:
    file = tmp_path / "out"
    names = ("MTX_PATH", "MTX_READER_TYPE", "MTX_READER_ID", "MTX_QUERY")
    settings = {"runOnRead": says(file, *names), "runOnUnread": says(file, *names, then="exit 0")}
    async with hls.running(dialect=MEDIAMTX, webrtc=False, srt=False, paths={"all": settings}) as it:
        await it.playing("cam")
        (first,) = await written(file)
        it.pass_time(IDLE_SECONDS + 1)
        assert await written(file, 2) == [first, first]
    assert re.fullmatch(rf"cam hlsSession {UUID} ?", first)


async def test_viewers_of_hls_are_no_readers_in_rtsp_simple_server(tmp_path: Path) -> None:
    settings = {"runOnRead": says(tmp_path / "out")}
    async with hls.running(paths={"all": settings}) as it:
        await it.playing("cam")
        assert len(list(it.server.handler.visits)) == 1
        assert not it.log.find("runOnRead")


async def test_commands_about_a_connection(tmp_path: Path) -> None:
    file = tmp_path / "out"
    names = ("RTSP_PORT", "MTX_CONN_TYPE", "MTX_CONN_ID")
    settings = {"runOnConnect": says(file, *names), "runOnDisconnect": says(file, *names, then="exit 0")}
    async with running(**settings) as app:
        client = await app.client()
        (first,) = await written(file)
        await client.close()
        assert await written(file, 2) == [first, first]
        assert re.fullmatch(rf"{app.port} rtspConn {UUID}", first)


async def test_a_command_about_an_end_is_ended_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "LAST_COMMANDS_SECONDS", 0.1)
    file = tmp_path / "out"
    async with running(runOnDisconnect=says(file)) as app:
        client = await app.client()
        await client.close()
        await written(file)
    assert app.log.find("runOnDisconnect command stopped")


async def test_a_changed_command_replaces_the_one_that_runs(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    async with running(paths={"cam": {"runOnInit": says(first), "runOnReady": says(first)}}) as app:
        await app.publisher("cam")
        await written(first, 2)
        await app.reload(paths={"cam": {"runOnInit": says(second), "runOnReady": says(second)}})
        await written(second, 2)
        await app.log.wait("runOnReady command stopped")
        assert app.path("cam").publisher is not None


class OnDemand:
    """Publishes when the command of runOnDemand runs, in its place."""

    def __init__(self, app: Fixture, file: Path) -> None:
        self.app = app
        self.file = file

    async def publish(self) -> None:
        await written(self.file)
        publisher = await self.app.publisher("cam")
        packet = rtp(1, key_unit())
        publisher.send(b"$\x00" + len(packet).to_bytes(2, "big") + packet)


async def test_run_on_demand(tmp_path: Path) -> None:
    file = tmp_path / "out"
    paths = {"cam": {"runOnDemand": says(file, "RTSP_PATH"), "runOnDemandCloseAfter": "3s"}}
    async with running(paths=paths) as app:
        await asyncio.sleep(0.05)
        assert not file.exists()
        publishing = asyncio.create_task(OnDemand(app, file).publish())
        readers = await asyncio.gather(*(app.reader("cam") for _ in range(10)))
        await publishing
        assert file.read_text() == "cam\n"
        for reader in readers:
            await reader.close()
        await app.log.wait("runOnDemand command stopped")
        await app.until(lambda: app.path("cam").publisher is None)
        assert app.log.find("destroyed .not in use anymore.")


async def test_run_on_un_demand(tmp_path: Path) -> None:
    file, after = tmp_path / "out", tmp_path / "after"
    settings = {
        "runOnDemand": says(file, "MTX_QUERY"),
        "runOnUnDemand": says(after, "MTX_PATH", "MTX_QUERY", then="exit 0"),
        "runOnDemandCloseAfter": "2s",
    }
    async with running(paths={"cam": settings}) as app:
        publishing = asyncio.create_task(OnDemand(app, file).publish())
        reader = await app.reader("cam?x=1")
        await publishing
        assert await written(file) == ["x%3D1"]
        assert not after.exists()
        await reader.close()
        assert await written(after) == ["cam x%3D1"]


async def test_a_command_about_an_end_waits_for_the_command_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "GRACE_SECONDS", PATIENCE)
    monkeypatch.setattr(commands, "PATIENCE_SECONDS", PATIENCE)
    file = tmp_path / "out"
    ending = f"trap 'sleep 0.2; echo ended >> {file}; exit 0' INT; echo up >> {file}; while :; do sleep 0.01; done"
    hooks = {"runOnRead": shell(ending), "runOnUnread": shell(f"echo after >> {file}")}
    async with running(paths={"cam": hooks}) as app:
        await app.publisher("cam")
        reader = await app.reader("cam")
        await written(file)
        await reader.close()
        assert await written(file, 3) == ["up", "ended", "after"]


async def test_run_on_demand_that_does_not_publish() -> None:
    paths = {"cam": {"runOnDemand": "sleep 60", "runOnDemandStartTimeout": "50ms"}}
    async with running(paths=paths) as app:
        client = await app.client()
        assert (await client.request("DESCRIBE", app.url("cam"))).status == 404
        assert app.log.find("source of path 'cam' has timed out")
        await app.log.wait("runOnDemand command stopped")


async def test_publisher_grace_does_not_hold_what_is_on_demand(tmp_path: Path) -> None:
    file = tmp_path / "out"
    settings = {"runOnDemand": says(file), "runOnDemandCloseAfter": "3s", "publisherGrace": "100s"}
    async with running(paths={"cam": settings}) as app:
        publishing = asyncio.create_task(OnDemand(app, file).publish())
        reader = await app.reader("cam")
        await publishing
        await reader.close()
        await app.until(lambda: app.path("cam").stream is None)


# How they end


async def test_a_command_that_ends_is_not_started_again(tmp_path: Path) -> None:
    file = tmp_path / "out"
    async with running(paths={"cam": {"runOnInit": says(file, then="exit 3")}}) as app:
        await app.log.wait(r"\[path cam\] runOnInit command exited with code 3")
        await asyncio.sleep(0.1)
        assert file.read_text() == "ran\n"


async def test_restart_backs_off(tmp_path: Path) -> None:
    file = tmp_path / "out"
    settings = {"runOnInit": says(file, then="exit 0"), "runOnInitRestart": True}
    async with running(paths={"cam": settings}):
        began = time.monotonic()
        await written(file, 5)
        # 20, 40, 80 and 100 ms, each up to a fifth shorter.
        assert time.monotonic() - began >= 0.19


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("does-not-exist-anywhere --help", "runOnInit command cannot be started: .*No such file"),
        ("sh -c 'unclosed", "runOnInit command cannot be parsed: No closing quotation"),
    ],
)
async def test_commands_that_cannot_run(command: str, text: str, restarts: bool) -> None:
    async with running(paths={"cam": {"runOnInit": command, "runOnInitRestart": restarts}}) as app:
        await app.log.wait(f"ERROR .{'path cam'}. {text}")


async def test_a_command_may_finish_its_work_on_sigint(tmp_path: Path) -> None:
    file = tmp_path / "out"
    script = f"trap 'echo saved >> {file}; exit 0' INT; echo up >> {file}; while :; do sleep 0.01; done"
    async with running(paths={"cam": {"runOnInit": shell(script)}}):
        await written(file)
    assert file.read_text() == "up\nsaved\n"


@pytest.mark.parametrize("ignored", [["INT"], ["INT", "TERM"]])
async def test_a_command_that_ignores_signals_is_killed(tmp_path: Path, ignored: list[str]) -> None:
    file = tmp_path / "out"
    script = f"trap '' {' '.join(ignored)}; echo $$ >> {file}; while :; do sleep 0.01; done"
    async with running(paths={"cam": {"runOnInit": shell(script)}}) as app:
        (process,) = await written(file)
    last = {1: "SIGTERM", 2: "SIGKILL"}[len(ignored)]
    assert app.log.find(f"WARNING .path cam. runOnInit command did not exit, {last} was sent")
    assert not is_alive(int(process))


@pytest.mark.parametrize("then", ["wait", "exit 0"], ids=["with it", "before it"])
async def test_what_a_command_starts_ends_with_it(tmp_path: Path, then: str) -> None:
    file = tmp_path / "out"
    script = f"sleep 60 & echo $! >> {file}; {then}"
    async with running(paths={"cam": {"runOnInit": shell(script)}}) as app:
        (process,) = await written(file)
        if then == "exit 0":
            await app.log.wait("exited with code 0")
    assert not is_alive(int(process))


async def test_many_at_once(tmp_path: Path) -> None:
    count = 200 if os.environ.get("POLYCAST_SOAK") == "full" else 100
    paths = {f"cam{index}": {"runOnInit": f"sleep {100 + index}"} for index in range(count)}
    async with running(paths=paths) as app:
        await app.until(lambda: sum("command started" in line for line in app.log.lines) == count)
    assert sum("command stopped" in line for line in app.log.lines) == count


SERVER = """
import asyncio, sys
sys.path[:0] = {paths!r}
from tests.protocols.hls import support as hls
from tests.protocols.rtsp.support import running
async def main():
    async with running(paths={{"cam": {{"runOnInit": {command!r}}}}}):
        await asyncio.sleep(60)
{runner}
"""


RUNNERS = {"asyncio": "asyncio.run(main())", "uvloop": "import uvloop; uvloop.run(main())"}


@pytest.mark.parametrize("runner", RUNNERS)
async def test_no_command_outlives_a_server_that_is_killed(tmp_path: Path, runner: str) -> None:
    if runner == "uvloop":
        pytest.importorskip("uvloop")
    file = tmp_path / "out"
    command = shell(f"echo $$ >> {file}; exec sleep 50")
    program = SERVER.format(paths=[str(ROOT / "src"), str(ROOT)], command=command, runner=RUNNERS[runner])
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    (process,) = await written(file)
    assert is_alive(int(process))
    await asyncio.sleep(0.1)  # the guard has been told by now
    server.send_signal(signal.SIGKILL)
    await server.wait()
    await gone(int(process))


async def test_the_guard_escalates_to_stronger_signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_guard, "GRACE_SECONDS", 0.1)
    file = tmp_path / "out"
    script = f"trap '' INT TERM; echo $$ >> {file}; while :; do sleep 0.01; done"
    process = await asyncio.create_subprocess_exec("sh", "-c", script, start_new_session=True)
    await written(file)
    await asyncio.to_thread(command_guard.end, {process.pid})
    assert await process.wait() == -signal.SIGKILL
