"""PyAV's libraries are loaded before its import, which would hold the event loop meanwhile."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="wheels for Linux bring their libraries along"
)

PROGRAM = """
import sys
from pathlib import Path
from polycast.transcode import pyav
pyav.load_libraries("av")
assert "av" not in sys.modules
before = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
pyav.import_av()
after = {line.split()[-1] for line in open("/proc/self/maps") if "/av" in line and ".so" in line}
print(len([name for name in before if "libavcodec" in name]), sorted(map(lambda name: Path(name).name, after - before)))
"""


def test_the_import_finds_the_libraries_loaded() -> None:
    av = pytest.importorskip("av")
    if "site-packages" not in av.__file__:
        pytest.skip("PyAV of the system")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "1 []"


def test_what_is_not_installed_is_left_to_the_import() -> None:
    from polycast.transcode.pyav import load_libraries

    load_libraries("a_package_that_is_not_there")
