"""The login of publishers: what FFmpeg, GStreamer and librtmp answered to challenges made with a fixed secret."""

from __future__ import annotations

import pytest
from tests.wire.rtmp.support import SEED, SIMPLE_HANDSHAKE, Pair, messages_of, wire

from polycast.wire.rtmp.address import parse_url
from polycast.wire.rtmp.amf import Value
from polycast.wire.rtmp.client import ClientConnection, Mode
from polycast.wire.rtmp.events import ConnectRequested, Event, LoginRequested, PublishRequested
from polycast.wire.rtmp.login import CHALLENGE_SECONDS, ClientLogin, Login, LoginMethod, Response
from polycast.wire.rtmp.messages import Command
from polycast.wire.rtmp.server import ServerConnection
from polycast.wire.rtmp.states import State

TOKEN = "00000000000003e8d00c73133d79884cda2a7c57a0f1c923"
ADOBE = "?authmod=adobe&user=me"
LLNW = f"?authmod=llnw&user=me&nonce={TOKEN}&nc=00000001"

# Applications as the programs sent them, with user "me" and password "secret".
CAPTURED = [
    ("FFmpeg 9", f"live{ADOBE}&challenge=03fea205&response=nSKuiq51NrzxshjFSGxP+g==&opaque={TOKEN}"),
    ("GStreamer", f"live{ADOBE}&challenge=9d58394e&response=+sZYCtqlZaEmFokVq5K+Zg==&opaque={TOKEN}"),
    ("FFmpeg 9", f"live/one{ADOBE}&challenge=cc07f451&response=yrCDkGDWZ6fTdwn4AFd9GA==&opaque={TOKEN}"),
    # Debian's librtmp, with a part of what it writes past the ends of the values.
    (
        "librtmp",
        f"live{ADOBE}&challenge=rOH4Qw==\ufffdCR\x07y/03i&response=y/03iX1MsWI13V/6NR5MRQ==\ufffd\x13&opaque={TOKEN}",
    ),
    ("FFmpeg 9", f"live{LLNW}&cnonce=f6d20ca3&response=5045fede134ad5761f9ec8c296f8e4cd"),
    ("FFmpeg 9", f"live/one{LLNW}&cnonce=64c67751&response=1786c5a54ba156ba109689d3fd7f4266"),
    ("librtmp", f"live{LLNW}&cnonce=43f8e1ac&response=decfceab59d7f5f421a7be88ea89421e"),
    ("librtmp", f"live/one{LLNW}&cnonce=43f8e1ac&response=1caf8c001866b9bf42c3cb2dd5c40d07"),
]


def login(*methods: LoginMethod) -> Login:
    return Login(bytes(range(32)), methods or tuple(LoginMethod))


@pytest.mark.parametrize(("program", "app"), CAPTURED)
def test_what_programs_answer(program: str, app: str) -> None:
    response = login().check(app, 1000.0 + CHALLENGE_SECONDS)
    assert isinstance(response, Response), program
    assert response.user == "me"
    assert response.is_made_with("secret")
    assert not response.is_made_with("Secret")
    assert not response.is_made_with("")


@pytest.mark.parametrize(("program", "app"), CAPTURED)
def test_old_and_foreign_challenges_are_refused(program: str, app: str) -> None:
    for outcome in (
        login().check(app, 1002.0 + CHALLENGE_SECONDS),
        login().check(app, 999.0),
        Login(bytes(32), tuple(LoginMethod)).check(app, 1000.0),
        login().check(app.replace(TOKEN, TOKEN[:-1] + "0"), 1000.0),
        login().check(app.replace(TOKEN, "nonsense\ud800"), 1000.0),
        login().check(app.replace(TOKEN, ""), 1000.0),
    ):
        assert isinstance(outcome, str), program
        assert "?reason=authfailed" in outcome


def test_the_user_is_part_of_the_response() -> None:
    response = login().check(CAPTURED[0][1].replace("user=me", "user=you"), 1000.0)
    assert isinstance(response, Response)
    assert not response.is_made_with("secret")


def publisher(server: ServerConnection, app: str, **more: Value) -> list[Event]:
    values: dict[str, Value] = {"app": app, "tcUrl": f"rtmp://h/{app}", "type": "nonprivate", **more}
    return server.receive_data(SIMPLE_HANDSHAKE + wire(20, Command("connect", 1.0, values).payload()), 1000.0)


def new_server(*methods: LoginMethod) -> ServerConnection:
    return ServerConnection(1000.0, seed=SEED, login=Login(bytes(range(32)), methods))


def rejection(server: ServerConnection) -> str:
    (message,) = messages_of(server.data_to_send())
    assert isinstance(message, Command)
    assert (message.name, message.transaction_id) == ("_error", 1.0)
    information = message.arguments[0]
    assert isinstance(information, dict)
    assert (information["level"], information["code"]) == ("error", "NetConnection.Connect.Rejected")
    return str(information["description"])


def test_the_dialogue() -> None:
    server = new_server(LoginMethod.ADOBE)
    assert publisher(server, "live") == [LoginRequested()]
    assert rejection(server) == "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : "
    assert server.state is State.CLOSED

    server = new_server(LoginMethod.ADOBE)
    assert publisher(server, "live?authmod=adobe&user=me") == [LoginRequested()]
    words = rejection(server)
    start = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=me&salt="
    assert words.startswith(start)
    assert words[len(start) + 8 :] == f"&challenge={TOKEN}&opaque={TOKEN}"

    server = new_server(LoginMethod.ADOBE)
    (event,) = publisher(server, CAPTURED[0][1])
    assert isinstance(event, ConnectRequested)
    (event,) = server.receive_data(wire(20, Command("publish", 2.0, None, ("cam", "live")).payload()), 1000.0)
    assert isinstance(event, PublishRequested)
    assert [target.path for target in event.targets] == ["live/cam"]
    assert event.login is not None
    assert event.login.is_made_with("secret")


@pytest.mark.parametrize(
    ("methods", "app", "more"),
    [
        ((), "live", {}),
        ((), "live?authmod=adobe&user=me", {}),
        ((LoginMethod.ADOBE,), "live?user=me&pass=secret", {}),
        ((LoginMethod.ADOBE,), "live?x=1&user=me&pass=secret", {}),
        ((LoginMethod.ADOBE,), "live", {"type": "", "flashVer": "LNX 9,0,124,2"}),
    ],
    ids=["not configured", "not configured, asked for", "query", "query with more", "player"],
)
def test_who_is_not_asked(methods: tuple[LoginMethod, ...], app: str, more: dict[str, Value]) -> None:
    (event,) = publisher(new_server(*methods), app, **more)
    assert isinstance(event, ConnectRequested)


def test_publishers_are_also_detected_by_their_version() -> None:
    assert publisher(new_server(LoginMethod.LLNW), "live", type="", flashVer="FMLE/3.0") == [LoginRequested()]


def test_a_method_that_is_not_configured_is_answered_with_one_that_is() -> None:
    server = new_server(LoginMethod.LLNW)
    assert publisher(server, "live?authmod=adobe") == [LoginRequested()]
    assert "code=403 need auth; authmod=llnw" in rejection(server)


def connect_and_publish(method: LoginMethod, url: str, login: ClientLogin) -> list[Event]:
    """Return what the server and the client tell of one connection."""
    client = ClientConnection(parse_url(url), Mode.PUBLISH, 1000.0, seed=SEED, login=login)
    pair = Pair(client, new_server(method))
    pair.now = 1000.0
    pair.exchange()
    return [event for event in pair.server_events + pair.client_events if not isinstance(event, ConnectRequested)]


@pytest.mark.parametrize("method", LoginMethod)
@pytest.mark.parametrize("app", ["live", "live/one"])
@pytest.mark.parametrize(("password", "is_right"), [("p%40ss", True), ("wrong", False)])
def test_our_clients_log_in(method: LoginMethod, app: str, password: str, is_right: bool) -> None:
    url = f"rtmp://me:{password}@h/{app}/cam?x=1"
    address = parse_url(url)
    login = ClientLogin(address.user, address.password, address.app, "01234567")
    for _ in range(2):
        assert connect_and_publish(method, url, login) == [LoginRequested(), LoginRequested()]
    (event,) = connect_and_publish(method, url, login)
    assert isinstance(event, PublishRequested)
    assert event.stream_key == "cam?x=1"
    assert event.login is not None
    assert event.login.is_made_with("p@ss") == is_right


@pytest.mark.parametrize("app", [app for program, app in CAPTURED if program != "librtmp"])
def test_our_clients_answer_like_others(app: str) -> None:
    path, _, query = app.partition("?")
    fields = dict(field.partition("=")[::2] for field in query.split("&"))
    server = login()
    challenge = server.check(f"{path}?authmod={fields['authmod']}&user=me", 1000.0)
    assert isinstance(challenge, str)
    client = ClientLogin("me", "secret", path, fields.get("cnonce") or fields["challenge"])
    assert client.answer(challenge)
    assert dict(field.partition("=")[::2] for field in client.query[1:].split("&")) == fields


@pytest.mark.parametrize(
    "description",
    [
        "",
        "no such application",
        "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=authfailed",
        "[ AccessManager.Reject ] : [ code=403 need auth; authmod=other ] : ",
    ],
)
def test_rejections_that_no_login_resolves(description: str) -> None:
    assert not ClientLogin("me", "secret", "live", "01234567").answer(description)


def test_a_login_ends() -> None:
    client = ClientLogin("me", "secret", "live", "01234567")
    server = login(LoginMethod.ADOBE)
    need, challenge = server.request(), server.check("live?authmod=adobe&user=me", 0.0)
    assert isinstance(challenge, str)
    assert [client.answer(need), client.answer(need), client.answer(challenge)] == [True, False, True]
    assert not any((client.answer(need), client.answer(challenge)))
    assert not ClientLogin("", "", "live", "01234567").answer(need)
