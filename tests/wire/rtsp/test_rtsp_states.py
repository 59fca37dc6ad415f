"""The state machine of a session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.message import Method
from polycast.wire.rtsp.states import TRANSITIONS, State, next_state


@given(st.sampled_from(State), st.sampled_from(Method) | st.text(max_size=10))
def test_every_pair_has_an_answer(state: State, method: str) -> None:
    expected = {(key[0], key[1].value): value for key, value in TRANSITIONS.items()}.get((state, str(method)))
    if expected is None:
        with pytest.raises(RemoteProtocolError) as raised:
            next_state(state, method)
        assert raised.value.status == 455
    else:
        assert next_state(state, method) is expected


@given(st.lists(st.sampled_from(Method), max_size=30))
def test_media_flows_only_after_its_set_up(methods: list[Method]) -> None:
    state = State.INIT
    accepted: list[Method] = []
    for method in methods:
        try:
            state = next_state(state, method)
        except RemoteProtocolError:
            continue
        accepted = [] if method is Method.TEARDOWN else [*accepted, method]
    if state is State.PLAYING:
        assert Method.SETUP in accepted
        assert Method.ANNOUNCE not in accepted
    if state is State.RECORDING:
        assert Method.ANNOUNCE in accepted


@pytest.mark.parametrize(
    ("methods", "end"),
    [
        ("OPTIONS DESCRIBE SETUP SETUP PLAY GET_PARAMETER TEARDOWN", State.INIT),
        ("SETUP PLAY PLAY", State.PLAYING),
        ("SETUP PLAY PAUSE PAUSE", State.READY),
        ("SETUP PLAY PAUSE PLAY", State.PLAYING),
        ("OPTIONS ANNOUNCE SETUP SETUP RECORD", State.RECORDING),
        ("ANNOUNCE SETUP RECORD PAUSE", State.PRE_RECORD),
        ("ANNOUNCE SETUP RECORD PAUSE RECORD TEARDOWN", State.INIT),
    ],
)
def test_what_clients_do(methods: str, end: State) -> None:
    state = State.INIT
    for method in methods.split():
        state = next_state(state, method)
    assert state is end


@pytest.mark.parametrize(
    ("state", "method"),
    [
        (State.INIT, "PLAY"),
        (State.INIT, "RECORD"),
        (State.INIT, "PAUSE"),
        (State.READY, "RECORD"),
        (State.READY, "ANNOUNCE"),
        (State.PLAYING, "SETUP"),
        (State.PLAYING, "ANNOUNCE"),
        (State.PRE_RECORD, "PLAY"),
        (State.PRE_RECORD, "ANNOUNCE"),
        (State.RECORDING, "PLAY"),
        (State.RECORDING, "SETUP"),
        (State.READY, "DANCE"),
    ],
)
def test_refused_values(state: State, method: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"{method} is not valid in state {state.value}"):
        next_state(state, method)
