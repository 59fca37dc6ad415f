"""What sessions get from their server, and what their reading and recording halves get from the session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from polycast.hub.hub import Hub
from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.net.outbox import Outbox
from polycast.protocols.rtsp.media_ports import MediaPorts
from polycast.protocols.rtsp.multicast import MulticastGroups
from polycast.protocols.rtsp.readers import MulticastGroup, Owner
from polycast.wire.rtsp.server_session import Endpoint, ServerSession


@dataclass(slots=True)
class SessionContext:
    """What the sessions of one server share."""

    loop: asyncio.AbstractEventLoop
    log: Log
    hub: Hub
    endpoint: Endpoint
    session_type: str
    """In the API: ``rtspSession``."""
    clock: Callable[[], float]
    """Returns monotonic seconds."""
    on_internal_error: Callable[[], None]
    """Logs and counts the exception that is being handled, a bug of ours."""
    ports: MediaPorts | None = None
    """None where UDP is disabled, and before the server has started."""
    groups: MulticastGroups | None = None
    """None where multicast is disabled, and before the server has started."""

    def group_of(self, stream: Stream) -> MulticastGroup | None:
        """Return the multicast group of a stream, if there is one."""
        return self.groups.find(stream) if self.groups is not None else None


class SessionConnection(Protocol):
    """The connection that carries a session, as far as the session needs it."""

    outbox: Outbox

    @property
    def is_behind(self) -> bool:
        """Whether bytes of the client wait for us, so that its silence is not its own."""

    @property
    def skipped(self) -> int:
        """Bytes between interleaved frames that were skipped so far."""

    def close(self, reason: str) -> None:
        """Close once everything queued was sent."""


class MediaOwner(Owner, Protocol):
    """A session, as its reading and recording halves know it."""

    wire: ServerSession
    """What the protocol knows of it."""
    log: Log

    @property
    def transport_name(self) -> str:
        """How media travel, for the log."""
