"""The settings of MediaMTX v1.20.1: each is accepted, or known by name and reported when it would have an effect.

`test_keys.py` goes through them one by one; here are their file as a whole, and what concerns several.
"""

from __future__ import annotations

import pytest
from tests.config.key_table import DEPRECATED, DEPRECATED_OF_PATH, GLOBAL, PATH, shipped

from polycast.config import Configuration, load_bytes, to_jsonable
from polycast.config.dialects.registry import MEDIAMTX, POLYCAST
from polycast.config.dialects.views import view_of
from polycast.config.load import LoadedConfiguration
from polycast.errors import ConfigurationError

VIEW = view_of(MEDIAMTX)


HASH = "sha256:j1tsRqDEw9xvq/D7/9tMx6Jh/jMhk3UfjwIB2f1zgMo="
HTTP_METHOD = "authMethod: http\nauthHTTPAddress: http://127.0.0.1:9000\n"


def loaded(content: str, **variables: str) -> LoadedConfiguration:
    return load_bytes(content.encode(), variables, "mediamtx.yml", MEDIAMTX)


def error_of(content: str, **variables: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(content, **variables)
    return str(caught.value)


def test_the_shipped_file_is_valid_as_it_is() -> None:
    found = loaded(shipped())
    assert found.warnings == []
    assert found.configuration == _defaults_with_all_paths()


def _defaults_with_all_paths() -> Configuration:
    import msgspec

    return msgspec.structs.replace(VIEW.defaults, paths={"~^.*$": VIEW.defaults.path_defaults})


@pytest.mark.parametrize("key", GLOBAL)
def test_each_global_setting_is_accepted_or_known(key: str) -> None:
    assert (key in VIEW.fields) != (key in MEDIAMTX.unsupported)


@pytest.mark.parametrize("key", PATH)
def test_each_setting_of_a_path_is_accepted_or_known(key: str) -> None:
    assert (key in VIEW.path_fields) != (key in MEDIAMTX.path_unsupported)


def test_deprecated_settings_are_accepted_or_known() -> None:
    assert DEPRECATED - VIEW.accepted.keys() - MEDIAMTX.unsupported.keys() - MEDIAMTX.moved == set()
    known = {*VIEW.path_accepted, *MEDIAMTX.path_unsupported}
    assert {key for key in DEPRECATED_OF_PATH if key not in known} == set()


def test_the_list_names_only_settings_of_mediamtx() -> None:
    assert set(MEDIAMTX.unsupported) - set(GLOBAL) - DEPRECATED == set()
    assert set(MEDIAMTX.path_unsupported) - set(PATH) - DEPRECATED_OF_PATH == set()


@pytest.mark.parametrize(
    ("content", "warning"),
    [
        ("moqServerKey: x\n", "line 1: 'moqServerKey' has no effect: this version does not support it: there is"),
        ("moqQUICAddress: :9000\n", "line 1: 'moqQUICAddress' has no effect: "),
        (
            "pathDefaults: {rpiCameraSoftwareH264Level: '5.0'}\n",
            "line 1: 'rpiCameraSoftwareH264Level' has no effect: ",
        ),
        (
            "paths:\n  a:\n    rpiCameraSoftwareH264Level: '5.0'\n",
            "line 3: 'rpiCameraSoftwareH264Level' has no effect: ",
        ),
    ],
)
def test_what_has_no_effect_is_said_once(content: str, warning: str) -> None:
    (text,) = loaded(content).warnings
    assert text.startswith(warning)


@pytest.mark.parametrize("content", ["moq: no\n", "moq: false\n", "paths: {a: {moqTransport: x}}\n"])
def test_what_changes_nothing_is_not_mentioned(content: str) -> None:
    assert loaded(content).warnings == []


def test_the_former_address_of_an_authentication_server_chooses_the_method() -> None:
    warning = "parameter 'externalAuthenticationURL' is deprecated and has been replaced with 'authHTTPAddress'"
    for found in (
        loaded("externalAuthenticationURL: http://host/\nauthMethod: internal\n"),
        loaded("", MTX_EXTERNALAUTHENTICATIONURL="http://host/"),
    ):
        values = to_jsonable(found.configuration, MEDIAMTX)
        assert (values["authMethod"], values["authHTTPAddress"]) == ("http", "http://host/")
        assert found.warnings == [warning]
    values = to_jsonable(loaded("externalAuthenticationURL: ''\n").configuration, MEDIAMTX)
    assert (values["authMethod"], values["authHTTPAddress"]) == ("internal", "")


def test_deprecated_settings_of_paths_are_said_once() -> None:
    found = loaded(
        "paths:\n"
        "  a: {source: rtsp://h/, sourceProtocol: tcp, sourceAnyPortEnable: yes}\n"
        "  b: {disablePublisherOverride: yes, runOnReady: x, runOnReadyRestart: yes}\n"
        "  c: {sourceProtocol: udp}\n"
    )
    a, b, c = (found.configuration.paths[name] for name in "abc")
    assert (a.rtsp_transport, a.rtsp_any_port, c.rtsp_transport) == ("tcp", True, "udp")
    assert (b.override_publisher, b.run_on_available, b.run_on_available_restart) == (False, "x", True)
    assert len(found.warnings) == 5


def test_settings_of_all_paths_that_were_global_once() -> None:
    moved = "parameter 'record' is deprecated and has been replaced with 'pathDefaults.record'"
    content = "record: yes\npathDefaults: {record: no, maxReaders: 2}\npaths:\n  a:\n  b: {record: no}\n"
    for found in (loaded(content), loaded(content.partition("\n")[2], MTX_RECORD="yes")):
        assert {name: path.record for name, path in found.configuration.paths.items()} == {"a": True, "b": False}
        assert found.configuration.paths["a"].max_readers == 2
        assert found.warnings == [moved]
    assert error_of("recordFormat: mkv\n").startswith("mediamtx.yml: line 1: ")


def test_path_defaults() -> None:
    found = loaded(
        "pathDefaults:\n  sourceOnDemand: yes\n  rtspTransport: tcp\n  sourceOnDemandCloseAfter: 1d\n"
        "paths:\n  a: {source: rtsp://h/}\n  b: {source: rtsp://h/, rtspTransport: udp, sourceOnDemandCloseAfter: ~}\n",
        MTX_PATHDEFAULTS_RTSPANYPORT="yes",
        MTX_PATHS_C_SOURCE="rtsp://h/",
    ).configuration
    assert [path.rtsp_transport for path in found.paths.values()] == ["tcp", "udp", "tcp"]
    assert {path.source_on_demand for path in found.paths.values()} == {True}
    assert {path.source_on_demand_close_after for path in found.paths.values()} == {86400}
    assert {path.rtsp_any_port for path in found.paths.values()} == {True}


def test_expressions_are_tried_in_the_order_of_their_text() -> None:
    found = loaded("paths:\n  all_others:\n  ~b:\n  z:\n  ~a:\n")
    assert list(found.configuration.paths) == ["z", "~a", "~b", "~^.*$"]


@pytest.mark.parametrize("names", [("all", "all_others"), ("all_others", "'~^.*$'"), ("'~^.*$'", "all")])
def test_the_entry_for_all_paths_has_one_name(names: tuple[str, str]) -> None:
    assert "all_others, all and '~^.*$' are aliases" in error_of(f"paths:\n  {names[0]}:\n  {names[1]}:\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("logLevel: x\n", "invalid log level: 'x'"),
        ("logDestinations: [x]\n", "invalid log destination: x"),
        ("readTimeout: 0s\n", "'readTimeout' must be greater than zero"),
        ("readTimeout: ''\n", "'readTimeout' must be greater than zero"),
        ("writeTimeout: 0s\n", "'writeTimeout' must be greater than zero"),
        ("writeQueueSize: 0\n", "'writeQueueSize' must be greater than zero"),
        ("writeQueueSize: 1000\n", "'writeQueueSize' must be a power of two"),
        ("api: yes\napiAddress: ''\n", "'apiAddress' must be set when API is enabled"),
        ("metrics: yes\nmetricsAddress: ''\n", "'metricsAddress' must be set when metrics are enabled"),
        ("pprof: yes\npprofAddress: ''\n", "'pprofAddress' must be set when pprof is enabled"),
        ("rtspTransports: [x]\n", "invalid transport: x"),
        ("rtspEncryption: x\n", "invalid encryption: 'x'"),
        (
            "rtspAddress: ''\n",
            "'rtspAddress' must be set when RTSP is enabled and RTSP encryption is 'no' or 'optional'",
        ),
        (
            "rtspEncryption: strict\nrtspsAddress: ''\n",
            "'rtspsAddress' must be set when RTSP is enabled and RTSP encryption is 'optional' or 'strict'",
        ),
        ("rtpAddress: ''\n", "'rtpAddress' must be set when UDP is enabled and RTSP encryption is 'no' or 'optional'"),
        (
            "rtspEncryption: strict\nsrtpAddress: ''\n",
            "'srtpAddress' must be set when UDP is enabled and RTSP encryption is 'optional' or 'strict'",
        ),
        (
            "rtspEncryption: optional\nmulticastSRTCPPort: 0\n",
            "'multicastSRTCPPort' must be set when UDP multicast is enabled and RTSP encryption is 'optional' or "
            "'strict'",
        ),
        (
            "multicastRTPPort: 0\n",
            "'multicastRTPPort' must be set when UDP multicast is enabled and RTSP encryption is 'no' or 'optional'",
        ),
        ("rtspAuthMethods: []\n", "at least one 'rtspAuthMethods' must be provided"),
        ("rtspAuthMethods: [x]\n", "invalid authentication method: 'x'"),
        ("rtmpAddress: ''\n", "'rtmpAddress' must be set when RTMP is enabled"),
        ("hlsAddress: ''\n", "'hlsAddress' must be set when HLS is enabled"),
        ("hlsVariant: x\n", "invalid HLS variant: 'x'"),
        ("webrtcAddress: ''\n", "'webrtcAddress' must be set when WebRTC is enabled"),
        ("paths: {a: {rtspTransport: x}}\n", "invalid transport 'x'"),
        ("paths: {a: {source: x}}\n", "invalid source: 'x'"),
        ("paths: {'~a': {source: 'udp://$G1', sourceOnDemand: yes}}\n", "'udp://$G1' is missing the port"),
        ("paths: {'~a': {source: 'rtmp://:$G1', sourceOnDemand: yes}}\n", "'rtmp://:$G1' is not a valid RTMP URL"),
        (
            "paths: {'~a': {source: 'rtsp://h/x'}}\n",
            "a path with a regular expression (or path 'all_others') and a static source must have 'sourceOnDemand' "
            "set to true",
        ),
        ("paths: {a: {rtspRangeType: x}}\n", "invalid rtsp range type: 'x' (one of: clock, npt, smpte)"),
        ("paths: {a: {rtspRangeType: clock, rtspRangeStart: 10s}}\n", "rtspRangeStart: '10s' is not a time"),
        ("paths: {a: {rtspRangeType: clock, rtspRangeStart: 20261301T000000Z}}\n", "is not a time (write it in UTC"),
        ("paths: {a: {rtspRangeType: npt, rtspRangeStart: 20260131T000000Z}}\n", "is not a duration"),
        ("paths: {a: {rtspRangeType: npt}}\n", "'' is not a duration"),
        ("paths: {a: {rtspRangeType: smpte, rtspRangeStart: 100h}}\n", "'100h' is too long for SMPTE"),
        ("paths: {a: {rpiCameraExposure: x}}\n", "invalid 'rpiCameraExposure' value"),
        ("paths: {a: {rpiCameraAWB: x}}\n", "invalid 'rpiCameraAWB' value"),
        ("paths: {a: {rpiCameraAWBGains: [1]}}\n", "invalid 'rpiCameraAWBGains' value"),
        ("paths: {a: {rpiCameraDenoise: x}}\n", "invalid 'rpiCameraDenoise' value"),
        ("paths: {a: {rpiCameraMetering: x}}\n", "invalid 'rpiCameraMetering' value"),
        ("paths: {a: {rpiCameraAfMode: x}}\n", "invalid 'rpiCameraAfMode' value"),
        ("paths: {a: {rpiCameraAfRange: x}}\n", "invalid 'rpiCameraAfRange' value"),
        ("paths: {a: {rpiCameraAfSpeed: x}}\n", "invalid 'rpiCameraAfSpeed' value"),
        ("paths: {a: {rpiCameraCodec: x}}\n", "supported codecs for a RPI Camera stream are auto, hardwareH264, softw"),
        ("paths: {a: {rpiCameraROI: '0,0,2,1'}}\n", "'0,0,2,1' is not an area"),
        ("paths: {a: {rpiCameraROI: '0,0,1'}}\n", "'0,0,1' is not an area"),
        ("paths: {a: {rpiCameraMode: x}}\n", "'x' is not a mode"),
        ("paths: {a: {rpiCameraEV: nan}}\n", "'nan' is not a number"),
        ("paths: {a: {source: rpiCamera, rpiCameraWidth: 0}}\n", "invalid 'rpiCameraWidth' value"),
        ("paths: {a: {source: rpiCamera, rpiCameraFPS: 0}}\n", "'rpiCameraFPS' must be greater than zero"),
        (
            "paths: {a: {source: rpiCamera, rpiCameraCodec: mjpeg, rpiCameraWidth: 1921}}\n",
            "'rpiCameraWidth' must be a multiple of 8 and less than 2048 when using MJPEG",
        ),
        (
            "paths: {a: {source: rpiCamera, rpiCameraSecondary: yes, rpiCameraCodec: auto, rpiCameraWidth: 1921}}\n",
            "'rpiCameraWidth' must be a multiple of 8 and less than 2048 when using MJPEG",
        ),
        ("paths: {a: {source: rpiCamera, rpiCameraMJPEGQuality: 101}}\n", "'rpiCameraMJPEGQuality' must be from 0"),
        ("paths: {a: {rtspScale: fast}}\n", "'fast' is not a number"),
        ("paths: {a: {rtspUDPSourcePortRange: [1]}}\n", "two ports are needed"),
        ("paths: {a: {rtspUDPSourcePortRange: [2000, 1000]}}\n", "2000 to 1000 is not a range of ports"),
        ("paths: {a: {rtspUDPSourcePortRange: [1001, 1002]}}\n", "there is no even port with the next one"),
        ("paths: {a: {rtspUDPSourcePortRange: [1000, 65536]}}\n", "is not a range of ports between 1 and 65535"),
        ("invalid: x\n", 'line 1: json: unknown field "invalid"'),
        ("paths: {a: {invalid: x}}\n", 'json: unknown field "invalid"'),
        ("paths:\npaths:\n", 'line 2: mapping key "paths" already defined at line 1'),
        ("paths:\n  a:\n    source: publisher\n    source: publisher\n", 'line 4: mapping key "source" already'),
        ("paths: {'': }\n", "invalid path name '': cannot be empty"),
        ("paths: {a?: }\n", "invalid path name 'a?': can contain only alphanumeric characters"),
        ("paths: {a: {sourceRedirect: 'rtsp://h/x'}}\n", "'sourceRedirect' is useless when source is not 'redirect'"),
        ("paths: {a: {source: 'rtsp://user@h/x'}}\n", "username and password must be both provided"),
        (
            f"{HTTP_METHOD}rtspAuthMethods: [basic, digest]\n",
            "when RTSP digest is enabled, the only supported auth method is 'internal'",
        ),
        (
            f"rtspAuthMethods: [digest]\nauthInternalUsers: [{{user: u, pass: '{HASH}'}}]\n",
            "when RTSP digest is enabled, hashed credentials cannot be used",
        ),
        (
            "multicastIPRange: ''\n",
            "'multicastIPRange' must be set when UDP multicast is enabled and RTSP encryption is 'no' or 'optional'",
        ),
        (
            "rtspEncryption: strict\nmulticastIPRange: ''\n",
            "'multicastIPRange' must be set when UDP multicast is enabled and RTSP encryption is 'optional' or ",
        ),
        (
            "webrtcLocalUDPAddress: ''\nwebrtcLocalTCPAddress: ''\n",
            "at least one between 'webrtcLocalUDPAddress', 'webrtcLocalTCPAddress' or 'webrtcICEServers2' must be",
        ),
        (
            "webrtcIPsFromInterfaces: no\nwebrtcAdditionalHosts: []\n",
            "at least one between 'webrtcIPsFromInterfaces' or 'webrtcAdditionalHosts' must be filled",
        ),
        (
            "paths: {cam1: {source: rpiCamera}, cam2: {source: rpiCamera}}\n",
            "'rpiCamera' with same camera ID 0 is used as source in two paths, 'cam1' and 'cam2'",
        ),
        (
            "paths: {a: {source: rpiCamera}, b: {source: rpiCamera, rpiCameraSecondary: yes, rpiCameraCamID: 1}}\n",
            "key b: rpiCameraSecondary: cannot find a primary RPI Camera stream to associate with the secondary stream",
        ),
        (
            "pathDefaults: {source: rpiCamera}\n"
            "paths: {a: , b: {rpiCameraSecondary: yes}, c: {rpiCameraSecondary: yes}}\n",
            "key c: rpiCameraSecondary: a primary RPI Camera stream is associated with multiple secondary streams",
        ),
    ],
)
def test_texts_of_errors(content: str, message: str) -> None:
    error = error_of(content)
    assert message in error
    assert error.startswith("mediamtx.yml: line ")


@pytest.mark.parametrize(
    "content",
    [
        "rtsp: no\nrtspAddress: ''\n",
        "rtspEncryption: strict\n",
        "hls: no\nhlsAddress: ''\n",
        "rtspTransports: []\n",
        "paths: {'~^a(.+)$': {source: 'rtsp://h:$G1/$G1', sourceOnDemand: yes}}\n",
    ],
)
def test_what_the_older_server_refuses_is_valid(content: str) -> None:
    assert loaded(content).warnings == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("1d", 86400), ("7d18h53m20s", 672800), ("1.5h", 5400), ("300ms", 0.3), ("0d1s", 1)]
)
def test_durations(text: str, seconds: float) -> None:
    assert loaded(f"readTimeout: {text}\n").configuration.read_timeout == seconds


@pytest.mark.parametrize(("seconds", "text"), [(86400, "1d"), (93600, "1d2h0m0s"), (10, "10s"), (3600, "1h0m0s")])
def test_durations_are_shown_with_days(seconds: int, text: str) -> None:
    found = loaded(f"readTimeout: {seconds}s\n").configuration
    assert to_jsonable(found, MEDIAMTX)["readTimeout"] == text


@pytest.mark.parametrize("text", ["d", "1d1d", "1dd", "-1d", "1.5d", "1d-1s", "999999999d"])
def test_bad_durations(text: str) -> None:
    assert f"'{text}' is not a duration" in error_of(f"readTimeout: {text}\n")


def test_variables_of_both_prefixes() -> None:
    found = loaded("", RTSP_PROTOCOLS="tcp", RTSP_LOGLEVEL="warn", MTX_LOGLEVEL="debug", MTX_RTMPDISABLE="yes")
    values = to_jsonable(found.configuration, MEDIAMTX)
    assert (values["rtspTransports"], values["logLevel"], values["rtmp"]) == (["tcp"], "debug", False)
    assert found.warnings == [
        "parameter 'protocols' is deprecated and has been replaced with 'rtspTransports'",
        "parameter 'rtmpDisable' is deprecated and has been replaced with 'rtmp'",
    ]


def test_users_in_variables() -> None:
    found = loaded(
        "",
        MTX_AUTHINTERNALUSERS_0_USER="me",
        MTX_AUTHINTERNALUSERS_0_PASS="secret",
    ).configuration
    assert [user.user for user in found.auth_internal_users] == ["me", "any"]


def test_polycast_knows_the_same_settings() -> None:
    assert set(POLYCAST.unsupported) == set(MEDIAMTX.unsupported)
    assert set(view_of(POLYCAST).fields) == set(VIEW.fields)


@pytest.mark.parametrize(
    "content",
    [
        "rtspTransports: [tcp]\nmulticastIPRange: ''\n",
        f"{HTTP_METHOD}rtspAuthMethods: [basic]\n",
        "paths: {a: {source: 'rtsp://user:@h/x'}}\n",
        "paths: {a: {source: redirect, sourceRedirect: /b}}\n",
        "paths: {a: {source: rpiCamera}, b: {source: rpiCamera, rpiCameraCamID: 1}}\n",
        "paths: {'~^a_(.+)$': {source: 'rtsp://h/$G1?$MTX_QUERY', sourceOnDemand: yes}}\n",
        # Placeholders stand for any part of the address, also in a path without groups.
        *(
            f"paths: {{a: {{source: '{source}'}}}}\n"
            for source in (
                "rtsp://$G1:$G2/x",
                "rtmp://$G1:$G2/live?token=$G3",
                "https://$G1/$G2/index.m3u8",
                "whep://$G1:$G2/$G3",
                "wheps://$G1:$G2/$G3",
            )
        ),
    ],
)
def test_valid_combinations(content: str) -> None:
    assert loaded(content)


def test_only_strict_files_refuse_what_cannot_be_meant() -> None:
    lines = "rtmp: no\nrtmp: yes\npaths: {a: {sourceRedirect: 'rtsp://h/x', source: publisher}}\n"
    accepted = load_bytes(lines.encode(), {}, "polycast.yml", POLYCAST)
    assert accepted.configuration.paths["a"].source_redirect == "rtsp://h/x"
    assert [warning for warning in accepted.warnings if "more than once" in warning] == [
        "line 2: 'rtmp' is written more than once; the last one counts"
    ]
    with pytest.raises(ConfigurationError) as error:
        load_bytes(lines.encode(), {}, "mediamtx.yml", MEDIAMTX)
    assert len(error.value.report) == 2


@pytest.mark.parametrize("methods", ["[digest]", "[basic, digest]"])
def test_digest_alone_needs_passwords_as_plain_text_everywhere(methods: str) -> None:
    content = f"{HTTP_METHOD}rtspAuthMethods: {methods}\n".encode()
    if methods == "[digest]":
        with pytest.raises(ConfigurationError, match="the only supported auth method is 'internal'"):
            load_bytes(content, {}, "polycast.yml", POLYCAST)
    else:
        assert load_bytes(content, {}, "polycast.yml", POLYCAST)
