"""The JSON form, changes that come in it, and differences."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polycast.config import (
    Configuration,
    PathChanges,
    PathConfiguration,
    add_path,
    changed_keys,
    changed_paths,
    edit_path,
    from_mapping,
    load_bytes,
    remove_path,
    to_jsonable,
    update,
)
from polycast.errors import ConfigurationError
from polycast.protocols.rtmp.configuration import RtmpConfiguration
from polycast.protocols.rtsp.configuration import RtspConfiguration


@pytest.fixture
def configuration() -> Configuration:
    return from_mapping({"paths": {"cam1": {"readUser": "a", "readPass": "b"}, "all": None}})


def test_json_form() -> None:
    values = to_jsonable(
        load_bytes(
            b"protocols: [udp, tcp]\npaths: {a: {readIPs: [10.1.0.0/16, 1.2.3.4], source: [rtsp://a/, rtsp://b/]},"
            b" b: {publishIPs: []}}\nhlsSegmentMaxSize: 50M\nencryption: no\nreadTimeout: 60s",
            {},
        ).configuration
    )
    assert values["protocols"] == ["tcp", "udp"]
    assert (values["encryption"], values["hlsSegmentMaxSize"]) == ("no", "50M")
    assert (values["readTimeout"], values["writeTimeout"], values["hlsPartDuration"]) == ("1m0s", "10s", "200ms")
    assert values["multicastIPRange"] == "224.1.0.0/16"
    assert values["paths"]["a"]["readIPs"] == ["10.1.0.0/16", "1.2.3.4"]
    assert values["paths"]["a"]["source"] == ["rtsp://a/", "rtsp://b/"]
    assert (values["paths"]["b"]["source"], values["paths"]["b"]["publishIPs"]) == ("publisher", [])
    assert values["api"] is False
    assert values["paths"]["a"]["rpiCameraIDRPeriod"] == 60


def test_json_round_trip(configuration: Configuration) -> None:
    assert from_mapping(json.loads(json.dumps(to_jsonable(configuration)))) == configuration


def test_update(configuration: Configuration) -> None:
    changed = update(
        configuration, {"rtmpDisable": True, "readTimeout": "7s", "protocols": ["tcp"], "paths": {"x": {}}}
    )
    assert changed.read_timeout == 7
    assert changed[RtmpConfiguration].rtmp is False
    assert changed[RtspConfiguration].rtsp_transports == {"tcp"}
    assert changed.paths == configuration.paths
    assert configuration.read_timeout == 10
    assert changed_keys(configuration, changed) == {"rtmp", "readTimeout", "rtspTransports"}


@pytest.mark.parametrize(
    ("partial", "message"),
    [
        ({"invalid": 1}, "non-existent parameter: 'invalid'"),
        ({"encryption": "strict"}, "strict encryption can't be used with the UDP transport protocol"),
        ({"externalAuthenticationURL": "http://a/"}, "'readUser' can't be used with 'externalAuthenticationURL'"),
        ({"hlsSegmentCount": True}, "hlsSegmentCount: true is not a whole number"),
        ({"hlsSegmentCount": 10**30}, "hlsSegmentCount: this number is not a whole number"),
        (
            {"readTimeout": 10},
            "readTimeout: '10' is not a duration (write a number with a unit, such as 10s, 200ms or 1m30s)",
        ),
        ([], "not a map"),
    ],
)
def test_update_errors(configuration: Configuration, partial: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        update(configuration, partial)
    assert message in str(caught.value)


def test_add_edit_and_remove_a_path(configuration: Configuration) -> None:
    added = add_path(configuration, "my/path", {"source": "rtsp://127.0.0.1:9999/mypath", "sourceOnDemand": True})
    assert list(added.paths) == ["cam1", "~^.*$", "my/path"]
    edited = edit_path(added, "my/path", {"source": "rtsp://127.0.0.1:9998/mypath"})
    assert edited.paths["my/path"].source == "rtsp://127.0.0.1:9998/mypath"
    assert edited.paths["my/path"].source_on_demand is True
    assert remove_path(edited, "my/path") == configuration


@pytest.mark.parametrize("name", ["all", "~^.*$"])
def test_the_entry_for_all_paths_has_two_names(configuration: Configuration, name: str) -> None:
    assert edit_path(configuration, name, {"fallback": "/x"}).paths["~^.*$"].fallback == "/x"
    assert list(remove_path(configuration, name).paths) == ["cam1"]
    with pytest.raises(ConfigurationError, match="already exists"):
        add_path(configuration, name, {})


def test_path_errors(configuration: Configuration) -> None:
    with pytest.raises(ConfigurationError, match="path 'x' does not exist"):
        edit_path(configuration, "x", {})
    with pytest.raises(ConfigurationError, match="path 'x' does not exist"):
        remove_path(configuration, "x")
    with pytest.raises(ConfigurationError, match="path 'cam1' already exists"):
        add_path(configuration, "cam1", {})
    with pytest.raises(ConfigurationError, match="invalid path name"):
        add_path(configuration, "a b", {})
    with pytest.raises(ConfigurationError, match="non-existent parameter: 'x'"):
        add_path(configuration, "b", {"x": 1})


def test_changed_paths() -> None:
    old = Configuration(paths={"a": PathConfiguration(), "b": PathConfiguration(), "c": PathConfiguration()})
    new = Configuration(
        paths={"d": PathConfiguration(), "c": PathConfiguration(), "b": PathConfiguration(fallback="/x")}
    )
    assert changed_paths(old, new) == PathChanges(added=("d",), removed=("a",), changed=("b",), unchanged=("c",))
    assert changed_keys(old, new) == frozenset()
