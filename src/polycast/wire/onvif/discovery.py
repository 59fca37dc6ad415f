"""WS-Discovery: the message that cameras answer, and their answers (ONVIF Core Specification section 7)."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from polycast.wire.onvif.document import element, parse, text
from polycast.wire.onvif.soap import ENVELOPE

ADDRESSING: Final = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
DISCOVERY: Final = "http://schemas.xmlsoap.org/ws/2005/04/discovery"
NETWORK: Final = "http://www.onvif.org/ver10/network/wsdl"

GROUP: Final = "239.255.255.250"
PORT: Final = 3702
MAXIMUM_ADDRESSES: Final = 16
"""Addresses of one camera that are looked at."""
SCOPE: Final = "onvif://www.onvif.org/"


class Device(NamedTuple):
    """A camera that has answered."""

    address: str
    """The URL of its device service."""
    name: str
    hardware: str


def probe(message_id: str) -> bytes:
    """Return the message that asks for cameras. ``message_id``: a UUID."""
    header = element(
        "s:Header",
        element("a:Action", f"{DISCOVERY}/Probe"),
        element("a:MessageID", f"uuid:{text(message_id)}"),
        element("a:To", "urn:schemas-xmlsoap-org:ws:2005:04:discovery"),
    )
    types = element("d:Types", "n:NetworkVideoTransmitter")
    document = element(
        "s:Envelope", header, element("s:Body", element("d:Probe", types)),
        xmlns_s=ENVELOPE, xmlns_a=ADDRESSING, xmlns_d=DISCOVERY, xmlns_n=NETWORK,
    )  # fmt: skip
    return f'<?xml version="1.0" encoding="UTF-8"?>{document}'.encode()


def answered(data: bytes, message_id: str, sender: str) -> list[Device]:
    """Return the cameras in a datagram; none if it answers another message.

    ``sender``: the IP address it came from. Cameras are only believed about themselves: addresses with another host get
    the sender's. Raises RemoteProtocolError.
    """
    root = parse(data)
    if root.value("RelatesTo").lower() not in (f"uuid:{message_id}", f"urn:uuid:{message_id}"):
        return []
    found: list[Device] = []
    for match in root.all("ProbeMatch"):
        addresses = match.value("XAddrs").split()[:MAXIMUM_ADDRESSES]
        address = _address(addresses, sender)
        if address:
            scopes = match.value("Scopes").split()
            found.append(Device(address, _scope(scopes, "name"), _scope(scopes, "hardware")))
    return found


def _address(addresses: list[str], sender: str) -> str:
    host = f"[{sender}]" if ":" in sender else sender
    usable = []
    for address in addresses:
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError:
            continue
        if parts.scheme in ("http", "https") and parts.hostname:
            usable.append(
                (parts.hostname == sender, parts._replace(netloc=f"{host}:{port}" if port else host).geturl())
            )
    return max(usable, key=lambda each: each[0])[1] if usable else ""


def _scope(scopes: list[str], kind: str) -> str:
    prefix = f"{SCOPE}{kind}/"
    return next((unquote(scope.removeprefix(prefix))[:100] for scope in scopes if scope.startswith(prefix)), "")
