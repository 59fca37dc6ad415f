"""Which tests start programs: found by reading what they call, so that nobody has to mark them."""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent.parent

FOLDERS = frozenset({"chaos", "interop", "packaging", "soak", "web"})
"""Folders of ``tests`` where every test counts as one that starts programs."""
STARTERS = frozenset({"create_subprocess_exec", "create_subprocess_shell", "subprocess"})
"""Names that a function mentions when it starts a program."""
EVENTS = frozenset({"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork"})
"""Audit events of Python that tell of the start of a program. (uvloop starts programs without any.)"""


def mark(items: list[pytest.Item]) -> None:
    """Give the marker ``programs`` to the tests that start programs."""
    known: dict[Any, bool] = {}
    for item in items:
        if isinstance(item, pytest.Function) and starts_programs(item, known):
            item.add_marker("programs")


def starts_programs(item: pytest.Function, known: dict[Any, bool]) -> bool:
    """Return whether a test lies in one of `FOLDERS`, or calls something that names one of `STARTERS`.

    Its fixtures count, too. ``known`` keeps the answers for functions from one item to the next.
    """
    if item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).parts[0] in FOLDERS:
        return True
    fixtures = [each.func for given in item._fixtureinfo.name2fixturedefs.values() for each in given]
    return any(reaches_starter(function, known) for function in (item.function, *fixtures))


def reaches_starter(function: Any, known: dict[Any, bool]) -> bool:
    """Return whether a function in ``tests``, or one there that it uses, names one of `STARTERS`."""
    function = innermost(function)
    if not isinstance(function, FunctionType) or not Path(function.__code__.co_filename).is_relative_to(TESTS):
        return False
    if function not in known:
        known[function] = False  # for functions that call one another
        names = list(names_in(function.__code__))
        known[function] = any(not STARTERS.isdisjoint(name) for name in names) or any(
            reaches_starter(each, known) for each in values_of(names, function.__globals__)
        )
    return known[function]


def values_of(names: list[tuple[str, ...]], namespace: dict[str, Any]) -> Iterator[Any]:
    """Yield what names stand for in a module: a function, one of a module, the methods of a class."""
    for first, *rest in names:
        value = namespace.get(first)
        if isinstance(value, ModuleType) and rest:
            value = getattr(value, rest[0], None)
        if isinstance(value, type):
            yield from vars(value).values()
        else:
            yield value


def innermost(function: Any) -> Any:
    """Return the function inside a decorated one, a method or a property."""
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    for name in ("fget", "func", "__func__"):
        function = getattr(function, name, None) or function
    return inspect.unwrap(function) if callable(function) else function


def names_in(code: CodeType) -> Iterator[tuple[str, ...]]:
    """Yield the globals that a function uses, each with the attribute taken of it, functions inside it included."""
    name = ""
    for instruction in dis.get_instructions(code):
        if name and instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            yield name, instruction.argval
        elif name:
            yield (name,)
        name = instruction.argval if instruction.opname == "LOAD_GLOBAL" else ""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


class Guard:
    """Fails a test that starts a program in a run of those that are said not to (``-m "not programs"``)."""

    def __init__(self) -> None:
        self.test = ""
        """The test that runs; "" between tests."""

    def install(self) -> None:
        """Listen from now on to what Python does; that cannot be taken back."""
        sys.addaudithook(self.hear)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.test = item.nodeid
        try:
            return (yield)  # type: ignore[return-value]
        finally:
            self.test = ""

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and self.test and not is_search_for_library():
            raise RuntimeError(f"{self.test} starts a program ({event} {arguments[:1]}), and has not the marker for it")


def is_search_for_library() -> bool:
    """Return whether ``ctypes.util.find_library`` is at work, which runs ``ldconfig`` or a compiler."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != "ctypes.util":
        frame = frame.f_back
    return frame is not None
