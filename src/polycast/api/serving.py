"""A whole program in one line: a server that runs until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Final

from polycast.api.hooks import Authenticate, OnRead, OnStream
from polycast.api.server import Server
from polycast.errors import ConfigurationError
from polycast.protocols.registry import protocols

SERVED: Final = {"rtmp": True, "hls": True}
"""What the configuration has besides the defaults of `Server`, unless it says otherwise."""


def serve(
    configuration: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    authenticate: Authenticate | None = None,
    on_ready: OnStream | None = None,
    on_read: OnRead | None = None,
    on_close: OnStream | None = None,
) -> None:
    """Run a server until Ctrl-C, and print its addresses: a whole program is ``polycast.serve()``.

    The parameters are those of `Server`. Without a configuration, or with a mapping that does not disable them, RTMP
    and HLS are available in addition to RTSP. Raises ConfigurationError and StartError.
    """
    if not isinstance(configuration, str | os.PathLike):
        configuration = {**SERVED, **(configuration or {})}
    server = Server(configuration, authenticate=authenticate, on_ready=on_ready, on_read=on_read, on_close=on_close)
    with contextlib.suppress(KeyboardInterrupt), server:
        for protocol in protocols():
            with contextlib.suppress(ConfigurationError):
                print(
                    f"{protocol.name}: {server.url('mystream', host='localhost', protocol=protocol.name)}", flush=True
                )
        server.wait()
