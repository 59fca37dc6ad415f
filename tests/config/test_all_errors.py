"""All errors of a configuration are found at once: sorted by line, without consequences of others, limited."""

from __future__ import annotations

from pathlib import Path

import pytest

from polycast.cli import main
from polycast.config import load_bytes
from polycast.config.reports import MAXIMUM_ERRORS
from polycast.errors import ConfigurationError

MANY = """\
rtspAdress: :8554
1: a
logLevel: warning
protocols: [tpc, upd]
readTimeout: 10
readBufferCount: 1000
hlsVariant: lowLatency
hlsSegmentCount: 3
metricsUser: user
webrtcICEServers2: [{ulr: x}, {url: 'stun:a', username: [b]}]
hlsTrustedProxies: [10.0.0.0/33, here]
paths:
  cam:
    source: rtsp://user@host:port/
    sourceProtocol: tpc
    readUser: a
    runOnReady: [b]
  'b c':
    source: [rtmp://, ftp://host/]
  d: rtsp://host/
  all:
    source: rtsp://host/
    runOnInit: a
    fallback: b
"""
EXPECTED = [
    (1, "did you mean 'rtspAddress'?"),
    (2, "integer keys are not supported (1)"),
    (3, "logLevel: invalid log level: warning (one of: error, warn, info, debug; did you mean warn?)"),
    (4, "invalid protocol: tpc (one of: udp, multicast, tcp; did you mean tcp?)"),
    (4, "invalid protocol: upd (one of: udp, multicast, tcp; did you mean udp?)"),
    (5, "readTimeout: '10' is not a duration"),
    (6, "readBufferCount: 'ReadBufferCount' must be a power of two"),
    (7, "hlsVariant: Low-Latency HLS requires encryption"),
    (8, "hlsSegmentCount: Low-Latency HLS requires at least 7 segments"),
    (9, "metrics username and password must be both filled (add metricsPass)"),
    (10, "item 1: non-existent parameter: 'ulr' (did you mean 'url'?)"),
    (10, "item 2: username: a list is not a text"),
    (11, "unable to parse IP/CIDR '10.0.0.0/33'"),
    (11, "unable to parse IP/CIDR 'here'"),
    (14, "key cam: source: 'rtsp://user@host:port/' is not a valid RTSP URL"),
    (15, "key cam: sourceProtocol: invalid protocol 'tpc'"),
    (16, "read username and password must be both filled (add readPass)"),
    (17, "key cam: runOnReady: a list is not a text"),
    (18, "invalid path name: can contain only"),
    (19, "key b c: source: 'rtmp://' is not a valid RTMP URL"),
    (19, "key b c: source: invalid source: 'ftp://host/' (one of: publisher, redirect, rpiCamera, or a URL"),
    (20, "key d: not a map (write 'source: ' and the address below it, indented)"),
    (22, "a path with a regular expression (or path 'all') cannot have a RTSP source"),
    (23, "a path with a regular expression does not support option 'runOnInit'"),
    (24, "'b' is not a valid RTSP URL"),
]


def report_of(text: str, **environment: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load_bytes(text.encode(), environment, "my.yml")
    assert str(caught.value) in caught.value.report
    return caught.value.report


def test_all_errors_are_found_at_once() -> None:
    report = report_of(MANY)
    assert [(number, part) for (number, part), text in zip(EXPECTED, report, strict=False) if part not in text] == []
    assert [text.split(": ")[1] for text in report] == [f"line {number}" for number, _ in EXPECTED]


def test_the_check_and_the_start_print_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.yml").write_text(MANY)
    assert main(["--check", "my.yml"]) == 1
    printed = capsys.readouterr().out
    assert printed.splitlines() == [f"ERR: {text}" for text in report_of(MANY)]
    assert main(["my.yml"]) == 1
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    "text",
    [
        "protocols: [tpc]\nencryption: strict\n",
        "protocls: [tcp]\nencryption: strict\n",
        "rtspTransports: [tcp]\nencryption: strict\n",  # MediaMTX's name of the key
        "rtspDisabled: yes\nrtpAddress: :9001\n",
        "hlsVariant: lowLatenzy\nhlsSegmentCount: 2\n",
        "paths: {cam: {sorce: rtsp://host/, sourceOnDemand: yes}}\n",
        "paths: {cam: {source: {}, sourceOnDemand: yes}}\n",
        "paths: {cam: {readUser: 'a b', readPass: }}\n",
        "paths: {cam: {readUser: a, readPas: b}}\n",
        "paths: {cam: {source: redirect, redirect: rtsp://host/}}\n",
        "paths: {'~^.*$': {record: yes, runOnDemand: a, source: rtp://host/}}\n",
        "externalAuthenticationURL: [a]\npaths: {cam: {readUser: a, readPass: b, rpiCameraFPS: x}}\n",
    ],
)
def test_consequences_of_an_error_are_no_errors(text: str) -> None:
    expected = 2 if "x}" in text or "rtp:" in text else 1
    assert len(report_of(text)) == expected


def test_errors_beside_a_setting_that_does_not_exist() -> None:
    report = report_of("rtspAdress: :8554\nrtpAddress: :9001\npaths: {cam: {sorce: publisher, readUser: a}}\n")
    assert [text.split(": ")[1] for text in report] == ["line 1", "line 2", "line 3", "line 3"]


def test_variables_come_last() -> None:
    variables = {"RTSP_READTIMEOUT": "x", "RTSP_API": "perhaps", "RTSP_PATHS_A_SOURCEONDEMAND": "maybe"}
    report = report_of("logLevel: x\npaths: {cam: {readIPs: [x]}}\n", **variables, RTSP_HLSSEGMENTCOUNT="1")
    assert [text.partition(": ")[0] for text in report] == [
        "my.yml", "my.yml", "RTSP_READTIMEOUT", "RTSP_API", "RTSP_PATHS_A_SOURCEONDEMAND", "RTSP_HLSSEGMENTCOUNT"
    ]  # fmt: skip


def test_the_number_of_errors_is_limited() -> None:
    text = "".join(f"x{number}: 1\n" for number in range(MAXIMUM_ERRORS))
    assert len(report_of(text)) == MAXIMUM_ERRORS
    report = report_of(text + "y: 1\n")
    assert len(report) == MAXIMUM_ERRORS + 1
    assert report[-1] == f"there may be more errors (limit: {MAXIMUM_ERRORS})"


def test_only_the_first_error_where_nothing_more_can_be_read() -> None:
    assert len(report_of("a: [1\nb: {")) == 1
    assert report_of("text") == ("my.yml: not a map (write settings as 'key: value', one a line)",)
