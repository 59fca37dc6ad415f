"""How many processes a configuration asks for, and what several of them cannot do."""

from __future__ import annotations

import os
import sys

from polycast.app.servers import StartError
from polycast.config.schema import Configuration

WHEN_TAKEN = "workers: the new value takes effect when the server is started again"
"""What the log says of a changed setting."""


def worker_count(configuration: Configuration) -> int:
    """Return the number of workers. Raises StartError if this system cannot have several."""
    wanted = configuration.workers
    if wanted != 1 and getattr(sys, "frozen", False):
        raise StartError("several workers need Polycast as a Python package; the executable is a single process")
    if sys.platform == "linux":
        return wanted or len(os.sched_getaffinity(0))
    else:
        if wanted > 1:
            raise StartError("several workers need Linux (set workers: 1, or remove it)")
        return 1


def check_workers(configuration: Configuration) -> None:
    """Raise StartError if something in a configuration needs a single process."""
    if configuration.cluster:
        raise StartError("cluster needs workers: 1; to use all cores, run a node on each of them")
