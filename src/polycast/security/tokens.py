"""JSON Web Tokens (RFC 7519), verified with the public keys of a JSON Web Key Set (RFC 7517).

Only asymmetric algorithms: a token that names ``none`` or an HMAC algorithm is refused, whatever the key set contains.
Each key is only used with the algorithms of its type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt

MAXIMUM_TOKEN: Final = 16 * 1024
"""Characters of a token; those with hundreds of permissions have some thousand."""

MAXIMUM_KEYS: Final = 100
"""Keys of a set; servers publish a handful: the present one, the next one, and former ones."""

_MAXIMUM_ATTEMPTS: Final = 16
"""Keys that a token without a key id is verified with."""

_MAXIMUM_NUMBER: Final = 1400
"""Characters of a number of a key, in base64url: RSA with 8192 bits. The time for a verification grows with it."""

_MAXIMUM_EXPONENT: Final = 11
"""Characters of the public exponent of an RSA key: 64 bits, which OpenSSL only demands of large keys. Nearly all have
65537; one as long as the key makes a verification a hundred times slower."""

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final[Mapping[object, str]] = {
    "P-256": "ES256",
    "P-384": "ES384",
    "P-521": "ES512",
    "secp256k1": "ES256K",
    "Ed25519": "EdDSA",
    "Ed448": "EdDSA",
}


class TokenError(Exception):
    """A token is not valid; the text says why and contains nothing of it."""


class UnknownKeyError(TokenError):
    """No key of the set has the key id of the token: the set may be old."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key."""

    id: str | None
    algorithms: frozenset[str]
    """The algorithms that it may be used with."""
    value: Any
    """The key in the form of the library."""


class KeySet:
    """The keys that tokens are verified with."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = keys

    @classmethod
    def parse(cls, data: bytes) -> KeySet:
        """Parse a key set. Keys for other purposes, and of types that are not supported, are left out.

        Raises ValueError if the data is not a key set, or contains no usable key.
        """
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            raise ValueError("the answer is not JSON") from None
        items = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(items, list):
            raise ValueError("the answer is not a key set (RFC 7517): it has no list of keys")
        if len(items) > MAXIMUM_KEYS:
            raise ValueError(f"the key set has more than {MAXIMUM_KEYS} keys")
        keys = [key for key in map(_key_of, items) if key is not None]
        if not keys:
            raise ValueError("the key set contains no public key for signatures (RSA, EC or OKP)")
        return cls(keys)

    def verify(self, token: str, *, issuer: str = "", audience: str = "", leeway: float = 0.0) -> Mapping[str, Any]:
        """Return the claims of a valid token. Raises TokenError.

        ``issuer`` and ``audience`` are required, unless they are empty. ``exp`` and ``nbf`` are checked if there are
        any, with a tolerance of ``leeway`` seconds.
        """
        if len(token) > MAXIMUM_TOKEN:
            raise TokenError(f"the token has more than {MAXIMUM_TOKEN} characters")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenError("not a JSON Web Token") from None
        name = header.get("alg")
        candidates = [key for key in self.keys if isinstance(name, str) and name in key.algorithms]
        if not candidates:
            raise TokenError("its algorithm is not one of the keys'")
        identifier = header.get("kid")
        if identifier is not None:
            candidates = [key for key in candidates if key.id == identifier]
            if not candidates:
                raise UnknownKeyError("its key id is not one of the keys'")
        for key in candidates[:_MAXIMUM_ATTEMPTS]:
            try:
                return _decode(token, key, str(name), issuer, audience, leeway)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
                raise TokenError(_reason(error)) from None
        raise TokenError("its signature is wrong")


def _decode(token: str, key: Key, algorithm: str, issuer: str, audience: str, leeway: float) -> Mapping[str, Any]:
    options: Any = {
        "verify_iat": False,
        "verify_sub": False,
        "verify_jti": False,
        "verify_aud": bool(audience),
        "verify_iss": bool(issuer),
    }
    claims: Mapping[str, Any] = jwt.decode(
        token,
        key.value,
        algorithms=[algorithm],
        audience=audience or None,
        issuer=issuer or None,
        leeway=leeway,
        options=options,
    )
    return claims


def _key_of(item: object) -> Key | None:
    """Return a key of a set; None if it cannot verify signatures, or is secret."""
    if not isinstance(item, dict) or "d" in item or item.get("use", "sig") != "sig":
        return None
    operations = item.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if any(isinstance(value, str) and len(value) > _MAXIMUM_NUMBER for name, value in item.items() if len(name) == 1):
        return None
    algorithms = _RSA if item.get("kty") == "RSA" and len(str(item.get("e"))) <= _MAXIMUM_EXPONENT else frozenset()
    if item.get("kty") in ("EC", "OKP"):
        curve = item.get("crv")
        algorithms = frozenset({_CURVES[curve]}) if isinstance(curve, str) and curve in _CURVES else frozenset()
    if "alg" in item:
        algorithms &= {item["alg"]} if isinstance(item["alg"], str) else frozenset()
    if not algorithms:
        return None
    try:
        value = jwt.PyJWK(item, algorithm=min(algorithms)).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    identifier = item.get("kid")
    return Key(identifier if isinstance(identifier, str) else None, algorithms, value)


_REASONS: Final[Mapping[type[BaseException], str]] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidIssuerError: "its issuer is another one",
    jwt.InvalidAudienceError: "its audience is another one",
}


def _reason(error: BaseException) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"the claim '{error.claim}' is missing"
    return next((text for kind, text in _REASONS.items() if isinstance(error, kind)), "it is malformed")
