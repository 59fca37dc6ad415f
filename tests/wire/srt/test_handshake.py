"""Handshakes, with what libsrt sends and with what nobody should send."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable

import pytest
from tests.wire.srt import captured
from tests.wire.srt.simulation import Network, Simulation

from polycast.errors import RemoteProtocolError
from polycast.wire.srt.caller import Caller, CallerOptions
from polycast.wire.srt.conclusion import Terms
from polycast.wire.srt.connection import Connection
from polycast.wire.srt.encryption import SessionKeys
from polycast.wire.srt.handshake import (
    Capabilities,
    ExtensionType,
    Handshake,
    HandshakeType,
    build_text,
    parse_capabilities,
    parse_handshake,
    parse_text,
)
from polycast.wire.srt.key_material import PayloadMode, parse_key_material
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.listener import ConnectionRequest, Listener
from polycast.wire.srt.pacing import UNLIMITED
from polycast.wire.srt.packet import HEADER, ControlType, build_control
from polycast.wire.srt.rejection import RejectedError, Rejection

HOST, PORT, NOW = "192.0.2.1", 5000, 1000.0
TERMS = Terms(bandwidth=UNLIMITED, idle_seconds=5.0)


def listener() -> Listener:
    return Listener(b"0123456789abcdef")


def cookie() -> int:
    answer = listener().receive_data(captured.INDUCTION, HOST, PORT, NOW)
    assert isinstance(answer, bytes)
    return parse_handshake(answer).cookie


def packet(handshake: Handshake) -> bytes:
    return build_control(ControlType.HANDSHAKE, 0, 7, 0, handshake.build())


def conclusion(datagram: bytes = captured.CONCLUSION, **changes: object) -> Handshake:
    """Return a captured conclusion with a valid cookie, and other changes."""
    return dataclasses.replace(parse_handshake(datagram), **{"cookie": cookie(), **changes})  # type: ignore[arg-type]


def requested(handshake: Handshake) -> ConnectionRequest:
    answer = listener().receive_data(packet(handshake), HOST, PORT, NOW)
    assert isinstance(answer, ConnectionRequest)
    return answer


def test_the_first_answer_has_a_cookie_and_is_no_larger_than_the_question() -> None:
    answer = listener().receive_data(captured.INDUCTION, HOST, PORT, NOW)
    assert isinstance(answer, bytes)
    assert len(answer) <= len(captured.INDUCTION)
    handshake = parse_handshake(answer)
    assert (handshake.version, handshake.extension_field, handshake.kind) == (5, 0x4A17, HandshakeType.INDUCTION)
    assert HEADER.unpack_from(answer)[3] == 0x28A4142F


@pytest.mark.parametrize(
    ("datagram", "stream_id"),
    [
        (captured.CONCLUSION, "publish:cam:user:pass"),
        (captured.STANDARD_CONCLUSION, "%23!::r=cam,m=publish,u=me"),
        (captured.ENCRYPTED_CONCLUSIONS[24], "cam"),
    ],
)
def test_conclusions_of_libsrt_are_requests(datagram: bytes, stream_id: str) -> None:
    request = requested(conclusion(datagram))
    assert request.stream_id == stream_id
    assert (request.capabilities.version, request.capabilities.receiver_delay) == (0x010501, 120)
    assert request.handshake.flow_window == 8192


def test_conclusions_are_built_as_they_were_captured() -> None:
    for datagram in (captured.CONCLUSION, captured.STANDARD_CONCLUSION, *captured.ENCRYPTED_CONCLUSIONS.values()):
        assert parse_handshake(datagram).build() == datagram[16:]


def test_the_larger_delay_of_both_sides_counts() -> None:
    wishes = Capabilities(0xBF, 500, 50).build()
    extensions = ((ExtensionType.CAPABILITIES_REQUEST.value, wishes),)
    request = requested(conclusion(extensions=extensions))
    connection = request.accept(77, TERMS, None, NOW)
    assert (connection.parameters.receive_delay, connection.parameters.send_delay) == (0.12, 0.5)
    answer = parse_handshake(request.answer(connection, NOW))
    content = answer.extension(ExtensionType.CAPABILITIES_RESPONSE)
    assert content is not None
    told = parse_capabilities(content)
    assert (told.receiver_delay, told.sender_delay) == (120, 500)
    assert (answer.socket_id, answer.initial_sequence) == (77, 0x5B919E7D)


def test_cookies_expire_and_belong_to_an_address() -> None:
    request = packet(conclusion())
    assert isinstance(listener().receive_data(request, HOST, PORT, NOW + 59), ConnectionRequest)
    assert listener().receive_data(request, HOST, PORT, NOW + 121) is None
    assert listener().receive_data(request, HOST, PORT + 1, NOW) is None
    assert listener().receive_data(request, "192.0.2.2", PORT, NOW) is None
    assert Listener(b"another secret!!").receive_data(request, HOST, PORT, NOW) is None


def extension(kind: ExtensionType, content: bytes) -> tuple[tuple[int, bytes], ...]:
    return (*parse_handshake(captured.CONCLUSION).extensions, (kind.value, content))


def capabilities(**changes: int) -> tuple[tuple[int, bytes], ...]:
    given = dataclasses.replace(Capabilities(0xBF, 120, 120), **changes)
    return ((ExtensionType.CAPABILITIES_REQUEST.value, given.build()),)


GCM = bytearray(parse_handshake(captured.ENCRYPTED_CONCLUSIONS[16]).extension(ExtensionType.KEY_REQUEST) or b"")
GCM[8], GCM[9] = 4, 1  # by 1.5.1, which repeated nonces
OTHER_CIPHER = GCM[:9] + b"\2" + GCM[10:]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 4}, Rejection.VERSION),
        ({"extension_field": 0}, Rejection.ROGUE),
        ({"extension_field": 0x11}, Rejection.ROGUE),
        ({"encryption": 5}, Rejection.ROGUE),
        ({"socket_id": 0}, Rejection.ROGUE),
        ({"extensions": ()}, Rejection.ROGUE),
        ({"extensions": ((ExtensionType.CAPABILITIES_REQUEST.value, bytes(8)),)}, Rejection.ROGUE),
        ({"extensions": extension(ExtensionType.CONGESTION, bytes(516))}, Rejection.ROGUE),
        ({"extensions": capabilities(version=0x010200)}, Rejection.VERSION),
        ({"extensions": capabilities(flags=0x7F)}, Rejection.MESSAGE_API),
        ({"extensions": capabilities(flags=0x1F)}, Rejection.ROGUE),
        ({"extensions": extension(ExtensionType.CONGESTION, build_text(b"file"))}, Rejection.CONGESTION),
        ({"extensions": extension(ExtensionType.FILTER, build_text(b"fec"))}, Rejection.FILTER),
        ({"extensions": extension(ExtensionType.GROUP, bytes(8))}, Rejection.GROUP),
        ({"extensions": extension(ExtensionType.KEY_REQUEST, bytes(GCM))}, Rejection.CRYPTO),
        ({"extensions": extension(ExtensionType.KEY_REQUEST, bytes(OTHER_CIPHER))}, Rejection.CRYPTO),
        ({"extensions": extension(ExtensionType.KEY_REQUEST, bytes(40))}, Rejection.ROGUE),
        ({"extensions": (*capabilities(), (ExtensionType.STREAM_ID.value, b"\xff" * 4))}, Rejection.BAD_REQUEST),
        ({"extensions": (*capabilities(), (ExtensionType.STREAM_ID.value, b"x" * 516))}, Rejection.BAD_REQUEST),
    ],
)
def test_what_is_not_supported_is_refused_with_its_reason(changes: dict[str, object], reason: Rejection) -> None:
    answer = listener().receive_data(packet(conclusion(**changes)), HOST, PORT, NOW)
    assert isinstance(answer, bytes)
    assert parse_handshake(answer).kind == 1000 + reason


def test_live_congestion_control_may_be_named() -> None:
    requested(conclusion(extensions=extension(ExtensionType.CONGESTION, build_text(b"live"))))


@pytest.mark.parametrize("size", [16, 24, 32])
def test_keys_of_libsrt_are_unwrapped_with_the_passphrase(size: int) -> None:
    material = requested(conclusion(captured.ENCRYPTED_CONCLUSIONS[size])).key_material
    assert material is not None
    assert SessionKeys(captured.PASSPHRASE, material).key_size == size
    with pytest.raises(RemoteProtocolError, match="wrong passphrase"):
        SessionKeys("incorrect horse", material)


def test_data_of_libsrt_is_decrypted() -> None:
    material = requested(conclusion(captured.ENCRYPTED_CONCLUSIONS[24])).key_material
    assert material is not None
    keys = ConnectionKeys(SessionKeys(captured.PASSPHRASE, material), secrets.token_bytes)
    payload = keys.decrypt(1, captured.ENCRYPTED_DATA)
    assert payload is not None
    assert payload[:4] == b"\x47\x40\x11\x10"  # a packet of MPEG-TS with the service description
    assert payload[188:189] == b"\x47"
    assert b"FFmpeg" in payload
    assert keys.decrypt(2, captured.ENCRYPTED_DATA) is None


def test_authenticated_data_of_libsrt_is_decrypted() -> None:
    request = requested(conclusion(captured.AUTHENTICATED_CONCLUSION))
    material = request.key_material
    assert material is not None
    assert material.mode is PayloadMode.GCM
    assert parse_handshake(request.answer(request.accept(7, TERMS, None, NOW), NOW)).extension(
        ExtensionType.KEY_RESPONSE
    ) == request.handshake.extension(ExtensionType.KEY_REQUEST)
    keys = ConnectionKeys(SessionKeys(captured.PASSPHRASE, material), secrets.token_bytes)
    data = captured.AUTHENTICATED_DATA
    payload = keys.decrypt(1, data)
    assert payload is not None
    assert (len(payload), payload[:4]) == (188, b"\x47\x40\x11\x10")  # the service description
    assert b"FFmpeg" in payload
    assert keys.decrypt(1, data[:4] + bytes((data[4] | 0x04,)) + data[5:]) == payload, "sent again"
    for position in (0, 11, 15, 16, len(data) - 1):
        assert keys.decrypt(1, data[:position] + bytes((data[position] ^ 1,)) + data[position + 1 :]) is None
    assert keys.decrypt(1, data[:20]) is None
    encrypted = keys.encryption.encrypt(data[:16], memoryview(payload))
    assert encrypted == data[16:]


# The caller


def caller(**options: object) -> Caller:
    return Caller(CallerOptions(**options), 0x1234, 1000, 50.0)  # type: ignore[arg-type]


def test_a_caller_connects_to_a_listener_of_libsrt() -> None:
    calling = caller(stream_id="read:cam", receive_delay=0.3)
    first = calling.data_to_send(50.0)
    assert first is not None
    assert parse_handshake(first).kind == HandshakeType.INDUCTION
    assert calling.data_to_send(50.1) is None
    assert calling.data_to_send(50.25) is not None  # the first one was lost
    assert calling.receive_data(captured.LISTENER_INDUCTION, 50.3) is None
    second = calling.data_to_send(50.3)
    assert second is not None
    handshake = parse_handshake(second)
    assert (handshake.kind, handshake.cookie) == (HandshakeType.CONCLUSION, 0x648563D8)
    content = handshake.extension(ExtensionType.STREAM_ID)
    assert content is not None
    assert parse_text(content) == b"read:cam"
    connection = calling.receive_data(captured.LISTENER_CONCLUSION, 50.4)
    assert isinstance(connection, Connection)
    assert connection.parameters.peer_id == 0x1978303B
    assert (connection.parameters.receive_delay, connection.parameters.send_delay) == (0.3, 0.12)
    assert calling.data_to_send(60) is None


def test_an_acknowledgement_of_libsrt_is_answered() -> None:
    calling = caller()
    calling.receive_data(captured.LISTENER_INDUCTION, 50.0)
    connection = calling.receive_data(captured.LISTENER_CONCLUSION, 50.0)
    assert connection is not None
    connection.receive_data(captured.LISTENER_ACK, 50.1)
    assert connection.arrived.invalid_packets == 1, "of a packet that was never sent"
    assert connection.data_to_send() == []


def keys_of_capture() -> tuple[ConnectionKeys, bytes]:
    keys = SessionKeys.generate(captured.PASSPHRASE, 16, lambda size: bytes(range(size)))
    return ConnectionKeys(keys, secrets.token_bytes), keys.message


def test_key_material_is_built_as_libsrt_understood_it() -> None:
    _, message = keys_of_capture()
    told = parse_handshake(captured.LISTENER_ENCRYPTED_CONCLUSION).extension(ExtensionType.KEY_RESPONSE)
    assert message == told
    assert parse_key_material(message).build() == message


def test_a_caller_with_a_passphrase_needs_the_listener_to_have_it() -> None:
    keys, message = keys_of_capture()
    calling = Caller(CallerOptions(), 0x1234, 1000, 50.0, keys, message, 16)
    calling.receive_data(captured.LISTENER_INDUCTION, 50.0)
    request = calling.data_to_send(50.0)
    assert request is not None
    assert parse_handshake(request).encryption == 2
    with pytest.raises(RejectedError, match="wrong passphrase"):
        calling.receive_data(captured.LISTENER_CONCLUSION, 50.0)  # has no key response
    assert calling.receive_data(captured.LISTENER_ENCRYPTED_CONCLUSION, 50.0) is not None


def test_a_caller_with_gcm_refuses_a_listener_that_repeats_nonces() -> None:
    keys = SessionKeys.generate(captured.PASSPHRASE, 16, lambda size: bytes(range(size)), PayloadMode.GCM)
    calling = Caller(CallerOptions(), 0x1234, 1000, 50.0, ConnectionKeys(keys, secrets.token_bytes), keys.message, 16)
    calling.receive_data(captured.LISTENER_INDUCTION, 50.0)
    with pytest.raises(RejectedError, match="repeats nonces"):
        calling.receive_data(captured.LISTENER_ENCRYPTED_CONCLUSION, 50.0)


@pytest.mark.parametrize(("code", "text"), [(10, "wrong passphrase"), (1404, "no such stream"), (5555, "own")])
def test_a_refusal_says_why(code: int, text: str) -> None:
    calling = caller()
    calling.receive_data(captured.LISTENER_INDUCTION, 50.0)
    refusal = dataclasses.replace(parse_handshake(captured.LISTENER_CONCLUSION), kind=1000 + code)
    with pytest.raises(RejectedError, match=rf"{text}.*\(SRT rejection {code}\)"):
        calling.receive_data(build_control(ControlType.HANDSHAKE, 0, 0, 0x1234, refusal.build()), 50.0)


def test_an_old_listener_is_recognized() -> None:
    old = dataclasses.replace(parse_handshake(captured.LISTENER_INDUCTION), version=4, extension_field=2)
    with pytest.raises(RejectedError, match=r"does not speak SRT 1\.3"):
        caller().receive_data(build_control(ControlType.HANDSHAKE, 0, 0, 0x1234, old.build()), 50.0)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:63],
        lambda data: b"\0" + data[1:],
        lambda data: data[:12] + bytes(4) + data[16:],
        lambda data: data + bytes(3),
    ],
)
def test_what_is_no_handshake_for_it_is_ignored_by_a_caller(change: Callable[[bytes], bytes]) -> None:
    calling = caller()
    calling.receive_data(change(captured.LISTENER_INDUCTION), 50.0)
    calling.receive_data(b"", 50.0)


def test_a_listener_whose_capabilities_are_cut_off() -> None:
    answer = parse_handshake(captured.LISTENER_CONCLUSION)
    cut = dataclasses.replace(answer, extensions=((ExtensionType.CAPABILITIES_RESPONSE.value, bytes(4)),))
    calling = caller()
    calling.receive_data(captured.LISTENER_INDUCTION, 50.0)
    with pytest.raises(RejectedError, match="too short"):
        calling.receive_data(build_control(ControlType.HANDSHAKE, 0, 0, 0x1234, cut.build()), 50.0)


def test_a_refusal_over_the_network_reaches_the_caller() -> None:
    simulation = Simulation(Network(), decide=lambda request: request.reject(Rejection.NOT_FOUND))
    with pytest.raises(RejectedError) as caught:
        simulation.run(1.0)
    assert caught.value.reason is Rejection.NOT_FOUND
    assert simulation.listener is None
