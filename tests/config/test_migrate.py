"""``polycast migrate``: the new file means the same, and looks the same except for names."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.config.key_table import GLOBAL, PATH

from polycast.cli import main
from polycast.config import load_bytes
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import LEGACY, MEDIAMTX, POLYCAST
from polycast.config.dialects.views import view_of
from polycast.config.migrate import Migrated, migrate
from polycast.config.services import SERVICES
from polycast.errors import ConfigurationError


def meaning(text: str, dialect: Dialect) -> dict[str, Any]:
    """Return what has an effect: not the settings of services that are off, and of cameras that are none."""
    configuration = load_bytes(text.encode(), {}, "", dialect).configuration
    off = tuple(name for name, settings_of in SERVICES.items() if not settings_of(configuration).is_enabled)
    view = view_of(POLYCAST)
    found: dict[str, Any] = {
        key: field.of(configuration) for key, field in view.fields.items() if not key.startswith(off) or key in off
    }
    for name, path in configuration.paths.items():
        is_camera = "rpiCamera" in path.sources
        found[name] = {
            key: field.of(path)
            for key, field in view.path_fields.items()
            if is_camera or not key.startswith("rpiCamera")
        }
    return found


def migrated(text: str, dialect: Dialect) -> Migrated:
    """Translate a text; the result must mean the same."""
    result = migrate(text, dialect.file, dialect)
    assert meaning(result.text, POLYCAST) == meaning(text, dialect)
    return result


OLD = """\
# My cameras

logLevel: debug   # as long as it is new
rtmpDisable: yes  # nobody uses it
hlsDisable: false
protocols: [tcp]
encryption: "no"
hlsAllowOrigin: https://a.example
readBufferCount: 1024   # enough
logFile: x.log
sysLogPrefix: x
webrtc: no
srt: no

paths:
  # the door
  door: &door
    source: rtsp://user:pass@10.0.0.1/1
    sourceProtocol: tcp
    disablePublisherOverride: true
    runOnReady: >
      ffmpeg
      -i x
  # the garden
  garden: {<<: *door, sourceAnyPortEnable: yes}
  'all':
"""
NEW = """\
# My cameras

logLevel: debug   # as long as it is new
rtmp: no  # nobody uses it
hls: true
rtspTransports: [tcp]
rtspEncryption: "no"
hlsAllowOrigins: https://a.example
writeQueueSize: 1024   # enough
logFile: x.log
sysLogPrefix: x
webrtc: no
srt: no

paths:
  # the door
  door: &door
    source: rtsp://user:pass@10.0.0.1/1
    rtspTransport: tcp
    overridePublisher: false
    runOnAvailable: >
      ffmpeg
      -i x
  # the garden
  garden: {<<: *door, rtspAnyPort: yes}
  'all':
"""


def test_only_names_and_forms_change() -> None:
    assert migrated(OLD, LEGACY) == Migrated(NEW, [])


def test_the_own_dialect_stays() -> None:
    assert migrate(NEW, "polycast.yml") == Migrated(NEW, [])


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}\n", "paths: {all: }\n", "paths:\n  a:"])
@pytest.mark.parametrize("dialect", [LEGACY, MEDIAMTX])
def test_defaults_that_differ_are_added(text: str, dialect: Dialect) -> None:
    result = migrated(text, dialect)
    file = dialect.defaults.get("logFile", "rtsp-simple-server.log")
    assert f"'logFile: {file}' was added, because Polycast has another default" in result.notes
    assert ("webrtc: no" in result.text) is (dialect is LEGACY)
    # A text has no more quotes than it has in a file.
    address = "'srtpAddress: :8004' was added, because Polycast has another default"
    assert (address in result.notes) is (dialect is MEDIAMTX)


def test_each_setting_of_the_older_server() -> None:
    view = view_of(LEGACY)
    stream = StringIO()
    values = {key: field.kind.dump(field.default) for key, field in view.fields.items()}
    path = {key: field.kind.dump(field.default) for key, field in view.path_fields.items()}
    YAML(typ="safe", pure=True).dump({**values, "paths": {"all": path}}, stream)
    assert migrated(stream.getvalue(), LEGACY).notes == []


def test_each_setting_of_mediamtx() -> None:
    stream = StringIO()
    YAML(typ="safe", pure=True).dump({**GLOBAL, "pathDefaults": PATH, "paths": {"all_others": None}}, stream)
    result = migrated(stream.getvalue(), MEDIAMTX)
    assert result.notes == []


def test_a_setting_under_two_names_is_written_once() -> None:
    text = "rtspTransports: [udp]\nprotocols: [tcp]\npaths:\n  a:\n    rtspAnyPort: yes\n    sourceAnyPortEnable: no\n"
    result = migrated(text, MEDIAMTX)
    assert result.text.startswith("rtspTransports: [tcp]\npaths:\n  a:\n    rtspAnyPort: no\n")


def test_settings_of_all_paths_that_were_global_once() -> None:
    defaults = "# Defaults\npathDefaults:\n  record: no\n  maxReaders: 2 # few\npaths:\n  a:\n"
    result = migrated(f"recordFormat: mpegts\nrecord: yes\n{defaults}", MEDIAMTX)
    assert "record:" not in result.text.partition("# Defaults")[0]
    assert "  record: yes\n  maxReaders: 2 # few\n  recordFormat: mpegts\n" in result.text
    assert "pathDefaults:\n  record: yes\n" in migrated("record: yes\npaths:\n  a:\n", MEDIAMTX).text


def test_a_former_name_that_stands_for_two_settings() -> None:
    result = migrated("externalAuthenticationURL: http://h/\nauthMethod: internal\n", MEDIAMTX)
    assert result.text.startswith("authHTTPAddress: http://h/\n")
    assert "authMethod: http\n" in result.text


def test_users_are_not_added_to_credentials_of_paths() -> None:
    text = "api: yes\npaths:\n  a: {readUser: u, readPass: p}\n"
    result = migrate(text, "mediamtx.yml")
    configuration = load_bytes(result.text.encode(), {}, "", POLYCAST).configuration
    assert configuration.api_address == "127.0.0.1:9997"


def test_what_changes_is_said() -> None:
    (change,) = [note for note in migrate("paths: {all_others: }\n", "rtsp-simple-server.yml").notes if "path" in note]
    assert "path 'all_others' is" in change
    notes = migrate("hlsAllowOrigins: []\npaths:\n  ~b:\n  ~a:\n  all:\n", "mediamtx.yml").notes
    assert "hlsAllowOrigins changes: it was [], and is ['*']" in notes
    assert notes[-1].endswith("mediamtx tried them in this one: ~a, ~b, all_others")
    notes = migrate("moqQUICAddress: :9000\nplayback: yes\n", "mediamtx.yml").notes
    assert [note for note in notes if "has no effect" in note]


def test_camera_settings_keep_their_defaults() -> None:
    result = migrated("paths:\n  cam: {source: rpiCamera}\n", MEDIAMTX)
    configuration = load_bytes(result.text.encode(), {}, "", POLYCAST).configuration
    assert configuration.paths["cam"].rpi_camera_width == 1920


def test_files_that_cannot_be_translated() -> None:
    with pytest.raises(ConfigurationError, match='json: unknown field "x"'):
        migrate("x: 1\n", "mediamtx.yml")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rtsp-simple-server.yml"
    file.write_text(OLD)
    assert main(["migrate", str(file)]) == 0
    assert capsys.readouterr() == (NEW, "")
    other = tmp_path / "mediamtx.yml"
    other.write_text("include: mediamtx.yml\nwebrtc: yes\n")
    assert main(["migrate", str(other)]) == 0
    out, told = capsys.readouterr()
    assert out.startswith("include: mediamtx.yml\n")
    assert f"WAR: '{other}' is included: migrate it as well" in told
    assert main(["migrate", "--dialect", "polycast", str(file)]) == 0
    other.write_text("a: 1\nb: 2\n")
    assert main(["migrate", str(other)]) == 1
    assert capsys.readouterr().err.count("ERR: ") == 2
