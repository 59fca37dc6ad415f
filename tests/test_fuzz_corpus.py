"""Every fuzz target with its seeds, its corpus and a moment of mutations (``make fuzz`` has more), and the fuzzer."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from fuzz import run

TARGETS = run.discover()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_target(target: run.Target) -> None:
    assert target.seeds, "a target needs seeds"
    _, defects = run.fuzz(target, seconds=0.2, seed=1)
    assert not defects, f"python fuzz/run.py --seed 1 {target.name}: {', '.join(defects)}"


def test_every_corpus_folder_has_its_target() -> None:
    folders = {path.name for path in run.CORPUS.iterdir() if path.is_dir()} if run.CORPUS.is_dir() else set()
    assert folders <= {target.name for target in TARGETS}


def broken(data: bytes) -> None:
    """A parser that trusts a length field."""
    if data[:1] == b"L":
        _ = data[2 : 2 + data[1]][data[1] - 1]


@pytest.fixture
def broken_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> run.Target:
    monkeypatch.setattr(run, "CORPUS", tmp_path)
    return run.Target("broken", broken, (b"L\x04abcd",), ())


def test_a_defect_is_found_and_the_same_again(broken_target: run.Target) -> None:
    first = run.fuzz(broken_target, seconds=60, seed=7, iterations=500)
    assert first == run.fuzz(broken_target, seconds=60, seed=7, iterations=500)
    count, defects = first
    assert count == 500
    assert any(name.startswith("IndexError at test_fuzz_corpus.py") for name in defects)


def test_a_crash_is_kept_and_runs_ever_after(broken_target: run.Target) -> None:
    path = run.keep(broken_target, b"L\xffab", "crash-")
    assert path.parent == broken_target.corpus
    assert b"L\xffab" in broken_target.inputs()
    count, defects = run.fuzz(broken_target, seconds=0, seed=0)
    assert count == 2
    assert list(defects.values()) == [b"L\xffab"]


def test_an_endless_input_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(data: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr(run, "MAXIMUM_INPUT_SECONDS", 0.05)
    _, defects = run.fuzz(run.Target("endless", endless, (b"x",), ()), seconds=0, seed=0)
    assert [name.split(" ")[0] for name in defects] == ["TooSlowError"]


def test_mutations_stay_within_the_size() -> None:
    mutator = run.Mutator(Random(3), [b"GET / HTTP/1.1\r\nContent-Length: 10\r\n\r\n", b""], [b"\r\n"])
    inputs = [mutator.next() for _ in range(2000)]
    assert max(map(len, inputs)) <= run.MAXIMUM_INPUT_SIZE
    assert len(set(inputs)) > 1000
