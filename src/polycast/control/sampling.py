"""Samples the running process: where it spends its time, what holds its memory, what its tasks are waiting for."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any, Final

from polycast.control.profile_proto import Frame, Profile, SampleType, Stack
from polycast.control.source_names import function_at, modules_by_file

# Samples per second of the CPU profile. Each takes some ten microseconds per thread.
SAMPLE_RATE: Final = 100

# Frames of one stack that are recorded, from the innermost one.
MAXIMUM_DEPTH: Final = 128

# Frames that tracemalloc records for each block of memory.
HEAP_FRAMES: Final = 12

NANOSECONDS: Final = 1_000_000_000

# Frames that are kept to be used again; a server has a few thousand lines that run.
_MAXIMUM_KNOWN_FRAMES: Final = 100_000


class _Frames:
    """Names the frames of a profile; each is made once."""

    def __init__(self) -> None:
        self._known: dict[tuple[CodeType, int], Frame] = {}

    def stack(self, top: FrameType | None) -> Stack:
        """Return the frames of a stack, from the innermost one."""
        frames: list[Frame] = []
        while top is not None and len(frames) < MAXIMUM_DEPTH:
            frames.append(self.frame(top.f_code, top.f_lineno or 0, top.f_globals.get("__name__", "")))
            top = top.f_back
        return tuple(frames)

    def frame(self, code: CodeType, line: int, module: str) -> Frame:
        """Return the frame of a line."""
        key = (code, line)
        known = self._known.get(key)
        if known is None:
            name = f"{module}.{code.co_qualname}" if module else code.co_qualname
            known = Frame(name, code.co_filename, line, code.co_firstlineno)
            if len(self._known) < _MAXIMUM_KNOWN_FRAMES:
                self._known[key] = known
        return known


class CpuSampler:
    """Adds up the CPU time of all threads by stack.

    On platforms with signals, a timer of the process's CPU time interrupts the main thread, so the sample shows what
    was running. Elsewhere, a thread samples the others; it mostly runs while they wait, so it shows less.
    """

    def __init__(self) -> None:
        self._profile = Profile(
            (SampleType("samples", "count"), SampleType("cpu", "nanoseconds")),
            time_nanoseconds=time.time_ns(),
            period_type=SampleType("cpu", "nanoseconds"),
            period=NANOSECONDS // SAMPLE_RATE,
            default_sample_type="cpu",
        )
        self._begin = time.monotonic()
        self._used: dict[int, int] = {}
        self._frames = _Frames()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._old_handler: Any = None

    def start(self) -> None:
        """Start sampling."""
        for thread in sys._current_frames():
            self._used[thread] = _thread_cpu_time(thread) or 0
        if sys.platform != "win32" and threading.current_thread() is threading.main_thread():
            self._old_handler = signal.signal(signal.SIGPROF, self._on_signal)
            signal.siginterrupt(signal.SIGPROF, False)
            signal.setitimer(signal.ITIMER_PROF, 1 / SAMPLE_RATE, 1 / SAMPLE_RATE)
        else:
            self._thread = threading.Thread(target=self._run, name="profiler", daemon=True)
            self._thread.start()

    def stop(self) -> Profile:
        """Stop sampling and return the profile."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        elif sys.platform != "win32":
            signal.setitimer(signal.ITIMER_PROF, 0)
            # A last signal may be pending, and its default action is to end the process.
            old = self._old_handler
            signal.signal(signal.SIGPROF, signal.SIG_IGN if old in (None, signal.SIG_DFL) else old)
        self._profile.duration_nanoseconds = round((time.monotonic() - self._begin) * NANOSECONDS)
        return self._profile

    def _on_signal(self, _: int, frame: FrameType | None) -> None:
        own = threading.get_ident()
        for thread, top in sys._current_frames().items():
            self._sample(thread, frame if thread == own else top)

    def _run(self) -> None:
        own = threading.get_ident()
        while not self._stop.wait(1 / SAMPLE_RATE):
            for thread, top in sys._current_frames().items():
                if thread != own:
                    self._sample(thread, top)

    def _sample(self, thread: int, top: FrameType | None) -> None:
        """Add the CPU time of a thread since its last sample to its current stack."""
        total = _thread_cpu_time(thread)
        if total is None:
            spent = NANOSECONDS // SAMPLE_RATE  # not available on this platform: waiting counts as well
        else:
            spent = total - self._used.get(thread, total)
            self._used[thread] = total
        if spent > 0 and top is not None:
            self._profile.add(self._frames.stack(top), (1, spent))


def sample_heap() -> Profile:
    """Return the memory allocated since `start_tracing` and not freed, by stack."""
    profile = Profile(
        (SampleType("inuse_objects", "count"), SampleType("inuse_space", "bytes")),
        time_nanoseconds=time.time_ns(),
        period_type=SampleType("space", "bytes"),
        period=1,
        default_sample_type="inuse_space",
        comments=("memory allocated by Python since the first request for this profile",),
    )
    modules = modules_by_file()
    frames: dict[tuple[str, int], Frame] = {}
    for trace in tracemalloc.take_snapshot().traces:
        stack: list[Frame] = []
        for line in reversed(trace.traceback):
            key = (line.filename, line.lineno)
            if key not in frames:
                name, first = function_at(*key, modules)
                frames[key] = Frame(name, line.filename, line.lineno, first)
            stack.append(frames[key])
        profile.add(tuple(stack), (1, trace.size))
    return profile


def start_tracing() -> bool:
    """Start recording allocations; return False if it was already started."""
    if tracemalloc.is_tracing():
        return False
    tracemalloc.start(HEAP_FRAMES)
    return True


def stop_tracing() -> None:
    """Stop recording allocations and discard them."""
    tracemalloc.stop()


def sample_tasks() -> Profile:
    """Return the number of tasks and threads at each stack. Called on the event loop."""
    profile = Profile(
        (SampleType("goroutine", "count"),),
        time_nanoseconds=time.time_ns(),
        period_type=SampleType("goroutine", "count"),
        period=1,
    )
    for stack, kind in _all_stacks():
        profile.add(stack, (1,))
        profile.labels[stack] = {"kind": kind}
    return profile


def describe_tasks() -> str:
    """Return the stacks of tasks and threads as text, most frequent first."""
    counts = Counter((kind, stack) for stack, kind in _all_stacks())
    blocks = [f"{sum(counts.values())} tasks and threads\n"]
    for (kind, stack), count in counts.most_common():
        lines = "".join(f"    {frame.function}  {frame.file}:{frame.line}\n" for frame in stack)
        blocks.append(f"{count} x {kind}\n{lines}")
    return "\n".join(blocks)


def _all_stacks() -> Iterator[tuple[Stack, str]]:
    """Yield the stacks of tasks and threads, and which of both it is."""
    frames = _Frames()
    for task in asyncio.all_tasks():
        stack = tuple(reversed([frames.frame(*entry) for entry in _await_chain(task.get_coro())]))
        if stack:
            yield stack[:MAXIMUM_DEPTH], "task"
    for top in sys._current_frames().values():
        yield frames.stack(top), "thread"


def _await_chain(awaited: Any) -> Iterable[tuple[CodeType, int, str]]:
    """Yield code, line and module of a coroutine and of everything it awaits, outermost first."""
    for _ in range(MAXIMUM_DEPTH):
        frame = None
        following = None
        for prefix in ("cr", "gi", "ag"):
            frame = getattr(awaited, f"{prefix}_frame", None)
            if frame is not None:
                following = getattr(awaited, f"{prefix}_await" if prefix != "gi" else "gi_yieldfrom", None)
                break
        if frame is None:
            return
        yield frame.f_code, frame.f_lineno, frame.f_globals.get("__name__", "")
        awaited = following


def _thread_cpu_time(thread: int) -> int | None:
    """Return the CPU time of a thread in nanoseconds; None if the platform does not provide it."""
    if sys.platform == "win32" or sys.platform == "darwin":
        return None
    with contextlib.suppress(OSError, OverflowError):
        return time.clock_gettime_ns(time.pthread_getcpuclockid(thread))
    return 0
