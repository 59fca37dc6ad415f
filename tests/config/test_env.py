"""Settings from environment variables."""

from __future__ import annotations

import pytest

from polycast.config import Configuration, Duration, Encryption, PathConfiguration, Size, load, load_bytes, replace
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.mediamtx import MEDIAMTX
from polycast.config.dialects.polycast import POLYCAST
from polycast.errors import ConfigurationError
from polycast.protocols.rtsp.configuration import RtspConfiguration
from polycast.wire.rtsp.transport_choice import Protocol


def configured(content: str = "", **variables: str) -> Configuration:
    return load_bytes(content.encode(), variables).configuration


def test_values_of_every_kind() -> None:
    assert configured(
        RTSP_LOGFILE="my.log",
        RTSP_READBUFFERCOUNT="128",
        RTSP_API="yes",
        RTSP_READTIMEOUT="22s",
        RTSP_HLSSEGMENTMAXSIZE="10M",
        RTSP_PROTOCOLS="tcp,udp",
        RTSP_RTMPENCRYPTION="optional",
        RTSP_EXTERNALAUTHENTICATIONURL="http://host/",
        RTSP_MULTICASTRTPPORT="9000",
        RTSP_MULTICASTRTCPPORT="9001",
    ) == replace(
        Configuration(),
        log_file="my.log",
        write_queue_size=128,
        api=True,
        read_timeout=Duration(22),
        hls_segment_max_size=Size(10 * 1024**2),
        rtsp_transports=frozenset({Protocol.TCP, Protocol.UDP}),
        rtmp_encryption=Encryption.OPTIONAL,
        external_authentication_url="http://host/",
        multicast_rtp_port=9000,
        multicast_rtcp_port=9001,
    )


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("TRUE", True), ("No", False), ("false", False)])
def test_booleans(text: str, value: bool) -> None:
    assert configured(RTSP_METRICS=text).metrics is value


def test_file_and_environment() -> None:
    configuration = configured("{}", RTSP_PATHS_CAM1_SOURCE="rtsp://testing", RTSP_PROTOCOLS="tcp")
    assert configuration[RtspConfiguration].rtsp_transports == {"tcp"}
    assert configuration.paths == {"cam1": PathConfiguration(source="rtsp://testing")}


def test_environment_wins_and_existing_paths_are_changed() -> None:
    configuration = configured(
        "logLevel: debug\npaths: {cam1: {readUser: a, readPass: b}, z: }",
        RTSP_LOGLEVEL="error",
        RTSP_PATHS_CAM1_READPASS="c",
    )
    assert configuration.log_level == "error"
    assert configuration.paths == {"cam1": PathConfiguration(read_user="a", read_pass="c"), "z": PathConfiguration()}


def test_an_empty_variable_creates_a_path() -> None:
    assert configured(RTSP_PATHS_CAM1="").paths == {"cam1": PathConfiguration()}


def test_all_paths() -> None:
    assert configured(RTSP_PATHS_ALL_FALLBACK="/x").paths == {"~^.*$": PathConfiguration(fallback="/x")}
    assert configured("paths: {all: {readUser: a, readPass: b}}", RTSP_PATHS_ALL_FALLBACK="/x").paths == {
        "~^.*$": PathConfiguration(read_user="a", read_pass="b", fallback="/x")
    }


@pytest.mark.parametrize("name", ["all", "all_others", "~^.*$"])
@pytest.mark.parametrize("dialect", [MEDIAMTX, POLYCAST])
def test_an_error_of_all_paths_names_the_variable(name: str, dialect: Dialect) -> None:
    variable = f"{dialect.prefixes[-1]}PATHS_ALL_SOURCEONDEMAND"
    content = f"paths: {{'{name}': {{sourceOnDemand: no}}}}"
    with pytest.raises(ConfigurationError, match="is useless when source is 'publisher'") as caught:
        load_bytes(content.encode(), {variable: "yes"}, dialect=dialect)
    assert caught.value.place == variable


def test_names_may_have_a_minus_but_no_lower_case() -> None:
    loaded = load_bytes(b"", {"RTSP_PATHS_CAM-1_FALLBACK": "/x", "RTSP_PATHS_cam2_FALLBACK": "/x"})
    assert list(loaded.configuration.paths) == ["cam-1"]
    assert loaded.warnings[0] == "environment variable RTSP_PATHS_cam2_FALLBACK is not a setting"


def test_lists_of_a_path() -> None:
    path = configured(RTSP_PATHS_A_READIPS="10.0.0.0/8, ::1", RTSP_PATHS_A_SOURCE="rtsp://a/x,y,http://b/").paths["a"]
    assert [str(network) for network in path.read_ips] == ["10.0.0.0/8", "::1/128"]
    assert path.sources == ("rtsp://a/x,y", "http://b/")


def test_other_variables_are_left_alone() -> None:
    loaded = load_bytes(b"", {"RTSP_PATH": "a", "RTSP_PORT": "1", "RTSP_CONFKEY": "k", "PATH": "x"})
    assert (loaded.configuration, loaded.warnings, loaded.given) == (Configuration(), [], frozenset())


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("RTSP_API", "maybe", "RTSP_API: invalid value 'maybe'"),
        ("RTSP_API", "", "RTSP_API: invalid value ''"),
        ("RTSP_LOGLEVEL", "x", "RTSP_LOGLEVEL: invalid log level: x"),
        ("RTSP_PROTOCOLS", "tcp,x", "RTSP_PROTOCOLS: invalid protocol: x"),
        (
            "RTSP_READTIMEOUT",
            "5",
            "RTSP_READTIMEOUT: '5' is not a duration (write a number with a unit, such as 10s, 200ms or 1m30s)",
        ),
        ("RTSP_READBUFFERCOUNT", "x", "RTSP_READBUFFERCOUNT: 'x' is not a whole number"),
        ("RTSP_PATHS_A_READIPS", "x", "RTSP_PATHS_A_READIPS: unable to parse IP/CIDR 'x'"),
        ("RTSP_PATHS_A_SOURCE", "x", "invalid source: 'x'"),
    ],
)
def test_errors(variable: str, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configured(**{variable: text})
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{variable}: ")


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("RTSP_PATHS_CAM_SUORCE", "(did you mean RTSP_PATHS_CAM_SOURCE?)"),
        (
            "RTSP_PATHS_MY_CAM_SOURCE",
            "(names of paths in variables cannot contain underscores; use a configuration file)",
        ),
    ],
)
def test_hints_about_variables_of_paths(variable: str, hint: str) -> None:
    (warning,) = load_bytes(b"{}", {variable: "x"}).warnings
    assert warning == f"environment variable {variable} is not a setting {hint}"


def test_items_in_items() -> None:
    variables = {
        "MTX_AUTHINTERNALUSERS_0_USER": "bob",
        "MTX_AUTHINTERNALUSERS_0_PASS": "secret",
        "MTX_AUTHINTERNALUSERS_0_IPS": "10.0.0.0/8,::1",
        "MTX_AUTHINTERNALUSERS_0_PERMISSIONS_0_PATH": "cam",
        "MTX_AUTHINTERNALUSERS_0_PERMISSIONS_3_ACTION": "metrics",
        "MTX_AUTHINTERNALUSERS_2_USER": "any",
        "MTX_AUTHINTERNALUSERS_2_PERMISSIONS_0_ACTION": "read",
        "MTX_AUTHINTERNALUSERS_2_PERMISSIONS_2_ACTION": "api",
        "MTX_AUTHINTERNALUSERS_4_USER": "late",
    }
    loaded = load_bytes(b"", variables, dialect=MEDIAMTX)
    bob, local, anybody = loaded.configuration.auth_internal_users
    assert (bob.user, bob.pass_, len(bob.ips)) == ("bob", "secret", 2)
    assert [(it.action, it.path) for it in bob.permissions] == [
        ("publish", "cam"), ("read", ""), ("playback", ""), ("metrics", ""),
    ]  # fmt: skip
    assert [it.action for it in local.permissions] == ["api", "metrics", "pprof"]
    assert [it.action for it in anybody.permissions] == ["read"]
    unused = ("PERMISSIONS_2_ACTION", "4_USER")
    assert len(loaded.warnings) == len(unused)
    assert all(any(name in warning for warning in loaded.warnings) for name in unused)


@pytest.mark.parametrize(
    ("variables", "dialect"),
    [
        ({}, "polycast"),
        ({"MTX_RTMP": "no"}, "mediamtx"),
        ({"MTX_PATHS_CAM_SOURCE": "publisher"}, "mediamtx"),
        ({"MTX_PATHDEFAULTS_RECORD": "no"}, "mediamtx"),
        ({"MTX_AUTHINTERNALUSERS_0_USER": "me"}, "mediamtx"),
        ({"MTX_SRT": "no", "RTSP_RTMPDISABLE": "yes"}, "mediamtx"),
        ({"RTSP_RTMPDISABLE": "yes"}, "rtsp-simple-server"),
        ({"POLYCAST_RTMP": "no", "MTX_RTMP": "no"}, "polycast"),
        ({"MTX_PATH": "a", "RTSP_PORT": "1", "MTX_CONFKEY2": "x", "POLYCAST_PATIENCE": "2"}, "polycast"),
        ({"POLYCAST_PATIENCE": "2", "RTSP_LOGLEVEL": "info"}, "rtsp-simple-server"),
    ],
)
def test_variables_tell_the_dialect_without_a_file(variables: dict[str, str], dialect: str) -> None:
    assert load(None, variables).configuration.dialect == dialect


def test_variables_of_other_dialects_are_not_read() -> None:
    (warning,) = load(None, {"POLYCAST_RTMP": "no", "MTX_HLS": "no", "MTX_RTSP": "no"}).warnings
    assert warning.startswith(
        "environment variable MTX_HLS (and 1 more) is not read, because the dialect is 'polycast'"
    )
    assert warning.endswith("use POLYCAST_..., or start with --dialect mediamtx")
    assert load_bytes(b"", {"POLYCAST_PATIENCE": "2", "MTX_X": "1"}).warnings == []


def test_only_what_resembles_a_setting_is_mentioned_of_the_own_prefix() -> None:
    found = load_bytes(
        b"", {"POLYCAST_PATIENCE": "2", "POLYCAST_HLSVARIAN": "fmp4", "POLYCAST_PATHS_A_X": "1"}, "", POLYCAST
    )
    assert len(found.warnings) == 2
    assert found.warnings[0].startswith("environment variable POLYCAST_HLSVARIAN is not a setting (did you")


def test_old_variables_are_accepted_with_their_new_names() -> None:
    found = load_bytes(b"", {"RTSP_PROTOCOLS": "tcp", "RTSP_PATHS_A_SOURCEPROTOCOL": "tcp"}, "", POLYCAST)
    assert found.configuration[RtspConfiguration].rtsp_transports == {"tcp"}
    assert [warning for warning in found.warnings if warning.startswith("environment")] == [
        "environment variable RTSP_PROTOCOLS is deprecated and has been replaced with POLYCAST_RTSPTRANSPORTS",
        "environment variable RTSP_PATHS_A_SOURCEPROTOCOL is deprecated and has been replaced with "
        "POLYCAST_PATHS_A_RTSPTRANSPORT",
    ]
