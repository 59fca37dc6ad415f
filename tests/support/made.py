"""Files that FFmpeg makes: each of them once per test run, by the worker that asks first; the others wait for it.

Nobody may change such a file, or write others beside it. Who asks for one has made sure that there is FFmpeg.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "POLYCAST_TEST_FILES"
"""Names the folder that all processes of a test run have in common."""

MAKE_SECONDS = 180.0


@contextlib.contextmanager
def common_folder() -> Iterator[None]:
    """Let this process and those that it starts have a folder in common until the block ends, unless they have one."""
    if VARIABLE in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="polycast-made-") as folder:
        os.environ[VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[VARIABLE]


def by_ffmpeg(suffix: str, *arguments: str | Path) -> Path:
    """Return the file that FFmpeg makes of ``arguments``, which end before the output's name; that ends in ``suffix``.

    What it reads does not change as long as its name stays the same: files of a test's own folder are not for this.
    """
    import fcntl  # not on Windows, where nothing asks for such files

    command = ["ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "warning", "-y", *map(str, arguments)]
    name = hashlib.sha256("\0".join(command).encode()).hexdigest()[:16]
    folder = Path(os.environ[VARIABLE])
    file = folder / f"{name}{suffix}"
    with (folder / f"{name}{suffix}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            unfinished = folder / f"unfinished-{name}{suffix}"
            made = subprocess.run([*command, unfinished], capture_output=True, timeout=MAKE_SECONDS, check=False)
            assert made.returncode == 0, f"{' '.join(command)}\n{made.stderr.decode(errors='replace')[-3000:]}"
            unfinished.rename(file)
    return file
