"""The connection to a TURN server, without a network."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

import pytest
from tests.support.waiting import PATIENCE

from polycast.log import Log
from polycast.protocols.webrtc import relay as relay_module
from polycast.protocols.webrtc.relay import Relay
from polycast.wire.webrtc import turn_client
from polycast.wire.webrtc.stun import Attribute, AttributeType, Message, MessageType, parse_message, xor_mapped_address


class Server:
    url: ClassVar[str] = "turn:192.0.2.1"

    def credentials(self, now: float) -> tuple[str, str]:
        return "user", "password"


class Transport:
    """Answers the request for an address, and nothing else."""

    is_stream: ClassVar[bool] = False
    lost_reason: ClassVar[str] = ""

    def __init__(self) -> None:
        self.on_message: Any = None
        self.permissions: asyncio.Queue[bytes] = asyncio.Queue()

    def send(self, data: bytes, size: int) -> None:
        message = parse_message(data)
        if message.type is MessageType.CREATE_PERMISSION:
            self.permissions.put_nowait(message.transaction_id)
        elif message.type is MessageType.ALLOCATE:
            attributes: list[Attribute] = [
                xor_mapped_address(("192.0.2.1", 5000), message.transaction_id, AttributeType.XOR_RELAYED_ADDRESS),
                (AttributeType.LIFETIME, (600).to_bytes(4, "big")),
            ]
            answer = Message(MessageType.ALLOCATE_SUCCESS, message.transaction_id, tuple(attributes)).serialize(None)
            asyncio.get_running_loop().call_soon(self.on_message, answer)

    def close(self) -> None:
        pass


async def test_a_request_that_is_lost_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = Transport()

    async def open_transport(_: Any, __: Any, on_message: Any, *___: Any) -> Transport:
        transport.on_message = on_message
        return transport

    monkeypatch.setattr(relay_module, "open_transport", open_transport)
    monkeypatch.setattr(turn_client, "RETRANSMISSION_SECONDS", 0.01)
    relay = Relay(asyncio.get_running_loop(), Log(logging.Logger("test")), None, Server())  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(PATIENCE):
            await relay.wait(PATIENCE)
            relay.permit(object(), ["198.51.100.7"])  # type: ignore[arg-type]
            first = await transport.permissions.get()
            assert [await transport.permissions.get() for _ in range(3)] == [first] * 3
    finally:
        relay.close()
