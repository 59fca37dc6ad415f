"""WebRTC: browsers and others publish (WHIP) and watch (WHEP); sources are pulled (WHEP)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polycast.config.declarations import SourceKind
from polycast.protocols.base import Address, Certificate, Listener, Protocol, Pull, ServerKind
from polycast.protocols.webrtc.configuration import WebRtcConfiguration
from polycast.protocols.webrtc.item import WebRtcSessionItem
from polycast.transcode.pyav import missing_for

if TYPE_CHECKING:
    from polycast.config.schema import Configuration
    from polycast.protocols.base import Server
    from polycast.protocols.pull import Puller


def _load_server() -> type[Server]:
    from polycast.protocols.webrtc.server import WebRtcServer

    return WebRtcServer


def _load_puller() -> type[Puller]:
    from polycast.protocols.webrtc.source import WhepPuller

    return WhepPuller


def _prepare_puller() -> None:
    from polycast.net.http_client import load_http_client

    load_http_client()


def _load_pages() -> None:
    from polycast import web

    web.preload()


def _is_encrypted(configuration: Configuration) -> bool:
    return configuration[WebRtcConfiguration].webrtc_encryption


def _find_missing(configuration: Configuration) -> str:
    """Return what ``webrtcTranscodeAudio`` and ``transcodeAudio`` need and is not installed."""
    if configuration[WebRtcConfiguration].webrtc_transcode_audio:
        return missing_for("webrtcTranscodeAudio")
    is_used = any(path.transcode_audio for path in configuration.paths.values())
    return missing_for("transcodeAudio") if is_used else ""


WEBRTC = ServerKind(
    name="WebRTC",
    collection="webrtcsessions",
    metric="webrtc_sessions",
    is_enabled=lambda configuration: configuration[WebRtcConfiguration].webrtc,
    load=_load_server,
    listeners=(
        Listener("webrtcAddress"),
        Listener(
            "webrtcLocalUDPAddress",
            is_datagram=True,
            is_used=lambda configuration: bool(configuration[WebRtcConfiguration].webrtc_local_udp_address),
        ),
        Listener(
            "webrtcLocalTCPAddress",
            is_used=lambda configuration: bool(configuration[WebRtcConfiguration].webrtc_local_tcp_address),
        ),
    ),
    certificate=Certificate("webrtcServerCert", "webrtcServerKey", is_used=_is_encrypted),
    address=Address(
        lambda configuration: "https" if _is_encrypted(configuration) else "http", is_page=True, is_shown=False
    ),
    item=WebRtcSessionItem,
    packages={"OpenSSL": "pyOpenSSL", "cryptography": "cryptography", "ifaddr": "ifaddr"},
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
        Pull(SourceKind(name="WebRTC", schemes=("whep", "wheps")), _load_puller, _prepare_puller, is_for_library=False),
    ),
)
