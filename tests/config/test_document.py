"""The documents that are made from the schema, and the shipped configuration."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from polycast.config import PathConfiguration, load
from polycast.config.dialects.registry import LEGACY, POLYCAST
from polycast.config.dialects.views import view_of
from polycast.config.document import default_text, documents, main
from polycast.config.migration_document import updated

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "polycast.yml"
OWN = view_of(POLYCAST)
REFERENCE = view_of(LEGACY)
FIELDS = {**REFERENCE.fields, **REFERENCE.path_fields}

# Every key of rtsp-simple-server v0.20.0, as its users write it.
REFERENCE_KEYS = re.findall(
    r"\w+",
    """
logLevel logDestinations logFile readTimeout writeTimeout readBufferCount externalAuthenticationURL api apiAddress
metrics metricsAddress pprof pprofAddress runOnConnect runOnConnectRestart rtspDisable protocols encryption
rtspAddress rtspsAddress rtpAddress rtcpAddress multicastIPRange multicastRTPPort multicastRTCPPort serverKey
serverCert authMethods rtmpDisable rtmpAddress rtmpsAddress rtmpEncryption rtmpServerKey rtmpServerCert hlsDisable
hlsAddress hlsAlwaysRemux hlsVariant hlsSegmentCount hlsSegmentDuration hlsPartDuration hlsSegmentMaxSize
hlsAllowOrigin hlsEncryption hlsServerKey hlsServerCert hlsTrustedProxies source sourceProtocol sourceAnyPortEnable
sourceFingerprint sourceOnDemand sourceOnDemandStartTimeout sourceOnDemandCloseAfter sourceRedirect
disablePublisherOverride fallback rpiCameraCamID rpiCameraWidth rpiCameraHeight rpiCameraFPS rpiCameraIDRPeriod
rpiCameraBitrate rpiCameraProfile rpiCameraLevel publishUser publishPass publishIPs readUser readPass readIPs
runOnInit runOnInitRestart runOnDemand runOnDemandRestart runOnDemandStartTimeout runOnDemandCloseAfter runOnReady
runOnReadyRestart runOnRead runOnReadRestart
""",
)


@pytest.mark.parametrize("path", documents(ROOT / "docs"), ids=lambda path: path.name)
def test_committed_documents_are_up_to_date(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == documents(ROOT / "docs")[path], "run: python -m polycast.config.document docs/"


def test_the_tables_of_the_page_about_migration_are_up_to_date() -> None:
    text = (ROOT / "docs" / "migrate.md").read_text(encoding="utf-8")
    assert text == updated(text), "run: python -m polycast.config.migration_document docs"
    assert "| `rtspDisable` | `rtsp`, with the opposite value |\n" in text


def test_documents_are_written_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    main([str(tmp_path / "docs")])
    written = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.*")}
    assert written == {"docs/configuration.md", "docs/configuration.schema.json", "polycast.yml"}


def test_every_key_of_the_reference_is_there() -> None:
    without_mark = {key for key, field in FIELDS.items() if not field.is_new}
    assert without_mark - set(REFERENCE_KEYS) == set(), "keys that rtsp-simple-server does not have need NEW"
    assert set(REFERENCE_KEYS) - without_mark == set(), "keys of rtsp-simple-server are missing, or have NEW"


def test_shipped_file_has_every_key_once_with_its_default() -> None:
    settings = re.findall(r"^(?: {4})?([a-zA-Z0-9]+):(?: (.*))?$", SHIPPED.read_text(), re.MULTILINE)
    assert settings == [
        *[(key, default_text(field)) for key, field in OWN.fields.items()],
        ("paths", ""),
        *[(key, default_text(field)) for key, field in OWN.path_fields.items()],
    ]


def test_shipped_file_is_the_defaults() -> None:
    loaded = load(str(SHIPPED), {})
    assert loaded.warnings == []
    assert loaded.configuration == msgspec.structs.replace(OWN.defaults, paths={"~^.*$": PathConfiguration()})


def test_every_description_is_prose() -> None:
    for field in FIELDS.values():
        assert field.description[0].isupper(), field.key
        assert field.description.endswith("."), field.key
