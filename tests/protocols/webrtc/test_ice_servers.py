"""STUN and TURN servers for clients: settings, Link headers, and credentials that expire."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from typing import Any

import pytest
from tests.protocols.webrtc.support import WEBRTC, running
from tests.protocols.webrtc.test_signalling import PUBLISH, SDP

from polycast.config import Configuration, from_mapping, load_bytes, to_jsonable, update
from polycast.config.edits import SetKeys
from polycast.config.persist import edit_content
from polycast.errors import ConfigurationError
from polycast.protocols.webrtc.configuration import WebRtcConfiguration
from polycast.protocols.webrtc.ice_servers import IceServer

TURN = "turn:turn.example.com:3478"
SECRET = "hunter2"
FULL = {"url": f"{TURN}?transport=tcp", "username": "u", "password": SECRET, "clientOnly": True}
DEFAULTS = {"username": "", "password": "", "clientOnly": False}


def servers(configuration: Configuration) -> tuple[IceServer, ...]:
    return configuration[WebRtcConfiguration].ice_servers


def configured(*items: dict[str, Any]) -> tuple[IceServer, ...]:
    return servers(from_mapping({"webrtcICEServers2": items}))


def links(response: Any) -> list[str]:
    return [value for name, value in response.headers.multi_items() if name.lower() == "link"]


LINKS = [
    ({"url": "stun:stun.example.com:3478"}, '<stun:stun.example.com:3478>; rel="ice-server"'),
    ({"url": "stun:[2001:db8::1]"}, '<stun:[2001:db8::1]>; rel="ice-server"'),
    (
        {"url": f"{TURN}?transport=udp", "username": "u", "password": "p"},
        f'<{TURN}?transport=udp>; rel="ice-server"; username="u"; credential="p"; credential-type="password"',
    ),
    (
        {"url": "turns:10.0.0.1", "username": 'a"b', "password": "c\\d, <e>; \u00e9\n", "clientOnly": True},
        r'<turns:10.0.0.1>; rel="ice-server"; username="a\"b"; credential="c\\d, <e>; \u00e9\n"; '
        'credential-type="password"',
    ),
]


@pytest.mark.parametrize(("server", "link"), LINKS)
async def test_servers_are_in_the_responses(server: dict[str, Any], link: str) -> None:
    async with running(webrtcICEServers2=[server, {"url": "stun:last"}]) as fixture:
        options = await fixture.http.options("/cam/whep")
        assert links(options) == [link, '<stun:last>; rel="ice-server"']
        assert options.headers["access-control-expose-headers"] == "Accept-Post, Link"
        post = await fixture.http.post("/cam/whip", content=PUBLISH, headers=SDP)
        assert post.status_code == 201
        assert links(post) == links(options)
        exposed = post.headers["access-control-expose-headers"]
        assert exposed == "ETag, ID, Accept-Patch, Link, Location, Polycast-Notice"


async def test_nothing_is_revealed_without_credentials() -> None:
    paths = {"cam": {"readUser": "u", "readPass": "p", "publishUser": "u", "publishPass": "p"}}
    async with running(webrtcICEServers2=[FULL], paths=paths) as fixture:
        preflight = {"Access-Control-Request-Method": "POST"}
        for endpoint in ("/cam/whep", "/cam/whip"):
            for response, status in (
                (await fixture.http.options(endpoint), 401),
                (await fixture.http.post(endpoint, content=PUBLISH, headers=SDP), 401),
                (await fixture.http.options(endpoint, auth=("u", "wrong")), 401),
                (await fixture.http.options(endpoint, headers=preflight), 204),
            ):
                assert response.status_code == status
                assert not links(response)
                assert SECRET not in str(response.headers) + response.text
            assert len(links(await fixture.http.options(endpoint, auth=("u", "p")))) == 1
        assert not [line for line in fixture.log.lines if SECRET in line]


def hmac_sha1(key: bytes, message: bytes) -> bytes:
    """HMAC as RFC 2104 section 2 defines it, for keys of up to 64 bytes."""
    inner, outer = (bytes(byte ^ pad for byte in key.ljust(64, b"\0")) for pad in (0x36, 0x5C))
    return hashlib.sha1(outer + hashlib.sha1(inner + message).digest()).digest()


async def test_credentials_expire_and_differ_by_client() -> None:
    # RFC 2202 section 3, test case 2.
    assert hmac_sha1(b"Jefe", b"what do ya want for nothing?").hex() == "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
    timed = {"url": TURN, "username": "AUTH_SECRET", "password": SECRET}
    async with running(webrtcICEServers2=[timed]) as fixture:
        before = int(time.time())
        seen = set()
        for _ in range(2):
            (link,) = links(await fixture.http.options("/cam/whep"))
            assert SECRET not in link
            match = re.fullmatch(
                rf'<{TURN}>; rel="ice-server"; username="(([0-9]+):[a-zA-Z0-9]{{20}})"; '
                r'credential="([A-Za-z0-9+/=]+)"; credential-type="password"',
                link,
            )
            assert match is not None, link
            assert before <= int(match[2]) - 24 * 3600 <= time.time()
            assert base64.b64decode(match[3]) == hmac_sha1(SECRET.encode(), match[1].encode())
            seen.add(match[1])
        assert len(seen) == 2


async def test_new_servers_are_used_without_a_restart() -> None:
    async with running() as fixture:
        assert not links(await fixture.http.options("/cam/whep"))
        server = fixture.server
        server.apply(from_mapping({**WEBRTC, "webrtcICEServers2": [{"url": "stun:new"}]}))
        assert links(await fixture.http.options("/cam/whep")) == ['<stun:new>; rel="ice-server"']


REFUSED = [
    ({"url": "http://a"}, "invalid ICE server: 'http://a' (write stun:host:port, turn:host:port or turns:host:port;"),
    ({"url": "stun://a:3478"}, "invalid ICE server"),
    ({"url": "stun:"}, "invalid ICE server"),
    ({"url": "stun:a b"}, "invalid ICE server"),
    ({"url": 'stun:a>; rel="x'}, "invalid ICE server"),
    ({"url": "stun:a:0"}, "invalid ICE server"),
    ({"url": "stun:a:65536"}, "invalid ICE server"),
    ({"url": "stun:a?transport=udp"}, "invalid ICE server"),
    ({"url": "turn:a?transport=sctp", "username": "u", "password": SECRET}, "invalid ICE server"),
    ({"url": f"turn:u:{SECRET}@a:3478"}, "invalid ICE server: 'turn:***@a:3478'"),
    ({"url": f"turn:u:{SECRET}:a:3478"}, "invalid ICE server: 'turn:***'"),
    ({"url": TURN}, f"'{TURN}' needs username and password"),
    ({"url": TURN, "username": "AUTH_SECRET"}, f"'{TURN}' needs username and password"),
    ({"url": TURN, "password": SECRET}, f"'{TURN}' needs username and password"),
    ({"url": TURN, "username": "u", "password": f"{SECRET}\udcff"}, "are not UTF-8"),
    ({"url": TURN, "username": ["u"]}, "item 1: username: a list is not a text"),
    ({"url": "stun:a", "clientOnly": "perhaps"}, "item 1: clientOnly: 'perhaps' is neither yes nor no"),
    ({"url": "stun:a", "pasword": SECRET}, "item 1: non-existent parameter: 'pasword' (did you mean 'password'?)"),
    ({"url": "stun:a", f"password:{SECRET}": None}, "item 1: non-existent parameter: 'password:***'"),
    ({"username": "u", "password": SECRET}, "item 1: url is missing"),
    (f"stun:{SECRET}", "item 1 is not a map (write {"),
]


@pytest.mark.parametrize(("item", "message"), REFUSED)
def test_invalid_servers(item: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_mapping({"webrtcICEServers2": [item]})
    text = str(caught.value)
    assert text.startswith("webrtcICEServers2: ")
    assert message in text
    assert SECRET not in text


@pytest.mark.parametrize(
    "value", [SECRET, f'["{SECRET}"', {"url": "stun:a"}, f'{{"password": "{SECRET}"}}', 3, "[" * 100_000]
)
def test_not_a_list(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="not a list of maps") as caught:
        from_mapping({"webrtcICEServers2": value})
    assert SECRET not in str(caught.value)


def test_errors_name_the_line() -> None:
    text = "webrtc: yes\nwebrtcICEServers2:\n  - url: stun:a\n  - url: stun:b\n    pass: x\n"
    with pytest.raises(ConfigurationError, match="line 5: webrtcICEServers2: item 2: non-existent parameter: 'pass'"):
        load_bytes(text.encode(), {})
    with pytest.raises(ConfigurationError, match="line 4: webrtcICEServers2: invalid ICE server: 'b'"):
        load_bytes(text.replace("stun:b", "b").replace("    pass: x\n", "").encode(), {})


def test_file() -> None:
    text = (
        f"webrtcICEServers2:\n- url: {FULL['url']}\n  username: u\n  password: 0123\n  clientOnly: yes\n- url: stun:a\n"
    )
    expected = (
        IceServer(url=str(FULL["url"]), username="u", password="0123", client_only=True),
        IceServer(url="stun:a"),
    )
    assert servers(load_bytes(text.encode(), {}).configuration) == expected


OLD = [
    ("stun:stun.example.com:19302", IceServer(url="stun:stun.example.com:19302")),
    ("stun:[::1]:3478", IceServer(url="stun:[::1]:3478")),
    (f"turn:u:{SECRET}:host:3478", IceServer(url="turn:host:3478", username="u", password=SECRET)),
    ("turn:AUTH_SECRET:s:host:3478", IceServer(url="turn:host:3478", username="AUTH_SECRET", password="s")),
]


@pytest.mark.parametrize(("text", "server"), OLD)
def test_servers_as_text(text: str, server: IceServer) -> None:
    configuration = from_mapping({"webrtcICEServers": [text], "webrtcICEServers2": [{"url": "stun:first"}]})
    assert servers(configuration) == (IceServer(url="stun:first"), server)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"turn:u:{SECRET}:x:host:3478", "item 1 has 6 parts"),
        (f"turn:{SECRET}:host:3478", "item 1 has 4 parts"),
        (f"http:u:{SECRET}:host:3478", "invalid ICE server: 'http:host:3478'"),
        ("turn:host:3478", "needs username and password"),
        ("host", "invalid ICE server: 'host'"),
    ],
)
def test_invalid_servers_as_text(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_mapping({"webrtcICEServers": [text]})
    assert str(caught.value).startswith("webrtcICEServers: ")
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_json_form_and_changes_by_the_api() -> None:
    configuration = from_mapping({"webrtcICEServers2": [FULL, {"url": "stun:a"}]})
    values = json.loads(json.dumps(to_jsonable(configuration)))
    assert values["webrtcICEServers2"] == [FULL, {"url": "stun:a", **DEFAULTS}]
    assert from_mapping(values) == configuration
    changed = update(configuration, {"webrtcICEServers2": [{"url": "stun:b", "clientOnly": True}]})
    assert servers(changed) == (IceServer(url="stun:b", client_only=True),)
    assert servers(update(changed, {"webrtcICEServers2": None})) == ()


@pytest.mark.parametrize(
    "content",
    [
        "webrtcICEServers2:\n  - url: stun:a  # kept\n    password: x\nlogLevel: info\n",
        "webrtcICEServers2: [{url: stun:a}]\nlogLevel: info\n",
        "webrtcICEServers2: []\n# comment\n",
        "logLevel: info\n",
    ],
)
def test_changes_are_written_into_the_file(content: str) -> None:
    edit = SetKeys({"webrtcICEServers2": [FULL, {"url": "stun:b"}]})
    configuration = edit.apply(load_bytes(content.encode(), {}).configuration)
    written = edit_content(content.encode(), edit, configuration)
    assert load_bytes(written, {}).configuration == configuration
    assert servers(configuration)[1] == IceServer(url="stun:b")
    # The same values again change nothing.
    assert edit_content(written, edit, configuration) == written


def test_passwords_are_hidden_in_texts() -> None:
    configuration = from_mapping({"webrtcICEServers2": [FULL]})
    assert SECRET not in repr(configuration)
    assert SECRET not in str(servers(configuration))
    assert "password='***'" in repr(servers(configuration)[0])


NAME = "RTSP_WEBRTCICESERVERS2"
FILE = b"webrtcICEServers2: [{url: 'stun:a'}, {url: 'turn:b', username: u, password: p}]"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({NAME: json.dumps([FULL])}, [FULL]),
        ({NAME: ""}, []),
        ({f"{NAME}_0_URL": "stun:z"}, [{"url": "stun:z"}, {"url": "turn:b", "username": "u", "password": "p"}]),
        (
            {f"{NAME}_1_PASSWORD": "q", f"{NAME}_2_URL": "stun:c", f"{NAME}_2_CLIENTONLY": "yes"},
            [
                {"url": "stun:a"},
                {"url": "turn:b", "username": "u", "password": "q"},
                {"url": "stun:c", "clientOnly": True},
            ],
        ),
        ({NAME: "", f"{NAME}_0_URL": "stun:z"}, [{"url": "stun:z"}]),
        (
            {NAME: "", **{f"{NAME}_{index}_URL": f"stun:{index}" for index in range(12)}},
            [{"url": f"stun:{index}"} for index in range(12)],
        ),
    ],
)
def test_environment(variables: dict[str, str], expected: list[dict[str, Any]]) -> None:
    loaded = load_bytes(FILE, variables)
    assert servers(loaded.configuration) == configured(*expected)
    assert not loaded.warnings
    assert "webrtcICEServers2" in loaded.given


@pytest.mark.parametrize("suffix", ["_3_URL", "_0_NAME", "_-1_URL", "_00_URL", "_0", "_X_URL"])
def test_variables_that_are_no_settings(suffix: str) -> None:
    loaded = load_bytes(FILE, {NAME + suffix: "stun:z"})
    assert len(servers(loaded.configuration)) == 2
    assert [f"{NAME}{suffix} is not a setting" in warning for warning in loaded.warnings] == [True]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({f"{NAME}_0_URL": "z"}, f"{NAME}_...: invalid ICE server: 'z'"),
        ({f"{NAME}_2_PASSWORD": SECRET}, f"{NAME}_...: item 3: url is missing"),
        ({NAME: f"[{{{SECRET}}}]"}, f"{NAME}: not a list of maps"),
        ({NAME: f'[{{"url": "{TURN}", "password": "{SECRET}"}}]'}, f"{NAME}: '{TURN}' needs username"),
    ],
)
def test_errors_in_variables(variables: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_bytes(FILE, variables)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
