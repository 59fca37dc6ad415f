"""What a new value of a key does while the server runs is declared at the key; here the servers are held to it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, cast

import msgspec
import pytest
import trustme

from polycast.config import Configuration, from_mapping, update
from polycast.config.dialects.polycast import POLYCAST
from polycast.config.fields import Field, configuration_fields, fields_of, path_fields
from polycast.config.kinds import NETWORKS
from polycast.config.marks import LIVE, PATH, restarts
from polycast.config.services import SERVICES
from polycast.config.values import Duration
from polycast.control.control import _KINDS
from polycast.control.service import listening
from polycast.hub.access import AccessControl
from polycast.hub.hub import Hub
from polycast.log import Log
from polycast.protocols.base import ServerContext, ServerKind
from polycast.protocols.registry import server_kinds

SERVICE_NAMES = {kind.prefix: kind.name for kind in _KINDS}

FIELDS = configuration_fields()


class Forgotten(msgspec.Struct):
    """Two keys, one of which does not say what a change of it does."""

    said: Annotated[bool, LIVE, msgspec.Meta(description="Is marked.")] = False
    forgotten: Annotated[bool, msgspec.Meta(description="Is not.")] = False


class Contradicting(msgspec.Struct):
    """A key that says two things."""

    both: Annotated[bool, LIVE, restarts("RTSP"), msgspec.Meta(description="Is marked twice.")] = False


@pytest.mark.parametrize(("struct", "name"), [(Forgotten, "forgotten"), (Contradicting, "both")])
def test_every_key_declares_the_effect_of_a_change(struct: type[msgspec.Struct], name: str) -> None:
    with pytest.raises(TypeError, match=f"'{name}' must say what a change of it does"):
        fields_of(struct)


def test_what_keys_restart_exists() -> None:
    restarted = {name for field in FIELDS.values() for name in field.change.restarts}
    assert restarted == {kind.name for kind in server_kinds()} | set(SERVICE_NAMES.values())
    assert {field.change for field in path_fields().values()} == {PATH, LIVE}


def other_value(field: Field) -> Any:
    """Return a valid value that is not the default, as it is written in a file."""
    default = field.default
    if isinstance(default, bool):
        return not default
    if isinstance(default, Duration):
        return str(Duration(default + 1))
    if isinstance(default, int):
        return default * 2
    if field.kind is NETWORKS:
        return ["192.0.2.0/24"]
    if isinstance(default, tuple):
        return ["other"]
    if field.key.endswith("Address"):
        return "127.0.0.9:9"
    assert isinstance(default, str), field.key
    return "other"


@pytest.mark.parametrize("prefix", SERVICES)
def test_a_service_restarts_its_listener_exactly_for_the_keys_that_require_it(prefix: str) -> None:
    wanted = {prefix: True, f"{prefix}Encryption": True, f"{prefix}User": "u", f"{prefix}Pass": "p"}
    keys = {field.key for field in FIELDS.values()}
    values = {key: value for key, value in wanted.items() if key in keys}
    before = from_mapping(values, POLYCAST)
    settings_of = SERVICES[prefix]
    for field in FIELDS.values():
        if not field.key.startswith(prefix):
            continue
        value = not field.of(before) if isinstance(field.default, bool) else other_value(field)
        after = update(before, {field.key: value}, POLYCAST)
        is_restarted = listening(settings_of(before)) != listening(settings_of(after))
        assert is_restarted == (SERVICE_NAMES[prefix] in field.change.restarts), field.key


class Recorded:
    """A configuration that notes which of its settings are read."""

    def __init__(self, configuration: Any, reads: set[str]) -> None:
        self._configuration = configuration
        self._reads = reads

    def __getitem__(self, section: Any) -> Recorded:
        return Recorded(self._configuration[section], self._reads)

    def __getattr__(self, name: str) -> Any:
        self._reads.add(name)
        return getattr(self._configuration, name)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the keys that name a certificate's files, for all servers."""
    folder = tmp_path_factory.mktemp("certificate")
    issued = trustme.CA().issue_cert("localhost")
    (folder / "key").write_bytes(issued.private_key_pem.bytes())
    (folder / "certificate").write_bytes(issued.cert_chain_pems[0].bytes())
    return {
        key: str(folder / ("key" if key.lower().endswith("serverkey") else "certificate"))
        for key in FIELDS
        if key.lower().endswith(("serverkey", "servercert"))
    }


@pytest.mark.parametrize("kind", server_kinds(), ids=lambda kind: kind.name)
async def test_what_a_server_keeps_from_its_start_restarts_it(kind: ServerKind, certificate: dict[str, str]) -> None:
    """A setting that is read only when the server starts, and not when new settings are applied, must restart it."""
    loop = asyncio.get_running_loop()
    values = {key: "127.0.0.1:0" for key in FIELDS if key.endswith("Address")}
    encrypted = {
        "rtspEncryption": "optional",
        "rtmpEncryption": "optional",
        "hlsEncryption": True,
        "webrtcEncryption": True,
    }
    configuration = from_mapping({**values, **certificate, **encrypted, "webrtc": True}, POLYCAST)
    assert kind.is_enabled(configuration)
    context = ServerContext(loop, Hub(loop=loop, log=Log(), access=AccessControl()), Log())
    at_start: set[str] = set()
    server = kind.create(context, cast("Configuration", Recorded(configuration, at_start)))
    await server.start()
    try:
        applied: set[str] = set()
        server.apply(cast("Configuration", Recorded(configuration, applied)))
    finally:
        await server.stop("the test is over")
    kept = {field.key for field in FIELDS.values() if field.name in at_start - applied}
    assert kept - kind.restart_keys == set()
    assert any(key.endswith("Address") for key in kept)
