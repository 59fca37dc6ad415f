"""The login of publishers in ``connect``: Adobe's and Limelight's ``authmod``, supported by OBS, FFmpeg and GStreamer.

Neither is specified; both follow the behaviour of clients. The server rejects ``connect`` with different texts. Each
time, the client reconnects, on another TCP connection, with a longer query after the application:

- without a query: ``code=403 need auth; authmod=adobe``, which asks for the user,
- ``?authmod=adobe&user=U``: ``?reason=needauth`` with a salt or nonce, from which the client computes its response,
- ``?authmod=adobe&user=U&challenge=C&response=R&opaque=O``: the `Response`.

The path, and therefore the password, is only known when the client publishes: the response is kept until then. No state
is kept between the connections: what a client returns contains its time and a signature of this server.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

CHALLENGE_SECONDS: Final = 60
"""How long a client may take to answer; clients answer at once."""

_TIME_DIGITS: Final = 16
_SIGNATURE_DIGITS: Final = 32
_SALT_DIGITS: Final = 8
_NONCE_SIZE: Final = 8
"""Characters of the number that a client adds in Adobe's method: 32 bits, in base64 or hexadecimal."""

_RESPONSE_SIZE: Final = 24
"""Characters of an MD5 sum in base64."""

_REALM: Final = "live"
_METHOD: Final = "publish"
_FIRST_COUNT: Final = "00000001"
_DEFAULT_INSTANCE: Final = "/_definst_"


class LoginMethod(StrEnum):
    """The values of ``authmod``."""

    ADOBE = "adobe"
    LLNW = "llnw"


@dataclass(frozen=True, slots=True)
class Response:
    """A client's response to a challenge of this server."""

    method: LoginMethod
    user: str
    salt: str
    """For Adobe's method."""
    nonce: str
    client_nonce: str
    count: str
    """For Limelight's method."""
    app: str
    """The application without its query."""
    response: str

    def is_made_with(self, password: str) -> bool:
        """Whether the client knows the password."""
        compute = _adobe if self.method is LoginMethod.ADOBE else _llnw
        return hmac.compare_digest(compute(self, password).encode(), self.response.encode())


def _adobe(response: Response, password: str) -> str:
    salted = _base64_md5(f"{response.user}{response.salt}{password}")
    return _base64_md5(f"{salted}{response.nonce}{response.client_nonce}")


def _llnw(response: Response, password: str) -> str:
    """HTTP Digest (RFC 2617) with fixed realm, method and quality of protection."""
    app = response.app if "/" in response.app else response.app + _DEFAULT_INSTANCE
    first = _hex_md5(f"{response.user}:{_REALM}:{password}")
    second = _hex_md5(f"{_METHOD}:/{app}")
    return _hex_md5(f"{first}:{response.nonce}:{response.count}:{response.client_nonce}:auth:{second}")


def _base64_md5(text: str) -> str:
    return b64encode(hashlib.md5(text.encode(), usedforsecurity=False).digest()).decode()


def _hex_md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class Login:
    """Creates and recognises challenges. One per server; ``secret``: secret random bytes."""

    def __init__(self, secret: bytes, methods: tuple[LoginMethod, ...] = ()) -> None:
        self._secret = secret
        self.methods = methods
        """The methods that clients may use; clients that name none are asked for the first one."""

    def check(self, app: str, now: float) -> Response | str | None:
        """Return the response in the query of an application; or the text with which the connection is rejected; or
        None if the client does not log in."""
        path, _, query = app.partition("?")
        # The values are not decoded: base64 has plus signs.
        fields = dict(field.partition("=")[::2] for field in query.split("&"))
        method = next((method for method in self.methods if method == fields.get("authmod")), None)
        if method is None:
            return None
        user = fields.get("user", "")
        if "response" not in fields:
            return self._challenge(method, user, int(now))
        token = fields.get("opaque" if method is LoginMethod.ADOBE else "nonce", "")
        if not self._is_valid(token, now):
            return _rejection(method, "?reason=authfailed")
        response = fields["response"]
        if method is LoginMethod.LLNW:
            return Response(method, user, "", token, fields.get("cnonce", ""), fields.get("nc", ""), path, response)
        # Debian's librtmp writes beyond the end of both values.
        client_nonce, response = fields.get("challenge", "")[:_NONCE_SIZE], response[:_RESPONSE_SIZE]
        return Response(method, user, self._salt(token), token, client_nonce, "", path, response)

    def request(self) -> str:
        """Return the text that asks a client to log in."""
        return f"[ AccessManager.Reject ] : [ code=403 need auth; authmod={self.methods[0]} ] : "

    def _challenge(self, method: LoginMethod, user: str, seconds: int) -> str:
        token = self._token(seconds)
        if method is LoginMethod.ADOBE:
            parameters = f"salt={self._salt(token)}&challenge={token}&opaque={token}"
        else:
            parameters = f"nonce={token}"
        return _rejection(method, f"?reason=needauth&user={user}&{parameters}")

    def _token(self, seconds: int) -> str:
        time = f"{seconds:0{_TIME_DIGITS}x}"
        return time + self._sign(time)[:_SIGNATURE_DIGITS]

    def _salt(self, token: str) -> str:
        return self._sign("salt" + token)[:_SALT_DIGITS]

    def _sign(self, text: str) -> str:
        return hmac.new(self._secret, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def _is_valid(self, token: str, now: float) -> bool:
        try:
            seconds = int(token[:_TIME_DIGITS], 16)
        except ValueError:
            return False
        is_ours = hmac.compare_digest(self._token(seconds).encode(), token.encode("utf-8", "replace"))
        return is_ours and 0 <= now - seconds <= CHALLENGE_SECONDS + 1


class ClientLogin:
    """The client's side: the query to reconnect with after a rejection. One for all connections of an attempt.

    ``nonce``: eight characters that were not used before.
    """

    def __init__(self, user: str, password: str, app: str, nonce: str) -> None:
        self.query = ""
        """The query to append to the application, with its question mark."""
        self._user = user
        self._password = password
        self._app = app
        self._nonce = nonce
        self._has_answered = False

    def answer(self, description: str) -> bool:
        """Process the description of a rejection; return whether to reconnect, with another `query`."""
        method = next((method for method in LoginMethod if f"authmod={method}" in description), None)
        if method is None or not self._user or self._has_answered:
            return False
        start = f"?authmod={method}&user={self._user}"
        if "code=403 need auth" in description and not self.query:
            self.query = start
            return True
        _, found, challenge = description.partition("?reason=needauth")
        if not found:
            return False
        self._has_answered = True
        self.query = start + self._respond(method, challenge)
        return True

    def _respond(self, method: LoginMethod, challenge: str) -> str:
        fields = dict(field.partition("=")[::2] for field in challenge.strip().split("&"))
        if method is LoginMethod.ADOBE:
            opaque = fields.get("opaque", "")
            token = opaque or fields.get("challenge", "")
            response = Response(method, self._user, fields.get("salt", ""), token, self._nonce, "", self._app, "")
            end = f"&opaque={opaque}" if opaque else ""
            return f"&challenge={self._nonce}&response={_adobe(response, self._password)}{end}"
        token = fields.get("nonce", "")
        response = Response(method, self._user, "", token, self._nonce, _FIRST_COUNT, self._app, "")
        answer = _llnw(response, self._password)
        return f"&nonce={token}&cnonce={self._nonce}&nc={_FIRST_COUNT}&response={answer}"


def _rejection(method: LoginMethod, words: str) -> str:
    return f"[ AccessManager.Reject ] : [ authmod={method} ] : {words}"
