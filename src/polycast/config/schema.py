"""The settings of the server that do not belong to a protocol. Those of a protocol are in its own folder.

The descriptions are the only copy: every document is made from them.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, TypeVar

from msgspec import Meta, field

from polycast.config.authentication import (
    AUTH_METHOD,
    DEFAULT_USERS,
    PERMISSIONS,
    USERS,
    AuthMethod,
    InternalUser,
    Permission,
)
from polycast.config.cluster_schema import ClusterSettings
from polycast.config.kinds import ADDRESS, CREDENTIAL, HOST_NAMES, URL, WORKERS
from polycast.config.marks import LIVE, NEW, OWN_RULE, ZERO_IS_A_VALUE, Heading, restarts
from polycast.config.path_schema import OwnSettings, PathConfiguration
from polycast.config.section import Section
from polycast.config.spelling import yaml_key
from polycast.config.values import Duration, LogDestination, LogLevel, Size
from polycast.config.webhooks import WEBHOOKS, Webhook
from polycast.security.addresses import IPNetwork

__all__ = ["Configuration", "PathConfiguration"]


_Section = TypeVar("_Section", bound=Section)


class Configuration(ClusterSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=yaml_key):
    """The whole configuration. Objects that were created directly must be passed to ``validate`` before use."""

    log_level: Annotated[
        LogLevel,
        Heading("General"),
        LIVE,
        Meta(description="Minimum severity of log entries: 'error', 'warn', 'info' or 'debug'."),
    ] = LogLevel.INFO
    log_destinations: Annotated[
        frozenset[LogDestination], LIVE, Meta(description="Where the log goes: any of 'stdout', 'file' and 'syslog'.")
    ] = frozenset({LogDestination.STDOUT})
    log_structured: Annotated[
        bool,
        LIVE,
        NEW,
        Meta(
            description=(
                "Write each line to 'stdout' and 'file' as a JSON object with 'timestamp', 'level' and 'message'."
            )
        ),
    ] = False
    log_file: Annotated[str, LIVE, Meta(description="The file that the destination 'file' appends to.")] = (
        "rtsp-simple-server.log"
    )
    sys_log_prefix: Annotated[
        str, LIVE, NEW, Meta(description="Name of the program in entries of the system log (destination 'syslog').")
    ] = "rtsp-simple-server"
    dump_packets: Annotated[
        bool,
        LIVE,
        NEW,
        Meta(
            description=(
                "Write what new connections of clients and sources carry, and UDP sockets of RTSP and of sources, to "
                "files in the working directory that Wireshark opens (*.pcapng), one for each. TLS is readable in "
                "them, and so are passwords. SRT and the media of WebRTC are not written."
            )
        ),
    ] = False
    workers: Annotated[
        int,
        WORKERS,
        LIVE,
        NEW,
        OWN_RULE,
        ZERO_IS_A_VALUE,
        Meta(
            description=(
                "Number of processes that serve the streams, each on one core: with 1, the server is a single process; "
                "'auto' means one for each core. More than one need Linux. A new value takes effect when the server is "
                "started again."
            )
        ),
    ] = 1
    read_timeout: Annotated[
        Duration, LIVE, Meta(description="A connection from which nothing was received for this long is closed.")
    ] = Duration(10)
    write_timeout: Annotated[
        Duration, LIVE, Meta(description="A connection that accepts no data for this long is closed.")
    ] = Duration(10)
    write_queue_size: Annotated[
        int,
        OWN_RULE,
        LIVE,
        Meta(
            description=(
                "Number of packets queued for a slow reader before packets are dropped. It must be a power of two. "
                "A higher value tolerates longer stalls but uses more memory."
            )
        ),
    ] = 512
    udp_max_payload_size: Annotated[
        int,
        OWN_RULE,
        LIVE,
        NEW,
        Meta(
            description=(
                "Maximum size of UDP datagrams with RTP or SRT, in bytes. Larger packets of publishers are split. "
                "Networks with tunnels (VPN) may need a lower value, such as 1200. A change applies to streams that "
                "begin later."
            )
        ),
    ] = 1472
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
    auth_method: Annotated[
        AuthMethod,
        AUTH_METHOD,
        LIVE,
        NEW,
        Meta(
            description=(
                "Who decides who may do what: the users of authInternalUsers and the users of paths ('internal'), the "
                "HTTP server at authHTTPAddress ('http'), or signed tokens ('jwt'). With 'http' and 'jwt', RTSP "
                "clients can only use Basic authentication, and paths and services cannot have users of their own."
            )
        ),
    ] = AuthMethod.INTERNAL
    auth_internal_users: Annotated[
        tuple[InternalUser, ...],
        USERS,
        LIVE,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(
            description=(
                "Who may do what: a list of users with user, pass, ips and permissions. The first user counts whose "
                "ips include the client's address, who has the permission, and whose name and password the client "
                "has sent; the user 'any' needs neither. A permission is an action (publish, read, playback, api, "
                "metrics or pprof) and a path: a name, a regular expression after '~', or empty for every path. "
                "The list replaces the default, which allows everything. It cannot be combined with publishUser, "
                "readUser and the like."
            )
        ),
    ] = DEFAULT_USERS
    auth_http_address: Annotated[
        str,
        URL,
        LIVE,
        NEW,
        Meta(
            description=(
                "With authMethod 'http': URL of a server that decides. For each client the server sends a POST "
                "request with a JSON object of ip, user, password, token, action, path, protocol, id, query and "
                "userAgent; a status from 200 to 299 lets the client in. It has readTimeout for the answer. The "
                "first request of clients that can be asked for credentials (RTSP, HTTP) has none."
            )
        ),
    ] = ""
    auth_http_fingerprint: Annotated[
        str,
        LIVE,
        NEW,
        Meta(
            description=(
                "SHA-256 fingerprint (hexadecimal) of the certificate of authHTTPAddress, such as a self-signed one. "
                "When it is set, only this certificate is accepted."
            )
        ),
    ] = ""
    auth_http_exclude: Annotated[
        tuple[Permission, ...],
        PERMISSIONS,
        LIVE,
        NEW,
        Meta(description="With authMethod 'http': what everybody may do without the server being asked."),
    ] = ()
    auth_jwt_jwks: Annotated[
        str,
        URL,
        LIVE,
        NEW,
        Meta(
            description=(
                "With authMethod 'jwt': URL of the public keys with which tokens are verified (JSON Web Key Set). They "
                "are fetched every hour, and when a token has an unknown key id; if that fails, the last ones stay in "
                "use."
            )
        ),
    ] = ""
    auth_jwt_jwks_fingerprint: Annotated[
        str,
        LIVE,
        NEW,
        Meta(
            description=(
                "SHA-256 fingerprint (hexadecimal) of the certificate of authJWTJWKS. When it is set, only this "
                "certificate is accepted."
            )
        ),
    ] = ""
    auth_jwt_claim_key: Annotated[
        str,
        LIVE,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(
            description=(
                "Name of the claim of a token with the permissions of its owner: a list of maps with action and path, "
                "as in authInternalUsers, or its JSON as a text."
            )
        ),
    ] = "mediamtx_permissions"
    auth_jwt_exclude: Annotated[
        tuple[Permission, ...],
        PERMISSIONS,
        LIVE,
        NEW,
        Meta(description="With authMethod 'jwt': what everybody may do without a token."),
    ] = ()
    auth_jwt_issuer: Annotated[
        str, LIVE, NEW, Meta(description="The issuer that tokens must have (claim 'iss'). Empty: any, or none.")
    ] = ""
    auth_jwt_audience: Annotated[
        str, LIVE, NEW, Meta(description="The audience that tokens must have (claim 'aud'). Empty: any, or none.")
    ] = ""
    auth_jwt_leeway: Annotated[
        Duration,
        LIVE,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(description="How far the clock of a token's issuer may be off, for its times (claims 'exp' and 'nbf')."),
    ] = Duration(5)
    auth_jwt_in_http_query: Annotated[
        bool,
        LIVE,
        NEW,
        Meta(
            description=(
                "Accept tokens in the query of HTTP requests, too (?token=... or ?jwt=...); they are then visible in "
                "logs and histories. In URLs of RTSP and RTMP they are always accepted."
            )
        ),
    ] = False
    authentication_failure_pause: Annotated[
        Duration,
        LIVE,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(
            description=(
                "Pause between the attempts of an address that has sent wrong credentials more than ten times "
                "within a minute, on any number of connections. A refused client of RTMP or SRT always waits this "
                "long. Slows down guessing."
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
    api_allow_origins: Annotated[
        tuple[str, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "Origins that may call the API from a browser (Access-Control-Allow-Origin), such as "
                "'https://example.com' or 'https://*.example.com'; '*' is every site. Empty: no site."
            )
        ),
    ] = ()
    api_trusted_proxies: Annotated[
        tuple[IPNetwork, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "IP addresses and ranges of proxies in front of the API. The client's address is taken from their "
                "X-Forwarded-For and X-Real-IP headers."
            )
        ),
    ] = ()
    api_allow_commands: Annotated[
        bool,
        LIVE,
        NEW,
        Meta(
            description=(
                "Allow commands (runOnInit, runOnAvailable...) to be changed through an API without credentials. If "
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
    metrics_allow_origins: Annotated[
        tuple[str, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "Origins that may read the metrics from a browser (Access-Control-Allow-Origin), such as "
                "'https://example.com' or 'https://*.example.com'; '*' is every site. Empty: no site."
            )
        ),
    ] = ()
    metrics_trusted_proxies: Annotated[
        tuple[IPNetwork, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "IP addresses and ranges of proxies in front of the metrics. The client's address is taken from their "
                "X-Forwarded-For and X-Real-IP headers."
            )
        ),
    ] = ()

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
    pprof_allow_origins: Annotated[
        tuple[str, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "Origins that may read the profiles from a browser (Access-Control-Allow-Origin), such as "
                "'https://example.com' or 'https://*.example.com'; '*' is every site. Empty: no site."
            )
        ),
    ] = ()
    pprof_trusted_proxies: Annotated[
        tuple[IPNetwork, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "IP addresses and ranges of proxies in front of the profiles. The client's address is taken from their "
                "X-Forwarded-For and X-Real-IP headers."
            )
        ),
    ] = ()

    playback: Annotated[
        bool,
        Heading("Playback"),
        restarts("playback"),
        NEW,
        Meta(description="Serve recordings: lists of what there is, any period as a file, and as HLS."),
    ] = False
    playback_address: Annotated[
        str, ADDRESS, restarts("playback"), NEW, Meta(description="Address that the playback server listens on.")
    ] = ":9996"
    playback_encryption: Annotated[
        bool, restarts("playback"), NEW, Meta(description="Serve recordings over HTTPS.")
    ] = False
    playback_server_key: Annotated[
        str, restarts("playback"), NEW, Meta(description="File with the private key for playback over HTTPS.")
    ] = "server.key"
    playback_server_cert: Annotated[
        str, restarts("playback"), NEW, Meta(description="File with the certificate for playback over HTTPS.")
    ] = "server.crt"
    playback_allow_origins: Annotated[
        tuple[str, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "Origins that may play recordings in a browser (Access-Control-Allow-Origin), such as "
                "'https://example.com' or 'https://*.example.com'; '*' is every site. Empty: no site."
            )
        ),
    ] = ()
    playback_trusted_proxies: Annotated[
        tuple[IPNetwork, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "IP addresses and ranges of proxies in front of the playback server. The client's address is taken "
                "from their X-Forwarded-For and X-Real-IP headers, the scheme of addresses in lists from "
                "X-Forwarded-Proto."
            )
        ),
    ] = ()

    run_on_connect: Annotated[
        str,
        Heading("Commands"),
        LIVE,
        Meta(
            description=(
                "Command that runs for each client that connects over RTSP, RTMP or SRT, until it disconnects. The "
                "RTSP port is passed in RTSP_PORT, the kind of the connection and its id in MTX_CONN_TYPE and "
                "MTX_CONN_ID."
            )
        ),
    ] = ""
    run_on_connect_restart: Annotated[
        bool, LIVE, Meta(description="Restart the runOnConnect command when it exits.")
    ] = False
    run_on_disconnect: Annotated[
        str,
        LIVE,
        NEW,
        Meta(description="Command that runs once when a client has disconnected, with the variables of runOnConnect."),
    ] = ""

    webhooks: Annotated[
        tuple[Webhook, ...],
        WEBHOOKS,
        LIVE,
        NEW,
        Meta(
            description=(
                "Addresses that get a POST request for each event, as an alternative to commands: a list of maps with "
                "'url', 'events' (all, if empty) and 'secret' (see docs/hooks.md)."
            )
        ),
    ] = ()

    record_max_total_size: Annotated[
        Size,
        Heading("Recording"),
        LIVE,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(
            description=(
                "Maximum size of the recorded files of all paths together; the oldest are deleted. 0B: no limit."
            )
        ),
    ] = Size(0)

    paths: Annotated[
        dict[str, PathConfiguration],
        Meta(
            description=(
                "The streams, by name. A name starting with '~' is a regular expression that applies to every "
                "matching name; of several that match, the first one in the file wins. 'all_others' or 'all' stands "
                "for every name (it is short for '~^.*$'). Clients can only use paths that match an entry here."
            )
        ),
    ] = field(default_factory=dict)

    dialect: str = "rtsp-simple-server"
    """The dialect of the file, `dialects.Dialect.name`: its rules apply where the dialects' rules differ."""

    written: OwnSettings = OwnSettings()
    """How the user calls things: former names of global settings, and the name of the entry of ``paths`` that stands
    for every name."""

    path_defaults: PathConfiguration = PathConfiguration()
    """The settings of a path for which nothing is set."""

    sections: dict[type[Section], Section] = field(default_factory=dict)
    """The settings of protocols, unless all have their defaults; read them with ``configuration[...]``."""

    def __getitem__(self, section: type[_Section]) -> _Section:
        """Return the settings of a protocol: ``configuration[RtspConfiguration].rtsp_address``."""
        found = self.sections.get(section)
        return found if isinstance(found, section) else _defaults(section)


@cache
def _defaults(section: type[_Section]) -> _Section:
    return section()
