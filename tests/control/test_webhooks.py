"""Webhooks: what other servers get, how it is signed, and what happens when they fail."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.protocols.rtsp.support import running
from tests.support.listeners import serving
from tests.support.waiting import until

from polycast.config import from_mapping
from polycast.control import webhooks
from polycast.control.webhooks import Message, signed_headers
from polycast.errors import ConfigurationError
from polycast.hub.retry import RetryPauses


@dataclass
class Receiver:
    """An HTTP server that keeps requests, and answers with ``statuses``, then with 204."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def events(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.requests]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                pairs = [line.split(": ", 1) for line in head[1:] if line]
                headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests.append((headers, body))
                status = self.statuses.pop(0) if self.statuses else 204
                writer.write(f"HTTP/1.1 {status} Text\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    async with serving(made.answer) as port:
        made.url = f"http://127.0.0.1:{port}/hook"
        yield made


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "PAUSES", RetryPauses(0.01, 0.05))


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of the Standard Webhooks specification."""
    message = Message("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}')
    headers = signed_headers(message, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1614265330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_events_are_sent_in_order_and_signed(receiver: Receiver) -> None:
    names = ["path_ready", "path_online", "reader_added", "path_offline", "path_not_ready"]
    hook = {"url": receiver.url, "events": names, "secret": "any text"}
    async with running(webhooks=[hook]) as app:
        publisher = await app.publisher("live")
        await app.reader("live")
        await publisher.close()
        await until(lambda: len(receiver.requests) == len(names))
    assert receiver.events == names
    headers, body = receiver.requests[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.digest(b"any text", signed, hashlib.sha256)
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert headers["content-type"] == "application/json"
    content = json.loads(body)
    assert content["data"] == {"path": "live", "tracks": ["H264"]}
    assert content["timestamp"].endswith("Z")
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == len(names)


async def test_a_failed_event_is_sent_again_before_the_next_ones(receiver: Receiver) -> None:
    receiver.statuses = [500, 429]
    hook = {"url": receiver.url, "events": ["path_ready", "path_online"]}
    async with running(webhooks=[hook]) as app:
        await app.publisher("live")
        await until(lambda: len(receiver.requests) == 4)
        assert app.log.find("WARNING webhook .*: bad status code: 500; next attempt in")
        await app.log.wait("events are delivered again")
    assert receiver.events == ["path_ready", "path_ready", "path_ready", "path_online"]
    assert len({headers["webhook-id"] for headers, _ in receiver.requests[:3]}) == 1
    assert "webhook-signature" not in receiver.requests[0][0]


async def test_an_event_is_given_up_after_the_last_attempt(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MAXIMUM_ATTEMPTS", 2)
    receiver.statuses = [500, 500]
    hook = {"url": receiver.url, "events": ["path_ready", "path_online"]}
    async with running(webhooks=[hook]) as app:
        await app.publisher("live")
        await until(lambda: len(receiver.requests) == 3)
        assert app.log.find("ERROR webhook .*: an event was given up after 2 attempts")
    assert receiver.events == ["path_ready", "path_ready", "path_online"]


async def test_an_address_that_never_answers_holds_up_nobody(receiver: Receiver) -> None:
    held: list[asyncio.StreamWriter] = []

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    async with serving(hold) as port:
        hooks = [{"url": f"http://127.0.0.1:{port}"}, {"url": receiver.url, "events": ["path_ready"]}]
        async with running(webhooks=hooks) as app:
            await app.publisher("live")
            await until(lambda: len(receiver.requests) == 1)
            await until(lambda: held)


async def test_the_oldest_events_are_dropped_when_too_many_wait(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MAXIMUM_WAITING", 3)
    hooks = webhooks.Webhooks(running_log := Recorded())  # type: ignore[arg-type]
    await hooks.configure(from_mapping({"webhooks": [{"url": receiver.url}]}).webhooks)
    for number in range(10):
        hooks.emit("path_ready", {"number": number})
    await until(lambda: len(receiver.requests) == 3)
    await hooks.close()
    assert [json.loads(body)["data"]["number"] for _, body in receiver.requests] == [7, 8, 9]
    assert sum("too many events wait" in line for line in running_log.lines) == 1


class Recorded:
    """A log that keeps warnings."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str, *values: object) -> None:
        self.lines.append(text % values)

    def info(self, text: str, *values: object) -> None:
        """Ignored."""


async def test_what_happens_as_the_server_stops_is_still_sent(receiver: Receiver) -> None:
    async with running(webhooks=[{"url": receiver.url, "events": ["path_closed"]}], paths={"cam": {}}):
        pass
    assert receiver.events == ["path_closed"]


async def test_a_new_configuration_changes_the_addresses(receiver: Receiver) -> None:
    async with running() as app:
        await app.reload(webhooks=[{"url": receiver.url, "events": ["path_ready"]}])
        await app.publisher("live")
        await until(lambda: receiver.events == ["path_ready"])
        await app.reload()
        await app.publisher("other")
        await asyncio.sleep(0)
    assert receiver.events == ["path_ready"]


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        ({"url": "example.com"}, "invalid webhook address: 'example.com'"),
        ({"url": "ftp://example.com"}, "invalid webhook address"),
        ({"events": ["path_ready"]}, "url is missing"),
        ({"url": "http://a", "events": ["path_redy"]}, "did you mean path_ready"),
    ],
)
def test_wrong_settings(hook: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        from_mapping({"webhooks": [hook]})


def test_the_secret_is_not_shown() -> None:
    (hook,) = from_mapping({"webhooks": [{"url": "http://u:p@h/", "secret": "hidden"}]}).webhooks
    assert "hidden" not in repr(hook)
    assert ":p@" not in repr(hook)


async def test_addresses_that_are_given_twice_end_with_their_configuration(receiver: Receiver) -> None:
    before = asyncio.all_tasks()
    hook = {"url": receiver.url, "events": ["path_ready"]}
    hooks = webhooks.Webhooks(Recorded())  # type: ignore[arg-type]
    for twice in range(2):
        await hooks.configure(from_mapping({"webhooks": [hook] * 2}).webhooks)
        hooks.emit("path_ready", {})
        await until(lambda twice=twice: len(receiver.requests) == 2 * (twice + 1))  # type: ignore[misc]
    await hooks.configure(())
    await hooks.close()
    assert {task for task in asyncio.all_tasks() - before if "Target" in repr(task)} == set()
