"""Which tests of several workers of pytest-xdist run one after the other, and in which order.

Most tests wait for other programs. What takes long begins first, and the many short tests fill the gaps at the end.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).resolve().parent.parent

FIRST = (
    "web",
    "documents/test_commands.py",
    "documents/test_programs.py",
    "interop/test_srt_programs.py",
    "interop/test_hls_players.py",
    "interop/test_hls_readers.py",
    "interop/test_authentication.py",
    "interop/test_sources_matrix.py",
    "interop",
    "api/test_examples.py",
    "control/test_hook_processes.py",
    "chaos",
    "workers",
    "record",
    "playback",
    "control",
    "soak",
    "protocols",
    "packaging",
    "api",
)
"""Folders and files of ``tests`` in the order in which they begin; the others follow."""

TOGETHER = ("web",)
"""Folders whose tests run one after the other: a machine with two processors has not enough for many browsers."""

WHOLE_NAME = r".+"

SHARED = {
    "api/test_examples.py": WHOLE_NAME,
    "interop/test_authentication.py": WHOLE_NAME,
    "interop/test_posted.py": r"^test_configuration\[.+",  # not those with a camera
    "interop/test_srt_programs.py": r"^test_a_(source|destination)\b",
    "chaos/test_origin_process.py": WHOLE_NAME,
    "net/test_packet_dump.py": WHOLE_NAME,
    "protocols/webrtc/test_long_run.py": WHOLE_NAME,
    "web/test_hls_end_to_end.py": WHOLE_NAME,
    # The media; the protocol of the publisher and the server's variant; the publisher and its protocol.
    "interop/test_rtmp_copies.py": r"\[.+?(?=-current-ffmpeg\]|-ffmpeg\])",
    "interop/test_hls_readers.py": r"\[\w+-\w+",
    "interop/test_rtmp_matrix.py": r"\[.+?-(udp|tcp|rtmps?)-",
    "interop/test_rtsp_matrix.py": r"\[.+?-(udp|tcp|tls)-",
    "interop/test_rtsp_tunnels.py": r"\[(ffmpeg-tcp|gstreamer-srtp-udp)-",
}
"""Files whose tests need not run on the same worker, except those with the same part in their names: they share what
takes long to start. So do the tests of these files without such a part, and those of any other file."""


def sort(items: list[pytest.Item]) -> None:
    """Put the tests into the order in which they begin."""
    items.sort(key=lambda item: rank(item.path))


@functools.cache
def rank(path: Path) -> int:
    """Return how soon the tests of a file begin: 0 for the first."""
    if path.is_relative_to(TESTS):
        name = path.relative_to(TESTS)
        for part in (name.as_posix(), name.parts[0]):
            if part in FIRST:
                return FIRST.index(part)
    return len(FIRST)


def group(test: str) -> str:
    """Return the name of the tests that run on the same worker as one does; ``test`` is pytest's name of it."""
    file, _, name = test.partition("::")
    short = file.removeprefix(f"{TESTS.name}/")
    part = SHARED.get(short)
    found = re.search(part, name) if part is not None else None
    if found:
        return f"{file}::{found[0]}"
    folder = short.partition("/")[0]
    return folder if folder in TOGETHER else file


class Scheduler(LoadScopeScheduling):
    """Distributes the tests by `group`, in their order."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
