"""Loading: files, exact error texts, limits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.config.cases import OWN_ERRORS, REFERENCE_ERRORS

from polycast.config import (
    Configuration,
    Duration,
    Encryption,
    PathConfiguration,
    Size,
    from_mapping,
    load,
    load_bytes,
)
from polycast.config.fields import configuration_fields
from polycast.errors import ConfigurationError
from polycast.protocols.hls.configuration import HlsConfiguration
from polycast.protocols.rtmp.configuration import RtmpConfiguration
from polycast.protocols.rtsp.configuration import RtspConfiguration
from polycast.wire.rtsp.authentication import AuthenticationMethod
from polycast.wire.rtsp.transport_choice import Protocol


def parse(text: str) -> Configuration:
    return load_bytes(text.encode(), {}).configuration


def error_of(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    return str(caught.value)


def path(text: str) -> str:
    return "paths:\n  mypath:\n" + "".join(f"    {line}\n" for line in text.splitlines())


@pytest.mark.parametrize("text", ["", "\n", "{}", "# nothing", "null", "---\n", "paths:", "paths: {}"])
def test_empty_file_is_the_defaults(text: str) -> None:
    assert parse(text) == Configuration()


@pytest.mark.parametrize("text", ["paths:\n  mypath:\n", "paths:\n  mypath: {}\n", "paths: {mypath: ~}"])
def test_path_without_settings(text: str) -> None:
    assert parse(text).paths == {"mypath": PathConfiguration()}


def test_file_with_a_path() -> None:
    configuration = parse("logLevel: debug\n\npaths:\n  cam1:\n    runOnDemandStartTimeout: 5s\n")
    assert configuration.log_level == "debug"
    assert configuration.paths == {"cam1": PathConfiguration(run_on_demand_start_timeout=Duration(5))}
    cam1 = configuration.paths["cam1"]
    assert (cam1.source, cam1.source_on_demand_start_timeout, cam1.source_on_demand_close_after) == (
        "publisher",
        10,
        10,
    )
    assert (cam1.run_on_demand_close_after, cam1.rpi_camera_width, cam1.rpi_camera_h264_level) == (10, 1280, "4.1")


def test_values_of_every_kind() -> None:
    configuration = parse(
        "logDestinations: [file, syslog]\nreadTimeout: 1m30s\nreadBufferCount: 1024\napi: yes\nprotocols: [tcp]\n"
        "encryption: optional\nauthMethods: [digest]\nhlsSegmentMaxSize: 1.5G\nhlsTrustedProxies: [10.1.2.3/8, '::1']\n"
        "multicastIPRange: 239.0.0.0/24\n"
    )
    assert configuration.log_destinations == {"file", "syslog"}
    assert configuration.read_timeout == 90
    assert configuration.write_queue_size == 1024
    assert configuration.api is True
    rtsp, hls = configuration[RtspConfiguration], configuration[HlsConfiguration]
    assert rtsp.rtsp_transports == {Protocol.TCP}
    assert rtsp.rtsp_encryption is Encryption.OPTIONAL
    assert rtsp.rtsp_auth_methods == (AuthenticationMethod.DIGEST,)
    assert hls.hls_segment_max_size == Size(1536 * 1024**2)
    assert [str(network) for network in hls.hls_trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    assert str(rtsp.multicast_ip_range) == "239.0.0.0/24"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(value, Encryption.STRICT) for value in ("yes", '"yes"', "true", "'true'", "strict")],
        *[(value, Encryption.NO) for value in ("no", '"no"', "false", "'false'")],
        ("optional", Encryption.OPTIONAL),
    ],
)
def test_encryption_quoted_or_not(value: str, expected: Encryption) -> None:
    assert parse(f"protocols: [tcp]\nencryption: {value}")[RtspConfiguration].rtsp_encryption is expected
    assert parse(f"rtmpEncryption: {value}")[RtmpConfiguration].rtmp_encryption is expected


@pytest.mark.parametrize("word", ["yes", "Yes", "YES", "on", "true", "True"])
def test_boolean_words_that_mean_yes(word: str) -> None:
    assert parse(f"hlsAlwaysRemux: {word}")[HlsConfiguration].hls_always_remux is True


@pytest.mark.parametrize("word", ["no", "off", "false", "FALSE"])
def test_boolean_words_that_mean_no(word: str) -> None:
    assert parse(f"rtspDisable: {word}")[RtspConfiguration].rtsp is True


def test_text_stays_as_it_was_written() -> None:
    written = parse(path("publishUser: 0123\npublishPass: 1_000\nrunOnReady: yes")).paths["mypath"]
    assert (written.publish_user, written.publish_pass, written.run_on_available) == ("0123", "1_000", "yes")


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ("hlsSegmentCount: 0", 7),
        ("readTimeout: 0s", 10),
        ("writeTimeout: 0", 10),
        ("readBufferCount: 0", 512),
        ("hlsSegmentMaxSize: 0B", 50 * 1024**2),
        ("rtspAddress: ''", ":8554"),
        ("hlsAllowOrigin: ''", ("*",)),
        ("protocols: []", frozenset(Protocol)),
        ("authMethods: []", (AuthenticationMethod.BASIC, AuthenticationMethod.DIGEST)),
        ("serverKey:", "server.key"),
        ("rtmpServerKey: ''", "server.key"),
    ],
)
def test_zero_means_default(text: str, default: object) -> None:
    configuration = parse(text)
    assert configuration == Configuration()
    assert default in [field.of(configuration) for field in configuration_fields().values()]


def test_zero_pause_after_failures_is_a_value() -> None:
    assert parse("authenticationFailurePause: 0s").authentication_failure_pause == 0


def test_all_is_renamed_and_order_is_kept() -> None:
    configuration = parse("paths:\n  ~^a$:\n  z:\n  all:\n  ~^b:\n  c:\n")
    assert list(configuration.paths) == ["~^a$", "z", "~^.*$", "~^b", "c"]


def test_all_wins_over_the_pattern_that_it_stands_for() -> None:
    configuration = parse("paths:\n  ~^.*$: {readUser: a, readPass: b}\n  all: {readUser: c, readPass: d}\n")
    assert configuration.paths == {"~^.*$": PathConfiguration(read_user="c", read_pass="d")}


def test_several_sources() -> None:
    configured = parse(path("source: [rtsp://a/x, https://b/y.m3u8]")).paths["mypath"]
    assert configured.source == ("rtsp://a/x", "https://b/y.m3u8")
    assert configured.sources == configured.source
    assert configured.source_kind.name == "RTSP"
    assert parse(path("source: [rtsp://a/x]")).paths["mypath"].source == "rtsp://a/x"


def test_merged_settings() -> None:
    configuration = parse("paths:\n  a: &a {readUser: u, readPass: p}\n  b: {<<: *a, readUser: v}\n  c: {<<: [*a]}\n")
    assert [(one.read_user, one.read_pass) for one in configuration.paths.values()] == [
        ("u", "p"),
        ("v", "p"),
        ("u", "p"),
    ]


@pytest.mark.parametrize(("text", "message"), REFERENCE_ERRORS + OWN_ERRORS)
def test_errors(text: str, message: str) -> None:
    error = error_of(text)
    assert message in error
    assert message.startswith("not a map") or re.match(r"(invalid YAML: )?line \d+(, column \d+)?: ", error)


def test_first_error_of_the_file_is_reported() -> None:
    assert error_of("logLevel: a\nencryption: b\n").startswith("line 1: logLevel: invalid log level: a")
    assert error_of("encryption: b\nlogLevel: a\n").startswith("line 1: encryption: invalid encryption value: 'b'")


@pytest.mark.parametrize(
    "text",
    [
        "rtspDisable: yes\nrtpAddress: :9001",
        "protocols: [tcp]\nrtpAddress: :9001\nmulticastRTPPort: 9001",
        "rtpAddress: 127.0.0.1:0\nrtcpAddress: 127.0.0.1:0",
    ],
)
def test_ports_that_are_not_used_or_picked_by_the_system(text: str) -> None:
    parse(text)


@pytest.mark.parametrize(
    ("name", "source"),
    [("~^.*", "redirect"), ("all", "rpiCamera"), ("x", "rtsp://user:@host/"), ("x", "rtsp://testing")],
)
def test_sources_that_are_allowed(name: str, source: str) -> None:
    parse(f"paths:\n  {name}:\n    source: {source}\n    sourceRedirect: rtsp://other/\n")


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("a: 1\nb: [1\n", 3, 1), ("logLevel: info\n\tapi: yes\n", 2, 1), ("api: *x\n", 1, 6), ("a: \x01\n", 1, 4)],
)
def test_syntax_errors_name_the_position(text: str, line: int, column: int) -> None:
    assert error_of(text).startswith(f"invalid YAML: line {line}, column {column}: ")


@pytest.mark.parametrize(
    "text",
    [
        "logLevel:\tdebug\nlogFile: a\tb\n",
        "logLevel\t: debug\t# as asked\nlogFile: 'a\tb'\t\n",
        "---\t\n\t\nlogLevel: &level \tdebug\n  \t# no indentation\nlogFile: a\tb  \t\n",
        "{logLevel:\tdebug,\tlogFile: a\tb}\n",
        "logLevel: debug\nlogFile:\t\n  a\tb\n",
    ],
)
def test_tabs_separate_but_do_not_indent(text: str) -> None:
    configuration = parse(text)
    assert (configuration.log_level, configuration.log_file) == ("debug", "a\tb")


@pytest.mark.parametrize("text", ["paths:\n\ta:\n", "paths:\n  a:\n  \tb:\n", "\tlogLevel: debug\n"])
def test_tabs_that_indent_are_refused(text: str) -> None:
    assert "a tab; " in error_of(text)


_INDENTATION = "wrong indentation: settings that belong together begin in the same column, with spaces"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("logLevel: info\n  api: yes\n", f"invalid YAML: line 2, column 6: {_INDENTATION}"),
        ("paths:\n  a:\n    source: x\n   b:\n", f"invalid YAML: line 4, column 4: {_INDENTATION}"),
        ("paths:\n  a:\n    readUser: x\n     readPass: y\n", f"invalid YAML: line 4, column 14: {_INDENTATION}"),
        ("paths:\n\tall:\n", "invalid YAML: line 2, column 1: a tab; indent with spaces"),
        ("logLevel:debug\n# x\n\nrtspAddress: :8554\n", "invalid YAML: line 1: a space is missing after the colon"),
        ("api: yes\nlogLevel:debug\n", "invalid YAML: line 2: a space is missing after the colon"),
        ("api: yes\nlogLevel:debug\nhls: x\n", "invalid YAML: line 2: a space is missing after the colon"),
        ("logLevel:debug\n", "not a map (a space is missing after the colon)"),
        ("api: yes\nnonsense\nhls: x\n", "invalid YAML: line 2: this line is not of the form 'key: value'"),
        ("runOnConnect: echo a: b\n", "invalid YAML: line 1, column 21: a text that contains ': ' needs quotes"),
        ("api: @x\n", "invalid YAML: line 1, column 6: a text that begins with @ needs quotes"),
        ("api: no\nlogFile: 'x\n", "invalid YAML: line 2, column 10: the closing quote is missing"),
        ("paths: {\n", "invalid YAML: line 2, column 1: a closing bracket is missing"),
        ("api: 'x' y\n", "invalid YAML: line 1, column 10: unexpected text after a value"),
        ("[server]\nport = 1\n", "invalid YAML: line 1: this looks like TOML or INI; write 'key: value', one a line"),
        ('logLevel = "debug"\n', "not a map (this looks like TOML or INI; write settings as 'key: value', one a line)"),
        ("- a\n", "not a map (write settings as 'key: value', one a line)"),
        ("api: no\n\0", "invalid YAML: line 2: the file contains the character NUL"),
        (
            "paths:\n  a:\n    readUser: x\n    readPass: #secret\n",
            "line 3: parameter paths, key a: readUser: read username and password must be both filled (add readPass)"
            "; line 4: 'readPass' is empty: a text that begins with # is a comment unless it is in quotes",
        ),
    ],
)
def test_errors_of_the_syntax_in_words(text: str, message: str) -> None:
    assert error_of(text).startswith(message)


def test_credentials_that_are_comments() -> None:
    loaded = load_bytes(b"apiUser: #admin\napiPass: # none\nmetricsPass:\n", {})
    assert loaded.warnings == [
        "line 1: 'apiUser' is empty: a text that begins with # is a comment unless it is in quotes"
    ]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark(encoding: str) -> None:
    with pytest.raises(ConfigurationError, match="the file is UTF-16 without a byte order mark"):
        load_bytes("api: no\n".encode(encoding), {})


def test_not_utf8() -> None:
    with pytest.raises(ConfigurationError, match="line 2: the file is not UTF-8 text"):
        load_bytes(b"api: no\nlogFile: \xff\n", {})


def test_aliases_cannot_multiply() -> None:
    levels = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert "more than 500000 values, counting what aliases repeat" in error_of(f"k0: &k0 [x]\n{levels}")


def test_the_levels_that_aliases_repeat_are_limited() -> None:
    lists = "".join(f"k{level}: &k{level} [[[*k{level - 1}]]]\n" for level in range(1, 6))
    assert "line 6, column 12: more than 16 levels of maps and lists, counting" in error_of(f"k0: &k0 [x]\n{lists}")


def test_merged_maps_add_no_levels() -> None:
    cameras = "".join(f"  cam{number}: &c{number} {{<<: [*c{number - 1}]}}\n" for number in range(1, 40))
    loaded = load_bytes(f"paths:\n  cam0: &c0 {{readUser: a, readPass: b}}\n{cameras}".encode(), {})
    assert loaded.configuration.paths["cam39"].read_user == "a"


def test_nesting_is_limited() -> None:
    assert "more than 16 levels" in error_of("[" * 50_000)


def test_alias_inside_its_own_anchor() -> None:
    assert "this alias names no anchor before it" in error_of("paths: &x\n  a: *x\n")


def test_warnings() -> None:
    loaded = load_bytes(b"api: no\napi: yes\n---\nx: 1\n", {"RTSP_APY": "1", "RTSP_PATH": "p", "HOME": "/"})
    assert loaded.configuration.api is True
    assert loaded.warnings == [
        "line 2: 'api' is written more than once; the last one counts",
        "the configuration file has several YAML documents; only the first one is used",
        "environment variable RTSP_APY is not a setting (did you mean RTSP_API?)",
    ]


def test_load_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rtsp-simple-server.yml"
    file.write_bytes(b"\xef\xbb\xbfpaths:\r\n  Cam_1:\r\n    source: publisher\r\n  all:\r\n    fallback: /x\r\n")
    loaded = load(str(file), {"RTSP_LOGLEVEL": "warn"})
    assert loaded.source_path == file
    assert loaded.warnings == []
    assert loaded.given == {"paths.Cam_1.source", "paths.~^.*$.fallback", "logLevel"}


def test_load_without_a_file() -> None:
    loaded = load(None, {"RTSP_PATHS_CAM1_SOURCE": "rtsp://testing"})
    assert loaded.source_path is None
    assert loaded.configuration == Configuration(paths={"cam1": PathConfiguration(source="rtsp://testing")})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"%YAML 1.82\n---\na: b\n", "invalid YAML: version minor part can only be 2 or 1"),
        (b'a: "\\UFFFFFFFF"\n', "invalid YAML: Python int too large"),
        (b'a: "\\U00110000"\n', "invalid YAML: chr() arg not in range"),
    ],
)
def test_errors_that_the_parser_of_yaml_does_not_call_so(text: bytes, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_bytes(text, {})
    assert str(caught.value).startswith(message)


def test_a_defect_is_not_taken_for_an_error_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(self: object, text: str) -> None:
        raise TypeError("a defect")

    monkeypatch.setattr("ruamel.yaml.YAML.parse", parse)
    with pytest.raises(TypeError, match="a defect"):
        load_bytes(b"a: b\n", {})


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"can't read the configuration file '.*x.yml': No such file or directory"
    ):
        load(str(tmp_path / "x.yml"), {})


def test_from_mapping_takes_json_values() -> None:
    configuration = from_mapping({"api": True, "readBufferCount": 64, "protocols": ["tcp"], "paths": {"a": None}})
    assert (configuration.api, configuration.write_queue_size, configuration[RtspConfiguration].rtsp_transports) == (
        True,
        64,
        {"tcp"},
    )


def test_import_is_light() -> None:
    command = "import polycast.config, sys; print(sorted({'nacl', 'ruamel', 'httpx2', 'asyncio'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, env=environment, check=True
    )
    assert result.stdout.strip() == "[]"
