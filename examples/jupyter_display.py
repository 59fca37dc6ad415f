# %% [markdown]
# # A live picture in a notebook
#
# Jupyter, and editors that support `# %%`, open this file as a notebook. A `VideoFrame` as the last value of a cell is
# shown as a picture.

# %%
from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import IPython.display
import numpy as np
from numpy.typing import NDArray

import polycast

Image = NDArray[np.uint8]

BALL = (0, 200, 255)
"""Colour of the ball before the synthetic camera: blue, green, red."""

notebook: Any = IPython.display  # it has no type information

# %% [markdown]
# `show` displays a stream in place for some seconds. A slow notebook skips pictures.


# %%
def show(frames: polycast.Reader[polycast.VideoFrame], seconds: float, width: int = 640) -> int:
    """Display pictures in the output of the cell; return how many."""
    handle: Any = None
    end = time.monotonic() + seconds
    count = 0
    for frame in frames:
        picture = notebook.Image(data=frame.jpeg(), format="jpeg", width=width)
        if handle is None:
            handle = notebook.display(picture, display_id=True)
        else:
            handle.update(picture)
        count += 1
        if time.monotonic() > end:
            break
    return count


# %% [markdown]
# A synthetic camera, for machines without a real one.

# %%


def draw(index: int) -> Image:
    """Return a picture of a synthetic camera: a ball that moves over a gradient."""
    y, x = np.ogrid[:480, :640]
    picture = np.empty((480, 640, 3), np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = x // 6 + 20, y // 5 + 20, (x + y) // 11 + 20
    picture[(x - 60 - index * 6 % 520) ** 2 + (y - 240) ** 2 < 1600] = BALL
    return picture


@contextlib.contextmanager
def synthetic_stream(server: polycast.Server, name: str) -> Iterator[None]:
    """Publish a synthetic camera until the end of the block, for machines without a real one."""
    stop = threading.Event()

    def run() -> None:
        with server.publish(name, size=(640, 480), pace=True) as video:
            index = 0
            while not stop.is_set():
                video.write(draw(index))
                index += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# %% [markdown]
# Put the address of your camera here, such as `rtsp://camera/stream`.

# %%
URL = ""
SECONDS = 2.0

with contextlib.ExitStack() as stack:
    if URL:
        frames = polycast.read(URL, timeout=10)
    else:
        server = stack.enter_context(polycast.Server({"rtspAddress": "127.0.0.1:0"}))
        stack.enter_context(synthetic_stream(server, "camera"))
        frames = server.read("camera", timeout=10)
    shown = show(frames, SECONDS)
print(shown, "pictures")
