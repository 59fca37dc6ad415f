"""Checking and making RTSP credentials: Basic (RFC 7617) and Digest (RFC 2617, RFC 7616).

Nonces come from the caller: this module has no randomness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from hashlib import md5, sha256
from hmac import compare_digest
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.security.credentials import is_hashed, parse_basic, secret_matches
from polycast.wire.rtsp.headers.credentials import Authorization, WWWAuthenticate, parse_challenges
from polycast.wire.rtsp.url import names_same_resource


class AuthenticationMethod(StrEnum):
    """A scheme that is offered to clients; the values of the configuration's ``rtspAuthMethods``."""

    BASIC = "basic"
    DIGEST = "digest"


ALL_METHODS: Final = (AuthenticationMethod.BASIC, AuthenticationMethod.DIGEST)


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()


# In ascending order of strength; names in upper case.
_HASHES: Final[dict[str, Callable[[str], str]]] = {"MD5": _md5, "SHA-256": _sha256}


class ServerAuthenticator:
    """Challenges clients and verifies their credentials. One per connection, with its own nonce."""

    def __init__(
        self,
        nonce: str,
        realm: str = "IPCAM",
        methods: Sequence[AuthenticationMethod] = ALL_METHODS,
        *,
        offer_sha256: bool = False,
    ) -> None:
        """``offer_sha256`` adds a SHA-256 challenge before the MD5 one. SHA-256 answers are accepted in any case.

        Off by default, because old clients do not read the algorithm: FFmpeg 5.1 and GStreamer 1.22 manage with MD5
        as the last line (FFmpeg takes the last Digest line and gives up on SHA-256), cameras and recorders may not.
        """
        self._nonce = nonce
        self._realm = realm
        self._methods = tuple(methods)
        self._offer_sha256 = offer_sha256
        self.failures = 0
        """Consecutive requests that were answered with a challenge."""

    def challenges(self, hashed: bool = False) -> list[str]:
        """Return the values of the WWW-Authenticate headers, one for each line.

        ``hashed``: the user or the password is a ``sha256:`` one; then only Basic is offered, whatever is configured.
        """
        lines = []
        for method in (AuthenticationMethod.BASIC,) if hashed else self._methods:
            if method is AuthenticationMethod.BASIC:
                lines.append(WWWAuthenticate("Basic", self._realm).serialize())
                continue
            if self._offer_sha256:
                lines.append(WWWAuthenticate("Digest", self._realm, self._nonce, algorithm="SHA-256").serialize())
            # No algorithm means MD5, and is what every client reads.
            lines.append(WWWAuthenticate("Digest", self._realm, self._nonce).serialize())
        return lines

    def verify(self, authorization: str | None, method: str, url: str, user: str, password: str) -> bool:
        """Return whether the value of an Authorization header proves that the client knows user and password.

        ``method`` and ``url`` are those of the request line. Never raises for what the client sent.
        """
        if authorization is None:
            return False
        try:
            given = Authorization.parse(authorization)
        except RemoteProtocolError:
            return False
        hashed = is_hashed(user) or is_hashed(password)  # only Basic can prove those
        if given.scheme == "Basic":
            offered = hashed or AuthenticationMethod.BASIC in self._methods
            # Always compare both, so that the duration reveals nothing.
            user_matches = secret_matches(user, given.username)
            return secret_matches(password, given.password or "") and user_matches and offered
        is_accepted = not hashed and AuthenticationMethod.DIGEST in self._methods
        return is_accepted and self._verify_digest(given, method, url, user, password)

    def _verify_digest(self, given: Authorization, method: str, url: str, user: str, password: str) -> bool:
        if given.realm != self._realm or given.nonce != self._nonce or given.uri is None or given.response is None:
            return False
        if not names_same_resource(given.uri, url, method):
            return False
        expected = _digest_response(given, method, password)
        return (
            expected is not None
            and compare_digest(expected.encode(), given.response.lower().encode())
            and secret_matches(user, given.username)
        )


class GivenCredentials:
    """The Authorization header of a request, checked against what is asked for."""

    def __init__(
        self, authenticator: ServerAuthenticator, method: str, url: str, header: str | None, user_agent: str = ""
    ) -> None:
        """``method`` and ``url`` are those of the request line, ``header`` is None if there is none."""
        self._authenticator = authenticator
        self._method = method
        self._url = url
        self._header = header
        self.user_agent = user_agent
        """What the client calls itself."""
        self.needs_basic = False
        """Whether credentials that they were compared with are hashed, which only Basic can prove."""

    @property
    def user(self) -> str:
        """The user name given, for logs and the API; not proven."""
        if self._header is None:
            return ""
        try:
            return Authorization.parse(self._header).username
        except RemoteProtocolError:
            return ""

    @property
    def token(self) -> str:
        return ""

    @property
    def is_given(self) -> bool:
        """Whether there are any."""
        return self._header is not None

    def matches(self, user: str, password: str) -> bool:
        """Whether they prove that the client knows ``user`` and ``password``, which may be ``sha256:`` ones."""
        self.needs_basic = self.needs_basic or is_hashed(user) or is_hashed(password)
        return self._authenticator.verify(self._header, self._method, self._url, user, password)

    def plain(self) -> tuple[str, str]:
        """Return (user, password) of Basic credentials, else two empty strings."""
        return basic_credentials(self._header) or ("", "")


def basic_credentials(authorization: str | None) -> tuple[str, str] | None:
    """Return (user, password) of a Basic Authorization header; None for any other."""
    if authorization is None:
        return None
    try:
        return parse_basic(authorization)
    except ValueError:
        return None


class ClientAuthenticator:
    """Answers a server's challenges: Digest before Basic, SHA-256 before MD5."""

    def __init__(self, user: str, password: str) -> None:
        self._user = user
        self._password = password
        self._nonce = ""
        self._nonce_count = 0

    def authorize(self, challenges: Sequence[str], method: str, url: str, cnonce: str = "") -> str | None:
        """Return the value of the Authorization header; None if no challenge can be answered.

        ``challenges`` are the values of the WWW-Authenticate headers; ``url`` is that of the request line, without
        credentials. ``cnonce`` is fresh random text: with it, ``qop=auth`` is used where it is offered; without it,
        the older form of RFC 2069 is.
        """
        best: WWWAuthenticate | None = None
        best_strength = -1
        for line in challenges:
            for challenge in parse_challenges(line):
                strength = _strength(challenge)
                if strength > best_strength:
                    best, best_strength = challenge, strength
        if best is None:
            return None
        if best.scheme == "Basic":
            return Authorization("Basic", self._user, self._password).serialize()
        return self._digest(best, method, url, cnonce)

    def _digest(self, challenge: WWWAuthenticate, method: str, url: str, cnonce: str) -> str:
        nonce = challenge.nonce or ""
        with_qop = "auth" in challenge.qop and bool(cnonce)
        if with_qop:
            self._nonce_count = self._nonce_count + 1 if nonce == self._nonce else 1
            self._nonce = nonce
        fields = {
            "realm": challenge.realm,
            "nonce": nonce,
            "uri": url,
            "algorithm": challenge.algorithm,
            "opaque": challenge.opaque,
            "qop": "auth" if with_qop else None,
            "nc": f"{self._nonce_count:08x}" if with_qop else None,
            "cnonce": cnonce if with_qop else None,
        }
        response = _digest_response(Authorization("Digest", self._user, **fields), method, self._password)
        return Authorization("Digest", self._user, response=response, **fields).serialize()


def _strength(challenge: WWWAuthenticate) -> int:
    """Return a higher number for stronger schemes; -1 for those that are not supported."""
    if challenge.scheme == "Basic":
        return 0
    algorithm = (challenge.algorithm or "MD5").upper()
    return 1 + list(_HASHES).index(algorithm) if algorithm in _HASHES else -1


def _digest_response(authorization: Authorization, method: str, password: str) -> str | None:
    """Return the response that proves the password (RFC 7616 section 3.4.1); None for what is not supported."""
    digest = _HASHES.get((authorization.algorithm or "MD5").upper())
    if digest is None:
        return None
    secret = digest(f"{authorization.username}:{authorization.realm}:{password}")
    request = digest(f"{method}:{authorization.uri}")
    if not authorization.qop:
        return digest(f"{secret}:{authorization.nonce}:{request}")
    if authorization.qop.lower() != "auth" or authorization.nc is None or authorization.cnonce is None:
        return None
    return digest(
        f"{secret}:{authorization.nonce}:{authorization.nc}:{authorization.cnonce}:{authorization.qop}:{request}"
    )
