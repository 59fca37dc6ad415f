"""What all tests share."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Tests import helpers that lie beside them (``tests.interop.tools``); ``fuzz`` and ``bench`` are not installed either.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
