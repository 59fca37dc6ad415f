"""Run in a network of its own: pulls from an origin in another network, and pulls the cable between the two.

``python cable_check.py FAR INTERFACE ADDRESS``: the name of the other network, its end of the cable, its IP address.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.chaos.support import Readers, all_ready, none_ready, origin, pulling, readers, source_paths


async def main(far: str, interface: str, address: str) -> None:
    def cable(state: str) -> None:
        subprocess.run(["ip", "-n", far, "link", "set", interface, state], check=True)

    with origin(address, ["nsenter", f"--net=/run/netns/{far}"], listens_on="") as source:
        async with pulling(source.sources()) as app, readers(app) as present:
            await all_ready(app)
            await present.join()
            cable("down")
            await none_ready(app)
            await present.have_ended()
            for name in source_paths(app):  # silence, and then nobody who answers
                await app.log.wait(rf"\[path {name}\] .* failed: no ")
            await app.log.wait("failed: (.* did not answer within 1 s|No route to host)")
            cable("up")
            await all_ready(app)
            await Readers(app, present.http).join()
    print("passed")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
