"""The states of an RTMP session, as tables: ``(state, input) -> state``.

A missing pair means that the input is not allowed in that state; `advance` raises then.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from polycast.errors import RemoteProtocolError


class State(Enum):
    """States of both sides."""

    HANDSHAKE = "handshake"
    CONNECT = "connect"
    """The handshake is done, ``connect`` is not."""
    CONNECTED = "connected"
    """Neither publishing nor playing."""
    CREATE_STREAM = "create stream"
    """Client: ``createStream`` was sent."""
    PUBLISH_REQUESTED = "publish requested"
    PUBLISHING = "publishing"
    PLAY_REQUESTED = "play requested"
    PLAYING = "playing"
    CLOSED = "closed"


class Input(Enum):
    """Inputs that change the state."""

    HANDSHAKE_DONE = "the end of the handshake"
    CONNECT = "connect"
    CREATE_STREAM = "createStream"
    PUBLISH = "publish"
    PLAY = "play"
    ACCEPTED = "an acceptance"
    REFUSED = "a refusal"
    STREAM_CLOSED = "deleteStream"
    FAILED = "a failure"


SERVER: Final[dict[tuple[State, Input], State]] = {
    (State.HANDSHAKE, Input.HANDSHAKE_DONE): State.CONNECT,
    (State.CONNECT, Input.CONNECT): State.CONNECTED,
    (State.CONNECT, Input.REFUSED): State.CLOSED,
    (State.CONNECTED, Input.CREATE_STREAM): State.CONNECTED,
    (State.PUBLISH_REQUESTED, Input.CREATE_STREAM): State.PUBLISH_REQUESTED,
    (State.PUBLISHING, Input.CREATE_STREAM): State.PUBLISHING,
    (State.PLAY_REQUESTED, Input.CREATE_STREAM): State.PLAY_REQUESTED,
    (State.PLAYING, Input.CREATE_STREAM): State.PLAYING,
    (State.CONNECTED, Input.PUBLISH): State.PUBLISH_REQUESTED,
    (State.CONNECTED, Input.PLAY): State.PLAY_REQUESTED,
    (State.PUBLISH_REQUESTED, Input.ACCEPTED): State.PUBLISHING,
    (State.PLAY_REQUESTED, Input.ACCEPTED): State.PLAYING,
    (State.PUBLISH_REQUESTED, Input.REFUSED): State.CONNECTED,
    (State.PLAY_REQUESTED, Input.REFUSED): State.CONNECTED,
    (State.CONNECTED, Input.STREAM_CLOSED): State.CONNECTED,
    (State.PUBLISH_REQUESTED, Input.STREAM_CLOSED): State.CONNECTED,
    (State.PUBLISHING, Input.STREAM_CLOSED): State.CONNECTED,
    (State.PLAY_REQUESTED, Input.STREAM_CLOSED): State.CONNECTED,
    (State.PLAYING, Input.STREAM_CLOSED): State.CONNECTED,
} | {(state, Input.FAILED): State.CLOSED for state in State}

CLIENT: Final[dict[tuple[State, Input], State]] = {
    (State.HANDSHAKE, Input.HANDSHAKE_DONE): State.CONNECT,
    (State.CONNECT, Input.CONNECT): State.CONNECTED,
    (State.CONNECTED, Input.CREATE_STREAM): State.CREATE_STREAM,
    (State.CREATE_STREAM, Input.PUBLISH): State.PUBLISH_REQUESTED,
    (State.CREATE_STREAM, Input.PLAY): State.PLAY_REQUESTED,
    (State.PUBLISH_REQUESTED, Input.ACCEPTED): State.PUBLISHING,
    (State.PLAY_REQUESTED, Input.ACCEPTED): State.PLAYING,
    (State.PLAYING, Input.ACCEPTED): State.PLAYING,
    (State.PUBLISHING, Input.ACCEPTED): State.PUBLISHING,
    (State.PUBLISHING, Input.STREAM_CLOSED): State.CLOSED,
    (State.PLAYING, Input.STREAM_CLOSED): State.CLOSED,
    (State.PLAY_REQUESTED, Input.STREAM_CLOSED): State.CLOSED,
    (State.PUBLISH_REQUESTED, Input.STREAM_CLOSED): State.CLOSED,
} | {(state, wrong): State.CLOSED for state in State for wrong in (Input.REFUSED, Input.FAILED)}


def advance(table: dict[tuple[State, Input], State], state: State, trigger: Input) -> State:
    """Return the state after ``trigger``. Raises `RemoteProtocolError` if it is not allowed in ``state``."""
    following = table.get((state, trigger))
    if following is None:
        raise RemoteProtocolError(f"{trigger.value} is not allowed in state '{state.value}'")
    return following
