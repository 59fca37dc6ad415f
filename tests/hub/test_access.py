"""Who may publish and read: addresses, credentials, functions."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from tests.hub.support import make_hub
from tests.protocols.rtsp.support import Lines

from polycast.config import Configuration, PathConfiguration, from_mapping
from polycast.hub import access as access_module
from polycast.hub import external_server
from polycast.hub.access import AccessControl
from polycast.hub.access_request import AccessRequest, Action, PlainCredentials
from polycast.hub.errors import AccessDenied, Denial, InvalidPathName, PathNotConfigured
from polycast.log import Log

HASHED_USER = "sha256:rl3rgi4NcZkpAEcacZnQ2VuOfJ0FxAqCRaKB/SwdZoQ="
HASHED_PASSWORD = "sha256:E9JJ8stBJ7QM+nV4ZoUCeHk/gU3tPFh/5YieiJp6n2w="


def entry(**values: Any) -> PathConfiguration:
    return from_mapping({"paths": {"p": values}}).paths["p"]


def external(url: str) -> Configuration:
    return from_mapping({"externalAuthenticationURL": url})


def request(
    action: Action = Action.READ, address: str = "127.0.0.1", user: str = "", password: str = ""
) -> AccessRequest:
    return AccessRequest(action, "p", "", address, PlainCredentials(user, password))


async def denial(path: PathConfiguration, asked: AccessRequest, access: AccessControl | None = None) -> Denial | None:
    try:
        await (access or AccessControl()).check(asked, path)
    except AccessDenied as error:
        return error.denial
    return None


async def test_open_path() -> None:
    assert await denial(entry(), request()) is None


@pytest.mark.parametrize(
    ("user", "password", "expected"),
    [("u", "p", None), ("u", "x", Denial.CREDENTIALS), ("x", "p", Denial.CREDENTIALS), ("", "", Denial.CREDENTIALS)],
)
async def test_credentials(user: str, password: str, expected: Denial | None) -> None:
    assert await denial(entry(readUser="u", readPass="p"), request(user=user, password=password)) is expected
    publish = request(Action.PUBLISH, user=user, password=password)
    assert await denial(entry(readUser="u", readPass="p"), publish) is None
    assert await denial(entry(publishUser="u", publishPass="p"), publish) is expected


async def test_hashed_credentials() -> None:
    path = entry(readUser=HASHED_USER, readPass=HASHED_PASSWORD)
    assert await denial(path, request(user="testuser", password="testpass")) is None
    assert await denial(path, request(user=HASHED_USER, password=HASHED_PASSWORD)) is Denial.CREDENTIALS


@pytest.mark.parametrize(
    ("networks", "address", "expected"),
    [
        (["127.0.0.1"], "127.0.0.1", None),
        (["10.0.0.0/8", "192.0.2.0/24"], "192.0.2.77", None),
        (["10.0.0.0/8"], "192.0.2.77", Denial.ADDRESS),
        (["2001:db8::/32"], "2001:db8::1", None),
        (["2001:db8::/32"], "192.0.2.77", Denial.ADDRESS),
        (["0.0.0.0/0"], "2001:db8::1", Denial.ADDRESS),
    ],
)
async def test_addresses(networks: list[str], address: str, expected: Denial | None) -> None:
    assert await denial(entry(readIPs=networks), request(address=address)) is expected


async def test_address_is_checked_before_credentials() -> None:
    path = entry(readIPs=["10.0.0.0/8"], readUser="u", readPass="p")
    assert await denial(path, request()) is Denial.ADDRESS


@pytest.mark.parametrize("answer", [True, False])
async def test_function_that_waits(answer: bool) -> None:
    async def authenticate(_: AccessRequest) -> bool:
        await asyncio.sleep(0)
        return answer

    access = AccessControl(callback=authenticate)
    assert access.needs_plain
    assert await denial(entry(), request(), access) is (None if answer else Denial.EXTERNAL)


async def test_function_does_not_replace_the_credentials() -> None:
    access = AccessControl(callback=lambda _: True)
    assert await denial(entry(readUser="u", readPass="p"), request(), access) is Denial.CREDENTIALS


class Turns:
    """Stands in the place of asyncio.sleep: notes how long somebody would wait, in access.py alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waited: list[float] = []
        self._sleep = asyncio.sleep
        monkeypatch.setattr(access_module.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.waited.append(round(seconds))
        await self._sleep(0)


async def test_guesses_wait_also_if_the_function_raises_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def authenticate(_: AccessRequest) -> bool:
        raise KeyError("no such user")

    turns = Turns(monkeypatch)
    access = AccessControl(from_mapping({"authenticationFailurePause": "100s"}), callback=authenticate)
    for number in range(13):
        assert await denial(entry(), request(user="u", password=str(number)), access) is Denial.EXTERNAL
    assert turns.waited == [100, 200, 300]


async def test_guesses_of_one_address_are_serialized(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(monkeypatch)
    path = entry(readUser="u", readPass="p")
    access = AccessControl(from_mapping({"authenticationFailurePause": "100s"}))
    assert await denial(path, request(user="u", password="p"), access) is None
    for number in range(10):
        assert await denial(path, request(user="u", password=str(number)), access) is Denial.CREDENTIALS
    assert turns.waited == []
    for number in range(3):
        assert await denial(path, request(user="u", password=f"x{number}"), access) is Denial.CREDENTIALS
    assert turns.waited == [100, 200, 300]
    # Right ones wait, too, or a quick answer would tell; but not those that were right before.
    assert await denial(path, request(Action.READ, user="u", password="p"), access) is None
    other = entry(readUser="v", readPass="q")
    assert await denial(other, request(user="v", password="q"), access) is None
    assert turns.waited == [100, 200, 300, 400]
    assert await denial(other, request(user="v", password="q"), access) is None
    # Nor other addresses, nor requests without credentials.
    assert await denial(other, request(user="v", password="q", address="192.0.2.1"), access) is None
    assert await denial(other, request(), access) is Denial.CREDENTIALS
    assert turns.waited == [100, 200, 300, 400]
    # A longer line than this is not waited in, and what is refused then says nothing about the password.
    for number in range(100):
        await denial(path, request(user="u", password=f"y{number}"), access)
    assert len(turns.waited) == 31
    with pytest.raises(AccessDenied, match="too many failed attempts from this address"):
        await access.check(request(user="u", password="p2"), entry(readUser="u", readPass="p2"))


async def test_a_refusal_is_one_warning_with_path_user_address_and_reason() -> None:
    lines = Lines()
    logger = logging.Logger("test")
    logger.addHandler(lines)
    access = AccessControl(log=Log(logger))
    locked = entry(readUser="u", readPass="p")
    await denial(locked, request(user="bob", password="S3CRET"), access)
    await denial(entry(readIPs=["10.0.0.1"]), request(address="192.0.2.7"), access)
    await denial(locked, request(), access)  # over a protocol that does not ask
    await denial(locked, dataclasses.replace(request(), asks_again=True), access)
    assert lines.lines == [
        "WARNING [path p] 127.0.0.1 may not read as user 'bob': invalid credentials",
        "WARNING [path p] 192.0.2.7 may not read: IP '192.0.2.7' not allowed",
        "WARNING [path p] 127.0.0.1 may not read: invalid credentials",
        "DEBUG [path p] 127.0.0.1 is asked for credentials to read",
    ]


async def test_refusals_that_are_repeated_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    logger = logging.Logger("test")
    logger.addHandler(lines)
    access = AccessControl(from_mapping({"authenticationFailurePause": "0s"}), log=Log(logger))
    locked = entry(readUser="u", readPass="p")
    now = 0.0
    monkeypatch.setattr(access_module, "time", SimpleNamespace(monotonic=lambda: now))
    for number in range(1, 182):  # a player that asks once a second, for three minutes
        now = float(number)
        await denial(locked, request(user="bob", password=f"wrong{number}"), access)
    text = "WARNING [path p] 127.0.0.1 may not read as user 'bob': invalid credentials"
    more = " (and 59 more refused requests of this address before)"
    assert lines.lines == [text, text + more, text + more, text + more]
    await denial(locked, request(user="bob", address="192.0.2.7"), access)
    await denial(entry(readIPs=["10.0.0.1"]), request(user="bob"), access)
    assert len(lines.lines) == 6


async def test_an_external_server_that_is_down_is_named_without_its_password() -> None:
    lines = Lines()
    logger = logging.Logger("test")
    logger.addHandler(lines)

    async def fetch(method: str, url: str, body: bytes, fingerprint: str) -> tuple[int, bytes]:
        raise ConnectionRefusedError("All connection attempts failed")

    access = AccessControl(external("http://user:S3CRET@127.0.0.1:1/auth?token=S3CRET"), fetch=fetch, log=Log(logger))
    with pytest.raises(AccessDenied) as caught:
        await access.check(request(), entry())
    assert "127.0.0.1:1" not in str(caught.value)
    assert lines.lines[0].endswith("(http://user:***@127.0.0.1:1/auth?token=***)")


async def test_a_defect_in_asking_the_external_server_is_no_denial() -> None:
    async def fetch(method: str, url: str, body: bytes, fingerprint: str) -> tuple[int, bytes]:
        raise TypeError("a defect")

    with pytest.raises(TypeError, match="a defect"):
        await AccessControl(external("http://127.0.0.1/"), fetch=fetch).check(request(), entry())


def test_an_unreachable_external_server() -> None:
    with pytest.raises(ValueError, match="needs something that sends requests"):
        AccessControl(external("http://127.0.0.1/"))
    access = AccessControl()
    with pytest.raises(ValueError, match="needs something that sends requests"):
        access.configure(external("http://127.0.0.1/"))


async def test_hub_finds_the_rules_of_the_path() -> None:
    hub = make_hub({"~^open": {}, "~^open_cam": {"readUser": "u", "readPass": "p"}, "cam": {"readIPs": ["10.0.0.1"]}})

    async def ask(path: str) -> None:
        await hub.authorize(AccessRequest(Action.READ, path, "", "127.0.0.1", PlainCredentials()))

    await ask("open_cam")  # the first expression that matches
    with pytest.raises(AccessDenied, match=r"IP '127\.0\.0\.1' not allowed"):
        await ask("cam")
    with pytest.raises(PathNotConfigured, match="path 'other' is not configured"):
        await ask("other")
    for name in ("a b", "open/../cam", "open/..", "../cam", "open/./x", "open" + 600 * "x"):
        with pytest.raises(InvalidPathName):
            await ask(name)
        with pytest.raises(InvalidPathName):
            hub.path(name)
    assert set(hub.paths) == {"cam"}


class AuthenticationServer:
    """Notes who is asked about, and answers once it is released."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.release = asyncio.Event()
        self.error: OSError | None = None

    async def fetch(self, method: str, url: str, body: bytes, fingerprint: str) -> tuple[int, bytes]:
        self.asked.append(json.loads(body)["ip"])
        if self.error is not None:
            raise self.error
        await self.release.wait()
        return 200, b""

    def control(self, **settings: Any) -> AccessControl:
        configuration = from_mapping({"externalAuthenticationURL": "http://127.0.0.1/", **settings})
        return AccessControl(configuration, fetch=self.fetch)


async def test_clients_of_one_address_leave_the_authentication_server_to_others() -> None:
    server = AuthenticationServer()
    access = server.control()
    many = external_server.MAXIMUM_OF_ADDRESS
    tasks = [asyncio.ensure_future(denial(entry(), request(address="192.0.2.1"), access)) for _ in range(many)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert server.asked == ["192.0.2.1"] * external_server.CONCURRENCY_OF_ADDRESS
    assert await denial(entry(), request(address="192.0.2.1"), access) is Denial.LIMIT
    other = asyncio.ensure_future(denial(entry(), request(address="192.0.2.2"), access))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert server.asked[-1] == "192.0.2.2"
    server.release.set()
    assert await other is None
    assert await asyncio.gather(*tasks) == [None] * many


@pytest.mark.parametrize("is_silent", [True, False])
async def test_an_authentication_server_that_cannot_be_asked_is_no_failed_attempt(
    monkeypatch: pytest.MonkeyPatch, is_silent: bool
) -> None:
    server = AuthenticationServer()
    access = server.control(externalAuthenticationTimeout="1ms")
    if not is_silent:
        server.error = OSError("connection refused")
    turns = Turns(monkeypatch)
    for number in range(20):
        assert await denial(entry(), request(user="u", password=str(number)), access) is Denial.UNDECIDED
    assert turns.waited == []
