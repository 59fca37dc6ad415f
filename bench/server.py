"""Processes: where they run, how they start and end, and what they use according to /proc."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HOST = "127.0.0.1"
START_LIMIT = 60.0  # seconds until the port must accept a connection: several processes on one busy core take some
STOP_LIMIT = 5.0  # seconds between SIGTERM and SIGKILL
SETTLE_SECONDS = 1.0  # between the first listener of the last worker and its last one
CONNECT_INTERVAL = 0.001  # seconds between two attempts to connect
LOG_TAIL = 600  # characters of a server's output shown when it fails

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_ALLOWED_CORES = sorted(os.sched_getaffinity(0))

SERVER_CORE = _ALLOWED_CORES[0]
READER_CORE = _ALLOWED_CORES[min(1, len(_ALLOWED_CORES) - 1)]
PUBLISHER_CORE = _ALLOWED_CORES[min(2, len(_ALLOWED_CORES) - 1)]
CORES_ARE_SEPARATE = SERVER_CORE not in (READER_CORE, PUBLISHER_CORE)


class ServerError(Exception):
    """The server did not start, or exited."""


class Server:
    """A server process, pinned to the server core; use it as a context manager."""

    def __init__(
        self, argv: Sequence[str], port: int, log_path: Path, environment: Mapping[str, str], workers: int = 1
    ) -> None:
        """`workers`: how many processes share its ports; it is ready when all of them listen."""
        self._workers = workers
        self._argv = list(argv)
        self._port = port
        self._log_path = log_path
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self.start_seconds = 0.0
        """From the start of the process to the first accepted connection."""

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerError("not started")
        return self._process.pid

    def __enter__(self) -> "Server":
        with self._log_path.open("wb") as log:
            started = time.monotonic()
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                preexec_fn=lambda: settle_process(*cores_of(self._workers)),
            )
        try:
            self._wait_for_port(started)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _wait_for_port(self, started: float) -> None:
        while time.monotonic() - started < START_LIMIT:
            self.check()
            with contextlib.suppress(OSError), socket.create_connection((HOST, self._port), timeout=START_LIMIT):
                self.start_seconds = time.monotonic() - started
                log = self._log_path.read_text(errors="replace")
                numbers = range(1, self._workers + 1)
                if self._workers == 1 or all(f"[worker {number}] [" in log for number in numbers):
                    time.sleep(SETTLE_SECONDS if self._workers > 1 else 0)
                    return
            time.sleep(CONNECT_INTERVAL)
        raise ServerError(f"port {self._port} did not open within {START_LIMIT:.0f} s: {self._log_tail()}")

    def check(self) -> None:
        """Raise ServerError if the process has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise ServerError(f"the server ended with status {self._process.returncode}: {self._log_tail()}")

    def stop(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _log_tail(self) -> str:
        return self._log_path.read_text(errors="replace")[-LOG_TAIL:].strip() or "(no output)"


def cores_of(workers: int) -> list[int]:
    """The cores of a server: one per process, if the load generators still have theirs; else one for all."""
    return _ALLOWED_CORES[:workers] if len(_ALLOWED_CORES) >= workers + 2 else [SERVER_CORE]


def settle_process(*cores: int) -> None:
    """Runs in a new process: pin it to its cores, and let the kernel end it together with its parent."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.sched_setaffinity(0, set(cores))


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its living children: utime + stime of /proc/<pid>/stat, in nanoseconds' resolution."""
    return sum(_cpu_seconds_of_one(member) for member in _process_tree(pid))


def resident_bytes(pid: int) -> int:
    """Resident memory (VmRSS) of a process and its living children."""
    total = 0
    for member in _process_tree(pid):
        for line in Path(f"/proc/{member}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
    return total


def open_files(pid: int) -> int:
    """Open file descriptors of a process and its living children."""
    return sum(len(os.listdir(f"/proc/{member}/fd")) for member in _process_tree(pid))


def core_busy_seconds(core: int) -> float:
    """Time that a core was busy since the machine's start, with any process."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, *rest = (int(field) for field in line.split()[1:9])
            return (user + nice + system + sum(rest)) / _CLOCK_TICKS
    return 0.0


def free_tcp_port() -> int:
    """A free TCP port; the next one is also free, for servers that need two."""
    while True:
        with socket.create_server((HOST, 0)) as listener:
            port: int = listener.getsockname()[1]
            with contextlib.suppress(OSError), socket.create_server((HOST, port + 1)):
                return port


def bind_udp_pairs(count: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Pairs of bound UDP sockets, on an even port and the next odd one, as RTP and RTCP require (RFC 3550 section
    11)."""
    port = 20_000
    while count > 0:
        if port > 65_000:
            raise ServerError("no free pairs of UDP ports are left")
        even = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        odd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            even.bind((HOST, port))
            odd.bind((HOST, port + 1))
        except OSError:
            even.close()
            odd.close()
        else:
            count -= 1
            yield even, odd
        port += 2


def _process_tree(pid: int) -> list[int]:
    members = [pid]
    for member in members:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{member}/task"):
                members += [int(child) for child in Path(f"/proc/{member}/task/{task}/children").read_text().split()]
    return members


def _cpu_seconds_of_one(pid: int) -> float:
    process_clock = (~pid << 3) | 2  # CPUCLOCK_SCHED of another process, as clock_getcpuclockid(3) computes it
    try:
        return time.clock_gettime_ns(process_clock) / 1e9
    except OSError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS
