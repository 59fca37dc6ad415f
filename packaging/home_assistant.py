"""Writes dist/home-assistant/polycast, an add-on for Home Assistant: ``make home-assistant``.

Copy the folder to /addons of Home Assistant, then *Settings - Add-ons - Add-on store - Check for updates*: it appears
under *Local add-ons*. The folder has the wheel of Polycast, which Home Assistant builds the image from.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    folder = ROOT / "dist/home-assistant/polycast"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "packaging/home-assistant", folder)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT], check=True
    )
    found = re.search(r'__version__ = "(.*)"', (ROOT / "src/polycast/_version.py").read_text())
    assert found is not None
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("@VERSION@", found[1]))
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
