"""Chooses among the transports that a client offers in SETUP (RFC 2326 section 12.39)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.headers.transport import Pair, Transport

_CHANNEL_COUNT: Final = 256
# With AVPF the receiver may send feedback earlier (RFC 4585); the packets are those of AVP. SAVP needs keys.
_PROFILES: Final = frozenset(("AVP", "AVPF"))


class Protocol(StrEnum):
    """The transport protocol of RTP; the values of the configuration's ``protocols``."""

    UDP = "udp"
    MULTICAST = "multicast"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class ChosenTransport:
    """The transport chosen for one track."""

    protocol: Protocol
    offer: Transport
    """The client's alternative that was chosen."""
    interleaved: Pair | None = None
    """Channels of RTP and RTCP; with TCP only."""
    client_port: Pair | None = None
    """The client's ports for RTP and RTCP; with UDP only."""


def choose_transport(
    offers: Sequence[Transport],
    *,
    allowed: Collection[Protocol],
    encrypted: bool,
    record: bool,
    tunnelled: bool = False,
    used_protocol: Protocol | None = None,
    used_channels: Collection[int] = (),
) -> ChosenTransport:
    """Choose the first alternative that is acceptable.

    ``encrypted``: the connection uses TLS, so RTP must be interleaved; so it must be if it is ``tunnelled`` over HTTP
    or WebSocket. ``used_protocol`` is that of the tracks already
    set up in the session, ``used_channels`` their interleaved channels.

    Raises RemoteProtocolError with the error of the first alternative: 461 if the protocol is not available,
    else 400.
    """
    first_error: RemoteProtocolError | None = None
    for offer in offers:
        try:
            protocol = _protocol_of(offer)
            if tunnelled and protocol is not Protocol.TCP:
                raise RemoteProtocolError(
                    f"transport protocol {protocol.value} can't be used in a tunnel; use TCP", 461
                )
            return _accept(offer, protocol, allowed, encrypted, record, used_protocol, used_channels)
        except RemoteProtocolError as error:
            first_error = first_error or error
    raise first_error or RemoteProtocolError("no transport offered", 461)


def _accept(
    offer: Transport,
    protocol: Protocol,
    allowed: Collection[Protocol],
    encrypted: bool,
    record: bool,
    used_protocol: Protocol | None,
    used_channels: Collection[int],
) -> ChosenTransport:
    if offer.profile not in _PROFILES:
        raise RemoteProtocolError(f"SRTP ({offer.profile}) is not supported; use rtsps:// over TCP", 461)
    if encrypted and protocol is not Protocol.TCP:
        raise RemoteProtocolError(f"transport protocol {protocol.value} can't be used with TLS; use TCP", 461)
    if protocol not in allowed:
        raise RemoteProtocolError(f"transport protocol {protocol.value} is disabled", 461)
    if record and protocol is Protocol.MULTICAST:
        raise RemoteProtocolError("publishing over multicast is not supported", 461)
    if record and offer.mode != "record":
        raise RemoteProtocolError("transport header does not contain mode=record")
    if not record and offer.mode == "record":
        raise RemoteProtocolError("transport header contains mode=record, but nothing was announced")
    if used_protocol is not None and protocol is not used_protocol:
        raise RemoteProtocolError("can't setup tracks with different protocols")
    match protocol:
        case Protocol.TCP:
            return ChosenTransport(protocol, offer, interleaved=_channels(offer.interleaved, used_channels))
        case Protocol.UDP:
            if offer.client_port is None or 0 in offer.client_port:
                # Not an invalid request: some clients then retry with TCP (RFC 2326 section 11.3.13).
                raise RemoteProtocolError("transport header does not contain valid client ports", 461)
            return ChosenTransport(protocol, offer, client_port=offer.client_port)
        case Protocol.MULTICAST:
            return ChosenTransport(protocol, offer)


def _protocol_of(offer: Transport) -> Protocol:
    if offer.lower_transport == "TCP":
        return Protocol.TCP
    # RFC 2326 makes multicast the default; every client that omits it means unicast.
    return Protocol.MULTICAST if offer.delivery == "multicast" else Protocol.UDP


def _channels(asked: Pair | None, used: Collection[int]) -> Pair:
    if asked is None:
        for channel in range(0, _CHANNEL_COUNT, 2):
            if channel not in used and channel + 1 not in used:
                return channel, channel + 1
        raise RemoteProtocolError("all interleaved channels are in use")
    if asked[0] == asked[1]:
        raise RemoteProtocolError(f"invalid interleaved IDs: {asked[0]}-{asked[1]}")
    if asked[0] in used or asked[1] in used:
        raise RemoteProtocolError(f"interleaved IDs {asked[0]}-{asked[1]} are already in use")
    return asked
