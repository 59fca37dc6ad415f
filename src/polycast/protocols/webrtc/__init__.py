"""WebRTC: browsers and others publish (WHIP) and watch (WHEP); sources are pulled (WHEP), streams pushed (WHIP)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, TypedDict

from polycast.config.declarations import DestinationKind, SourceKind
from polycast.errors import MissingDependency, missing_packages
from polycast.items import Count
from polycast.protocols import transcode_audio
from polycast.protocols.base import (
    Address,
    Certificate,
    Destination,
    Listener,
    Protocol,
    Pull,
    PushKind,
    ServerKind,
)
from polycast.protocols.metric_blocks import FORMER_WEBRTC_COLUMNS, WEBRTC_COLUMNS, session_block
from polycast.protocols.session_fields import RtpTraffic, rtp_session_fields
from polycast.protocols.webrtc.configuration import WebRtcConfiguration
from polycast.protocols.webrtc.item import WebRtcSessionItem
from polycast.transcode.pyav import missing_for

if TYPE_CHECKING:
    from polycast.config.schema import Configuration
    from polycast.log import Log
    from polycast.protocols.base import Server
    from polycast.protocols.pull import Puller
    from polycast.protocols.push import Pusher
    from polycast.protocols.webrtc.push import WhipPusher


PACKAGES: Final = {"OpenSSL": "pyOpenSSL", "cryptography": "cryptography", "ifaddr": "ifaddr"}


def _load_server() -> type[Server]:
    from polycast.protocols.webrtc.server import WebRtcServer

    return WebRtcServer


@contextlib.contextmanager
def _importing(purpose: str) -> Iterator[None]:
    """If a package is missing, the error says what needs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in PACKAGES:
            raise
        raise MissingDependency(missing_packages(purpose, *PACKAGES.values())) from error


def _load_puller() -> type[Puller]:
    with _importing("a whep:// source"):
        from polycast.protocols.webrtc.source import WhepPuller

    return WhepPuller


def _load_http_client() -> None:
    from polycast.net.http_client import load_http_client

    load_http_client()


def _load_pages() -> None:
    from polycast import web

    web.preload()


def _load_pusher() -> type[WhipPusher]:
    with _importing("publishing to whip://"):
        from polycast.protocols.webrtc.push import WhipPusher

    return WhipPusher


def _prepare_pusher() -> None:
    _load_pusher()
    _load_http_client()


def _open_push(destination: Destination) -> Callable[[Log], Pusher]:
    pusher = _load_pusher()
    from polycast.protocols.webrtc.signalling_client import http_address

    http_address(destination.url)  # raises an error if it is invalid
    return lambda log: pusher(destination, log)


def _is_encrypted(configuration: Configuration) -> bool:
    return configuration[WebRtcConfiguration].webrtc_encryption


def _find_missing(configuration: Configuration) -> str:
    """Return what the settings for converting sound and pictures need and is not installed."""
    settings = configuration[WebRtcConfiguration]
    if settings.webrtc_transcode_audio:
        return missing_for("webrtcTranscodeAudio")
    if settings.webrtc_transcode_video:
        return missing_for("webrtcTranscodeVideo")
    return transcode_audio.find_missing(configuration)


class WebRtcFields(RtpTraffic, TypedDict):
    """What a WebRTC session has in API v3."""

    peerConnectionEstablished: bool
    localCandidate: str
    remoteCandidate: str
    outboundFramesDiscarded: Count


def _session_fields(item: WebRtcSessionItem) -> WebRtcFields:
    return {
        "peerConnectionEstablished": item.peer_connection_established,
        "localCandidate": item.local_candidate,
        "remoteCandidate": item.remote_candidate,
        **rtp_session_fields(item),
        "outboundFramesDiscarded": item.packets_dropped,
    }


WEBRTC = ServerKind(
    name="WebRTC",
    collection="webrtcsessions",
    v3=_session_fields,
    metric="webrtc_sessions",
    blocks=(
        session_block("WebRTC sessions", "webrtc_sessions", "webrtcsessions", WEBRTC_COLUMNS, FORMER_WEBRTC_COLUMNS),
    ),
    is_enabled=lambda configuration: configuration[WebRtcConfiguration].webrtc,
    load=_load_server,
    listeners=(
        Listener("webrtcAddress"),
        Listener(
            "webrtcLocalUDPAddress",
            is_datagram=True,
            is_used=lambda configuration: bool(configuration[WebRtcConfiguration].webrtc_local_udp_address),
            worker_step=1,
        ),
        Listener(
            "webrtcLocalTCPAddress",
            is_used=lambda configuration: bool(configuration[WebRtcConfiguration].webrtc_local_tcp_address),
            worker_step=1,
        ),
    ),
    certificate=Certificate("webrtcServerCert", "webrtcServerKey", is_used=_is_encrypted),
    address=Address(
        lambda configuration: "https" if _is_encrypted(configuration) else "http", is_page=True, is_shown=False
    ),
    item=WebRtcSessionItem,
    packages=PACKAGES,
    switch="webrtc",
    advice=", or set webrtc: no",
    find_missing=_find_missing,
    preload=_load_pages,
)

PROTOCOL = Protocol(
    name="WebRTC",
    configuration=WebRtcConfiguration,
    servers=(WEBRTC,),
    embedded={"webrtc": False},
    pulls=(
        Pull(SourceKind(name="WebRTC", schemes=("whep", "wheps"), allows_token=True), _load_puller, _load_http_client),
    ),
    pushes=(PushKind(DestinationKind(schemes=("whip", "whips"), allows_token=True), _open_push, _prepare_pusher),),
)
