"""The rule of ``authInternalUsers``: who is found, in which order, with which credentials."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from polycast.config import PathConfiguration, from_mapping
from polycast.config.authentication import Action, Permission
from polycast.errors import ConfigurationError
from polycast.hub.access import AccessControl
from polycast.hub.access_request import AccessRequest, PlainCredentials
from polycast.hub.errors import AccessDenied, Denial
from polycast.wire.rtsp.authentication import ClientAuthenticator, GivenCredentials, ServerAuthenticator

SHA256_USER = "sha256:rl3rgi4NcZkpAEcacZnQ2VuOfJ0FxAqCRaKB/SwdZoQ="  # testuser
SHA256_PASSWORD = "sha256:E9JJ8stBJ7QM+nV4ZoUCeHk/gU3tPFh/5YieiJp6n2w="  # testpass


def argon2(text: str, lanes: int = 1) -> str:
    """Return the hash of a text, made by another library than the one that verifies it."""
    derivation = Argon2id(salt=b"saltsaltsaltsalt", length=32, iterations=1, lanes=lanes, memory_cost=64)
    return "argon2:" + derivation.derive_phc_encoded(text.encode())


def access(*users: dict[str, Any], **values: Any) -> AccessControl:
    return AccessControl(from_mapping({"authInternalUsers": list(users), **values}))


def may(action: str, path: str = "") -> dict[str, Any]:
    return {"action": action, "path": path}


async def is_allowed(
    control: AccessControl,
    user: str = "",
    password: str = "",
    *,
    action: Action = Action.READ,
    path: str = "cam",
    address: str = "192.0.2.1",
) -> bool:
    request = AccessRequest(action, path, "", address, PlainCredentials(user, password))
    is_on_path = action in (Action.PUBLISH, Action.READ, Action.PLAYBACK)
    try:
        await control.check(request, PathConfiguration() if is_on_path else None)
    except AccessDenied as denied:
        return denied.denial is not Denial.CREDENTIALS
    return True


@pytest.mark.parametrize(
    ("user", "password", "given", "expected"),
    [
        ("u", "p", ("u", "p"), True),
        ("u", "p", ("u", "x"), False),
        ("u", "p", ("x", "p"), False),
        ("u", "p", ("", ""), False),
        ("u", "", ("u", "whatever"), True),
        ("u", "", ("u", ""), True),
        ("u", "", ("x", "whatever"), False),
        ("u", "", ("", ""), False),
        ("any", "", ("", ""), True),
        ("any", "", ("nobody", "wrong"), True),
        (SHA256_USER, SHA256_PASSWORD, ("testuser", "testpass"), True),
        (SHA256_USER, SHA256_PASSWORD, (SHA256_USER, SHA256_PASSWORD), False),
        (argon2("testuser"), argon2("testpass"), ("testuser", "testpass"), True),
        (argon2("testuser"), argon2("testpass"), ("testuser", "testpas"), False),
        (argon2("testuser"), argon2("testpass"), ("testuse", "testpass"), False),
        (argon2("testuser"), "", ("testuser", "anything"), True),
        (argon2("testuser"), "", ("other", "anything"), False),
        ("u", argon2("testpass", lanes=4), ("u", "testpass"), True),
        ("u", argon2("testpass"), ("u", argon2("testpass")), False),  # the hash is not the password
        ("u", argon2("testpass"), ("u", ""), False),
        (SHA256_USER, argon2("testpass"), ("testuser", "testpass"), True),
        (argon2("testuser"), "p", ("testuser", "p"), True),
    ],
)
async def test_credentials(user: str, password: str, given: tuple[str, str], expected: bool) -> None:
    control = access({"user": user, "pass": password, "permissions": [may("read")]})
    assert await is_allowed(control, *given) is expected
    assert await is_allowed(control, *given) is expected
    control.close()


@pytest.mark.parametrize(
    ("action", "rule", "path", "expected"),
    [
        ("read", "", "cam", True),
        ("read", "cam", "cam", True),
        ("read", "cam", "cam2", False),
        ("read", "~^cam", "cam2", True),
        ("read", "~am2$", "cam2", True),
        ("read", "~a", "cam2", True),  # not anchored
        ("read", "~^a", "cam2", False),
        ("read", "~(", "(", False),  # invalid: matches nothing
        ("publish", "", "cam", False),
        ("playback", "", "cam", False),
    ],
)
def test_permissions(action: str, rule: str, path: str, expected: bool) -> None:
    assert Permission(action=Action(action), path=rule).allows(Action.READ, path) is expected


def test_the_path_of_a_permission_for_a_service_says_nothing() -> None:
    assert Permission(action=Action.API, path="cam").allows(Action.API, "")


@pytest.mark.parametrize("action", list(Action))
async def test_every_action_has_a_permission_of_its_own(action: Action) -> None:
    control = access({"user": "u", "pass": "p", "permissions": [may(action.value)]})
    for other in Action:
        assert await is_allowed(control, "u", "p", action=other) is (other is action)


async def test_addresses() -> None:
    control = access(
        {"user": "u", "pass": "p", "ips": ["10.0.0.0/8", "2001:db8::1"], "permissions": [may("read")]},
        {"user": "any", "ips": ["127.0.0.1", "::1"], "permissions": [may("api")]},
    )
    for address, expected in (
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::1", True),
        ("11.1.1.1", False),
    ):
        assert await is_allowed(control, "u", "p", address=address) is expected, address
    for address, expected in (("127.0.0.1", True), ("::1", True), ("10.1.2.3", False)):
        assert await is_allowed(control, action=Action.API, address=address) is expected, address


async def test_the_first_user_with_everything_counts_and_others_are_skipped() -> None:
    control = access(
        {"user": "u", "pass": "old", "permissions": [may("read")]},
        {"user": "u", "pass": "new", "permissions": [may("read"), may("publish", "mine")]},
    )
    assert await is_allowed(control, "u", "old")
    assert await is_allowed(control, "u", "new")
    assert not await is_allowed(control, "u", "old", action=Action.PUBLISH, path="mine")
    assert await is_allowed(control, "u", "new", action=Action.PUBLISH, path="mine")
    assert not await is_allowed(control, "u", "new", action=Action.PUBLISH, path="yours")


async def test_nobody_may_do_anything_without_users() -> None:
    control = access()
    for action in Action:
        assert not await is_allowed(control, action=action)
        assert not control.is_open(action, "cam")


def test_what_is_open_to_anybody() -> None:
    control = access(
        {"user": "any", "permissions": [may("read", "public")]},
        {"user": "any", "ips": ["127.0.0.1"], "permissions": [may("api")]},
        {"user": "u", "pass": "p", "permissions": [may("read"), may("metrics")]},
    )
    assert control.is_open(Action.READ, "public", PathConfiguration())
    assert not control.is_open(Action.READ, "cam", PathConfiguration())
    assert not control.is_open(Action.PUBLISH, "public", PathConfiguration())
    assert not control.is_open(Action.API)
    assert not control.is_open(Action.METRICS)
    default = AccessControl()
    assert all(default.is_open(action, "cam") for action in Action)


@pytest.mark.parametrize(("password", "offers_digest"), [("p", True), (SHA256_PASSWORD, False), (argon2("p"), False)])
async def test_digest_is_offered_if_it_can_prove_the_password(password: str, offers_digest: bool) -> None:
    control = access({"user": "u", "pass": password, "permissions": [may("read")]})
    server = ServerAuthenticator("nonce")
    header = ClientAuthenticator("u", "p").authorize(server.challenges()[1:], "DESCRIBE", "rtsp://h/cam")
    given = GivenCredentials(server, "DESCRIBE", "rtsp://h/cam", header)
    request = AccessRequest(Action.READ, "cam", "", "127.0.0.1", given)
    if offers_digest:
        await control.check(request, PathConfiguration())
    else:
        with pytest.raises(AccessDenied):
            await control.check(request, PathConfiguration())
    assert given.needs_basic is not offers_digest


async def test_one_hashed_user_among_others_leaves_only_basic() -> None:
    control = access(
        {"user": "a", "pass": SHA256_PASSWORD, "permissions": [may("read")]},
        {"user": "b", "pass": "p", "permissions": [may("read")]},
    )
    given = GivenCredentials(ServerAuthenticator("nonce"), "DESCRIBE", "rtsp://h/cam", None)
    with pytest.raises(AccessDenied):
        await control.check(AccessRequest(Action.READ, "cam", "", "127.0.0.1", given), PathConfiguration())
    assert given.needs_basic


OTHER = [{"user": "u", "pass": "p", "permissions": [{"action": "read"}]}]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"authInternalUsers": [{"user": ""}]}, "empty usernames are not supported"),
        ({"authInternalUsers": [{"user": "any", "pass": "p"}]}, "using a password with 'any' user is not supported"),
        ({"authInternalUsers": [{"pass": "p"}]}, "user is missing"),
        ({"authInternalUsers": [{"user": "u", "permissions": [{"action": "watch"}]}]}, "invalid auth action: 'watch'"),
        ({"authInternalUsers": [{"user": "u", "permissions": [{"path": "x"}]}]}, "action is missing"),
        ({"authInternalUsers": [{"user": "a b"}]}, "credential contains unsupported characters. Supported are: A-Z,"),
        ({"authInternalUsers": [{"user": "u", "pass": "argon2:x"}]}, "invalid argon2 hash"),
        (
            {"authInternalUsers": [{"user": "u", "pass": "argon2:$argon2d$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$" + "a" * 43}]},
            "",
        ),
        (
            {"authInternalUsers": OTHER, "paths": {"x": {"readUser": "a", "readPass": "b"}}},
            "'authInternalUsers', which",
        ),
        ({"authInternalUsers": OTHER, "externalAuthenticationURL": "http://h/"}, "which decides alone"),
        ({"authInternalUsers": OTHER, "apiUser": "a", "apiPass": "b"}, "its permission is 'api'"),
    ],
)
def test_errors(values: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_mapping(values)
    assert error in str(caught.value)


def test_all_characters_of_a_login() -> None:
    text = "azAZ09!$()*+.;<=>[]^_-{}@#&"
    users = from_mapping({"authInternalUsers": [{"user": text, "pass": text}]}).auth_internal_users
    assert (users[0].user, users[0].pass_) == (text, text)
