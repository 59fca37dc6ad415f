"""PyAV, imported when it is first needed."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from polycast.errors import MissingDependency, missing_packages


def import_av(purpose: str = "encoding and decoding") -> Any:
    """Return the module ``av``. Raises MissingDependency, whose text says what it is needed for."""
    if "av" not in sys.modules:
        for package in ("numpy", "av"):
            load_libraries(package)
    try:
        import av
        import av.video.reformatter
        import numpy as np  # noqa: F401  (arrays are what it is for)
    except ImportError as error:
        raise MissingDependency(f"{missing_packages(purpose, 'av', 'numpy')} ({error})") from error
    return av


def load_libraries(package: str) -> None:
    """Load the shared libraries that a package for Linux brings along, so that its import finds them loaded.

    An import would hold the interpreter's lock meanwhile, and with it the event loop, which runs in another thread. A
    call of a C function through ctypes does not; ``ctypes.CDLL(name)`` would. What cannot be loaded is left to the
    import, which says why.
    """
    found = find_spec(package)
    if found is None or found.origin is None:
        return
    folder = Path(found.origin).parent
    libraries = sorted(folder.with_name(f"{package}.libs").glob("*.so*"))
    if not libraries:
        return
    load = ctypes.CDLL(None).dlopen
    load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    for library in (*libraries, *sorted(folder.rglob("*.so"))):
        if "_tests." not in library.name:
            load(os.fsencode(library), os.RTLD_NOW)


def missing_for(key: str) -> str:
    """Return what a key of the configuration needs and is not installed, as a text for the user; empty for nothing.

    What is installed is imported, so that this does not happen when the first reader comes.
    """
    try:
        import_av(key)
    except MissingDependency as error:
        return str(error)
    return ""
