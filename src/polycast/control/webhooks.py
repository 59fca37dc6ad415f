"""Webhooks: sends events to other servers, signed, in order, and again when they fail.

The requests are those of the Standard Webhooks specification (version 1.0.0): a JSON object with ``type``,
``timestamp`` and ``data``, and the headers ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct

from polycast.config.redact import redact
from polycast.config.webhooks import Webhook
from polycast.hub.retry import Backoff, RetryPauses
from polycast.log import Log
from polycast.net.http_client import HttpClient

MAXIMUM_WAITING: Final = 1_000
"""Events that wait for one address. The oldest ones are dropped when there are more."""

MAXIMUM_ATTEMPTS: Final = 10
"""Attempts to send one event: about a quarter of an hour with these pauses."""

PAUSES: Final = RetryPauses(first=1.0, longest=300.0)

REQUEST_SECONDS: Final = 10.0
"""How long an address may take to answer."""

LAST_SECONDS: Final = 2.0
"""When the server stops, this long for the events that wait."""

_PREFIX: Final = "whsec_"


class Message(Struct, frozen=True):
    """One event, as it is sent."""

    identifier: str
    """The same for each attempt, so that the receiver can recognise one that it already has."""
    body: bytes


def new_message(event: str, data: Mapping[str, object], now: float) -> Message:
    """Return the message for an event. ``now`` is Unix time in seconds."""
    timestamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = msgspec.json.encode({"type": event, "timestamp": timestamp, "data": data})
    return Message(f"msg_{secrets.token_hex(12)}", body)


def signed_headers(message: Message, secret: str, now: float) -> dict[str, str]:
    """Return the headers of a request. Without a secret, it is not signed."""
    headers = {"webhook-id": message.identifier, "webhook-timestamp": str(int(now))}
    if secret:
        signed = b"%s.%d.%s" % (message.identifier.encode(), int(now), message.body)
        digest = hmac.digest(_key_of(secret), signed, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def _key_of(secret: str) -> bytes:
    if secret.startswith(_PREFIX):
        with contextlib.suppress(binascii.Error, ValueError):
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    return secret.encode()


class Target:
    """One address, with the events that wait for it."""

    def __init__(self, webhook: Webhook, client: HttpClient, log: Log, clock: Callable[[], float]) -> None:
        self.webhook = webhook
        self._client = client
        self._log = log
        self._clock = clock
        self._name = redact(webhook.url)
        self._waiting: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._dropped = 0
        self._is_failing = False
        self.is_idle = asyncio.Event()
        """Set while no event waits."""
        self.is_idle.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def put(self, event: str, data: Mapping[str, object]) -> None:
        """Queue an event, if the address wants it."""
        if self.webhook.events and event not in self.webhook.events:
            return
        if len(self._waiting) >= MAXIMUM_WAITING:
            self._waiting.popleft()
            if not self._dropped:
                self._log.warning("webhook %s: too many events wait; the oldest ones are dropped", self._name)
            self._dropped += 1
        self._waiting.append(new_message(event, data, self._clock()))
        self.is_idle.clear()
        self._arrived.set()

    async def close(self) -> None:
        """Stop sending; what waits is lost."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._arrived.clear()
            while self._waiting:
                message = self._waiting.popleft()
                await self._send(message)
            self.is_idle.set()
            await self._arrived.wait()

    async def _send(self, message: Message) -> None:
        backoff = Backoff()
        for attempt in range(1, MAXIMUM_ATTEMPTS + 1):
            error = await self._attempt(message)
            if not error:
                self._on_delivered()
                return
            if attempt < MAXIMUM_ATTEMPTS:
                pause = backoff.pause(PAUSES)
                report = self._log.debug if self._is_failing else self._log.warning
                self._is_failing = True
                report("webhook %s: %s; next attempt in %.3g s", self._name, error, pause)
                await asyncio.sleep(pause)
                backoff.advance()
        self._log.error("webhook %s: an event was given up after %d attempts", self._name, MAXIMUM_ATTEMPTS)

    async def _attempt(self, message: Message) -> str:
        """Send once; return what failed."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                headers = signed_headers(message, self.webhook.secret, self._clock())
                status, _ = await self._client.fetch("POST", self.webhook.url, message.body, more_headers=headers)
        except TimeoutError:
            return f"no answer within {REQUEST_SECONDS:g} s"
        except OSError as error:
            return str(error)
        except Exception:
            self._log.exception("internal error")
            return "internal error"
        return "" if 200 <= status <= 299 else f"bad status code: {status}"

    def _on_delivered(self) -> None:
        if self._is_failing:
            lost = f"; {self._dropped} events were lost" if self._dropped else ""
            self._log.info("webhook %s: events are delivered again%s", self._name, lost)
        self._is_failing = False
        self._dropped = 0


class Webhooks:
    """All addresses. `emit` is called with each event."""

    def __init__(self, log: Log, clock: Callable[[], float] = time.time) -> None:
        """``clock`` returns Unix time in seconds."""
        self._log = log
        self._clock = clock
        self._client = HttpClient()
        self._targets: list[Target] = []

    def emit(self, event: str, data: Mapping[str, object]) -> None:
        """Send an event to the addresses that want it."""
        for target in self._targets:
            target.put(event, data)

    async def configure(self, webhooks: Sequence[Webhook]) -> None:
        """Use these addresses. Those that were there before keep the events that wait for them."""
        old, self._targets = self._targets, []
        for webhook in webhooks:
            target = next((target for target in old if target.webhook == webhook), None)
            if target is not None:
                old.remove(target)
            self._targets.append(target or Target(webhook, self._client, self._log, self._clock))
        for target in old:
            await target.close()
        if webhooks:
            await self._client.prepare()

    async def close(self) -> None:
        """Stop, after a short time for the events that wait."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                for target in self._targets:
                    await target.is_idle.wait()
        for target in self._targets:
            await target.close()
        self._targets = []
        await self._client.close()
