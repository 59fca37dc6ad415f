"""Interprets a server's answer to SETUP, given the request (RFC 2326 section 12.39).

Cameras omit the lower transport, the channels or the whole header, or repeat the channels of another track. The only
possible meaning of the answer counts, not its wording.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.headers.parameters import split_unquoted
from polycast.wire.rtsp.headers.transport import Pair, Transport


def read_transport_answer(headers: Sequence[str], offer: Transport) -> Transport:
    """Return the transport that the values of the Transport headers of an answer mean.

    Raises RemoteProtocolError (461) if the server chose a transport that was not requested or is unknown.
    """
    alternatives = split_unquoted(",".join(headers), ",")
    if not alternatives:
        return offer  # nothing else was offered
    try:
        answer = Transport.parse(alternatives[0], leniently=True)
    except RemoteProtocolError:
        if offer.lower_transport == "TCP":
            return offer
        raise
    return _read_interleaved(answer, offer) if offer.lower_transport == "TCP" else _read_datagrams(answer, offer)


def _read_interleaved(answer: Transport, offer: Transport) -> Transport:
    means_udp = answer.server_port is not None or answer.delivery == "multicast"
    if means_udp and answer.interleaved is None and answer.lower_transport != "TCP":
        raise RemoteProtocolError("the server uses UDP although TCP was asked for", 461)
    return replace(answer, lower_transport="TCP", interleaved=answer.interleaved or offer.interleaved)


def _read_datagrams(answer: Transport, offer: Transport) -> Transport:
    if answer.lower_transport == "TCP" or (answer.interleaved is not None and answer.server_port is None):
        raise RemoteProtocolError("the server uses TCP although UDP was asked for", 461)
    if answer.delivery == "multicast" and offer.delivery != "multicast":
        raise RemoteProtocolError("the server uses multicast although unicast was asked for", 461)
    return answer


def free_channels(answered: Pair | None, offered: Pair, used: Collection[int]) -> Pair:
    """Return the interleaved channels of a track: those in the answer, or the requested ones if the answer repeats the
    channels of another track.

    Raises RemoteProtocolError (400) when both are in use.
    """
    for pair in (answered, offered):
        if pair is not None and pair[0] not in used and pair[1] not in used:
            return pair
    raise RemoteProtocolError(f"the interleaved channels {offered[0]}-{offered[1]} are used twice")
