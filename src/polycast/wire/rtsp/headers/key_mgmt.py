"""The KeyMgmt header, and the attribute ``key-mgmt`` of SDP (RFC 4567)."""

from __future__ import annotations

from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.headers.parameters import parse_parameter, split_unquoted

KEY_MANAGEMENT_ERROR: Final = 466
"""The status for keys that cannot be used (RFC 7826 section 17.4.34)."""


def read_key_mgmt(value: str) -> str:
    """Return the MIKEY message in base64 of a KeyMgmt header. Raises RemoteProtocolError (466)."""
    parameters = dict(map(parse_parameter, split_unquoted(value, ";")))
    if (parameters.get("prot") or "").lower() != "mikey":
        raise RemoteProtocolError("the key management protocol is not MIKEY", KEY_MANAGEMENT_ERROR)
    data = parameters.get("data")
    if not data:
        raise RemoteProtocolError("KeyMgmt without data", KEY_MANAGEMENT_ERROR)
    return data


def write_key_mgmt(url: str, message: str) -> str:
    """Return the value of a KeyMgmt header; ``message``: MIKEY in base64, ``url``: of the request."""
    quoted = url.replace("\\", "%5C").replace('"', "%22")
    return f'prot=mikey;uri="{quoted}";data="{message}"'


def read_attribute(value: str | None) -> str | None:
    """Return the MIKEY message in base64 of ``a=key-mgmt``; None without one, or with another protocol."""
    protocol, _, message = (value or "").strip().partition(" ")
    return message.strip() or None if protocol.lower() == "mikey" else None
