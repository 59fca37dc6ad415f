"""Runs all tests, as ``make test`` does: what waits for other programs, what browsers show, and in the pauses of both
those of the inner layers. With ``--check``, only those that need no other programs, as ``make check`` does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support import made

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

INNER = (
    ("wire", "slates", "tally", "test_*.py"),
    ("codecs", "config", "hub", "media", "net", "rtp", "security", "transcode"),
)
"""Folders whose tests need little but the processor, and files that lie in no folder, in two halves. Each runs in one
process: pytest-xdist needs longer to hand out a test than most of these tests take.
"""
CHECKED = (
    ("wire", "test_programs.py", "test_codec_table.py", "test_live_keys.py", "test_documents.py",
     "test_metric_document.py", "test_protocol_of_its_own.py"),
    ("codecs", "config", "hub", "media", "net", "rtp", "security", "test_layers.py", "control/test_items.py",
     "control/test_openapi.py", "control/test_page.py", "api/test_library_document.py"),
)  # fmt: skip
"""The tests of ``make check``, in two halves, too. Those of files show whether anything was forgotten: the rows of a
codec, the effects of settings, the fields of the API, the generated documents. What starts another program
(tests/support/programs.py) is left out.
"""
BROWSERS = ("web/test_hls_end_to_end.py", "web/test_webrtc_in_browsers.py")
"""Files that judge how a picture moves in a browser; one test runs at a time."""
MANY = 50
"""Files that are not compiled yet, at least, for two processes to compile them before each worker does so by itself."""


@dataclass(frozen=True)
class Part:
    """A run of pytest.

    All parts run at the same time. By its ``niceness``, what is judged by its pace comes first, and what needs little
    but the processor fills the pauses of the others. The differences are small, so that nothing starves while other
    programs use the processors. Without ``workers``, one process runs its tests. ``first_worker`` keeps their ports
    apart. ``marks``: an expression that chooses among the tests.
    """

    name: str
    workers: int
    paths: tuple[Path, ...]
    without: tuple[Path, ...] = ()
    niceness: int = 0
    first_worker: int = 0
    marks: str = ""

    def start(self, output: int | None = None) -> subprocess.Popen[bytes]:
        """Run its tests."""
        workers = ("-n", str(self.workers), "--dist", "loadscope") if self.workers else ()
        return self._pytest(*workers, output=output)

    def again(self) -> int:
        """Run once more what has failed, test by test; return pytest's status."""
        return self._pytest("--last-failed", "--last-failed-no-failures", "none").wait()

    def _pytest(self, *options: str, output: int | None = None) -> subprocess.Popen[bytes]:
        ignored = [option for path in self.without for option in ("--ignore", str(path))]
        cache = ("-o", f"cache_dir={ROOT / '.pytest_cache' / self.name}")
        marked = ("-m", self.marks) if self.marks else ()
        command = [sys.executable, "-m", "pytest", "-q", *cache, *options, *marked, *ignored, *map(str, self.paths)]
        environment = {**os.environ, "POLYCAST_FIRST_WORKER": str(self.first_worker)}
        nice = ("nice", "-n", str(self.niceness))
        return subprocess.Popen([*nice, *command], cwd=ROOT, env=environment, stdout=output, stderr=output)


def paths(names: Iterable[str]) -> tuple[Path, ...]:
    """Return the files and folders of these names."""
    return tuple(path for name in names for path in sorted(TESTS.glob(name)))


def checked_parts() -> tuple[Part, ...]:
    """Return the halves of what ``make check`` runs."""
    return tuple(
        Part(name, 0, paths(names), first_worker=number, marks="not programs")
        for number, (name, names) in enumerate(zip(("wire", "inner"), CHECKED, strict=True))
    )


def parts(workers: int) -> tuple[Part, ...]:
    """Return those that wait for other programs, those of the browsers, and the halves of those of the inner layers."""
    wire, others = map(paths, INNER)
    browsers = tuple(TESTS / name for name in BROWSERS)
    return (
        Part("programs", workers, (TESTS,), without=(*wire, *others, *browsers), niceness=2),
        Part("browsers", 1, browsers, first_worker=workers),
        Part("wire", 0, wire, niceness=5, first_worker=workers + 1),
        Part("inner", 0, others, niceness=5, first_worker=workers + 2),
    )


def is_compiled(file: Path) -> bool:
    """Return whether pytest has a compiled copy of a file that is not older."""
    copies = list((file.parent / "__pycache__").glob(f"{file.stem}.*-pytest-{pytest.__version__}.pyc"))
    return bool(copies) and max(copy.stat().st_mtime for copy in copies) >= file.stat().st_mtime


def compile_all() -> None:
    """Let two processes compile the tests, unless nearly all of them are compiled: every worker loads all of them."""
    files = list(TESTS.rglob("test_*.py"))
    if sum(not is_compiled(file) for file in files) < MANY:
        return
    halves: tuple[list[str], list[str]] = [], []
    sizes = [0, 0]
    for file in sorted(files, key=lambda file: -file.stat().st_size):
        half = sizes.index(min(sizes))
        halves[half].append(str(file))
        sizes[half] += file.stat().st_size
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    for process in [subprocess.Popen([*command, *half], cwd=ROOT, stdout=subprocess.DEVNULL) for half in halves]:
        process.wait()


def failed(part: Part, status: int) -> bool:
    """Return whether a part has failed, once what failed has run again. So has a part without any test."""
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        print(f"what has failed ({part.name}) runs once more, alone", file=sys.stderr, flush=True)
        status = part.again()
    return status != pytest.ExitCode.OK


def run(first: Part, *others: Part) -> Iterable[str]:
    """Run parts at the same time; yield the names of those in which some tests failed. The first shows its progress."""
    with contextlib.ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile()) for _ in others]
        running = [first.start(), *(part.start(output.fileno()) for part, output in zip(others, outputs, strict=True))]
        for process in running:
            stack.callback(process.kill)
        statuses = [process.wait() for process in running]
        for part, output in zip(others, outputs, strict=True):
            print(f"{part.name}:", flush=True)
            output.seek(0)
            sys.stdout.write(output.read().decode(errors="replace"))
        sys.stdout.flush()
    for part, status in zip((first, *others), statuses, strict=True):
        if failed(part, status):
            yield part.name


def main() -> int:
    """Run the tests, and return 1 if some failed twice."""
    parser = argparse.ArgumentParser(prog="python -m tests.run", description=__doc__)
    parser.add_argument("--workers", type=int, default=6, help="tests that wait for other programs at the same time")
    parser.add_argument("--check", action="store_true", help="only what needs no other programs")
    options = parser.parse_args()
    if not options.check:
        compile_all()
    with contextlib.suppress(KeyboardInterrupt), made.common_folder():
        names = list(run(*(checked_parts() if options.check else parts(options.workers))))
        if names:
            print(f"tests failed: {', '.join(names)}", file=sys.stderr)
        return bool(names)
    return 130


if __name__ == "__main__":
    sys.exit(main())
