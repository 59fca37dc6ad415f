"""The power fails while the server records with ``recordSync``: what the disk has then is read.

The disk is a file, which is copied at some moment while the server stands still. Needs root, and loop devices.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parent.parent.parent
TIMES = 20 if os.environ.get("POLYCAST_SOAK") == "full" else 1
"""How often in each format."""
SIZE = 96 * 1024 * 1024
"""Bytes of the disk."""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mkfs.ext4") is None,
    reason="file systems are made and mounted",
)


def mount(image: Path, folder: Path) -> None:
    folder.mkdir()
    done = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


def unmount(folder: Path) -> None:
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """A disk, which is mounted at ``disk``; what it is copied to may be mounted at ``copy``."""
    file = tmp_path / "disk.img"
    with file.open("wb") as opened:
        opened.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", str(file)], check=True)
    mount(file, tmp_path / "disk")
    try:
        yield file
    finally:
        unmount(tmp_path / "copy")
        unmount(tmp_path / "disk")


@pytest.mark.parametrize("record_format", ["fmp4", "mpegts"])
@pytest.mark.parametrize("number", range(TIMES))
def test_all_parts_but_the_last_are_on_the_disk(image: Path, tmp_path: Path, record_format: str, number: int) -> None:
    chance = random.Random(number)
    command = [sys.executable, "-m", "tests.record.killed_program", str(tmp_path / "disk" / "x"), record_format, "sync"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    copy = tmp_path / "copy.img"
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            parts = [int(process.stdout.readline()) for _ in range(chance.randrange(3, 20))]
            process.send_signal(signal.SIGSTOP)
            shutil.copyfile(image, copy)
        finally:
            process.kill()
        parts += [int(line) for line in process.stdout if line.endswith("\n")]
        process.wait(PATIENCE)
    mount(copy, tmp_path / "copy")
    files = sorted((tmp_path / "copy" / "x").rglob("*.*"))
    assert files
    for file in files:
        with av.open(str(file)) as container:
            assert any(packet.size for packet in container.demux(video=0)), file
    assert sum(file.stat().st_size for file in files) >= sum(parts[:-1])
