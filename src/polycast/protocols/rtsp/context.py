"""What sessions get from their server, and what their playing and recording parts get from the session."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from polycast.hub.hub import Hub
from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.net.outbox import Outbox
from polycast.protocols.base import Workers
from polycast.protocols.rtsp.media_ports import MediaPorts
from polycast.protocols.rtsp.multicast import MulticastGroups
from polycast.protocols.rtsp.readers import MulticastGroup, Owner
from polycast.wire.rtsp.server_session import Endpoint, ServerSession

if TYPE_CHECKING:
    from polycast.protocols.rtsp.secure import SecureStreams


@functools.cache
def has_ciphers() -> bool:
    """Whether the optional package for SRTP is installed."""
    return importlib.util.find_spec("cryptography") is not None


@dataclass(slots=True)
class SessionContext:
    """Shared by the sessions of one server."""

    loop: asyncio.AbstractEventLoop
    log: Log
    hub: Hub
    endpoint: Endpoint
    session_type: str
    """In the API: ``rtspSession``."""
    clock: Callable[[], float]
    """Returns monotonic seconds."""
    on_internal_error: Callable[[], None]
    """Logs and counts the current exception as an internal error."""
    ports: MediaPorts | None = None
    """None if UDP is disabled, and before the server has started."""
    groups: MulticastGroups | None = None
    """None if multicast is disabled, and before the server has started."""
    secure: SecureStreams | None = None
    """None if SRTP is not in use."""
    workers: Workers | None = None
    """None unless the process is one of several."""

    def group_of(self, stream: Stream) -> MulticastGroup | None:
        """Return the multicast group of a stream, if there is one."""
        return self.groups.find(stream) if self.groups is not None else None


class SessionConnection(Protocol):
    """The connection that carries a session, as far as the session needs it."""

    outbox: Outbox

    @property
    def is_behind(self) -> bool:
        """Whether received bytes wait for processing, so that the client must not time out."""

    @property
    def skipped(self) -> int:
        """Bytes between interleaved frames that were skipped so far."""

    def close(self, reason: str) -> None:
        """Close after everything queued was sent."""


class MediaOwner(Owner, Protocol):
    """A session, as seen by its playing and recording parts."""

    wire: ServerSession
    """Its state at the protocol level."""
    log: Log

    @property
    def transport_name(self) -> str:
        """The transport protocol, for the log."""
