"""What all tests share."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

# Tests import helpers that lie beside them (``tests.interop.tools``); ``fuzz`` and ``bench`` are not installed either.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.support import made, programs, schedule  # noqa: E402

# A shell script that runs something in the background (``make test &``) lets it and its children ignore SIGINT.
# Many tests end a program with SIGINT.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("polycast", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("polycast")


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # until all tests are known: hardly anything of what is made until then is garbage
    stack = contextlib.ExitStack()
    stack.enter_context(made.common_folder())
    config.add_cleanup(stack.close)
    if config.option.markexpr == "not programs":
        guard = programs.Guard()
        guard.install()
        config.pluginmanager.register(guard)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "programs" in config.option.markexpr:  # to read what all tests call takes seconds
        programs.mark(items)
    if hasattr(config, "workerinput"):
        schedule.sort(items)
    gc.freeze()  # the collector need not look at all tests again and again
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return schedule.Scheduler(config, log) if config.getvalue("dist") == "loadscope" else None
