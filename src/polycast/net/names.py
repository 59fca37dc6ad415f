"""Names of hosts, as the system looks them up."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def looking_up() -> Iterator[None]:
    """Around ``getaddrinfo``: raises socket.gaierror also for what cannot be a name.

    Python encodes names before it asks the system, and raises UnicodeError for empty labels (``a..b``) and for those of
    more than 63 characters.
    """
    try:
        yield
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "not a valid name") from error
