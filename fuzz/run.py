"""Fuzz the parsers and engines: feed mutated input to every ``fuzz_*.py`` in this folder.

A target is a module with

* ``fuzz_one(data: bytes) -> None``, which raises when ``data`` shows a defect;
* ``SEEDS: list[bytes]``, good inputs to start from;
* optionally ``DICTIONARY: list[bytes]``, tokens of the format.

Further inputs are in ``corpus/<target>/``: those that ``--grow`` kept because they reached new lines, and
``crash-<hash>``, inputs that once caused a failure. All of them run in the test suite.

    python fuzz/run.py                        every target, 10 seconds each
    python fuzz/run.py --seconds 60 sdp       one target, one minute
    python fuzz/run.py sdp --replay FILE      one input, with the traceback
    python fuzz/run.py --grow --seconds 20    keep inputs that reach new lines
    python fuzz/run.py --atheris sdp          coverage-guided with Atheris, where that is installed

The same seed gives the same inputs in the same order.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

FOLDER = Path(__file__).resolve().parent
CORPUS = FOLDER / "corpus"
SOURCES = FOLDER.parent / "src"

MAXIMUM_INPUT_SIZE = 64 * 1024
"""Bytes. Enough to pass every limit that a parser sets on a single field."""
MAXIMUM_INPUT_SECONDS = 5.0
"""An input that takes longer than this is a defect too: it would hold up every other session."""
MAXIMUM_GROWN_SIZE = 4096
MAXIMUM_GROWN_FILES = 100
"""Per target, so that the committed corpus stays small."""
MAXIMUM_MUTATIONS = 6
"""Mutations on one input; most inputs get one or two."""

INTERESTING_INTEGERS = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 254, 255, 256, 1023, 1024, 1472, 4095,
                        4096, 32767, 32768, 65534, 65535, 65536, 0xFFFFFF, 0x1000000, 0x7FFFFFFF, 0x80000000,
                        0xFFFFFFFE, 0xFFFFFFFF)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """One fuzz target and the inputs that are known for it."""

    name: str
    fuzz_one: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    dictionary: tuple[bytes, ...]

    @property
    def corpus(self) -> Path:
        """The folder with this target's further inputs; it need not exist."""
        return CORPUS / self.name

    def corpus_files(self) -> list[Path]:
        """Return the further inputs in a fixed order."""
        return sorted(self.corpus.iterdir()) if self.corpus.is_dir() else []

    def inputs(self) -> list[bytes]:
        """Return seeds and corpus: what mutations start from."""
        return [*self.seeds, *(path.read_bytes() for path in self.corpus_files())]


def discover() -> list[Target]:
    """Load every ``fuzz_*.py`` of this folder."""
    for folder in (FOLDER.parent, SOURCES):  # seeds may be the cases of a test
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    return [load(path) for path in sorted(FOLDER.glob("fuzz_*.py"))]


def load(path: Path) -> Target:
    """Load one target from its file."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return Target(
        path.stem.removeprefix("fuzz_"),
        module.fuzz_one,
        tuple(module.SEEDS),
        tuple(getattr(module, "DICTIONARY", ())),
    )


class Mutator:
    """Makes new inputs of known ones. ``random`` decides everything."""

    def __init__(self, random: Random, inputs: Sequence[bytes], dictionary: Sequence[bytes] = ()) -> None:
        self.random = random
        self.inputs = list(inputs) or [b""]
        self.dictionary = list(dictionary)
        self.steps = [
            self.flip_bit,
            self.set_byte,
            self.overwrite_integer,
            self.insert_integer,
            self.add_to_integer,
            self.delete_range,
            self.duplicate_range,
            self.insert_bytes,
            self.truncate,
            self.splice,
            self.repeat_many_times,
        ]
        if self.dictionary:
            self.steps.append(self.insert_word)

    def next(self) -> bytes:
        """Return the next input."""
        data = bytearray(self.random.choice(self.inputs))
        for _ in range(min(MAXIMUM_MUTATIONS, 1 + int(self.random.expovariate(1.0)))):
            self.random.choice(self.steps)(data)
        return bytes(data[:MAXIMUM_INPUT_SIZE])

    def place(self, data: bytearray) -> int:
        """Return an offset, more often near the start, where the headers are."""
        size = len(data)
        return self.random.randrange(min(size, 32) if self.random.random() < 0.4 else size) if size else 0

    def span(self, data: bytearray) -> tuple[int, int]:
        start = self.place(data)
        return start, min(len(data), start + 1 + int(self.random.expovariate(0.1)))

    def integer(self) -> bytes:
        width = self.random.choice((1, 2, 3, 4, 8))
        value = self.random.choice(INTERESTING_INTEGERS) & ((1 << 8 * width) - 1)
        return value.to_bytes(width, self.random.choice(("big", "big", "little")))

    def flip_bit(self, data: bytearray) -> None:
        if data:
            data[self.place(data)] ^= 1 << self.random.randrange(8)

    def set_byte(self, data: bytearray) -> None:
        if data:
            data[self.place(data)] = self.random.randrange(256)

    def overwrite_integer(self, data: bytearray) -> None:
        value = self.integer()
        start = self.place(data)
        data[start : start + len(value)] = value

    def insert_integer(self, data: bytearray) -> None:
        start = self.place(data)
        data[start:start] = self.integer()

    def add_to_integer(self, data: bytearray) -> None:
        """Change what may be a length field, in binary or in decimal digits, by a little."""
        start = self.place(data)
        digits = next((at for at in range(start, min(len(data), start + 200)) if 48 <= data[at] <= 57), None)
        change = self.random.randint(-4, 4)
        if digits is not None and self.random.random() < 0.5:
            end = digits
            while end < len(data) and 48 <= data[end] <= 57 and end - digits < 20:
                end += 1
            value = int(data[digits:end])
            data[digits:end] = b"%d" % self.random.choice((value + change, value * 1000, -value, 1 << 31, 1 << 64))
            return
        width = self.random.choice((1, 2, 3, 4))
        value = int.from_bytes(data[start : start + width], "big") + change
        data[start : start + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "big")

    def delete_range(self, data: bytearray) -> None:
        start, end = self.span(data)
        del data[start:end]

    def duplicate_range(self, data: bytearray) -> None:
        start, end = self.span(data)
        data[end:end] = data[start:end]

    def insert_bytes(self, data: bytearray) -> None:
        start = self.place(data)
        data[start:start] = self.random.randbytes(self.random.choice((1, 2, 4, 16, 64)))

    def truncate(self, data: bytearray) -> None:
        del data[self.place(data) :]

    def splice(self, data: bytearray) -> None:
        """Go on with the rest of another input."""
        other = self.random.choice(self.inputs)
        data[self.place(data) :] = other[self.random.randrange(len(other) + 1) :]

    def repeat_many_times(self, data: bytearray) -> None:
        """Make a field, a line or a list far longer than anybody expects."""
        start, end = self.span(data)
        if end > start:
            data[end:end] = bytes(data[start:end]) * self.random.choice((10, 100, 1000))

    def insert_word(self, data: bytearray) -> None:
        start = self.place(data)
        data[start:start] = self.random.choice(self.dictionary)


class TooSlowError(Exception):
    """One input took more than `MAXIMUM_INPUT_SECONDS` of processor time."""


@contextmanager
def time_limit() -> Iterator[None]:
    """Raise `TooSlowError` inside the block when it takes too long, where the platform has interval timers."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"took more than {MAXIMUM_INPUT_SECONDS} seconds of processor time")

    before = signal.signal(signal.SIGPROF, expire)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def run_one(target: Target, data: bytes) -> BaseException | None:
    """Run one input inside `time_limit`; return what it raised. Recursion and memory errors count as defects."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, MAXIMUM_INPUT_SECONDS)
    try:
        target.fuzz_one(data)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return error
    return None


def signature(error: BaseException) -> str:
    """Return what tells one defect from another: the kind of error and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {where}"


def keep(target: Target, data: bytes, prefix: str = "") -> Path:
    """Write an input into the target's corpus and return its file."""
    target.corpus.mkdir(parents=True, exist_ok=True)
    path = target.corpus / f"{prefix}{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return path


def fuzz(target: Target, *, seconds: float, seed: int, iterations: int | None = None) -> tuple[int, dict[str, bytes]]:
    """Run the known inputs, then mutations of them, for ``seconds`` or ``iterations`` inputs, whichever ends first.

    Returns the number of inputs and, by `signature`, the first input that showed each defect.
    """
    inputs = target.inputs()
    mutator = Mutator(Random(f"{seed}:{target.name}"), inputs, target.dictionary)
    defects: dict[str, bytes] = {}
    deadline = time.monotonic() + seconds
    count = 0
    with time_limit():
        while count < len(inputs) or (time.monotonic() < deadline and (iterations is None or count < iterations)):
            data = inputs[count] if count < len(inputs) else mutator.next()
            count += 1
            error = run_one(target, data)
            if error is not None:
                defects.setdefault(signature(error), data)
    return count, defects


def grow(target: Target, *, seconds: float, seed: int) -> int:
    """Keep mutated inputs that reach lines of the package which no known input reaches; return how many."""
    reached: set[tuple[str, int]] = set()
    package = str(SOURCES)

    def trace_line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return trace_line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        return trace_line if frame.f_code.co_filename.startswith(package) else None

    inputs = target.inputs()
    mutator = Mutator(Random(f"{seed}:grow:{target.name}"), inputs, target.dictionary)
    room = MAXIMUM_GROWN_FILES - len(target.corpus_files())
    kept = 0
    deadline = time.monotonic() + seconds
    with time_limit():
        for data in inputs:
            sys.settrace(trace)
            run_one(target, data)
            sys.settrace(None)
        while kept < room and time.monotonic() < deadline:
            data = mutator.next()[:MAXIMUM_GROWN_SIZE]
            before = len(reached)
            sys.settrace(trace)
            error = run_one(target, data)
            sys.settrace(None)
            if error is None and len(reached) > before:
                keep(target, data)
                mutator.inputs.append(data)
                kept += 1
    return kept


def run_atheris(target: Target, seconds: float) -> None:
    """Hand the target over to Atheris, which does not come back."""
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit("Atheris is not installed: pip install atheris")
    atheris.instrument_all()
    for seed in target.seeds:
        keep(target, seed)
    atheris.Setup([sys.argv[0], f"-max_total_time={int(seconds)}", str(target.corpus)], target.fuzz_one)
    atheris.Fuzz()


def report(target: Target, data: bytes) -> None:
    """Keep the input of a new defect and print its traceback and how to see it again."""
    path = keep(target, data, "crash-")
    with time_limit():
        error = run_one(target, data)
    if error is not None:
        traceback.print_exception(error)
    print(f"to replay: python fuzz/run.py {target.name} --replay {path.relative_to(FOLDER.parent)}", flush=True)


def main() -> int:
    """Run the command line; return the exit status: 1 when a defect was found."""
    description, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("targets", nargs="*", help="names of targets; all of them by default")
    parser.add_argument("--seconds", type=float, default=10.0, help="time per target (default 10)")
    parser.add_argument("--iterations", type=int, help="inputs per target, to stop earlier than the time")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other inputs (default 0)")
    parser.add_argument("--replay", type=Path, help="run this one input and nothing else")
    parser.add_argument("--grow", action="store_true", help="add inputs that reach new lines to the corpus")
    parser.add_argument("--atheris", action="store_true", help="fuzz one target with Atheris")
    options = parser.parse_args()
    targets = [target for target in discover() if not options.targets or target.name in options.targets]
    missing = set(options.targets) - {target.name for target in targets}
    if missing or not targets:
        parser.error(f"no such target: {', '.join(sorted(missing)) or '(there are none)'}")
    if (options.replay or options.atheris) and len(targets) != 1:
        parser.error("name one target")
    if options.replay:
        targets[0].fuzz_one(options.replay.read_bytes())
        print("no defect")
        return 0
    if options.atheris:
        run_atheris(targets[0], options.seconds)
    found = 0
    for target in targets:
        if options.grow:
            print(f"{target.name}: {grow(target, seconds=options.seconds, seed=options.seed)} inputs kept", flush=True)
            continue
        count, defects = fuzz(target, seconds=options.seconds, seed=options.seed, iterations=options.iterations)
        print(f"{target.name}: {count} inputs, {len(defects)} defects", flush=True)
        for data in defects.values():
            report(target, data)
        found += len(defects)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
