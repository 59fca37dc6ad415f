"""Chooses among the transports that a client offers in SETUP (RFC 2326 section 12.39)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.rtsp.headers.transport import Pair, Transport

_CHANNEL_COUNT: Final = 256
# With the profiles that end in F the receiver may send feedback earlier (RFC 4585); the packets are the same.
_SECURE_PROFILES: Final = frozenset(("SAVP", "SAVPF"))

ADVERTISED_TTL: Final = 127
"""Time to live that is announced to multicast readers."""


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

    @property
    def is_secure(self) -> bool:
        """Whether the packets are SRTP and SRTCP."""
        return self.offer.profile in _SECURE_PROFILES

    def answer(self, *, ssrc: int | None, server_port: Pair | None, group: tuple[str, Pair] | None) -> Transport:
        """Return the transport for the answer to SETUP.

        ``server_port``: ours, for UDP. ``group``: address and ports of the multicast group.
        """
        profile = self.offer.profile
        match self.protocol:
            case Protocol.TCP:
                return Transport("TCP", profile, delivery="unicast", interleaved=self.interleaved, ssrc=ssrc)
            case Protocol.UDP:
                ours, theirs = server_port, self.client_port
                return Transport("UDP", profile, "unicast", client_port=theirs, server_port=ours, ssrc=ssrc)
        if group is None:
            raise LocalProtocolError("a multicast group is missing")
        host, port = group
        return Transport(
            "UDP", profile, delivery="multicast", destination=host, port=port, ttl=ADVERTISED_TTL, ssrc=ssrc
        )


def choose_transport(
    offers: Sequence[Transport],
    *,
    allowed: Collection[Protocol],
    encrypted: bool,
    record: bool,
    srtp: bool = False,
    tunnelled: bool = False,
    used_protocol: Protocol | None = None,
    used_security: bool | None = None,
    used_channels: Collection[int] = (),
) -> ChosenTransport:
    """Choose the first alternative that is acceptable.

    ``encrypted``: the connection uses TLS, so RTP must be interleaved, or be SRTP, whose keys TLS protects. It must
    be interleaved if the connection is ``tunnelled`` over HTTP or WebSocket. ``used_protocol`` is that of the tracks
    already set up in the session, ``used_security`` whether they use SRTP, ``used_channels`` their interleaved
    channels. ``srtp``: whether SRTP is available.

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
            if offer.profile in _SECURE_PROFILES and not (encrypted and srtp):
                reason = "is not available" if encrypted else "needs RTSPS, which protects its keys"
                raise RemoteProtocolError(f"SRTP ({offer.profile}) {reason}", 461)
            chosen = _accept(offer, protocol, allowed, encrypted, record, used_protocol, used_channels)
            if used_security is not None and chosen.is_secure is not used_security:
                raise RemoteProtocolError("can't setup tracks with and without SRTP")
            return chosen
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
    if encrypted and offer.profile not in _SECURE_PROFILES and protocol is not Protocol.TCP:
        advice = "TCP, or SRTP (RTP/SAVP)" if protocol in allowed else "TCP"
        raise RemoteProtocolError(f"transport protocol {protocol.value} can't be used with TLS; use {advice}", 461)
    if encrypted and protocol not in allowed:
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
