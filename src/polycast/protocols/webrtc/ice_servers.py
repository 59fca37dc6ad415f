"""The STUN and TURN servers that clients use, and those that the server itself uses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable
from typing import Annotated, Final

from msgspec import Meta, Struct

from polycast.config.kinds import parse_each
from polycast.config.redact import HIDDEN, redact
from polycast.config.spelling import yaml_key
from polycast.config.struct_lists import StructListKind
from polycast.errors import ConfigurationError

TIMED_CREDENTIALS: Final = "AUTH_SECRET"
"""The user name that stands for credentials which are made for each client and expire."""

CREDENTIALS_SECONDS: Final = 24 * 3600
"""How long they are valid."""

_EXAMPLE: Final = '{"url": "turn:turn.example.com:3478", "username": "user", "password": "password"}'

# RFC 7064 section 3.1, RFC 7065 section 3.1. A browser that finds any other address refuses to connect at all.
_HOST: Final = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
_STUN_ADDRESS = re.compile(rf"stun:{_HOST}(?::([0-9]{{1,5}}))?", re.ASCII)
_TURN_ADDRESS = re.compile(rf"turns?:{_HOST}(?::([0-9]{{1,5}}))?(?:\?transport=(?:udp|tcp))?", re.ASCII)


class IceServer(Struct, frozen=True, kw_only=True, rename=yaml_key):
    """A STUN or TURN server."""

    url: Annotated[str, Meta(description="'stun:host:port', 'turn:host:port' or 'turns:host:port'.")]
    username: Annotated[
        str, Meta(description="User of a TURN server, or AUTH_SECRET for credentials that are valid for a day.")
    ] = ""
    password: Annotated[
        str, Meta(description="Password of the user; with AUTH_SECRET, the secret shared with the TURN server.")
    ] = ""
    client_only: Annotated[bool, Meta(description="Whether only clients use it, not the server itself.")] = False

    def __repr__(self) -> str:
        password = HIDDEN if self.password else ""
        return f"IceServer(url={self.url!r}, username={self.username!r}, password={password!r})"

    def credentials(self, now: float) -> tuple[str, str]:
        """Return user and password, generated now if they expire. ``now`` is Unix time in seconds."""
        if self.username == TIMED_CREDENTIALS:
            return timed_credentials(self.password, now)
        return self.username, self.password

    def link(self, now: float) -> bytes:
        """Return the value of a Link header (RFC 9725 section 4.6). ``now`` is Unix time in seconds."""
        text = f'<{self.url}>; rel="ice-server"'
        if self.username:
            user, password = self.credentials(now)
            text += f'; username={json.dumps(user)}; credential={json.dumps(password)}; credential-type="password"'
        return text.encode("ascii")


def timed_credentials(secret: str, now: float) -> tuple[str, str]:
    """Return user and password for a TURN server that shares a secret with this server; they are valid for a day.

    ``now`` is Unix time in seconds. The scheme is that of draft-uberti-behave-turn-rest-00.
    """
    user = f"{int(now) + CREDENTIALS_SECONDS}:{secrets.token_hex(10)}"
    digest = hmac.digest(secret.encode(), user.encode(), hashlib.sha1)
    return user, base64.b64encode(digest).decode()


def check_ice_server(server: IceServer) -> None:
    """Raise ConfigurationError if browsers would refuse to use a server."""
    match = _STUN_ADDRESS.fullmatch(server.url) or _TURN_ADDRESS.fullmatch(server.url)
    if match is None or not 0 < int(match[1] or 1) < 65536:
        raise ConfigurationError(
            f"invalid ICE server: '{_redacted(server.url)}' (write stun:host:port, turn:host:port or turns:host:port; "
            "turn and turns may end with ?transport=udp or ?transport=tcp)"
        )
    if server.url.startswith("turn") and not (server.username and server.password):
        raise ConfigurationError(f"'{server.url}' needs username and password: browsers use no TURN server without")
    try:
        f"{server.username}{server.password}".encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"username and password of '{server.url}' are not UTF-8") from None


def _redacted(url: str) -> str:
    """Return an invalid URL without a password that may be in it, also in the form of ``webrtcICEServers``."""
    if url.count(":") > 2 and "[" not in url and "@" not in url:
        return f"{url.partition(':')[0]}:{HIDDEN}"
    return redact(url)


def parse_old_ice_servers(texts: Iterable[str]) -> tuple[IceServer, ...]:
    """Parse the items of ``webrtcICEServers``: ``scheme:host:port`` or ``scheme:user:password:host:port``.

    Raises ConfigurationError, which contains no password.
    """
    return tuple(parse_each(lambda numbered: _parse_old_ice_server(*numbered), enumerate(texts, 1)))


def _parse_old_ice_server(number: int, text: str) -> IceServer:
    parts = text.split(":")
    if len(parts) == 5 and "[" not in text:
        scheme, user, password, host, port = parts
        server = IceServer(url=f"{scheme}:{host}:{port}", username=user, password=password)
    elif len(parts) <= 3 or "[" in text:
        server = IceServer(url=text)
    else:
        raise ConfigurationError(
            f"item {number} has {len(parts)} parts (write scheme:host:port or scheme:user:password:host:port, or "
            "use webrtcICEServers2)"
        )
    check_ice_server(server)
    return server


ICE_SERVERS: Final = StructListKind(IceServer, check_ice_server, _EXAMPLE)
