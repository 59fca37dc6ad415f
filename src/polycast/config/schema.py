"""All settings of the server. The descriptions here are the only copy: every document is made from them."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated

from msgspec import Meta, Struct

from polycast.config.kinds import ADDRESS, CREDENTIAL, HOST_NAMES, MULTICAST_RANGE, URL
from polycast.config.marks import LIVE, NEW, ZERO_IS_A_VALUE, Heading, restarts
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
    RtmpAuthMethod,
    Size,
)

__all__ = ["Configuration", "PathConfiguration", "SourceKind"]


class Configuration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=yaml_key):
    """The whole configuration. Objects that were made by hand go through ``validate`` before they are used."""

    log_level: Annotated[
        LogLevel,
        Heading("General"),
        LIVE,
        Meta(description="Minimum severity of log entries: 'error', 'warn', 'info' or 'debug'."),
    ] = LogLevel.INFO
    log_destinations: Annotated[
        frozenset[LogDestination], LIVE, Meta(description="Where the log goes: any of 'stdout', 'file' and 'syslog'.")
    ] = frozenset({LogDestination.STDOUT})
    log_file: Annotated[str, LIVE, Meta(description="The file that the destination 'file' appends to.")] = (
        "rtsp-simple-server.log"
    )
    read_timeout: Annotated[
        Duration, LIVE, Meta(description="A connection from which nothing was received for this long is closed.")
    ] = Duration(10)
    write_timeout: Annotated[
        Duration, LIVE, Meta(description="A connection that accepts no data for this long is closed.")
    ] = Duration(10)
    read_buffer_count: Annotated[
        int,
        LIVE,
        Meta(
            description=(
                "Number of packets queued for a slow reader before packets are dropped. It must be a power of two. "
                "A higher value tolerates longer stalls but uses more memory."
            )
        ),
    ] = 512
    external_authentication_url: Annotated[
        str,
        URL,
        LIVE,
        Meta(
            description=(
                "HTTP URL of a server that decides who may publish and read. For each client the server sends a "
                "POST request with a JSON object of ip, user, password, path, action ('publish' or 'read') and "
                "query; a status from 200 to 299 lets the client in. The first request of an RTSP client has no "
                "user and password."
            )
        ),
    ] = ""
    external_authentication_timeout: Annotated[
        Duration,
        LIVE,
        NEW,
        Meta(
            description=(
                "How long to wait for externalAuthenticationURL; a client is refused if no answer arrives in time."
            )
        ),
    ] = Duration(5)
    authentication_failure_pause: Annotated[
        Duration,
        LIVE,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(
            description=(
                "Pause between the attempts of an address that has sent wrong credentials more than ten times "
                "within a minute, on any number of connections. A refused RTMP client always waits this long. Slows "
                "down guessing."
            )
        ),
    ] = Duration(2)
    allowed_hosts: Annotated[
        tuple[str, ...],
        HOST_NAMES,
        LIVE,
        NEW,
        Meta(
            description=(
                "Host names under which the API, metrics, profiles, and paths with credentials or lists of IPs "
                "over HLS and WebRTC can be reached, such as 'media.example.com', '*.example.com' or '*' (any). "
                "IP addresses, names without a dot, names of local networks (such as '.local') and the machine's "
                "own name are always allowed. Other names are refused, because a web page could use one to reach "
                "the server through a browser (DNS rebinding). List the public name of a reverse proxy here."
            )
        ),
    ] = ()

    api: Annotated[
        bool,
        Heading("HTTP API"),
        restarts("API"),
        Meta(description="Enable the HTTP API, which lets programs monitor and control the server."),
    ] = False
    api_address: Annotated[str, ADDRESS, restarts("API"), Meta(description="Address that the API listens on.")] = (
        "127.0.0.1:9997"
    )
    api_persist: Annotated[
        bool,
        LIVE,
        NEW,
        Meta(
            description=(
                "Write changes that are made through the API into the configuration file. Otherwise they last until "
                "the server stops."
            )
        ),
    ] = False
    api_user: Annotated[
        str, CREDENTIAL, LIVE, NEW, Meta(description="User name required by the API. Empty: no authentication.")
    ] = ""
    api_pass: Annotated[str, CREDENTIAL, LIVE, NEW, Meta(description="Password required by the API.")] = ""
    api_encryption: Annotated[bool, restarts("API"), NEW, Meta(description="Serve the API over HTTPS.")] = False
    api_server_key: Annotated[
        str, restarts("API"), NEW, Meta(description="File with the private key for the API over HTTPS.")
    ] = "server.key"
    api_server_cert: Annotated[
        str, restarts("API"), NEW, Meta(description="File with the certificate for the API over HTTPS.")
    ] = "server.crt"
    api_allow_origin: Annotated[
        str,
        LIVE,
        NEW,
        Meta(
            description=(
                "Origin that may call the API from a browser (Access-Control-Allow-Origin); '*' is every site. "
                "Empty: no site."
            )
        ),
    ] = ""
    api_allow_commands: Annotated[
        bool,
        LIVE,
        NEW,
        Meta(
            description=(
                "Allow commands (runOnInit, runOnReady...) to be changed through an API without credentials. If "
                "apiUser is set, this is always allowed."
            )
        ),
    ] = False

    metrics: Annotated[
        bool, Heading("Metrics"), restarts("metrics"), Meta(description="Serve metrics for Prometheus.")
    ] = False
    metrics_address: Annotated[
        str, ADDRESS, restarts("metrics"), Meta(description="Address that the metrics listen on.")
    ] = "127.0.0.1:9998"
    metrics_user: Annotated[
        str, CREDENTIAL, LIVE, NEW, Meta(description="User name required for the metrics. Empty: no authentication.")
    ] = ""
    metrics_pass: Annotated[str, CREDENTIAL, LIVE, NEW, Meta(description="Password required for the metrics.")] = ""
    metrics_encryption: Annotated[bool, restarts("metrics"), NEW, Meta(description="Serve the metrics over HTTPS.")] = (
        False
    )
    metrics_server_key: Annotated[
        str, restarts("metrics"), NEW, Meta(description="File with the private key for the metrics over HTTPS.")
    ] = "server.key"
    metrics_server_cert: Annotated[
        str, restarts("metrics"), NEW, Meta(description="File with the certificate for the metrics over HTTPS.")
    ] = "server.crt"

    pprof: Annotated[
        bool,
        Heading("Profiling"),
        restarts("pprof"),
        Meta(description="Serve performance profiles of the running server."),
    ] = False
    pprof_address: Annotated[
        str, ADDRESS, restarts("pprof"), Meta(description="Address that the profiles listen on.")
    ] = "127.0.0.1:9999"
    pprof_user: Annotated[
        str, CREDENTIAL, LIVE, NEW, Meta(description="User name required for the profiles. Empty: no authentication.")
    ] = ""
    pprof_pass: Annotated[str, CREDENTIAL, LIVE, NEW, Meta(description="Password required for the profiles.")] = ""
    pprof_encryption: Annotated[bool, restarts("pprof"), NEW, Meta(description="Serve the profiles over HTTPS.")] = (
        False
    )
    pprof_server_key: Annotated[
        str, restarts("pprof"), NEW, Meta(description="File with the private key for the profiles over HTTPS.")
    ] = "server.key"
    pprof_server_cert: Annotated[
        str, restarts("pprof"), NEW, Meta(description="File with the certificate for the profiles over HTTPS.")
    ] = "server.crt"

    run_on_connect: Annotated[
        str,
        Heading("Commands"),
        LIVE,
        Meta(
            description=(
                "Command that runs for each client that connects, until it disconnects. The RTSP port is passed in "
                "RTSP_PORT."
            )
        ),
    ] = ""
    run_on_connect_restart: Annotated[
        bool, LIVE, Meta(description="Restart the runOnConnect command when it exits.")
    ] = False

    rtsp_disable: Annotated[bool, Heading("RTSP"), restarts("RTSP", "RTSPS"), Meta(description="Disable RTSP.")] = False
    protocols: Annotated[
        frozenset[Protocol],
        restarts("RTSP"),
        Meta(
            description=(
                "Transports that RTSP clients may use: any of 'udp', 'multicast' and 'tcp'. UDP has the lowest "
                "latency, multicast saves bandwidth on a local network, TCP passes through most firewalls and can "
                "be encrypted."
            )
        ),
    ] = frozenset(Protocol)
    encryption: Annotated[
        Encryption,
        restarts("RTSP", "RTSPS"),
        Meta(
            description=(
                "Encryption of RTSP: 'no', 'strict' (only encrypted connections; protocols must be [tcp]) or "
                "'optional' (both, on two addresses)."
            )
        ),
    ] = Encryption.NO
    rtsp_address: Annotated[str, ADDRESS, restarts("RTSP"), Meta(description="Address that RTSP listens on.")] = ":8554"
    rtsps_address: Annotated[
        str, ADDRESS, restarts("RTSPS"), Meta(description="Address that RTSPS (RTSP over TLS) listens on.")
    ] = ":8322"
    rtp_address: Annotated[
        str, ADDRESS, restarts("RTSP"), Meta(description="UDP address for media packets (RTP). The port must be even.")
    ] = ":8000"
    rtcp_address: Annotated[
        str,
        ADDRESS,
        restarts("RTSP"),
        Meta(description="UDP address for reports (RTCP). The port must be the one after rtpAddress."),
    ] = ":8001"
    multicast_ip_range: Annotated[
        IPNetwork,
        MULTICAST_RANGE,
        restarts("RTSP"),
        Meta(description="Multicast addresses that streams are sent to, one address per track."),
    ] = ip_network("224.1.0.0/16")
    multicast_rtp_port: Annotated[
        int, restarts("RTSP"), Meta(description="Port for media packets sent by multicast. It must be even.")
    ] = 8002
    multicast_rtcp_port: Annotated[
        int,
        restarts("RTSP"),
        Meta(description="Port for reports sent by multicast. It must be the one after multicastRTPPort."),
    ] = 8003
    udp_read_buffer_size: Annotated[
        Size,
        restarts("RTSP"),
        NEW,
        Meta(
            description=(
                "Receive buffer of each UDP socket in the system (SO_RCVBUF). If the system's limit is lower, that "
                "limit applies (on Linux: net.core.rmem_max)."
            )
        ),
    ] = Size(2 * 1024 * 1024)
    server_key: Annotated[str, restarts("RTSPS"), Meta(description="File with the private key for encrypted RTSP.")] = (
        "server.key"
    )
    server_cert: Annotated[
        str, restarts("RTSPS"), Meta(description="File with the certificate for encrypted RTSP.")
    ] = "server.crt"
    auth_methods: Annotated[
        tuple[AuthMethod, ...],
        restarts("RTSP", "RTSPS"),
        Meta(description="Authentication methods offered to RTSP clients: any of 'basic' and 'digest'."),
    ] = (AuthMethod.BASIC, AuthMethod.DIGEST)

    rtmp_disable: Annotated[bool, Heading("RTMP"), restarts("RTMP", "RTMPS"), Meta(description="Disable RTMP.")] = False
    rtmp_address: Annotated[str, ADDRESS, restarts("RTMP"), Meta(description="Address that RTMP listens on.")] = ":1935"
    rtmp_encryption: Annotated[
        Encryption,
        restarts("RTMP", "RTMPS"),
        Meta(
            description=(
                "Encryption of RTMP: 'no', 'strict' (only encrypted connections) or 'optional' (both, on two "
                "addresses)."
            )
        ),
    ] = Encryption.NO
    rtmps_address: Annotated[
        str, ADDRESS, restarts("RTMPS"), Meta(description="Address that RTMPS (RTMP over TLS) listens on.")
    ] = ":1936"
    rtmp_auth_methods: Annotated[
        tuple[RtmpAuthMethod, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "Login methods for RTMP publishers: 'query' (user and pass in the query), 'adobe' or 'llnw' ('Use "
                "authentication' in OBS, rtmp://user:pass@host in FFmpeg). With 'adobe' or 'llnw', publishers whose "
                "server URL has no credentials have to log in; a query after the stream key is then not enough."
            )
        ),
    ] = (RtmpAuthMethod.QUERY,)
    rtmp_server_key: Annotated[
        str, restarts("RTMPS"), Meta(description="File with the private key for encrypted RTMP.")
    ] = "server.key"
    rtmp_server_cert: Annotated[
        str, restarts("RTMPS"), Meta(description="File with the certificate for encrypted RTMP.")
    ] = "server.crt"

    hls_disable: Annotated[bool, Heading("HLS"), restarts("HLS"), Meta(description="Disable HLS.")] = False
    hls_address: Annotated[str, ADDRESS, restarts("HLS"), Meta(description="Address that HLS listens on.")] = ":8888"
    hls_always_remux: Annotated[
        bool,
        restarts("HLS"),
        Meta(
            description=(
                "Convert every stream to HLS all the time, so that the first viewer does not have to wait. "
                "Otherwise streams are converted only while somebody is watching."
            )
        ),
    ] = False
    hls_variant: Annotated[
        HlsVariant,
        restarts("HLS"),
        Meta(
            description=(
                "HLS variant: 'mpegts' (MPEG-TS segments, plays everywhere), 'fmp4' (MP4 segments, more efficient) "
                "or 'lowLatency' (Low-Latency HLS; it needs hlsEncryption and at least 7 segments)."
            )
        ),
    ] = HlsVariant.MPEGTS
    hls_segment_count: Annotated[
        int,
        restarts("HLS"),
        Meta(description="Number of segments in the playlist, which is how far back a viewer can seek. At least 3."),
    ] = 7
    hls_segment_duration: Annotated[
        Duration,
        restarts("HLS"),
        Meta(
            description=(
                "Shortest duration of a segment. A segment starts with a key frame, so it is at least as long as "
                "the key frame interval."
            )
        ),
    ] = Duration(1)
    hls_part_duration: Annotated[
        Duration,
        restarts("HLS"),
        Meta(description="Shortest duration of a part of a segment, for Low-Latency HLS."),
    ] = Duration(0.2)
    hls_segment_max_size: Annotated[
        Size,
        restarts("HLS"),
        Meta(description="Largest size of a segment. Prevents a stream without key frames from exhausting memory."),
    ] = Size(50 * 1024 * 1024)
    hls_allow_origin: Annotated[
        str,
        LIVE,
        Meta(description="Origin whose pages may play the streams (Access-Control-Allow-Origin); '*' is every site."),
    ] = "*"
    hls_encryption: Annotated[
        bool, restarts("HLS"), Meta(description="Serve HLS over HTTPS. Low-Latency HLS needs it.")
    ] = False
    hls_server_key: Annotated[
        str, restarts("HLS"), Meta(description="File with the private key for HLS over HTTPS.")
    ] = "server.key"
    hls_server_cert: Annotated[
        str, restarts("HLS"), Meta(description="File with the certificate for HLS over HTTPS.")
    ] = "server.crt"
    hls_trusted_proxies: Annotated[
        tuple[IPNetwork, ...],
        LIVE,
        Meta(
            description=(
                "IP addresses and ranges of proxies in front of the server. The viewer's address is taken from "
                "their X-Forwarded-For and X-Real-IP headers."
            )
        ),
    ] = ()
    hls_index: Annotated[
        bool, LIVE, NEW, Meta(description="List the live streams at the address '/' of the HLS server.")
    ] = False

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
    webrtc_allow_origin: Annotated[
        str,
        LIVE,
        NEW,
        Meta(description="Origin whose pages may publish and watch (Access-Control-Allow-Origin); '*' is every site."),
    ] = "*"
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
        Meta(description="UDP address for the media of all clients."),
    ] = ":8189"
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
    webrtc_handshake_timeout: Annotated[
        Duration, LIVE, NEW, Meta(description="How long a client may take to connect after sending its offer.")
    ] = Duration(10)
    webrtc_track_gather_timeout: Annotated[
        Duration, LIVE, NEW, Meta(description="How long to wait for all tracks of a publisher.")
    ] = Duration(2)

    paths: Annotated[
        dict[str, PathConfiguration],
        Meta(
            description=(
                "The streams, by name. A name starting with '~' is a regular expression that applies to every "
                "matching name; of several that match, the first one in the file wins. 'all' stands for every name "
                "(it is short for '~^.*$'). Clients can only use paths that match an entry here."
            )
        ),
    ] = {}
