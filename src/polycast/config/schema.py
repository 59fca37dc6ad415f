"""All settings of the server. The descriptions here are the only copy: every document is made from them."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Final

from msgspec import Meta, Struct

from polycast.config.kinds import ADDRESS, CREDENTIAL, MULTICAST_RANGE
from polycast.config.path_schema import PathConfiguration, SourceKind
from polycast.config.spelling import yaml_key
from polycast.config.values import (
    AuthMethod,
    Duration,
    Encryption,
    HlsVariant,
    IPNetwork,
    LogDestination,
    LogLevel,
    Protocol,
    Size,
)

__all__ = ["ADDED_KEYS", "SECTIONS", "Configuration", "PathConfiguration", "SourceKind"]


class Configuration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=yaml_key):
    """The whole configuration. Objects that were made by hand go through ``validate`` before they are used."""

    log_level: Annotated[
        LogLevel, Meta(description="How much is logged: 'error', 'warn', 'info' or 'debug' (the most).")
    ] = LogLevel.INFO
    log_destinations: Annotated[
        frozenset[LogDestination], Meta(description="Where the log goes: any of 'stdout', 'file' and 'syslog'.")
    ] = frozenset({LogDestination.STDOUT})
    log_file: Annotated[str, Meta(description="The file that the destination 'file' appends to.")] = (
        "rtsp-simple-server.log"
    )
    read_timeout: Annotated[
        Duration, Meta(description="A connection from which nothing was received for this long is closed.")
    ] = Duration(10)
    write_timeout: Annotated[Duration, Meta(description="A connection that takes no data for this long is closed.")] = (
        Duration(10)
    )
    read_buffer_count: Annotated[
        int,
        Meta(
            description=(
                "Number of packets that are kept for a reader that does not keep up, before packets are dropped. It"
                " must be a power of two. A higher number bears longer hiccups and needs more memory."
            )
        ),
    ] = 512
    external_authentication_url: Annotated[
        str,
        Meta(
            description=(
                "HTTP URL that decides who may publish and read. For each client the server sends a POST request "
                "with a JSON object of ip, user, password, path, action ('publish' or 'read') and query; a status "
                "from 200 to 299 lets the client in. The first request of an RTSP client has no user and password."
            )
        ),
    ] = ""
    external_authentication_timeout: Annotated[
        Duration, Meta(description="How long the answer of externalAuthenticationURL may take; later means refused.")
    ] = Duration(5)
    authentication_failure_pause: Annotated[
        Duration, Meta(description="Pause before a client with wrong credentials is answered. It slows guessing down.")
    ] = Duration(2)

    api: Annotated[bool, Meta(description="Serve the HTTP API, with which programs watch and control the server.")] = (
        False
    )
    api_address: Annotated[str, ADDRESS, Meta(description="Address that the API listens on.")] = "127.0.0.1:9997"
    api_persist: Annotated[
        bool,
        Meta(
            description=(
                "Write changes that are made through the API into the configuration file. Otherwise they last until"
                " the server stops."
            )
        ),
    ] = False
    api_user: Annotated[
        str, CREDENTIAL, Meta(description="User name that the API asks for. Empty: no name is asked for.")
    ] = ""
    api_pass: Annotated[str, CREDENTIAL, Meta(description="Password that the API asks for.")] = ""
    api_encryption: Annotated[bool, Meta(description="Serve the API over HTTPS.")] = False
    api_server_key: Annotated[str, Meta(description="File with the private key for the API over HTTPS.")] = "server.key"
    api_server_cert: Annotated[str, Meta(description="File with the certificate for the API over HTTPS.")] = (
        "server.crt"
    )
    api_allow_origin: Annotated[
        str,
        Meta(
            description=(
                "Web site that may call the API from a browser (Access-Control-Allow-Origin); '*' is every site. "
                "Empty: no site."
            )
        ),
    ] = ""

    metrics: Annotated[bool, Meta(description="Serve metrics for Prometheus.")] = False
    metrics_address: Annotated[str, ADDRESS, Meta(description="Address that the metrics listen on.")] = "127.0.0.1:9998"
    metrics_user: Annotated[
        str, CREDENTIAL, Meta(description="User name that the metrics ask for. Empty: no name is asked for.")
    ] = ""
    metrics_pass: Annotated[str, CREDENTIAL, Meta(description="Password that the metrics ask for.")] = ""
    metrics_encryption: Annotated[bool, Meta(description="Serve the metrics over HTTPS.")] = False
    metrics_server_key: Annotated[str, Meta(description="File with the private key for the metrics over HTTPS.")] = (
        "server.key"
    )
    metrics_server_cert: Annotated[str, Meta(description="File with the certificate for the metrics over HTTPS.")] = (
        "server.crt"
    )

    pprof: Annotated[bool, Meta(description="Serve performance profiles of the running server.")] = False
    pprof_address: Annotated[str, ADDRESS, Meta(description="Address that the profiles listen on.")] = "127.0.0.1:9999"
    pprof_user: Annotated[
        str, CREDENTIAL, Meta(description="User name that the profiles ask for. Empty: no name is asked for.")
    ] = ""
    pprof_pass: Annotated[str, CREDENTIAL, Meta(description="Password that the profiles ask for.")] = ""
    pprof_encryption: Annotated[bool, Meta(description="Serve the profiles over HTTPS.")] = False
    pprof_server_key: Annotated[str, Meta(description="File with the private key for the profiles over HTTPS.")] = (
        "server.key"
    )
    pprof_server_cert: Annotated[str, Meta(description="File with the certificate for the profiles over HTTPS.")] = (
        "server.crt"
    )

    run_on_connect: Annotated[
        str,
        Meta(
            description=(
                "Command that runs for each client that connects, until it disconnects. It finds the RTSP port in "
                "RTSP_PORT."
            )
        ),
    ] = ""
    run_on_connect_restart: Annotated[
        bool, Meta(description="Start the command of runOnConnect again when it ends.")
    ] = False

    rtsp_disable: Annotated[bool, Meta(description="Turn RTSP off.")] = False
    protocols: Annotated[
        frozenset[Protocol],
        Meta(
            description=(
                "Transports that RTSP clients may use: any of 'udp', 'multicast' and 'tcp'. UDP has the lowest "
                "latency, multicast spares bandwidth in a local network, TCP passes through most firewalls and can "
                "be encrypted."
            )
        ),
    ] = frozenset(Protocol)
    encryption: Annotated[
        Encryption,
        Meta(
            description=(
                "Encryption of RTSP: 'no', 'strict' (only encrypted connections; protocols must be [tcp]) or "
                "'optional' (both, on two addresses)."
            )
        ),
    ] = Encryption.NO
    rtsp_address: Annotated[str, ADDRESS, Meta(description="Address of RTSP without encryption.")] = ":8554"
    rtsps_address: Annotated[str, ADDRESS, Meta(description="Address of RTSP with encryption.")] = ":8322"
    rtp_address: Annotated[
        str, ADDRESS, Meta(description="UDP address of the media packets (RTP). The port must be even.")
    ] = ":8000"
    rtcp_address: Annotated[
        str, ADDRESS, Meta(description="UDP address of the reports (RTCP). The port must be the one after rtpAddress.")
    ] = ":8001"
    multicast_ip_range: Annotated[
        IPNetwork, MULTICAST_RANGE, Meta(description="Multicast addresses that streams are sent to, one per track.")
    ] = ip_network("224.1.0.0/16")
    multicast_rtp_port: Annotated[
        int, Meta(description="Port of the media packets with multicast. It must be even.")
    ] = 8002
    multicast_rtcp_port: Annotated[
        int, Meta(description="Port of the reports with multicast. It must be the one after multicastRTPPort.")
    ] = 8003
    udp_read_buffer_size: Annotated[
        Size,
        Meta(
            description=(
                "Receive buffer of each UDP socket in the system (SO_RCVBUF). Where the system allows less, its "
                "limit applies (on Linux: net.core.rmem_max)."
            )
        ),
    ] = Size(2 * 1024 * 1024)
    server_key: Annotated[str, Meta(description="File with the private key for encrypted RTSP.")] = "server.key"
    server_cert: Annotated[str, Meta(description="File with the certificate for encrypted RTSP.")] = "server.crt"
    auth_methods: Annotated[
        tuple[AuthMethod, ...],
        Meta(description="Ways in which RTSP clients may give their password: any of 'basic' and 'digest'."),
    ] = (AuthMethod.BASIC, AuthMethod.DIGEST)

    rtmp_disable: Annotated[bool, Meta(description="Turn RTMP off.")] = False
    rtmp_address: Annotated[str, ADDRESS, Meta(description="Address of RTMP without encryption.")] = ":1935"
    rtmp_encryption: Annotated[
        Encryption,
        Meta(
            description=(
                "Encryption of RTMP: 'no', 'strict' (only encrypted connections) or 'optional' (both, on two "
                "addresses)."
            )
        ),
    ] = Encryption.NO
    rtmps_address: Annotated[str, ADDRESS, Meta(description="Address of RTMP with encryption.")] = ":1936"
    rtmp_server_key: Annotated[str, Meta(description="File with the private key for encrypted RTMP.")] = "server.key"
    rtmp_server_cert: Annotated[str, Meta(description="File with the certificate for encrypted RTMP.")] = "server.crt"

    hls_disable: Annotated[bool, Meta(description="Turn HLS off.")] = False
    hls_address: Annotated[str, ADDRESS, Meta(description="Address of HLS.")] = ":8888"
    hls_always_remux: Annotated[
        bool,
        Meta(
            description=(
                "Make HLS of every stream all the time, so that the first viewer does not wait. Otherwise HLS is "
                "made while somebody watches."
            )
        ),
    ] = False
    hls_variant: Annotated[
        HlsVariant,
        Meta(
            description=(
                "Form of HLS: 'mpegts' (MPEG-TS segments, plays everywhere), 'fmp4' (MP4 segments, more efficient) "
                "or 'lowLatency' (Low-Latency HLS; it needs hlsEncryption and at least 7 segments)."
            )
        ),
    ] = HlsVariant.MPEGTS
    hls_segment_count: Annotated[
        int, Meta(description="Number of segments in the playlist, and so how far a viewer can go back. At least 3.")
    ] = 7
    hls_segment_duration: Annotated[
        Duration,
        Meta(
            description=(
                "Shortest duration of a segment. A segment begins with a key frame, so it is at least as long as "
                "the key frames are apart."
            )
        ),
    ] = Duration(1)
    hls_part_duration: Annotated[
        Duration,
        Meta(description="Shortest duration of a part of a segment, for Low-Latency HLS."),
    ] = Duration(0.2)
    hls_segment_max_size: Annotated[
        Size,
        Meta(description="Largest size of a segment. It keeps a stream without key frames from filling the memory."),
    ] = Size(50 * 1024 * 1024)
    hls_allow_origin: Annotated[
        str, Meta(description="Web site that may show the streams (Access-Control-Allow-Origin); '*' is every site.")
    ] = "*"
    hls_encryption: Annotated[bool, Meta(description="Serve HLS over HTTPS. Low-Latency HLS needs it.")] = False
    hls_server_key: Annotated[str, Meta(description="File with the private key for HLS over HTTPS.")] = "server.key"
    hls_server_cert: Annotated[str, Meta(description="File with the certificate for HLS over HTTPS.")] = "server.crt"
    hls_trusted_proxies: Annotated[
        tuple[IPNetwork, ...],
        Meta(
            description=(
                "IP addresses and ranges of proxies in front of the server. Their X-Forwarded-For and X-Real-IP "
                "headers tell the address of the viewer."
            )
        ),
    ] = ()
    hls_index: Annotated[bool, Meta(description="List the live streams at the address '/' of the HLS server.")] = False

    paths: Annotated[
        dict[str, PathConfiguration],
        Meta(
            description=(
                "The streams, by name. A name that begins with '~' is a regular expression that stands for every "
                "matching name; of several that match, the first one in the file counts. 'all' stands for every "
                "name (it is short for '~^.*$'). A client can only use names that are found here."
            )
        ),
    ] = {}


ADDED_KEYS: Final = frozenset(
    {
        "externalAuthenticationTimeout",
        "authenticationFailurePause",
        "apiPersist",
        "apiUser",
        "apiPass",
        "apiEncryption",
        "apiServerKey",
        "apiServerCert",
        "apiAllowOrigin",
        "metricsUser",
        "metricsPass",
        "metricsEncryption",
        "metricsServerKey",
        "metricsServerCert",
        "pprofUser",
        "pprofPass",
        "pprofEncryption",
        "pprofServerKey",
        "pprofServerCert",
        "udpReadBufferSize",
        "hlsIndex",
        "sourceRetryPause",
        "sourceRetryPauseMax",
        "publisherGrace",
    }
)
"""Keys, of the server and of paths, that the reference server does not have."""

SECTIONS: Final = {
    "logLevel": "General",
    "api": "HTTP API",
    "metrics": "Metrics",
    "pprof": "Profiling",
    "runOnConnect": "Commands",
    "rtspDisable": "RTSP",
    "rtmpDisable": "RTMP",
    "hlsDisable": "HLS",
    "paths": "Paths",
    "source": "Source",
    "rpiCameraCamID": "Raspberry Pi Camera",
    "publishUser": "Authentication",
    "runOnInit": "Commands of the path",
}
"""The first key of each section, with the title of the section, in the order of the fields."""
