"""``authMethod: jwt``: permissions of tokens, and key servers that change their keys, are down, slow, or lie."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from tests.protocols.rtsp.support import Lines
from tests.support.tokens import READ_ALL, Issuer, key_set

from polycast.config import PathConfiguration, from_mapping
from polycast.hub import key_server as key_server_module
from polycast.hub.access import AccessControl
from polycast.hub.access_request import AccessRequest, Action, PlainCredentials
from polycast.hub.errors import AccessDenied, Denial
from polycast.hub.key_server import MAXIMUM_KEY_SET, RETRY_SECONDS
from polycast.log import Log

FIRST = Issuer("ES256", "1")
SECOND = Issuer("ES256", "2")


class KeyHost:
    """Stands in the place of a key server."""

    def __init__(self) -> None:
        self.answer: bytes | int | Exception = key_set(FIRST)
        self.requests: list[tuple[str, str, bytes, str]] = []
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def fetch(self, method: str, url: str, body: bytes, fingerprint: str) -> tuple[int, bytes]:
        self.requests.append((method, url, body, fingerprint))
        self.was_asked.set()
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return (self.answer, b"") if isinstance(self.answer, int) else (200, self.answer)


class Fixture:
    """Access control with a key server, a clock and a log."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
        self.host = KeyHost()
        self.passed = 0.0
        """Seconds by which the clock was set forward."""
        self.lines = Lines()
        logger = logging.Logger("test")
        logger.addHandler(self.lines)
        defaults = {
            "authMethod": "jwt",
            "authJWTJWKS": "http://keys/set?key=S3CRET",
            "authenticationFailurePause": "0s",
        }
        self.access = AccessControl(from_mapping({**defaults, **values}), fetch=self.host.fetch, log=Log(logger))
        loop = asyncio.get_running_loop()
        time = loop.time
        monkeypatch.setattr(loop, "time", lambda: time() + self.passed, raising=False)

    async def ask(
        self,
        token: str = "",
        *,
        action: Action = Action.READ,
        path: str = "cam",
        place: str = "bearer",
        takes_query: bool = False,
    ) -> str:
        """Return what came of it: the name of the user, or the kind of denial in capitals."""
        credentials, query = PlainCredentials(), ""
        if place == "bearer":
            credentials = PlainCredentials(token=token)
        elif place == "password":
            credentials = PlainCredentials("whoever", token)
        else:
            query = f"{place}={token}"
        request = AccessRequest(action, path, query, "192.0.2.1", credentials, takes_token_from_query=takes_query)
        try:
            return await self.access.check(request, PathConfiguration())
        except AccessDenied as denied:
            return denied.denial.name

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.lines.lines if "keys of tokens" in line]


@pytest.mark.parametrize(
    ("permissions", "action", "path", "expected"),
    [
        (READ_ALL, "read", "cam", "bob"),
        (READ_ALL, "publish", "cam", "CREDENTIALS"),
        ([{"action": "read", "path": "cam"}], "read", "cam", "bob"),
        ([{"action": "read", "path": "cam"}], "read", "other", "CREDENTIALS"),
        ([{"action": "read", "path": "~^c"}], "read", "cam", "bob"),
        ([{"action": "read"}], "read", "cam", "bob"),
        (json.dumps(READ_ALL), "read", "cam", "bob"),
        ([], "read", "cam", "CREDENTIALS"),
        (None, "read", "cam", "CREDENTIALS"),
        ([{"action": "read", "path": "", "more": 1}], "read", "cam", "CREDENTIALS"),
        ([{"action": "watch"}], "read", "cam", "CREDENTIALS"),
        ({"action": "read"}, "read", "cam", "CREDENTIALS"),
        ("[", "read", "cam", "CREDENTIALS"),
        (7, "read", "cam", "CREDENTIALS"),
    ],
)
async def test_permissions(
    permissions: Any, action: str, path: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = Fixture(monkeypatch)
    token = FIRST.token(permissions, sub="bob")
    assert await fixture.ask(token, action=Action(action), path=path) == expected
    fixture.access.close()


@pytest.mark.parametrize(
    ("place", "takes_query", "in_http_query", "expected"),
    [
        ("bearer", False, False, "bob"),
        ("password", False, False, "bob"),
        ("token", True, False, "bob"),
        ("jwt", True, False, "bob"),
        ("a=1&jwt", True, False, "bob"),
        ("token=&token", True, False, "CREDENTIALS"),  # not exactly once
        ("token", False, False, "CREDENTIALS"),
        ("token", False, True, "bob"),
        ("jwt", False, True, "bob"),
        ("other", True, True, "CREDENTIALS"),
    ],
)
async def test_places(
    place: str, takes_query: bool, in_http_query: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = Fixture(monkeypatch, authJWTInHTTPQuery=in_http_query)
    assert await fixture.ask(FIRST.token(sub="bob"), place=place, takes_query=takes_query) == expected
    fixture.access.close()


async def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(
        monkeypatch,
        authJWTClaimKey="rights",
        authJWTIssuer="me",
        authJWTAudience="you",
        authJWTExclude=[{"action": "read", "path": "open"}],
        authJWTJWKSFingerprint="ab",
    )
    assert await fixture.ask(path="open") == ""
    assert fixture.access.is_open(Action.READ, "open", PathConfiguration())
    assert not fixture.access.is_open(Action.READ, "cam", PathConfiguration())
    assert await fixture.ask(FIRST.token(claim="rights", iss="me", aud="you", sub="bob")) == "bob"
    assert await fixture.ask(FIRST.token(claim="rights", iss="me", aud="x", sub="bob")) == "CREDENTIALS"
    assert await fixture.ask(FIRST.token(claim="rights", iss="x", aud="you", sub="bob")) == "CREDENTIALS"
    assert await fixture.ask(FIRST.token(iss="me", aud="you", sub="bob")) == "CREDENTIALS"
    assert fixture.host.requests == [("GET", "http://keys/set?key=S3CRET", b"", "ab")]
    fixture.access.close()


async def test_keys_are_fetched_once_for_all_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(monkeypatch)
    fixture.host.may_answer.clear()
    clients = [asyncio.create_task(fixture.ask(FIRST.token(sub=str(number)))) for number in range(20)]
    await asyncio.sleep(0)
    clients[0].cancel()
    fixture.host.may_answer.set()
    assert await asyncio.gather(*clients[1:]) == [str(number) for number in range(1, 20)]
    assert len(fixture.host.requests) == 1
    fixture.access.close()


async def test_a_rotated_key_is_fetched_when_it_is_used_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(monkeypatch)
    assert await fixture.ask(FIRST.token(sub="bob")) == "bob"
    fixture.host.answer = key_set(SECOND)
    assert await fixture.ask(SECOND.token(sub="eve")) == "CREDENTIALS"  # they have just been fetched
    fixture.passed += RETRY_SECONDS
    assert await fixture.ask(SECOND.token(sub="eve")) == "eve"
    assert await fixture.ask(FIRST.token(sub="bob")) == "CREDENTIALS"  # withdrawn
    for _ in range(50):
        assert await fixture.ask(Issuer("ES256", "unknown").token()) == "CREDENTIALS"
    assert len(fixture.host.requests) == 2
    fixture.access.close()


async def test_known_keys_are_used_while_others_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(monkeypatch)
    assert await fixture.ask(FIRST.token(sub="bob")) == "bob"
    fixture.host.may_answer.clear()
    fixture.passed += RETRY_SECONDS
    other = asyncio.create_task(fixture.ask(SECOND.token(sub="eve")))
    await asyncio.sleep(0)
    assert await fixture.ask(FIRST.token(sub="bob")) == "bob"
    assert not other.done()
    fixture.host.answer = key_set(FIRST, SECOND)
    fixture.host.may_answer.set()
    assert await other == "eve"
    fixture.access.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ConnectionRefusedError("refused"), "refused"),
        (500, "bad status code: 500"),
        (302, "bad status code: 302"),
        (b"<html></html>", "not JSON"),
        (b'{"keys": "x"}', "no list of keys"),
        (b'{"keys": []}', "no public key"),
        (b" " * (MAXIMUM_KEY_SET + 1), "larger than"),
    ],
)
async def test_a_key_server_that_fails(
    answer: bytes | int | Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = Fixture(monkeypatch)
    host = fixture.host
    host.answer = answer
    assert await fixture.ask(FIRST.token(sub="bob")) == "UNDECIDED"
    assert await fixture.ask(FIRST.token(sub="bob")) == "UNDECIDED"
    assert len(host.requests) == 1
    assert len(fixture.warnings) == 1
    assert reason in fixture.warnings[0]
    assert "tokens are refused" in fixture.warnings[0]
    assert "S3CRET" not in "".join(fixture.lines.lines)
    host.answer = key_set(FIRST)
    fixture.passed += RETRY_SECONDS
    assert await fixture.ask(FIRST.token(sub="bob")) == "bob"
    # The last good keys stay in use.
    host.answer = answer
    await fixture.access.refresh_keys()
    assert await fixture.ask(FIRST.token(sub="bob")) == "bob"
    assert len(fixture.warnings) == 2
    assert "the last ones stay in use" in fixture.warnings[1]
    await fixture.access.refresh_keys()
    assert len(fixture.warnings) == 2, "the same warning twice"
    fixture.access.close()


async def test_a_slow_key_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(monkeypatch, readTimeout="50ms")
    fixture.host.may_answer.clear()
    assert await fixture.ask(FIRST.token()) == "UNDECIDED"
    assert "no answer within 0.05 s" in fixture.warnings[0]
    fixture.access.close()


async def test_keys_are_fetched_again_on_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_server_module, "REFRESH_SECONDS", 0.01)
    fixture = Fixture(monkeypatch)
    fixture.access.prefetch()
    async with asyncio.timeout(60):
        for _ in range(3):
            await fixture.host.was_asked.wait()
            fixture.host.was_asked.clear()
    fixture.access.close()
    await asyncio.sleep(0)
    count = len(fixture.host.requests)
    await asyncio.sleep(0.05)
    assert len(fixture.host.requests) == count


async def test_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(monkeypatch)
    values = {"authMethod": "jwt", "authJWTJWKS": "http://keys/set?key=S3CRET"}
    assert await fixture.ask(FIRST.token(sub="bob")) == "bob"
    fixture.access.configure(from_mapping({**values, "authJWTIssuer": "me"}))
    assert await fixture.ask(FIRST.token(sub="bob")) == "CREDENTIALS"
    assert await fixture.ask(FIRST.token(sub="bob", iss="me")) == "bob"
    assert len(fixture.host.requests) == 1, "the keys are those of the same server"
    fixture.host.answer = key_set(SECOND)
    fixture.access.configure(from_mapping({**values, "authJWTJWKS": "http://other/"}))
    assert await fixture.ask(FIRST.token(sub="bob")) == "CREDENTIALS"
    assert await fixture.ask(SECOND.token(sub="eve")) == "eve"
    fixture.access.configure(from_mapping({}))
    assert await fixture.ask() == ""
    fixture.access.close()


async def test_who_waits_for_keys_is_refused_when_their_server_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(monkeypatch)
    fixture.host.may_answer.clear()
    waiting = [asyncio.create_task(fixture.ask(FIRST.token())), asyncio.create_task(fixture.access.refresh_keys())]
    await fixture.host.was_asked.wait()
    fixture.access.configure(from_mapping({"authMethod": "jwt", "authJWTJWKS": "http://other/"}))
    assert await asyncio.gather(*waiting, return_exceptions=True) == ["UNDECIDED", None]
    assert any("fetching them was stopped" in line for line in fixture.lines.lines)
    fixture.host.may_answer.set()
    assert await fixture.ask(FIRST.token(sub="bob")) == "bob"
    fixture.access.close()


async def test_a_client_without_a_token_is_asked_and_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(monkeypatch, authenticationFailurePause="100s")
    for _ in range(30):
        request = AccessRequest(Action.READ, "cam", "", "192.0.2.1", PlainCredentials(), asks_again=True)
        with pytest.raises(AccessDenied) as caught:
            await asyncio.wait_for(fixture.access.check(request, PathConfiguration()), 5)
        assert caught.value.denial is Denial.CREDENTIALS
    assert not [line for line in fixture.lines.lines if line.startswith("WARNING")]
    fixture.access.close()
