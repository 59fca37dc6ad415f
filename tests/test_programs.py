"""The marker ``programs`` is given to the tests that start programs, and to no others."""

from __future__ import annotations

import ctypes.util
import functools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.interop import tools
from tests.support import programs
from tests.support.programs import Guard, reaches_starter


def starts() -> None:
    subprocess.run([sys.executable, "--version"], check=True)


class Owner:
    @property
    def version(self) -> None:
        starts()


def through_a_helper() -> None:
    def inner() -> None:
        starts()

    inner()


def through_a_module() -> None:
    tools.run("name", [], tools.ROOT, seconds=1)


def through_a_class() -> None:
    assert Owner().version is None


@functools.cache
def cached() -> None:
    starts()


@given(number=st.integers())
def with_examples(number: int) -> None:
    starts()


def calls_itself() -> None:
    calls_itself()
    harmless()


def harmless() -> None:
    """Names a module that has functions which start programs, and others."""
    assert tools.free_port()
    run = str(start="run")  # type: ignore[call-overload]
    del run


@pytest.mark.parametrize(
    "function", [starts, through_a_helper, through_a_module, through_a_class, cached, with_examples, Owner.version]
)
def test_what_starts_programs_is_found(function: object) -> None:
    assert reaches_starter(function, {})


@pytest.mark.parametrize("function", [harmless, calls_itself, Owner, len, subprocess.run, None])
def test_what_starts_none_is_not_found(function: object) -> None:
    assert not reaches_starter(function, {})


def test_the_marker_is_given(request: pytest.FixtureRequest) -> None:
    items = [item for item in request.session.items if item.path == request.path]
    programs.mark(items)
    marked = {item.name for item in items if "programs" in item.keywords}
    here = {item.name for item in items}
    assert marked == here & {"test_that_starts_one", "test_whose_fixture_starts_one"}


def test_that_starts_one() -> None:
    starts()


@pytest.fixture
def version() -> str:
    return subprocess.run([sys.executable, "--version"], check=True, capture_output=True, text=True).stdout


def test_whose_fixture_starts_one(version: str) -> None:
    assert version.startswith("Python")


@pytest.mark.parametrize("place", sorted(programs.FOLDERS))
def test_the_folders_exist(place: str) -> None:
    assert (programs.TESTS / place).is_dir()


def test_the_guard_refuses_programs_within_tests() -> None:
    guard = Guard()
    guard.hear("subprocess.Popen", ())
    guard.test = "this test"
    guard.hear("open", ())
    with pytest.raises(RuntimeError, match="this test starts a program"):
        guard.hear("subprocess.Popen", ())


def test_the_guard_lets_libraries_be_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard()
    guard.test = "this test"
    heard = []

    def run(*_: object, **__: object) -> None:
        guard.hear("subprocess.Popen", ())
        heard.append(True)
        raise OSError

    monkeypatch.setattr("subprocess.Popen", run)
    ctypes.util.find_library("c")
    assert heard or sys.platform != "linux"
