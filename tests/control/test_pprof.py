"""Profiles: their bytes read by a decoder of the format, and by pprof itself where Go is installed."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.control.support import Server, running

from polycast.control.profile_proto import Frame, Profile, SampleType

GO = shutil.which("go")


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (field number, value) of a protocol-buffer message (protobuf.dev, encoding)."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            assert key & 7 == 2
            size = varint()
            yield key >> 3, data[position : position + size]
            position += size


def packed(data: bytes) -> list[int]:
    found = []
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(value)
            value = shift = 0
    return found


def decode(data: bytes) -> tuple[list[str], dict[tuple[str, ...], list[int]]]:
    """Return the sample types, and the values by stack of function names."""
    entries = list(fields(gzip.decompress(data)))
    strings = [value.decode() for number, value in entries if number == 6]
    assert strings[0] == ""
    functions = {}
    for number, value in entries:
        if number == 5:
            parts = dict(fields(value))
            functions[parts[1]] = strings[parts[2]]
    locations = {}
    for number, value in entries:
        if number == 4:
            parts = dict(fields(value))
            locations[parts[1]] = functions[dict(fields(parts[4]))[1]]
    types = [strings[dict(fields(value))[1]] for number, value in entries if number == 1]
    samples: dict[tuple[str, ...], list[int]] = {}
    for number, value in entries:
        if number == 2:
            parts = dict(fields(value))
            stack = tuple(locations[item] for item in packed(parts[1]))
            values = packed(parts[2])
            # Lines of the same functions are different stacks.
            samples[stack] = (
                [a + b for a, b in zip(samples[stack], values, strict=True)] if stack in samples else values
            )
    return types, samples


def test_encoding() -> None:
    inner, outer = Frame("module.inner", "a.py", 7, 5), Frame("module.outer", "a.py", 300, 290)
    profile = Profile((SampleType("samples", "count"), SampleType("cpu", "nanoseconds")), comments=("a comment",))
    profile.add((inner, outer), (1, 10_000_000))
    profile.add((inner, outer), (2, 5))
    profile.add((outer,), (1, 1 << 62))
    types, samples = decode(profile.encode())
    assert types == ["samples", "cpu"]
    assert samples == {("module.inner", "module.outer"): [3, 10_000_005], ("module.outer",): [1, 1 << 62]}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running(pprof=True) as started:
        yield started


async def profile_of(server: Server, name: str) -> bytes:
    response = await server.http("pprof").get(f"/debug/pprof/{name}")
    assert response.status_code == 200, response.text
    return bytes(response.content)


async def profile_of_work(server: Server) -> dict[tuple[str, ...], int]:
    """Return the nanoseconds of a CPU profile by stack: 0.1 s at least, however long a busy machine takes for them."""
    for seconds in (0.5, 1, 2, 4, 8, 16):
        began = time.process_time()
        types, samples = decode(await profile_of(server, f"profile?seconds={seconds}"))
        assert types == ["samples", "cpu"]
        total = sum(values[1] for values in samples.values())
        assert total < 1.2e9 * (time.process_time() - began)
        if total > 0.1e9:
            return {stack: values[1] for stack, values in samples.items()}
    raise AssertionError(f"the last profile has {total / 1e9} s")


def burn(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(1000))


async def test_cpu_profile_names_what_works(server: Server) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=burn, args=(stop,))
    thread.start()
    try:
        samples = await profile_of_work(server)
    finally:
        stop.set()
        thread.join()
    burnt = sum(value for stack, value in samples.items() if any(name.endswith(".burn") for name in stack))
    assert burnt > sum(samples.values()) / 2


async def test_cpu_profile_names_what_the_event_loop_runs(server: Server) -> None:
    profile = asyncio.create_task(profile_of_work(server))
    while not profile.done():
        spin(0.05)
        await asyncio.sleep(0)
    samples = await profile
    spun = sum(value for stack, value in samples.items() if stack[0].endswith(".spin"))
    assert spun > sum(samples.values()) * 0.8
    import signal

    assert signal.getsignal(signal.SIGPROF) is signal.SIG_IGN  # one that is late must not end the process


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


async def test_an_idle_server_uses_no_time(server: Server) -> None:
    _, samples = decode(await profile_of(server, "profile?seconds=0.3"))
    assert sum(values[1] for values in samples.values()) < 0.2e9


async def test_one_profile_at_a_time(server: Server) -> None:
    client = server.http("pprof")
    first = asyncio.create_task(client.get("/debug/pprof/profile?seconds=50"))
    await server.until(lambda: server.app.control._profiles._sampling is not None)  # type: ignore[union-attr]
    assert (await server.http("pprof").get("/debug/pprof/profile?seconds=1")).status_code == 409
    first.cancel()  # the end of a client ends its profile
    await server.until(lambda: server.app.control._profiles._sampling is None)  # type: ignore[union-attr]
    assert (await client.get("/debug/pprof/profile?seconds=0.1")).status_code == 200
    for seconds in ("0", "-1", "x", "1e9", "nan"):
        assert (await client.get(f"/debug/pprof/profile?seconds={seconds}")).status_code == 400


async def test_heap_profile_names_who_holds_memory(server: Server) -> None:
    await profile_of(server, "heap")  # begins to record
    kept = hold_memory()
    profile = await profile_of(server, "heap")
    assert (await server.http("pprof").get("/debug/pprof/heap?stop=1")).status_code == 200
    types, samples = decode(profile)
    assert types == ["inuse_objects", "inuse_space"]
    held = sum(values[1] for stack, values in samples.items() if any("hold_memory" in name for name in stack))
    assert 4_000_000 <= held < 4_200_000
    assert len(kept) == 4_000_000
    own = sum(values[0] for stack, values in samples.items() if stack[0].endswith("source_names._indents"))
    assert own < 5000, "the profile is of the server, not of what is kept of the sources to make it"
    import tracemalloc

    assert not tracemalloc.is_tracing()


def hold_memory() -> bytearray:
    return bytearray(4_000_000)


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


async def test_tasks_and_threads(server: Server) -> None:
    task = asyncio.create_task(wait_for_ever())
    await asyncio.sleep(0)
    types, samples = decode(await profile_of(server, "goroutine"))
    text = (await profile_of(server, "goroutine?debug=1")).decode()
    task.cancel()
    assert types == ["goroutine"]
    assert any(stack[-1].endswith("wait_for_ever") and "Event.wait" in stack[0] for stack in samples)
    assert "wait_for_ever" in text
    assert any("run_forever" in name or "runner" in name.lower() for stack in samples for name in stack)


async def test_the_rest(server: Server) -> None:
    index = (await profile_of(server, "")).decode()
    for name in ("profile", "heap", "goroutine", "cmdline"):
        assert f'href="{name}"' in index
    assert "python" in (await profile_of(server, "cmdline")).decode()
    assert (await server.http("pprof").get("/debug/pprof/none")).status_code == 404


@pytest.fixture(scope="session")
def pprof() -> list[str]:
    """Return Go's own reader, built once where Go is installed."""
    if GO is None:
        pytest.skip("Go is not installed")
    # Without C: its compiler check may need more than a small machine has.
    os.environ["CGO_ENABLED"] = "0"
    try:
        # Its path: "go tool pprof" takes two seconds to find out that it need not build it again.
        found = subprocess.run([GO, "tool", "-n", "pprof"], capture_output=True, text=True, timeout=100)
    except subprocess.TimeoutExpired:
        pytest.skip("Go's pprof takes too long to build")
    program = found.stdout.strip()
    if found.returncode or not os.access(program, os.X_OK):
        pytest.skip("Go has no pprof here")
    return [program]


@pytest.mark.parametrize("name", ["profile?seconds=0.3", "heap", "goroutine"])
async def test_pprof_reads_it(server: Server, pprof: list[str], tmp_path: Path, name: str) -> None:
    if name == "heap":
        await profile_of(server, name)
        kept = hold_memory()
    began = time.monotonic()
    stop = threading.Event()
    thread = threading.Thread(target=burn, args=(stop,))
    thread.start()
    file = tmp_path / "profile"
    file.write_bytes(await profile_of(server, name))
    stop.set()
    thread.join()
    ran = await asyncio.to_thread(
        subprocess.run, [*pprof, "-top", str(file)], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    expected = {"profile": "burn", "heap": "hold_memory", "goroutine": "polycast."}[name.partition("?")[0]]
    assert expected in ran.stdout
    assert time.monotonic() - began < 60
    if name == "heap":
        del kept
