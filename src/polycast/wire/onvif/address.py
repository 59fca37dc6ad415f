"""Addresses of sources: ``onvif://user:password@camera/?profile=main``."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

from polycast.errors import RemoteProtocolError
from polycast.wire.onvif.device import DEVICE_PATH
from polycast.wire.onvif.soap import Credentials

SCHEMES: Final = {"onvif": "http", "onvifs": "https"}
"""The schemes of sources, and those of the requests."""


class OnvifAddress(NamedTuple):
    """A camera, and which of its streams."""

    scheme: str
    """``http`` or ``https``."""
    netloc: str
    """Host, and port if one was given."""
    path: str
    credentials: Credentials | None
    profile: str
    """Token, name or number of a profile; empty for the first one."""

    @property
    def device(self) -> str:
        """The URL of the device service."""
        return f"{self.scheme}://{self.netloc}{self.path}"

    def service(self, address: str) -> str:
        """Return the URL of a service that the camera names, on the host that the user has named.

        Behind a router, the camera does not know by which address it is reached; and it must not make the server send
        requests to others.
        """
        try:
            path = urlsplit(address).path
        except ValueError as error:
            raise RemoteProtocolError(f"the camera names an invalid address: {error}") from error
        if path and not path.startswith("/"):  # behind the host, it would be a part of its name
            raise RemoteProtocolError(f"the camera names an invalid address: {address[:200]}")
        return f"{self.scheme}://{self.netloc}{path or DEVICE_PATH}"

    def stream(self, uri: str) -> str:
        """Return the address of a stream that the camera names, on its host, with user and password."""
        try:
            parts = urlsplit(uri)
            port = parts.port
        except ValueError as error:
            raise RemoteProtocolError(f"the camera names an invalid address: {error}") from error
        host = urlsplit(f"//{self.netloc}").hostname or ""
        host = f"[{host}]" if ":" in host else host
        user = ""
        if self.credentials is not None:
            user = f"{quote(self.credentials.user, safe='')}:{quote(self.credentials.password, safe='')}@"
        return parts._replace(netloc=f"{user}{host}{f':{port}' if port else ''}", fragment="").geturl()


def parse_address(url: str) -> OnvifAddress:
    """Return a parsed address. Raises RemoteProtocolError."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise RemoteProtocolError(f"invalid address: {error}") from error
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise RemoteProtocolError("the address must be onvif://host or onvifs://host")
    credentials = None
    if parts.username is not None:
        credentials = Credentials(unquote(parts.username), unquote(parts.password or ""))
    profile = parse_qs(parts.query).get("profile", [""])[0]
    path = parts.path if parts.path not in ("", "/") else DEVICE_PATH
    return OnvifAddress(SCHEMES[parts.scheme], parts.netloc.rpartition("@")[2], path, credentials, profile)
