"""What ``polycast --check`` finds: all that a start with the configuration would meet."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
import trustme
from tests.support.ports import free_port

from polycast.cli import main
from polycast.cli.preflight import preflight
from polycast.config import from_mapping
from polycast.log import writer as log_writer
from polycast.protocols.registry import server_kinds

QUIET = {
    "rtspAddress": "127.0.0.1:0",
    "protocols": ["tcp"],
    "rtmpAddress": "127.0.0.1:0",
    "hlsAddress": "127.0.0.1:0",
    "paths": {"all": {}},
}


def found(**values: Any) -> list[tuple[str, bool]]:
    return [(finding.text, finding.is_error) for finding in preflight(from_mapping({**QUIET, **values}))]


@pytest.fixture
def free_ports() -> tuple[int, int]:
    return free_port(), free_port()


def test_nothing_to_find() -> None:
    assert found() == []


def test_a_system_log_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    monkeypatch.setattr(log_writer, "_SYSLOG_PATHS", (str(path),))
    missing = "logDestinations: there is no system log on this machine (no /dev/log)"
    assert found(logDestinations=["syslog"]) == [(missing, True)]
    path.touch()
    assert found(logDestinations=["syslog"]) == []


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"encryption": "optional", "rtspsAddress": "127.0.0.1:0"}, "serverCert, serverKey"),
        ({"rtmpEncryption": "strict", "rtmpsAddress": "127.0.0.1:0"}, "rtmpServerCert, rtmpServerKey"),
        ({"hlsEncryption": True}, "hlsServerCert, hlsServerKey"),
        ({"api": True, "apiAddress": "127.0.0.1:0", "apiEncryption": True}, "apiServerCert, apiServerKey"),
        ({"metrics": True, "metricsAddress": "127.0.0.1:0", "metricsEncryption": True}, "metricsServerCert, metrics"),
    ],
)
def test_certificates(values: dict[str, Any], keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ((text, is_error),) = found(**values)
    assert text.startswith(keys)
    assert "the TLS certificate 'server.crt' does not exist" in text
    assert is_error
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "server.key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "server.crt")
    assert found(**values) == []
    (tmp_path / "server.key").write_text("junk")
    ((text, is_error),) = found(**values)
    assert "cannot be used" in text
    assert is_error


def test_certificates_of_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "server.key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "server.crt")
    values = {
        "cluster": ["nats://a:4222"],
        "clusterToken": "secret",
        "nodeAddress": "127.0.0.1:0",
        "clusterEncryption": True,
        "clusterCA": "ca.crt",
    }
    missing = "clusterCA: the file 'ca.crt' cannot be read: No such file or directory"
    assert found(**values) == [(missing, True)]
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    assert found(**values) == []
    (tmp_path / "server.crt").unlink()
    ((text, is_error),) = found(**values)
    assert text.startswith("clusterServerCert, clusterServerKey: the TLS certificate 'server.crt' does not exist")
    assert is_error


def test_a_port_that_is_taken(free_ports: tuple[int, int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        for key in ("rtspAddress", "rtmpAddress", "hlsAddress"):
            ((text, is_error),) = found(**{key: address})
            assert text.startswith(f"{key}: listen on {address}: Address already in use")
            assert not is_error  # it may be this server that runs already
        datagrams.bind(("127.0.0.1", free_ports[0] & ~1))
        values = {"rtpAddress": f"127.0.0.1:{free_ports[0] & ~1}", "rtcpAddress": f"127.0.0.1:{free_ports[0] | 1}"}
        ((text, _),) = found(protocols=["udp"], **values)
        assert text.startswith("rtpAddress: listen on ")


def test_a_port_that_is_used_twice(free_ports: tuple[int, int]) -> None:
    address = f"127.0.0.1:{free_ports[0]}"
    assert found(rtspAddress=address, hlsAddress=address, rtmpAddress=f"127.0.0.1:{free_ports[1]}") == [
        (f"hlsAddress: port {free_ports[0]} is also that of rtspAddress", True)
    ]
    assert found(rtspAddress=address, hlsAddress=address, hlsDisable=True) == []


def test_an_address_of_another_machine() -> None:
    ((text, is_error),) = found(rtspAddress="192.0.2.1:8554")
    assert text.startswith("rtspAddress: listen on 192.0.2.1:8554: ")
    assert is_error


def test_the_log_file(tmp_path: Path) -> None:
    assert found(logDestinations=["file"], logFile=str(tmp_path / "log")) == []
    assert not (tmp_path / "log").exists()
    assert found(logDestinations=["file"], logFile=str(tmp_path)) == [(f"logFile: '{tmp_path}' is a directory", True)]
    missing = tmp_path / "no" / "log"
    assert found(logDestinations=["file"], logFile=str(missing)) == [
        (f"logFile: the directory '{missing.parent}' does not exist", True)
    ]


def test_programs_of_commands() -> None:
    paths = {
        "cam": {"runOnInit": "ffmepg -i x", "runOnReady": "sh -c 'exit 0'"},
        "~^a": {"runOnDemand": "sh -c 'unclosed"},
        "b": {"runOnRead": "$PROGRAM x"},
        "c": {"runOnRead": "sh -c true > /dev/null"},
        "d": {"runOnRead": "sh -c 'true && true > x' && sh"},
        "e": {"runOnRead": "sh -c true 2>&1"},
        "f": {"runOnRead": "sh -c true | sh"},
        "g": {"runOnRead": "sh -c 'true > x; true | true' a>b --filter='a > b'"},
        "h": {"runOnRead": "sh -c true '>' \"|\""},
    }
    remedy = "use sh -c '...'"
    assert found(runOnConnect="no-such-program $RTSP_PORT", paths=paths) == [
        ("runOnConnect: the program 'no-such-program' does not exist", False),
        ("path 'cam': runOnInit: the program 'ffmepg' does not exist", False),
        ("path '~^a': runOnDemand: the command cannot be parsed: No closing quotation", False),
        *(
            (f"path '{path}': runOnRead: commands run without a shell, so '{operator}' is an argument; {remedy}", False)
            for path, operator in (("c", ">"), ("d", "&&"), ("e", "2>&1"), ("f", "|"))
        ),
    ]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "my.yml"
    base = "rtspAddress: 127.0.0.1:0\nprotocols: [tcp]\nrtmpDisable: yes\nhlsDisable: yes\n"
    file.write_text(base + "encryption: optional\nrtspsAddress: 127.0.0.1:0\npaths: {all: {runOnReady: ffmepg}}\n")
    assert main(["--check", "my.yml"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("ERR: serverCert, serverKey: the TLS certificate 'server.crt' does not exist")
    assert "WAR: path 'all': runOnReady: the program 'ffmepg' does not exist" in told
    assert told[-1] == f"{file} is valid, but the server cannot start with it"
    file.write_text(base)
    assert main(["--check", "my.yml"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("WAR: no path is configured, so nobody can publish or read")
    assert told[-1] == f"{file} is valid, with 0 paths"


def test_packages_of_a_server_are_named_as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    (kind,) = (kind for kind in server_kinds() if kind.name == "WebRTC")

    def load() -> NoReturn:
        raise ModuleNotFoundError("No module named 'OpenSSL'", name="OpenSSL")

    lacking = msgspec.structs.replace(kind, load=load)
    monkeypatch.setattr("polycast.cli.preflight.server_kinds", lambda: (lacking,))
    (found_one,) = found(webrtc=True, webrtcAddress="127.0.0.1:0", webrtcLocalUDPAddress="127.0.0.1:0")
    assert found_one == (
        "WebRTC needs the packages pyOpenSSL, cryptography and ifaddr: pip install pyOpenSSL cryptography ifaddr, "
        "or set webrtc: no",
        True,
    )


def test_packages_that_only_a_setting_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    webrtc = {"webrtc": True, "webrtcAddress": "127.0.0.1:0", "webrtcLocalUDPAddress": "127.0.0.1:0"}
    assert found(**webrtc, webrtcTranscodeAudio=True) == []
    monkeypatch.setitem(sys.modules, "av", None)
    assert found(**webrtc) == []
    ((text, is_error),) = found(**webrtc, webrtcTranscodeAudio=True)
    assert text.startswith("webrtcTranscodeAudio needs the packages av and numpy: pip install av numpy")
    assert is_error
