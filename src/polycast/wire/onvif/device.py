"""What cameras are asked: their clock, services, profiles and streams (ONVIF Device, Media and PTZ specifications)."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, NamedTuple

from polycast.errors import RemoteProtocolError
from polycast.wire.onvif.document import Element, element, text

DEVICE: Final = "http://www.onvif.org/ver10/device/wsdl"
MEDIA: Final = "http://www.onvif.org/ver10/media/wsdl"
PTZ: Final = "http://www.onvif.org/ver20/ptz/wsdl"
SCHEMA: Final = "http://www.onvif.org/ver10/schema"

DEVICE_PATH: Final = "/onvif/device_service"
"""Where the device service is (ONVIF Core Specification section 5.1.1)."""
MAXIMUM_PROFILES: Final = 256
"""Profiles of a recorder that are looked at."""
MAXIMUM_YEAR: Final = 9000
"""Of a camera's clock, which is added to: there are no dates after the year 9999."""
MAXIMUM_TEXT: Final = 1024
"""Characters of an address or a token."""

GET_TIME: Final = element("GetSystemDateAndTime", xmlns=DEVICE)
GET_CAPABILITIES: Final = element("GetCapabilities", element("Category", "All"), xmlns=DEVICE)
GET_PROFILES: Final = element("GetProfiles", xmlns=MEDIA)


class Services(NamedTuple):
    """The addresses of the services of a camera; empty for one that it does not have."""

    media: str
    ptz: str


class Profile(NamedTuple):
    """A stream of a camera."""

    token: str
    name: str
    codec: str
    width: int
    height: int
    can_move: bool
    """Whether the camera can be moved with it (PTZ)."""

    def __str__(self) -> str:
        size = f" {self.width}x{self.height}" if self.width else ""
        return f"{self.name or self.token}: {self.codec or 'no video'}{size}{', PTZ' if self.can_move else ''}"


def get_stream_uri(token: str) -> str:
    """Return the request for the address of a stream, for RTSP (ONVIF Media Specification section 5.15.1)."""
    transport = element("Transport", element("Protocol", "RTSP", xmlns=SCHEMA), xmlns=SCHEMA)
    setup = element("StreamSetup", element("Stream", "RTP-Unicast", xmlns=SCHEMA), transport)
    return element("GetStreamUri", setup, element("ProfileToken", text(token)), xmlns=MEDIA)


def device_time(body: Element) -> datetime | None:
    """Return the camera's time in UTC; None if it does not know it."""
    found = body.first("UTCDateTime")
    if found is None:
        return None
    names = ("Year", "Month", "Day", "Hour", "Minute", "Second")
    with suppress(ValueError, OverflowError):
        year, month, day, hour, minute, second = (int(found.value(name)) for name in names)
        if year > MAXIMUM_YEAR:
            return None
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    return None


def services(body: Element) -> Services:
    """Return the services of a camera. Raises RemoteProtocolError if it has none with streams."""
    capabilities = body.first("Capabilities") or body
    media = _limited(capabilities.value("Media", "XAddr"))
    if not media:
        raise RemoteProtocolError("the device has no streams")
    return Services(media, _limited(capabilities.value("PTZ", "XAddr")))


def profiles(body: Element) -> list[Profile]:
    """Return the profiles of a camera. Raises RemoteProtocolError if there are none."""
    found: list[Profile] = []
    for each in body.all("Profiles"):
        encoder = each.first("VideoEncoderConfiguration")
        token = each.attributes.get("token", "")
        if not token or len(found) == MAXIMUM_PROFILES:
            continue
        size = (0, 0)
        if encoder is not None:
            size = (_number(encoder.value("Resolution", "Width")), _number(encoder.value("Resolution", "Height")))
        found.append(
            Profile(
                _limited(token),
                _limited(each.value("Name")),
                _limited(encoder.value("Encoding")) if encoder is not None else "",
                *size,
                each.first("PTZConfiguration") is not None,
            )
        )
    if not found:
        raise RemoteProtocolError("the device has no profiles")
    return found


def stream_uri(body: Element) -> str:
    """Return the address of a stream. Raises RemoteProtocolError if there is none for RTSP."""
    uri = body.value("MediaUri", "Uri")
    if not uri.lower().startswith(("rtsp://", "rtsps://")) or len(uri) > MAXIMUM_TEXT:
        raise RemoteProtocolError("the camera names no address of a stream")
    return uri


def choose_profile(known: list[Profile], wanted: str) -> Profile:
    """Return the profile with a token, a name, or a number from 1; the first one for an empty text.

    Raises RemoteProtocolError if there is none.
    """
    for profile in known:
        if not wanted or wanted in (profile.token, profile.name):
            return profile
    if wanted.isdecimal() and 0 < int(wanted) <= len(known):
        return known[int(wanted) - 1]
    names = ", ".join(profile.name or profile.token for profile in known[:8])
    raise RemoteProtocolError(f"the camera has no profile '{wanted}'; it has {names}")


def _limited(value: str) -> str:
    if len(value) > MAXIMUM_TEXT:
        raise RemoteProtocolError("the answer has a text that is too long")
    return value


def _number(value: str) -> int:
    return int(value) if value.isdecimal() and len(value) <= 6 else 0
