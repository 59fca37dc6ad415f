"""The WWW-Authenticate and Authorization headers: Basic (RFC 7617) and Digest (RFC 2617, RFC 7616)."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Final, Literal

from polycast.errors import RemoteProtocolError
from polycast.security.credentials import parse_basic
from polycast.wire.rtsp.headers.parameters import parse_parameter, quote, split_unquoted

Scheme = Literal["Basic", "Digest"]
_SCHEMES: Final[dict[str, Scheme]] = {"basic": "Basic", "digest": "Digest"}
_SCHEME_AND_REST: Final = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)(?:\s+(.*))?", re.DOTALL)

CHALLENGE_LIMIT: Final = 16
"""Challenges in one header line."""


@dataclass(frozen=True, slots=True)
class WWWAuthenticate:
    """A challenge (RFC 7616 section 3.3). None stands for an absent parameter."""

    scheme: Scheme
    realm: str = ""
    nonce: str | None = None
    opaque: str | None = None
    stale: bool = False
    algorithm: str | None = None
    """As sent; ``MD5`` when None."""
    qop: tuple[str, ...] = ()
    """Qualities of protection offered, in lower case."""

    @classmethod
    def parse(cls, value: str) -> WWWAuthenticate:
        """Parse the first challenge of a header. Raises RemoteProtocolError (400) if there is none."""
        challenges = parse_challenges(value)
        if not challenges:
            raise RemoteProtocolError(f"invalid challenge: {value[:100]!r}")
        return challenges[0]

    def serialize(self) -> str:
        """Return the header's text."""
        parts = [f"realm={quote(self.realm)}"]
        if self.nonce is not None:
            parts.append(f"nonce={quote(self.nonce)}")
        if self.opaque is not None:
            parts.append(f"opaque={quote(self.opaque)}")
        if self.stale:
            parts.append("stale=true")
        if self.algorithm is not None:
            parts.append(f"algorithm={self.algorithm}")
        if self.qop:
            parts.append(f"qop={quote(','.join(self.qop))}")
        return f"{self.scheme} {', '.join(parts)}"


def parse_challenges(value: str) -> list[WWWAuthenticate]:
    """Parse all Basic and Digest challenges of one header line; some servers send several in a line.

    Unknown schemes, and Digest without a nonce, are ignored. Raises RemoteProtocolError (400) above CHALLENGE_LIMIT.
    """
    groups: list[tuple[str, dict[str, str]]] = []
    for part in split_unquoted(value, ","):
        found = _SCHEME_AND_REST.fullmatch(part)
        if found and not (found[2] or "").startswith("="):
            if len(groups) == CHALLENGE_LIMIT:
                raise RemoteProtocolError(f"more than {CHALLENGE_LIMIT} challenges")
            groups.append((found[1].lower(), {}))
            part = found[2] or ""
        if groups and "=" in part:
            name, text = parse_parameter(part)
            groups[-1][1].setdefault(name, text or "")
    challenges = []
    for word, parameters in groups:
        scheme = _SCHEMES.get(word)
        if scheme is None or (scheme == "Digest" and "nonce" not in parameters):
            continue
        challenges.append(
            WWWAuthenticate(
                scheme,
                parameters.get("realm", ""),
                parameters.get("nonce"),
                parameters.get("opaque"),
                parameters.get("stale", "").lower() == "true",
                parameters.get("algorithm"),
                tuple(quality.lower() for quality in split_unquoted(parameters.get("qop", ""), ",")),
            )
        )
    return challenges


@dataclass(frozen=True, slots=True)
class Authorization:
    """Credentials (RFC 7617 section 2, RFC 7616 section 3.4). None stands for an absent parameter."""

    scheme: Scheme
    username: str
    password: str | None = None
    """Basic only."""
    realm: str | None = None
    nonce: str | None = None
    uri: str | None = None
    response: str | None = None
    algorithm: str | None = None
    opaque: str | None = None
    qop: str | None = None
    nc: str | None = None
    """Nonce count, eight hexadecimal digits."""
    cnonce: str | None = None

    @classmethod
    def parse(cls, value: str) -> Authorization:
        """Parse the header. Raises RemoteProtocolError (400) if it is neither Basic nor Digest, or lacks a part."""
        try:
            basic = parse_basic(value)
        except ValueError as error:
            raise RemoteProtocolError(str(error)) from None
        if basic is not None:
            return cls("Basic", *basic)
        word, _, rest = value.strip().partition(" ")
        scheme = _SCHEMES.get(word.lower())
        if scheme is None:
            raise RemoteProtocolError("unsupported authentication scheme")
        parameters: dict[str, str] = {}
        for part in split_unquoted(rest, ","):
            name, text = parse_parameter(part)
            parameters.setdefault(name, text or "")
        try:
            return cls(
                scheme,
                parameters["username"],
                realm=parameters["realm"],
                nonce=parameters["nonce"],
                uri=parameters["uri"],
                response=parameters["response"],
                algorithm=parameters.get("algorithm"),
                opaque=parameters.get("opaque"),
                qop=parameters.get("qop"),
                nc=parameters.get("nc"),
                cnonce=parameters.get("cnonce"),
            )
        except KeyError as error:
            raise RemoteProtocolError(f"digest credentials without {error.args[0]}") from None

    def serialize(self) -> str:
        """Return the header's text."""
        if self.scheme == "Basic":
            return "Basic " + b64encode(f"{self.username}:{self.password or ''}".encode()).decode()
        quoted = (
            ("username", self.username),
            ("realm", self.realm),
            ("nonce", self.nonce),
            ("uri", self.uri),
            ("response", self.response),
            ("opaque", self.opaque),
            ("cnonce", self.cnonce),
        )
        parts = [f"{name}={quote(text)}" for name, text in quoted if text is not None]
        # RFC 7616 section 3.4: these three must not be quoted; old servers require that.
        bare = (("algorithm", self.algorithm), ("qop", self.qop), ("nc", self.nc))
        parts += [f"{name}={text}" for name, text in bare if text is not None]
        return f"Digest {', '.join(parts)}"
