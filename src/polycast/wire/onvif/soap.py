"""Requests to cameras and their answers: SOAP 1.2 with WS-UsernameToken (ONVIF Core Specification section 5)."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import Final, NamedTuple

from polycast.errors import RemoteProtocolError
from polycast.wire.onvif.document import Element, element, parse, text

ENVELOPE: Final = "http://www.w3.org/2003/05/soap-envelope"
SECURITY: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
UTILITY: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
DIGEST: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordDigest"
BASE64: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary"
CONTENT_TYPE: Final = "application/soap+xml; charset=utf-8"

UNAUTHORIZED: Final = 401
_NOT_AUTHORIZED: Final = ("NotAuthorized", "FailedAuthentication", "FailedCheck", "InvalidSecurity")


class Credentials(NamedTuple):
    """A user of a camera."""

    user: str
    password: str


def envelope(
    body: str, credentials: Credentials | None = None, *, nonce: bytes = b"", created: datetime | None = None
) -> bytes:
    """Return a request. ``nonce``: 16 random bytes; ``created``: now, by the clock of the camera."""
    header = ""
    if credentials is not None and created is not None:
        header = element("s:Header", _security(credentials, nonce, created))
    document = element("s:Envelope", header, element("s:Body", body), xmlns_s=ENVELOPE)
    return f'<?xml version="1.0" encoding="UTF-8"?>{document}'.encode()


def _security(credentials: Credentials, nonce: bytes, created: datetime) -> str:
    """Return the header with a digest (Web Services Security, UsernameToken Profile 1.1, section 3.1)."""
    date = created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    token = element(
        "UsernameToken",
        element("Username", text(credentials.user)),
        element("Password", password_digest(nonce, date, credentials.password), Type=DIGEST),
        element("Nonce", base64.b64encode(nonce).decode(), EncodingType=BASE64),
        element("Created", date, xmlns=UTILITY),
    )
    return element("Security", token, s_mustUnderstand="1", xmlns=SECURITY)


def password_digest(nonce: bytes, created: str, password: str) -> str:
    """Return what is sent instead of the password. ``created``: as it is in the message."""
    # The standard says SHA-1.
    digest = hashlib.sha1(nonce + created.encode() + password.encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


class Refused(RemoteProtocolError):
    """The camera refuses the user or the password."""


def body_of(status: int, data: bytes) -> Element:
    """Return the body of an answer. Raises Refused, and RemoteProtocolError with the reason of a fault."""
    if status == UNAUTHORIZED:
        raise Refused("the camera refuses the user or the password", UNAUTHORIZED)
    try:
        root = parse(data)
    except RemoteProtocolError:
        if status >= 400:
            raise RemoteProtocolError(f"the camera answers with status {status}", status) from None
        raise
    body = root.first("Body")
    if root.name != "Envelope" or body is None:
        raise RemoteProtocolError("the answer is not one of ONVIF")
    fault = body.first("Fault")
    if fault is None:
        return body
    codes = [code.text.rpartition(":")[2] for code in fault.all("Value")]
    if any(code in _NOT_AUTHORIZED for code in codes):
        raise Refused("the camera refuses the user or the password", UNAUTHORIZED)
    reason = fault.value("Reason", "Text") or fault.value("faultstring") or ", ".join(codes) or "no reason"
    raise RemoteProtocolError(f"the camera refuses the request: {reason[:200]}")
