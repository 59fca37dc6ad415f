"""What ``polycast doctor`` looks at on this machine: limits, buffers of the kernel, the clock, programs, packages."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from msgspec import Struct

from polycast._version import __version__
from polycast.net.datagram_batches import UDP_GRO
from polycast.net.udp import UDP_SEGMENT

ENOUGH_FILES: Final = 4096
"""Open files: some two thousand clients."""
ENOUGH_BUFFER: Final = 4 * 1024 * 1024
"""Bytes of a receive buffer: what a camera of 30 Mbit/s sends in a second."""
PROGRAM_SECONDS: Final = 10.0
"""For a program to print its version."""
STA_UNSYNC: Final = 0x40
"""The clock is not synchronised (adjtimex(2))."""


class State(StrEnum):
    """How something is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Check(Struct, frozen=True):
    """The result of one check."""

    name: str
    state: State
    text: str
    remedy: str = ""
    """What to type, or to do; several lines are possible."""


def system_checks() -> Iterator[Check]:
    """Yield the results of everything that does not depend on the configuration."""
    yield _program()
    yield from _extras()
    yield from _ffmpeg()
    yield from _open_files()
    yield from _buffers()
    yield from _segmentation()
    yield from _clock()


def _program() -> Check:
    python = ".".join(map(str, sys.version_info[:3]))
    loop = "uvloop" if find_spec("uvloop") else "winloop" if find_spec("winloop") else ""
    text = f"{__version__}, Python {python} ({sys.executable}), {loop or 'asyncio'}"
    if not loop and sys.platform == "linux" and os.uname().machine != "armv7l":
        return Check("Polycast", State.WARNING, f"{text}: slower than with uvloop", "pip install uvloop")
    return Check("Polycast", State.OK, text)


def _extras() -> Iterator[Check]:
    extras = {
        "media": ("pictures and sound, transcoding, --demo", ("av", "numpy")),
        "webrtc": ("WebRTC", ("OpenSSL", "cryptography", "ifaddr")),
        "rich": ("polycast top", ("rich",)),
        "s3": ("uploads of recorded files", ("obstore",)),
        "cluster": ("several machines that serve the same streams", ("nats",)),
    }
    for extra, (purpose, modules) in extras.items():
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            remedy = f'in the directory of the source code: pip install ".[{extra}]"'
            yield Check(f"extra {extra}", State.WARNING, f"not installed; needed for {purpose}", remedy)
        else:
            yield Check(f"extra {extra}", State.OK, _versions(extra))


def _versions(extra: str) -> str:
    packages = {
        "media": ("av", "numpy"),
        "webrtc": ("pyOpenSSL", "cryptography"),
        "rich": ("rich",),
        "s3": ("obstore",),
        "cluster": ("nats-py",),
    }[extra]
    found = []
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{package} {metadata.version(package)}")
    return ", ".join(found) or "installed"


def _ffmpeg() -> Iterator[Check]:
    program = shutil.which("ffmpeg")
    if program is None:
        remedy = "sudo apt-get install ffmpeg" if sys.platform == "linux" else "https://ffmpeg.org/download.html"
        yield Check("FFmpeg", State.WARNING, "not found; only commands such as runOnDemand may need it", remedy)
        return
    try:
        output = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=True, errors="replace"
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        yield Check("FFmpeg", State.ERROR, f"{program} does not run: {error}", "install it again")
        return
    yield Check("FFmpeg", State.OK, f"{output.partition(' Copyright')[0]} ({program})")


def _open_files() -> Iterator[Check]:
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < ENOUGH_FILES:
        text = f"at most {hard}: about {hard // 2} clients"
        remedy = "ulimit -Hn 65536, as root, or in the unit of the service: LimitNOFILE=65536"
        yield Check("open files", State.WARNING, text, remedy)
    else:
        yield Check("open files", State.OK, "unlimited" if hard == resource.RLIM_INFINITY else f"up to {hard}")


def _buffers() -> Iterator[Check]:
    for kind, use in (("rmem_max", "receive"), ("wmem_max", "send")):
        with suppress(OSError, ValueError):
            size = int(Path(f"/proc/sys/net/core/{kind}").read_text())
            text = f"net.core.{kind} is {size // 1024} KiB"
            if size >= ENOUGH_BUFFER:
                yield Check(f"{use} buffers", State.OK, text)
                continue
            remedy = (
                f"echo net.core.{kind}={ENOUGH_BUFFER} | sudo tee -a /etc/sysctl.d/60-polycast.conf\n"
                "sudo sysctl --system"
            )
            yield Check(f"{use} buffers", State.WARNING, f"{text}: UDP packets may be lost in bursts", remedy)


def _segmentation() -> Iterator[Check]:
    if sys.platform != "linux":
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        missing = []
        for name, option in (("UDP_SEGMENT", UDP_SEGMENT), ("UDP_GRO", UDP_GRO)):
            try:
                udp.setsockopt(socket.SOL_UDP, option, 0)
            except OSError:
                missing.append(name)
    if missing:
        text = f"the kernel has no {' and no '.join(missing)}: UDP costs more CPU time"
        yield Check("UDP offload", State.WARNING, text, "Linux 5.0 or later; containers have that of their host")
    else:
        yield Check("UDP offload", State.OK, "UDP_SEGMENT (GSO) and UDP_GRO")


class _Timex(ctypes.Structure):
    """struct timex up to the fields that are read, with room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("frequency", ctypes.c_long),
        ("maximum_error", ctypes.c_long),
        ("estimated_error", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


def _clock() -> Iterator[Check]:
    status = clock_status()
    if status is None:
        return
    if status & STA_UNSYNC:
        text = "not synchronised: dates of recordings, capture times and tokens may be wrong"
        yield Check("clock", State.WARNING, text, "sudo timedatectl set-ntp true, or install chrony")
    else:
        yield Check("clock", State.OK, "synchronised")


def clock_status() -> int | None:
    """Return the status bits of the kernel's clock (adjtimex(2)); None if they are not known."""
    if sys.platform != "linux":
        return None
    state = _Timex()
    with suppress(OSError, AttributeError):
        if ctypes.CDLL(None).adjtimex(ctypes.byref(state)) >= 0:
            return int(state.status)
    return None
