"""What has ended is freed at once: memory must not wait for the collector of reference cycles, which examines old
objects only once in a while, and holds the loop up when it does.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections import Counter
from collections.abc import Iterator

from tests.chaos.support import all_ready, none_ready, origin, pulling, readers

LARGE = re.compile(
    r"polycast\.(hub|codecs|wire\.(hls|http)|protocols\.(rtp_receiver|\w+\.(remuxer|session|connection|re(ad|cord)\w+)))\."
)
"""What holds media, and what there is for each client. The error that ends an attempt to pull, and what that refers to,
may stay for a while."""


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Check that the block leaves no objects of the server that are out of use and still there."""
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        names = (f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage)
        left = Counter(filter(LARGE.match, names))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == {}


async def test_sources_and_readers_that_end() -> None:
    with origin() as source:
        async with pulling(source.sources()) as app, readers(app) as present:
            await all_ready(app)
            await present.join()
            with nothing_left():
                source.kill()
                await none_ready(app)
                await present.have_ended()
