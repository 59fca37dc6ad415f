"""A server with several workers, as users start it, and a way to reach each of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.ports import free_media_port, free_port
from tests.support.preloaded import Process, start_server
from tests.support.waiting import PATIENCE

from polycast.config.dialects.registry import POLYCAST

KEPT = {"runOnDisconnect": "true"}
"""Settings with which clients stay at the worker that has accepted their connection: there are commands for each."""

FORKS_WORKERS = "forks-workers"
"""Name of a process beside the workers; see `tests.support.preloaded_program`."""

IDLE_THREADS = 3
"""Of a worker that has nothing to do: for its loop, its log, and the end of the server. It imports in another one."""

BUGS = re.compile("internal error|Traceback")


class Server:
    """The process with its workers."""

    def __init__(
        self,
        process: Process | subprocess.Popen[bytes],
        output: int,
        file: Path,
        ports: Mapping[str, int],
        values: dict[str, Any],
    ) -> None:
        """``output`` is the end of a pipe that has what the process writes."""
        self.process = process
        self.file = file
        self.ports = ports
        self.values = values
        self.lines: list[str] = []
        self._grown = asyncio.Event()
        self._reading = asyncio.get_running_loop().create_task(self._read(output))

    async def _read(self, output: int) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb")
        )
        async for line in reader:
            self.lines.append(line.decode().rstrip())
            self._grown.set()
        transport.close()
        self._grown.set()  # there will be no more

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    async def wait(self, pattern: str, start: int = 0, patience: float = PATIENCE) -> re.Match[str]:
        """Return the first match in a line of the log after the first ``start`` ones, waiting for it."""
        with self.explained(f"no line matches {pattern!r}"):
            async with asyncio.timeout(patience):
                while True:
                    for line in self.lines[start:]:
                        found = re.search(pattern, line)
                        if found is not None:
                            return found
                    assert not self._reading.done(), f"it has ended; the log:\n{self.log}"
                    self._grown.clear()
                    await self._grown.wait()
        raise AssertionError

    @contextlib.contextmanager
    def explained(self, text: str) -> Any:
        """Fail with the log if the block times out."""
        try:
            yield
        except TimeoutError:
            raise AssertionError(f"{text}; the log:\n{self.log}") from None

    async def get(self, path: str, port: str = "api") -> Any:
        """Return the answer of the API, or the text of the metrics."""
        text = (await asyncio.to_thread(self.fetch, f"http://127.0.0.1:{self.ports[port]}{path}")).decode()
        return json.loads(text) if port == "api" else text

    async def post(self, path: str, body: Any = None, method: str = "POST") -> None:
        data = json.dumps(body).encode() if body is not None else b""
        await asyncio.to_thread(self.fetch, f"http://127.0.0.1:{self.ports['api']}{path}", data, method)

    @staticmethod
    def fetch(url: str, data: bytes | None = None, method: str | None = None) -> bytes:
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return bytes(response.read())

    async def until(self, path: str, condition: Any) -> Any:
        """Return the first answer of the API for which a condition holds."""
        answer: Any = None
        with self.explained(f"{path} does not become as expected"):
            async with asyncio.timeout(PATIENCE):
                while not condition(answer := await self.get(path)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        return answer

    async def pids(self) -> dict[int, int]:
        """Return the processes of the workers, by their numbers."""
        found = re.findall(
            r'polycast_worker_info\{pid="(\d+)",worker="(\d+)"\} 1', await self.get("/metrics", "metrics")
        )
        return {int(number): int(pid) for pid, number in found}

    async def spare(self) -> int:
        """Return the process that waits to replace a worker, as soon as it has been told to import something.

        Before, the server may not know yet that it is there, and would replace a worker by another one.
        """
        workers = set((await self.pids()).values())
        with self.explained("there is no spare process"):
            async with asyncio.timeout(PATIENCE):
                while not (others := self.children() - workers) or threads_of(*others) <= IDLE_THREADS:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        (spare,) = others
        return spare

    def children(self) -> set[int]:
        """Return the processes that the server has started: workers, and the spare one."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {int(child) for child in children if name_of(child) != FORKS_WORKERS}

    @contextlib.asynccontextmanager
    async def at(self, worker: int, protocol: str) -> AsyncIterator[int]:
        """Yield a port of a relay whose connections reach one worker, for the listener of a protocol over TCP."""
        pids = await self.pids()
        relay = await asyncio.start_server(
            lambda reader, writer: self._relay(pids[worker], protocol, reader, writer), "127.0.0.1", 0
        )
        async with relay:
            yield relay.sockets[0].getsockname()[1]

    async def _relay(self, pid: int, protocol: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect as often as it takes: the system chooses the worker by the port of the client."""
        while True:
            upstream = await asyncio.open_connection("127.0.0.1", self.ports[protocol])
            if await self._is_accepted_by(pid, self.ports[protocol], upstream[1].get_extra_info("sockname")[1]):
                break
            upstream[1].close()
        await asyncio.gather(_copy(reader, upstream[1]), _copy(upstream[0], writer), return_exceptions=True)

    async def _is_accepted_by(self, pid: int, port: int, client: int) -> bool:
        """Whether a worker has accepted a connection; it may still wait for the client to speak TLS."""
        address = f" 0100007F:{port:04X} 0100007F:{client:04X} 01 "
        pids = {pid, *self.children()}
        async with asyncio.timeout(PATIENCE):
            while True:
                lines = Path("/proc/net/tcp").read_text().splitlines()
                inodes = [line.split()[9] for line in lines if address in line]
                for each in pids:
                    if inodes and f"socket:[{inodes[0]}]" in sockets_of(each):
                        return each == pid
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """End it as a service manager does, and look at its log."""
        self.process.send_signal(signal.SIGTERM)
        with self.explained("it does not end"):
            async with asyncio.timeout(PATIENCE):
                await asyncio.to_thread(self.process.wait, PATIENCE)
                await self._reading
        bugs = [line for line in self.lines if BUGS.search(line)]
        assert not bugs, self.log

    async def kill(self) -> None:
        self.process.kill()
        await asyncio.wait((self._reading,), timeout=PATIENCE)
        await asyncio.to_thread(self.process.wait, PATIENCE)


def name_of(pid: str) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        return Path(f"/proc/{pid}/comm").read_text().rstrip()
    return ""


def threads_of(pid: int) -> int:
    with contextlib.suppress(FileNotFoundError):  # it has ended
        return len(os.listdir(f"/proc/{pid}/task"))
    return 0


def sockets_of(pid: int) -> list[str]:
    found: list[str] = []
    with contextlib.suppress(FileNotFoundError):  # the process has ended
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.append(os.readlink(descriptor))
    return found


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


def command(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run ``polycast`` in a folder until it ends; return its status, and what it wrote."""
    output = folder / "output"
    with output.open("wb") as file:
        process = start_server(arguments, stdout=file, stderr=file, cwd=folder, env=os.environ, forks_workers=True)
    try:
        return process.wait(PATIENCE), output.read_text()
    finally:
        process.kill()


def free_ports() -> dict[str, int]:
    """Return ports by protocol, for up to four workers."""
    names = ("rtsp", "rtmp", "hls", "webrtc", "srt", "api", "metrics", "ice", "rtsps")
    return {"rtp": free_media_port(4), **{name: free_port() for name in names}}


def settings(workers: int, ports: Mapping[str, int], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in Polycast's dialect."""
    return {
        "workers": workers,
        "api": True,
        "apiAddress": f"127.0.0.1:{ports['api']}",
        "metrics": True,
        "metricsAddress": f"127.0.0.1:{ports['metrics']}",
        "rtspAddress": f"127.0.0.1:{ports['rtsp']}",
        "rtpAddress": f"127.0.0.1:{ports['rtp']}",
        "rtcpAddress": f"127.0.0.1:{ports['rtp'] + 1}",
        "rtmpAddress": f"127.0.0.1:{ports['rtmp']}",
        "hlsAddress": f"127.0.0.1:{ports['hls']}",
        "srtAddress": f"127.0.0.1:{ports['srt']}",
        "webrtcAddress": f"127.0.0.1:{ports['webrtc']}",
        "webrtcLocalUDPAddress": f"127.0.0.1:{ports['ice']}",
        "paths": {"all_others": {}},
        **values,
    }


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    workers: int = 2,
    ports: Mapping[str, int] | None = None,
    *,
    forks_workers: bool = True,
    **values: Any,
) -> AsyncIterator[Server]:
    """Run a server until the block ends; fail if it had a bug.

    Unless ``forks_workers``, it starts the processes of its workers, which takes two seconds of a processor.
    """
    ports = ports or free_ports()
    own = settings(workers, ports, values)
    file = folder / POLYCAST.file
    file.write_text(json.dumps(own))
    output, end = os.pipe()
    with os.fdopen(end, "wb") as pipe:
        process = start_server(
            [str(file)], stdout=pipe, stderr=pipe, cwd=folder, env=os.environ, forks_workers=forks_workers
        )
    server = Server(process, output, file, ports, own)
    try:
        await server.wait(r"\[API\] listener opened", patience=3 * PATIENCE)  # three processes import everything
        yield server
        await server.stop()
    finally:
        await server.kill()
