"""The state machine of an RTSP session (RFC 2326 appendix A.2), as a table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.message import Method


class State(StrEnum):
    """The state of a session."""

    INIT = "init"
    """No track is set up and none announced."""
    READY = "ready"
    """Set up for reading; nothing flows."""
    PLAYING = "playing"
    PRE_RECORD = "pre-record"
    """Announced, perhaps set up for publishing; nothing flows."""
    RECORDING = "recording"


# Methods that are answered in every state and change none.
_NEUTRAL: Final = (Method.OPTIONS, Method.DESCRIBE, Method.GET_PARAMETER, Method.SET_PARAMETER)

# Rule: the state changes only through this table. A missing pair is answered with 455 (RFC 2326 section 11.3.6).
TRANSITIONS: Final[Mapping[tuple[State, Method], State]] = {
    **{(state, method): state for state in State for method in _NEUTRAL},
    **{(state, Method.TEARDOWN): State.INIT for state in State},
    (State.INIT, Method.SETUP): State.READY,
    (State.INIT, Method.ANNOUNCE): State.PRE_RECORD,
    (State.READY, Method.SETUP): State.READY,
    (State.READY, Method.PLAY): State.PLAYING,
    (State.READY, Method.PAUSE): State.READY,
    (State.PLAYING, Method.PLAY): State.PLAYING,
    (State.PLAYING, Method.PAUSE): State.READY,
    (State.PRE_RECORD, Method.SETUP): State.PRE_RECORD,
    (State.PRE_RECORD, Method.RECORD): State.RECORDING,
    (State.PRE_RECORD, Method.PAUSE): State.PRE_RECORD,
    (State.RECORDING, Method.PAUSE): State.PRE_RECORD,
}

_BY_TEXT: Final = {(state, method.value): following for (state, method), following in TRANSITIONS.items()}


def next_state(state: State, method: str) -> State:
    """Return the state after a successful request. Raises RemoteProtocolError (455) if it is not valid in this
    state."""
    following = _BY_TEXT.get((state, method))
    if following is None:
        raise RemoteProtocolError(f"{method} is not valid in state {state.value}", 455)
    return following
