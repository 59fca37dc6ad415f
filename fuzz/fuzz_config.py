"""Fuzz target: whatever a configuration file holds, loading it succeeds or raises ConfigurationError."""

from __future__ import annotations

from polycast.config import from_mapping, load_bytes, to_jsonable
from polycast.errors import ConfigurationError

SEEDS: list[bytes] = [
    b"",
    b"{}",
    b"paths:\n",
    b"logLevel: debug\npaths:\n  cam1:\n    runOnDemandStartTimeout: 5s\n",
    b"encryption: yes\nprotocols: [tcp]\nhlsSegmentMaxSize: 1.5GiB\nhlsTrustedProxies: [10.0.0.0/8, '::1']\n",
    b"paths:\n  '~^(on)demand$':\n    runOnDemand: command\n"
    b"  all: &all\n    readUser: a\n    readPass: 0123\n  b:\n    <<: *all\n",
    b"paths:\n  a:\n    source: [rtsp://user:pass@host:554/x?y, https://host/index.m3u8]\n"
    b"  b: {source: redirect, sourceRedirect: rtsp://h/}\n",
    b"readTimeout: 1h2m3.5s\nrtspAddress: '[::1]:8554'\nauthMethods: basic,digest\n"
    b"rtpAddress: :9000\nrtcpAddress: :9001\n",
    b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    b"%YAML 1.82\n---\na: b\n",
    b'a: "\\UFFFFFFFF"\n',
    b'a: "\\U00110000"\n',
    b"hlsVariant: lowLatency\nhlsEncryption: on\nexternalAuthenticationURL: http://host:1/path\n",
    b"%YAML 1.1\n---\n? !!str api\n: !!bool yes\n...\n---\nsecond\n",
    b"publishIPs: [1, null, {}]\n1: x\n~: y\n",
    b"paths: {'~[[:alpha:]\\Q.\\E(?<n>x)]': {fallback: /x}, '~a{99999999}(': }\n",
]


def fuzz_one(data: bytes) -> None:
    """Load ``data``; what loads must survive the way to JSON and back."""
    try:
        configuration = load_bytes(data, {}).configuration
    except ConfigurationError:
        return
    if from_mapping(to_jsonable(configuration)) != configuration:
        raise AssertionError("the configuration changed on its way through JSON")
