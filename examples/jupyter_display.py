# %% [markdown]
# # A live picture in a notebook
#
# Jupyter and the editors that know `# %%` open this file as a notebook.

# %%
from __future__ import annotations

import contextlib
import time
from typing import Any

import cv2
import IPython.display
from local_camera import synthetic_stream

import polycast

notebook: Any = IPython.display  # it has no type information

# %% [markdown]
# `show` displays a stream in place, for some seconds. A notebook that is slow skips pictures.


# %%
def show(frames: polycast.Reader[polycast.VideoFrame], seconds: float, width: int = 640) -> int:
    """Display pictures in the output of the cell; return how many."""
    handle: Any = None
    end = time.monotonic() + seconds
    count = 0
    for frame in frames:
        height = frame.height * width // frame.width
        ok, jpeg = cv2.imencode(".jpg", cv2.resize(frame.image, (width, height)))
        picture = notebook.Image(data=jpeg.tobytes(), format="jpeg")
        if handle is None:
            handle = notebook.display(picture, display_id=True)
        else:
            handle.update(picture)
        count += ok
        if time.monotonic() > end:
            break
    return count


# %% [markdown]
# Put the address of your camera here: `polycast.read("rtsp://camera/stream")`. Without one, a synthetic camera plays.

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
