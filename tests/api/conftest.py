"""What the tests of the Python library share: servers on free ports, pictures, and a look at what is left behind."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.waiting import PATIENCE

import polycast

av = pytest.importorskip("av")
np = pytest.importorskip("numpy")

EMBEDDED: dict[str, Any] = {"rtspAddress": "127.0.0.1:0", "authenticationFailurePause": "5ms"}


def picture(width: int = 320, height: int = 240, seed: int = 0) -> Any:
    """Return a smooth colour picture, BGR."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = (np.sin(x / 31 + seed), np.sin(y / 23 + seed), np.sin((x + y) / 41 + seed))
    return np.stack([127 + 100 * wave for wave in waves], axis=2).astype(np.uint8)


def psnr(expected: Any, got: Any) -> float:
    """Return the peak signal-to-noise ratio in dB."""
    error = float(((expected.astype(float) - got.astype(float)) ** 2).mean())
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def read_both(reader: polycast.Reader[polycast.Frame], image: Any) -> None:
    """Read until there were pictures, which are like this one, and sound."""
    kinds = set()
    for frame in reader:
        kinds.add(type(frame))
        if isinstance(frame, polycast.VideoFrame):
            assert psnr(image, frame.image) > 30
        if len(kinds) == 2:
            return


def wait_for_the_end(server: polycast.Server, path: str) -> None:
    """Wait until a stream has ended."""
    deadline = time.monotonic() + PATIENCE
    while path in server.statistics().streams:
        assert time.monotonic() < deadline


def _library_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(("polycast", "asyncio"))}


@pytest.fixture(scope="session")
def warm() -> None:
    """The first event loop of a process opens a pipe for signals that stays, and so do others."""
    with polycast.Server({**EMBEDDED, "hlsDisable": False, "hlsAddress": "127.0.0.1:0"}):
        pass


@pytest.fixture(autouse=True)
def nothing_left(warm: None) -> Iterator[None]:
    """No thread and no file stays behind."""
    threads = _library_threads()
    files = _open_files()
    yield
    if _library_threads() <= threads and _open_files() <= files:
        return
    gc.collect()
    deadline = time.monotonic() + PATIENCE
    for thread in _library_threads() - threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert _library_threads() <= threads
    assert _open_files() <= files


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


@pytest.fixture
def server() -> Iterator[polycast.Server]:
    with polycast.Server(EMBEDDED) as running:
        yield running


def settle(server: polycast.Server) -> None:
    """Return when everything that was handed to the server before has been done."""
    server.statistics()


class Loop:
    """A thread that does something again and again until the end of the block; its error becomes the test's."""

    def __init__(self, step: Any) -> None:
        self._step = step
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="test-loop")

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._step()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Loop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
