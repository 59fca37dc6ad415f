"""Keys, key sets and tokens (RFC 7517, RFC 7519), made without the code under test."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

READ_ALL = [{"action": "read", "path": ""}]


class Issuer:
    """Signs tokens with one key."""

    def __init__(self, kind: str = "RS256", identifier: str | None = "1") -> None:
        self.kind = kind
        self.identifier = identifier
        self.key: Any
        if kind.startswith(("RS", "PS")):
            self.key = rsa.generate_private_key(65537, 2048)
        elif kind == "EdDSA":
            self.key = ed25519.Ed25519PrivateKey.generate()
        else:
            self.key = ec.generate_private_key(
                {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}[kind]()
            )

    def key_item(self, **more: Any) -> dict[str, Any]:
        """Return the public key as an item of a key set."""
        makers = {"R": RSAAlgorithm, "P": RSAAlgorithm, "E": ECAlgorithm}
        maker = OKPAlgorithm if self.kind == "EdDSA" else makers[self.kind[0]]
        item = json.loads(maker.to_jwk(self.key.public_key()))
        item.pop("key_ops", None)
        return {**item, **({"kid": self.identifier} if self.identifier is not None else {}), **more}

    def token(self, permissions: Any = READ_ALL, *, claim: str = "mediamtx_permissions", **claims: Any) -> str:
        """Return a token with permissions that expires in a minute."""
        payload = {"exp": time.time() + 3600, claim: permissions, **claims}
        headers = {"kid": self.identifier} if self.identifier is not None else None
        return jwt.encode(
            {key: value for key, value in payload.items() if value is not None}, self.key, self.kind, headers
        )

    def public_bytes(self) -> bytes:
        """Return the public key as PEM, which servers have been made to use as the secret of an HMAC."""
        return bytes(self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def key_set(*issuers: Issuer) -> bytes:
    """Return a key set in JSON."""
    return json.dumps({"keys": [issuer.key_item() for issuer in issuers]}).encode()


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: dict[str, Any], secret: bytes | None, **claims: Any) -> str:
    """Return a token whose algorithm is none, or that is signed with an HMAC."""
    payload = {"exp": time.time() + 60, "mediamtx_permissions": READ_ALL, **claims}
    signed = f"{_part(json.dumps(header).encode())}.{_part(json.dumps(payload).encode())}"
    signature = b"" if secret is None else hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_part(signature)}"
