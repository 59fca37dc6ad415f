"""Errors and warnings that tell what to write instead, and never a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from polycast.config import load, load_bytes
from polycast.config.redact import redact
from polycast.errors import ConfigurationError


def error_of(text: str, **environment: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_bytes(text.encode(), environment, "my.yml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a: 1\n".replace("a", "rtspAdress"), ["my.yml: line 1: ", "'rtspAdress'", "did you mean 'rtspAddress'?"]),
        ("\npath: {}\n", ["my.yml: line 2: ", "did you mean 'paths'?"]),
        ("READTIMEOUT: 1s\n", ["did you mean 'readTimeout'?"]),
        ("paths:\n  cam:\n    sorce: rtsp://h/\n", ["line 3: ", "key cam: ", "did you mean 'source'?"]),
        ("source: rtsp://h/\n", ["a setting of a path", "below 'paths:'"]),
        ("paths:\n  cam:\n    logLevel: info\n", ["line 3: ", "a setting of the whole server"]),
        ("moq: no\n", ["MediaMTX", "docs/migrate.md"]),
        ("rtspTransports: [tcp]\n", ["MediaMTX", "protocols", "docs/migrate.md"]),
        ("pathDefaults: {}\n", ["MediaMTX", "docs/migrate.md"]),
        ("paths: {a: {moqTransport: quic}}\n", ["MediaMTX", "docs/migrate.md"]),
        ("paths: {a: {overridePublisher: no}}\n", ["disablePublisherOverride"]),
        ("paths:\ncam:\n  source: rtsp://h/x\n", ["line 2: ", "indent it below 'paths:'"]),
        ("paths:\n  cam:\n  source: rtsp://h/x\n", ["line 3: ", "'source' is a setting of a path: indent it more"]),
        ("paths:\n  cam: rtsp://h/x\n", ["line 2: ", "key cam: not a map", "'source: '"]),
        ("streams: {}\n", ["go2rtc", "paths"]),
        ("protocols: tpc\n", ["line 1: protocols: ", "udp, multicast, tcp", "did you mean tcp?"]),
        ("logLevel: warning\n", ["error, warn, info, debug", "did you mean warn?"]),
        ("encryption: strict\n", ["protocols: [tcp]"]),
        ("hlsVariant: lowLatency\n", ["hlsEncryption: yes"]),
        ("paths: {cam: {source: rtp://h/}}\n", ["key cam: source: ", "rtsp://", "rtmp://", "https://"]),
        ("paths: {cam: {publishPass: 'a b', publishUser: u}}\n", ["key cam: publishPass: ", "a-z", "sha256:"]),
        ("paths: {cam: {readPass: 'a b', readUser: u}}\n", ["a blank", "openssl dgst -sha256 -binary | base64"]),
        ("paths: {cam: {readPass: 'a#b', readUser: u}}\n", ["besides a-z: '#'", "openssl dgst"]),
        ("apiUser: u\napiPass: 'a:b'\n", ["line 2: apiPass: ", "besides a-z: ':'"]),
        (f"apiUser: sha256:{'0a' * 32}\n", ["line 1: apiUser: the hash is hexadecimal", "base64"]),
        ("apiPass: 'sha256:'\n", ["apiPass: the hash is not the base64 of a SHA-256 hash", "openssl dgst"]),
        (f"apiPass: sha256:{'A' * 43}\n", ["the hash is not the base64"]),
        (f"apiPass: sha256:{'A' * 42}B=\n", ["the hash is not the base64"]),  # not how 32 bytes are encoded
        (f"apiPass: sha256:{'-' * 43}=\n", ["the hash is not the base64"]),  # base64url
        (
            "apiPass: argon2:$argon2id$v=19$m=4096,t=3,p=1$c2FsdA$aGFzaA\n",
            ["invalid argon2 hash (write argon2:$argon2id$"],
        ),
        ("rtspAuthMethods: [basic]\n", ["MediaMTX", "here: authMethods"]),
        ("paths: {'^cam': }\n", ["invalid path name", "a regular expression begins with ~"]),
        ("paths: {'cam(a)': }\n", ["a regular expression begins with ~"]),
        ("QUJD" * 20, ["encrypted", "RTSP_CONFKEY"]),
    ],
)
def test_errors_say_where_and_what_instead(text: str, parts: list[str]) -> None:
    error = error_of(text)
    assert error.startswith("my.yml: ")
    assert [part for part in parts if part not in error] == []


def test_a_rule_broken_by_the_environment_names_the_variable() -> None:
    error = error_of("protocols: [tcp, udp]\n", RTSP_ENCRYPTION="strict")
    assert error.startswith("RTSP_ENCRYPTION: encryption: strict encryption can't be used")
    assert error_of("encryption: strict\n", RTSP_PROTOCOLS="udp").startswith("my.yml: line 1: encryption: ")
    assert error_of("", RTSP_PATHS_CAM_READUSER="a").startswith("RTSP_PATHS_CAM_READUSER: parameter paths, key cam: ")


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://admin:S3CRET@host:port/x",
        "rtsp://admin:S3CRET/x?y#z@host/x",
        "rtsp://admin:x@S3CRET@ho st/x",
        "rtsp//admin:S3CRET@host/x",
        "rtsp:/admin:S3CRET@host/x",
        "admin:S3CRET@host/x",
        "rtmp://host:x/a?pass=S3CRET",
        "ftp://admin:S3CRET@host/",
        "http://:S3CRET@host/x",
        "rtmp://ad min:S3CRET@host/x",
    ],
)
@pytest.mark.parametrize("key", ["source", "fallback", "sourceRedirect", "externalAuthenticationURL"])
def test_errors_never_tell_a_password(source: str, key: str) -> None:
    text = f"{key}: {source!r}\n" if key[0] == "e" else f"paths:\n  cam:\n    {key}: {source!r}\n"
    if key == "sourceRedirect":
        text += "    source: redirect\n"
    told = ""
    try:
        load_bytes(text.encode(), {})
    except ConfigurationError as error:
        told = f"{error} {error!r}"
    assert "S3CRET" not in told


@pytest.mark.parametrize(
    "text",
    [
        "paths: {cam: {readUser: u, readPass:S3CRET}}",
        "paths: {cam: {readUser: u, readPass: *S3CRET}}",
        "paths: {cam: {readUser: u, readPass: !S3CRET}}",
        "paths: {cam: {readUser: u, readPass: '\u00e9S3CRET'}}",
        "paths: {cam: {readPass: S3CRET}}",
        "paths: {cam: {readUser: u, readPass: [S3CRET]}}",
        "paths: {cam: {readUser: u, readPass: 'S3CRET}}",
        "paths: {cam: {readUser: u, readPass: @S3CRET}}",
        "paths: {cam: {readUser: u, readPass: {S3CRET}}}",
        "paths:\n  cam:\n    readPass:S3CRET\n    readUser: u",
        "apiPass:S3CRET",
        "{apiPass:S3CRET}",
    ],
)
def test_errors_of_credentials_never_tell_them(text: str) -> None:
    assert "S3CRET" not in error_of(text)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://host/x", "rtsp://host/x"),
        ("rtsp://user@host:554/x?a=b", "rtsp://user@host:554/x?a=b"),
        ("rtsp://user:pw@host/x", "rtsp://user:***@host/x"),
        ("http://host/x?a=1&access_token=5&b=2", "http://host/x?a=1&access_token=***&b=2"),
    ],
)
def test_what_stays_of_a_url(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(encoding: str) -> None:
    mark = "\ufeff" if encoding.endswith("e") else ""
    loaded = load_bytes((mark + "paths:\r\n  all:\r\n").encode(encoding), {})
    assert list(loaded.configuration.paths) == ["~^.*$"]


def test_a_broken_encoding() -> None:
    with pytest.raises(ConfigurationError, match="line 2: the file is not UTF-16 text"):
        load_bytes("\ufeffapi: no\nx".encode("utf-16-le") + b"\xd8", {})


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("rtsp://host/my stream", "rtsp://host/my%20stream"),
        ("rtsp://host/x ", "rtsp://host/x"),
        (" http://host/a b?c=d e", "http://host/a%20b?c=d%20e"),
    ],
)
def test_blanks_in_urls(source: str, taken: str) -> None:
    loaded = load_bytes(f"paths:\n  cam:\n    source: '{source}'\n".encode(), {})
    assert loaded.configuration.paths["cam"].source == taken
    several = load_bytes(f"paths:\n  cam:\n    source: ['{source}', 'rtmp://h/x']\n".encode(), {})
    assert several.configuration.paths["cam"].sources[0] == taken


def test_a_configuration_without_paths_is_worth_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "my.yml"
    file.write_text("logLevel: info\n")
    (warning,) = load(str(file), {}).warnings
    assert "no path is configured" in warning
    assert "'paths:'" in warning
    assert "'  all:'" in warning
    file = tmp_path / "rtsp-simple-server.yml"
    file.write_text("paths:\n  all_others:\n")
    (warning,) = load(str(file), {}).warnings
    assert "'all'" in warning
    (warning,) = load(None, {"RTSP_PATHS_CAM_SOURCE": "publisher"}).warnings
    assert "'cam'" in warning
    assert load(None, {"RTSP_PATHS_ALL": ""}).warnings == []
