"""Faulty configurations and the errors that they give."""

from __future__ import annotations


def _path(*lines: str, name: str = "mypath") -> str:
    return f"paths:\n  {name}:\n" + "".join(f"    {line}\n" for line in lines)


_UNSUPPORTED = "contains unsupported characters (supported are A-Z,0-9,!,$,(,),*,+,.,;,<,=,>,[,],^,_,-,{,})"
_USELESS = "since the stream is not provided by a publisher, but by a fixed source"
_EXTERNAL = "externalAuthenticationURL: http://host/auth\n"
_CHARACTERS = "can contain only alphanumeric characters, underscore, dot, tilde, minus or slash"

REFERENCE_ERRORS: list[tuple[str, str]] = [
    # structure
    ("invalid: param", "non-existent parameter: 'invalid'"),
    (_path("invalid: parameter"), "parameter paths, key mypath: non-existent parameter: 'invalid'"),
    ("paths: [a]", "parameter paths is not a map"),
    ("paths: 1", "parameter paths is not a map"),
    ("[a]", "not a map"),
    ("text", "not a map"),
    ("1: a", "integer keys are not supported (1)"),
    ("paths: {a: {2.5: a}}", "integer keys are not supported (2.5)"),
    ("true: a", "integer keys are not supported (true)"),
    ("~: a", "integer keys are not supported (<nil>)"),
    ("invalid: a\n1: b", "integer keys are not supported (1)"),
    # choices
    ("logLevel: invalid", "invalid log level: invalid"),
    ("logDestinations: [stdout, invalid]", "invalid log destination: invalid"),
    ("protocols: [invalid]", "invalid protocol: invalid"),
    (_path("sourceProtocol: invalid"), "invalid protocol 'invalid'"),
    ("encryption: invalid", "invalid encryption value: 'invalid'"),
    ("rtmpEncryption: invalid", "invalid encryption value: 'invalid'"),
    ("hlsVariant: invalid", "invalid hlsVariant value: 'invalid'"),
    ("authMethods: [basic, invalid]", "invalid authentication method: invalid"),
    (_path("publishIPs: [invalid]"), "unable to parse IP/CIDR 'invalid'"),
    (_path("readIPs: [10.0.0.0/33]"), "unable to parse IP/CIDR '10.0.0.0/33'"),
    ("hlsTrustedProxies: [10.0.0.0/255.0.0.0]", "unable to parse IP/CIDR '10.0.0.0/255.0.0.0'"),
    # credentials
    (_path("publishUser: 'a b'"), _UNSUPPORTED),
    (_path("readPass: 'a@b'"), _UNSUPPORTED),
    (_path("readPass: '\u00e9'"), _UNSUPPORTED),
    # path names
    (_path(name="''"), "invalid path name: cannot be empty ()"),
    (_path(name="/a"), "invalid path name: can't begin with a slash (/a)"),
    (_path(name="a/"), "invalid path name: can't end with a slash (a/)"),
    (_path(name="a b"), f"invalid path name: {_CHARACTERS} (a b)"),
    (_path(name='"a\\n"'), f"invalid path name: {_CHARACTERS} (a\n)"),
    (_path(name="'~['"), "invalid regular expression: ["),
    (_path(name="~(a"), "invalid regular expression: (a"),
    # global rules
    ("readBufferCount: 1000", "'ReadBufferCount' must be a power of two"),
    ("readBufferCount: -1", "'ReadBufferCount' must be a power of two"),
    ("externalAuthenticationURL: ftp://host", "'externalAuthenticationURL' must be a HTTP URL"),
    ("encryption: strict", "strict encryption can't be used with the UDP transport protocol"),
    ("encryption: yes\nprotocols: [udp]", "strict encryption can't be used with the UDP transport protocol"),
    (
        "encryption: 'true'\nprotocols: [multicast, tcp]",
        "strict encryption can't be used with the UDP-multicast transport protocol",
    ),
    ("hlsVariant: lowLatency\nhlsSegmentCount: 6", "Low-Latency HLS requires at least 7 segments"),
    ("hlsVariant: lowLatency", "Low-Latency HLS requires encryption"),
    ("hlsSegmentCount: 2", "The minimum number of HLS segments is 3"),
    ("hlsVariant: fmp4\nhlsSegmentCount: -1", "The minimum number of HLS segments is 3"),
    ("rtpAddress: :9001", "RTP port must be even"),
    ("rtcpAddress: :9003", "RTP and RTCP ports must be consecutive"),
    ("multicastRTPPort: 9001", "RTP port must be even"),
    ("multicastRTCPPort: 9001", "RTP and RTCP ports must be consecutive"),
    # sources
    *[
        (
            _path(f"source: {source}", name=name),
            f"a path with a regular expression (or path 'all') cannot have a {kind} source; use another path",
        )
        for name in ("all", "~^a")
        for kind, source in (
            ("RTSP", "rtsp://host/"),
            ("RTSP", "rtsps://host/"),
            ("RTMP", "rtmp://host/a/b"),
            ("RTMP", "rtmps://host/a/b"),
            ("HLS", "http://host/"),
            ("HLS", "https://host/"),
        )
    ],
    (_path("source: 'rtsp://'"), "'rtsp://' is not a valid RTSP URL"),
    (_path("source: rtsp://host:99999/"), "'rtsp://host:99999/' is not a valid RTSP URL"),
    (_path("source: 'rtsp://[::1/'"), "'rtsp://[::1/' is not a valid RTSP URL"),
    (_path("source: rtmp://host:port/a"), "'rtmp://host:port/a' is not a valid RTMP URL"),
    (_path("source: 'http://a b/'"), "'http://a b/' is not a valid HLS URL"),
    (_path("source: [rtsp://a/, 'rtmp://']"), "'rtmp://' is not a valid RTMP URL"),
    (_path("source: rtmp://user@host/a/b"), "username and password must be both provided"),
    (_path("source: 'http://:pass@host/a'"), "username and password must be both provided"),
    (_path("source: redirect"), "source redirect must be filled"),
    (_path("source: redirect", "sourceRedirect: http://a/"), "'http://a/' is not a valid RTSP URL"),
    (_path("source: invalid"), "invalid source: 'invalid'"),
    (_path("source: ftp://host"), "invalid source: 'ftp://host'"),
    (_path("sourceOnDemand: yes"), "'sourceOnDemand' is useless when source is 'publisher'"),
    (_path("hlsDVR: 2h"), "'hlsDVR' needs 'record: yes': it plays the recordings"),
    (_path("fallback: /a/"), "'/a/': can't end with a slash"),
    (_path("fallback: http://host"), "'http://host' is not a valid RTSP URL"),
    (_path("fallback: other"), "'other' is not a valid RTSP URL"),
    # authentication
    (_path("readUser: a"), "read username and password must be both filled"),
    (_path("readPass: a"), "read username and password must be both filled"),
    (_path("publishUser: a"), "publish username and password must be both filled"),
    (_path("publishPass: a"), "publish username and password must be both filled"),
    *[
        (
            _path(f"source: {source}", "sourceRedirect: rtsp://other/", *lines),
            f"'{key}' is useless when source is not 'publisher', {_USELESS}",
        )
        for source in ("rtsp://host/", "redirect")
        for key, lines in (
            ("publishUser", ("publishUser: a", "publishPass: b")),
            ("publishIPs", ("publishIPs: [127.0.0.1]",)),
        )
    ],
    *[
        (_EXTERNAL + _path(*lines), f"'{key}' can't be used with 'externalAuthenticationURL'")
        for key, lines in (
            ("publishUser", ("publishUser: a", "publishPass: b")),
            ("publishIPs", ("publishIPs: [127.0.0.1]",)),
            ("readUser", ("readUser: a", "readPass: b")),
            ("readIPs", ("readIPs: [127.0.0.1]",)),
        )
    ],
    # commands
    *[
        (
            _path("runOnInit: command", name=name),
            "a path with a regular expression does not support option 'runOnInit'; use another path",
        )
        for name in ("all", "~^a")
    ],
    (
        _path("source: rtsp://host/", "runOnDemand: command"),
        "'runOnDemand' can be used only when source is 'publisher'",
    ),
]
"""Texts of the reference server (except that it says ``read`` for the credentials of publishers).

Ours have file, line and key in front, and the remedy behind."""

OWN_ERRORS: list[tuple[str, str]] = [
    (
        "encryption: strict\nprotocols: [udp]\nmulticastSRTPPort: 8006",
        "strict encryption can't be used with the UDP transport protocol (set protocols: [tcp], or encryption: "
        "optional, or srtpAddress for SRTP)",
    ),
    (
        "encryption: strict\nsrtpAddress: :8004",
        "strict encryption can't be used with the UDP-multicast transport protocol (set protocols: [tcp], or "
        "encryption: optional, or multicastSRTPPort for SRTP)",
    ),
    ("encryption: optional\nsrtpAddress: :8003", "RTP port must be even"),
    ("encryption: optional\nsrtpAddress: :9004", "with port 9004 for srtpAddress, srtcpAddress has port 9005"),
    ("encryption: optional\nmulticastSRTPPort: 8007", "RTP port must be even"),
    ("encryption: optional\nmulticastSRTPPort: 9006", "multicastSRTCPPort has port 9007"),
    (
        "\nreadTimeout: 10",
        "line 2: readTimeout: '10' is not a duration (write a number with a unit, such as 10s, 200ms or 1m30s)",
    ),
    (
        "hlsSegmentMaxSize: 50",
        "line 1: hlsSegmentMaxSize: '50' is not a size (write a number with a unit, such as 512K, 50M or 1G)",
    ),
    ("api: maybe", "line 1: api: 'maybe' is neither yes nor no"),
    ("api: [a]", "line 1: api: a list is neither yes nor no"),
    ("hlsSegmentCount: 1.5", "line 1: hlsSegmentCount: '1.5' is not a whole number"),
    ("logFile: {a: b}", "line 1: logFile: a map is not a text"),
    ("protocols: {a: b}", "line 1: protocols: a map is not a list"),
    ("protocols: [[a]]", "line 1: protocols: a list is not a text"),
    (
        "rtspAddress: '8554'",
        "line 1: rtspAddress: '8554' is not an address (write host:port, or :port for every interface)",
    ),
    (
        "rtmpAddress: :65536",
        "line 1: rtmpAddress: ':65536' is not an address (write host:port, or :port for every interface)",
    ),
    (
        "multicastIPRange: 10.0.0.0/8",
        "line 1: multicastIPRange: '10.0.0.0/8' is not a range of IPv4 multicast addresses, such as 224.1.0.0/16",
    ),
    ("multicastRTPPort: 65536", "line 1: multicastRTPPort: 65536 is not a port (1 to 65535)"),
    (_path("a"), "parameter paths, key mypath: not a map"),
    (
        _path("runOnDemandCloseAfter: x"),
        "line 3: parameter paths, key mypath: runOnDemandCloseAfter: 'x' is not a duration "
        "(write a number with a unit, such as 10s, 200ms or 1m30s)",
    ),
    (_path("rpiCameraFPS: -1"), "parameter paths, key mypath: rpiCameraFPS: -1 is out of range"),
    (
        _path("source: {a: b}"),
        "line 3: parameter paths, key mypath: source: a map is neither a source nor a list of sources",
    ),
    (
        _path("source: [publisher, rtsp://a/]"),
        "parameter paths, key mypath: source: 'publisher' can't be one of several sources",
    ),
    ("apiUser: a", "api username and password must be both filled"),
    ("metricsPass: a", "metrics username and password must be both filled"),
    ("api: !!binary aaaa", "invalid YAML: line 1, column 6: the tag 'tag:yaml.org,2002:binary' is not supported"),
    ("[a]: b", "invalid YAML: line 1, column 1: a key must be a text"),
    ("paths: {a: {<<: b}}", "invalid YAML: line 1, column 17: '<<' needs a map or a list of maps"),
]
"""Texts of ours, for what the reference server leaves to its libraries."""
