"""The settings of WebRTC."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta

from polycast.config.dialects.base import Dialect
from polycast.config.kinds import ADDRESS, choice_kind
from polycast.config.marks import LIVE, NEW, ZERO_IS_A_VALUE, Heading, restarts
from polycast.config.section import Section
from polycast.config.spelling import yaml_key
from polycast.config.values import Duration
from polycast.errors import ConfigurationError
from polycast.protocols.webrtc.ice_servers import ICE_SERVERS, IceServer, parse_old_ice_servers
from polycast.security.addresses import IPNetwork


class WebRtcReorder(StrEnum):
    """What becomes of streams with B-frames."""

    DROP = "drop"
    REFUSE = "refuse"


WEBRTC_REORDER: Final = choice_kind(WebRtcReorder, "invalid webrtcReorder value: '%s'")


class WebRtcConfiguration(Section, frozen=True, kw_only=True, rename=yaml_key):
    """The settings of the WebRTC server; sources also use its timeouts."""

    webrtc: Annotated[
        bool,
        Heading("WebRTC"),
        restarts("WebRTC"),
        NEW,
        Meta(description="Enable WebRTC: publish from a browser (WHIP) and watch in one (WHEP)."),
    ] = False
    webrtc_address: Annotated[
        str,
        ADDRESS,
        restarts("WebRTC"),
        NEW,
        Meta(description="Address that the WebRTC pages, WHIP and WHEP listen on (TCP)."),
    ] = ":8889"
    webrtc_encryption: Annotated[
        bool,
        restarts("WebRTC"),
        NEW,
        Meta(
            description=(
                "Serve the WebRTC pages, WHIP and WHEP over HTTPS. Browsers allow access to camera and microphone "
                "over HTTPS only, except on localhost. Media are always encrypted."
            )
        ),
    ] = False
    webrtc_server_key: Annotated[
        str, restarts("WebRTC"), NEW, Meta(description="File with the private key for WebRTC over HTTPS.")
    ] = "server.key"
    webrtc_server_cert: Annotated[
        str, restarts("WebRTC"), NEW, Meta(description="File with the certificate for WebRTC over HTTPS.")
    ] = "server.crt"
    webrtc_allow_origins: Annotated[
        tuple[str, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "Origins whose pages may publish and watch (Access-Control-Allow-Origin), such as "
                "'https://example.com' or 'https://*.example.com'; '*' is every site."
            )
        ),
    ] = ("*",)
    webrtc_trusted_proxies: Annotated[
        tuple[IPNetwork, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "IP addresses and ranges of proxies in front of the server. The client's address is taken from "
                "their X-Forwarded-For and X-Real-IP headers."
            )
        ),
    ] = ()
    webrtc_local_udp_address: Annotated[
        str,
        ADDRESS,
        restarts("WebRTC"),
        NEW,
        ZERO_IS_A_VALUE,
        Meta(
            description=(
                "UDP address for the media of all clients; empty: no UDP, or if there is no webrtcLocalTCPAddress "
                "either, a port that the system chooses."
            )
        ),
    ] = ":8189"
    webrtc_local_tcp_address: Annotated[
        str,
        ADDRESS,
        restarts("WebRTC"),
        NEW,
        Meta(
            description=(
                "TCP address for the media of clients that cannot send UDP, such as ':8189'; empty: no TCP. With UDP, "
                "the delay is shorter and losses do less harm, so clients only use TCP if UDP does not work."
            )
        ),
    ] = ""
    webrtc_ips_from_interfaces: Annotated[
        bool,
        restarts("WebRTC"),
        NEW,
        Meta(description="Offer the IP addresses of this machine's network interfaces to clients."),
    ] = True
    webrtc_ips_from_interfaces_list: Annotated[
        tuple[str, ...],
        restarts("WebRTC"),
        NEW,
        Meta(description="Names of the interfaces whose addresses are offered; empty: all of them."),
    ] = ()
    webrtc_additional_hosts: Annotated[
        tuple[str, ...],
        restarts("WebRTC"),
        NEW,
        Meta(
            description=(
                "Additional IP addresses or names under which clients reach the server, such as the public address "
                "of a router, or the address of a container's host."
            )
        ),
    ] = ()
    webrtc_ice_servers2: Annotated[
        tuple[IceServer, ...],
        ICE_SERVERS,
        LIVE,
        NEW,
        Meta(
            description=(
                "STUN and TURN servers, each with 'url' (stun:host:port, turn:host:port or "
                "turns:host:port), 'username' and 'password'. With the user name AUTH_SECRET, each client gets "
                "credentials that are valid for a day, derived from the password, which is the secret shared with "
                "the TURN server. All of them are passed on to clients. Through those without 'clientOnly: yes', the "
                "server itself finds its public address (STUN), or allocates an address on the TURN server, and "
                "offers it."
            )
        ),
    ] = ()
    webrtc_ice_servers: Annotated[
        tuple[str, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "Deprecated, use webrtcICEServers2: STUN and TURN servers as texts 'scheme:host:port' or "
                "'scheme:user:password:host:port', in addition to those of webrtcICEServers2."
            )
        ),
    ] = ()
    webrtc_stun_gather_timeout: Annotated[
        Duration,
        LIVE,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(
            description=(
                "How long clients wait for the answer to their offer while the servers of webrtcICEServers2 have not "
                "returned the server's public address yet, counted from the first request to them."
            )
        ),
    ] = Duration(5)
    webrtc_handshake_timeout: Annotated[
        Duration, LIVE, NEW, Meta(description="How long a client may take to connect after sending its offer.")
    ] = Duration(10)
    webrtc_track_gather_timeout: Annotated[
        Duration,
        LIVE,
        NEW,
        Meta(
            description=(
                "How long to wait for all tracks of a publisher. When one starts later, the stream begins again with "
                "it."
            )
        ),
    ] = Duration(2)
    webrtc_transcode_audio: Annotated[
        bool,
        restarts("WebRTC"),
        NEW,
        Meta(
            description=(
                "Convert sound that WebRTC does not carry, such as AAC, MP3 and AC-3, to Opus: once per stream, while "
                "somebody watches. It needs the packages av and numpy, and about 1 % of a processor core per "
                "stream. Otherwise such streams have no sound over WebRTC."
            )
        ),
    ] = False
    webrtc_transcode_video: Annotated[
        bool,
        restarts("WebRTC"),
        NEW,
        Meta(
            description=(
                "Convert pictures that a viewer cannot show over WebRTC to H264: streams with B-frames, H265, AV1 or "
                "VP9 in browsers that do not support them, MJPEG, MPEG-4 and MPEG-2. Once per stream, while such a "
                "viewer watches; others get the original. It needs the packages av and numpy, and about 10 ms of a "
                "processor core per picture of 1280x720: a third of a core at 30 pictures per second."
            )
        ),
    ] = False
    webrtc_reorder: Annotated[
        WebRtcReorder,
        WEBRTC_REORDER,
        LIVE,
        NEW,
        Meta(
            description=(
                "What to do with streams with B-frames, which browsers cannot show in WebRTC: 'drop' (the B-frames "
                "are dropped, so the picture is less smooth) or 'refuse' (viewers are told why they see nothing). With "
                "webrtcTranscodeVideo, such streams are converted instead."
            )
        ),
    ] = WebRtcReorder.DROP

    def broken_rules(self, dialect: Dialect) -> Iterator[ConfigurationError]:
        if self.webrtc and not self.webrtc_address:
            text = "'webrtcAddress' must be set when WebRTC is enabled"
            yield ConfigurationError(text, ("webrtcAddress",), ("webrtc",))
        try:
            parse_old_ice_servers(self.webrtc_ice_servers)
        except ConfigurationError as error:
            for each in (error, *error.others):
                yield each.within("webrtcICEServers")
        has_address = bool(self.webrtc_local_udp_address or self.webrtc_local_tcp_address)
        if not has_address and not (self.webrtc_ice_servers2 or self.webrtc_ice_servers):
            yield ConfigurationError(
                "at least one between 'webrtcLocalUDPAddress', 'webrtcLocalTCPAddress' or 'webrtcICEServers2' must be "
                "filled",
                ("webrtcLocalUDPAddress",),
            )
        if has_address and not (self.webrtc_ips_from_interfaces or self.webrtc_additional_hosts):
            yield ConfigurationError(
                "at least one between 'webrtcIPsFromInterfaces' or 'webrtcAdditionalHosts' must be filled: clients "
                "need an address of the server",
                ("webrtcIPsFromInterfaces",),
                ("webrtcAdditionalHosts",),
            )

    @property
    def ice_servers(self) -> tuple[IceServer, ...]:
        """The STUN and TURN servers for clients."""
        return self.webrtc_ice_servers2 + parse_old_ice_servers(self.webrtc_ice_servers)
