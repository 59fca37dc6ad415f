"""JSON Web Tokens: which are valid, and which are refused."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from tests.support.tokens import Issuer, forged, key_set

from polycast.security.tokens import MAXIMUM_KEYS, MAXIMUM_TOKEN, KeySet, TokenError, UnknownKeyError

RSA = Issuer("RS256", "rsa")
OTHER = Issuer("RS256", "rsa")
EC = Issuer("ES256", "ec")
KEYS = KeySet.parse(key_set(RSA, EC))


@pytest.mark.parametrize("kind", ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"])
@pytest.mark.parametrize("identifier", ["1", None])
def test_algorithms(kind: str, identifier: str | None) -> None:
    issuer = Issuer(kind, identifier)
    claims = KeySet.parse(key_set(RSA, issuer)).verify(issuer.token(sub="bob"))
    assert claims["sub"] == "bob"
    with pytest.raises(TokenError, match="signature is wrong"):
        KeySet.parse(key_set(Issuer(kind, identifier))).verify(issuer.token())


def test_a_token_without_a_key_id_is_verified_with_all_keys() -> None:
    issuer = Issuer("RS256", None)
    assert KeySet.parse(key_set(RSA, OTHER, EC, issuer)).verify(issuer.token())


def test_an_unknown_key_id() -> None:
    with pytest.raises(UnknownKeyError):
        KEYS.verify(Issuer("RS256", "new").token())


@pytest.mark.parametrize(
    "token",
    [
        forged({"alg": "none", "typ": "JWT"}, None),
        forged({"alg": "None"}, None),
        forged({"alg": "none", "kid": "rsa"}, None),
        forged({"alg": "HS256"}, RSA.public_bytes()),
        forged({"alg": "HS256", "kid": "rsa"}, RSA.public_bytes()),
        forged({"alg": "HS256", "kid": "rsa"}, json.dumps(RSA.key_item()).encode()),
        forged({"alg": "HS256"}, b""),
        forged({"alg": ["RS256"], "kid": "rsa"}, b""),
        forged({"alg": None}, b""),
        forged({"kid": "rsa"}, b""),
        forged({"alg": "RS256", "kid": "ec"}, b""),
        forged({"alg": "ES256", "kid": "rsa"}, b""),
        forged({"alg": "RS256", "kid": 7}, b""),
        forged({"alg": "RS256", "kid": "rsa"}, b"x"),
        forged({"alg": "RS256", "kid": "rsa", "jwk": EC.key_item()}, b"x"),
    ],
)
def test_forged_tokens(token: str) -> None:
    with pytest.raises(TokenError):
        KEYS.verify(token)


def test_a_secret_key_in_the_set_verifies_nothing() -> None:
    """``oct`` keys are for HMAC: whoever reads the key set could sign with them."""
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "hmac", "alg": "HS256"}
    keys = KeySet.parse(json.dumps({"keys": [secret, RSA.key_item()]}).encode())
    with pytest.raises(TokenError):
        keys.verify(forged({"alg": "HS256", "kid": "hmac"}, b"secret"))
    with pytest.raises(ValueError, match="no public key for signatures"):
        KeySet.parse(json.dumps({"keys": [secret]}).encode())


def test_a_key_with_an_algorithm_is_only_used_with_it() -> None:
    keys = KeySet.parse(json.dumps({"keys": [RSA.key_item(alg="RS512")]}).encode())
    with pytest.raises(TokenError, match="algorithm"):
        keys.verify(RSA.token())
    assert keys.verify(jwt.encode({}, RSA.key, "RS512", {"kid": "rsa"})) == {}


@pytest.mark.parametrize(
    "more",
    [{"use": "enc"}, {"key_ops": ["sign"]}, {"key_ops": "verify"}, {"kty": "XYZ"}, {"kty": None}, {"d": "AQAB"},
     {"alg": 1}, {"n": 1}, {"n": "A" * 2000}, {"n": "?"}, {"e": "A" * 300 + "B"}, {"e": "B" * 340}],
)  # fmt: skip
def test_keys_that_are_left_out(more: dict[str, Any]) -> None:
    keys = KeySet.parse(json.dumps({"keys": [RSA.key_item(**more), EC.key_item()]}).encode())
    assert [key.id for key in keys.keys] == ["ec"]


@pytest.mark.parametrize(
    ("claims", "rules", "error"),
    [
        ({}, {}, None),
        ({"exp": None}, {}, None),
        ({"exp": time.time() - 3600}, {}, "has expired"),
        ({"exp": time.time() - 3600}, {"leeway": 7200}, None),
        ({"nbf": time.time() + 3600}, {}, "not valid yet"),
        ({"nbf": time.time() + 3600}, {"leeway": 7200}, None),
        ({"nbf": time.time() - 3600}, {}, None),
        ({"iat": time.time() + 3600}, {}, None),
        ({"exp": "soon"}, {}, "malformed"),
        ({"exp": 1e400}, {}, "malformed"),
        ({"sub": 7, "jti": 7}, {}, None),
        ({"iss": "a"}, {"issuer": "a"}, None),
        ({"iss": "b"}, {"issuer": "a"}, "issuer is another"),
        ({}, {"issuer": "a"}, "'iss' is missing"),
        ({"iss": "b"}, {}, None),
        ({"aud": "a"}, {"audience": "a"}, None),
        ({"aud": ["x", "a"]}, {"audience": "a"}, None),
        ({"aud": "b"}, {"audience": "a"}, "audience is another"),
        ({}, {"audience": "a"}, "'aud' is missing"),
        ({"aud": "b"}, {}, None),
    ],
)
def test_claims(claims: dict[str, Any], rules: dict[str, Any], error: str | None) -> None:
    token = RSA.token(**claims)
    if error is None:
        assert KEYS.verify(token, **rules)
    else:
        with pytest.raises(TokenError, match=error):
            KEYS.verify(token, **rules)


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "\udcff", "é.é.é", "A" * (MAXIMUM_TOKEN + 1), RSA.token()[:-5], RSA.token() + "."]
)
def test_junk(token: str) -> None:
    with pytest.raises(TokenError):
        KEYS.verify(token)


def test_an_error_contains_nothing_of_the_token() -> None:
    with pytest.raises(TokenError) as caught:
        KEYS.verify(RSA.token(sub="SECRET", exp=1))
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", b"\xff", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b'{"keys": [1, null, {}]}',
     b"[" * 100_000, json.dumps({"keys": [RSA.key_item()] * (MAXIMUM_KEYS + 1)}).encode()],
)  # fmt: skip
def test_what_is_not_a_key_set(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"the answer|the key set"):
        KeySet.parse(data)
