"""The add-on of Home Assistant and the manifests for Kubernetes: what they say is what their platforms understand."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from polycast import __version__
from polycast.config import load
from polycast.protocols.listening import listening_addresses

ROOT = Path(__file__).resolve().parents[2]
ADD_ON = ROOT / "packaging" / "home-assistant"
KUBERNETES = ROOT / "packaging" / "kubernetes"
CHART = ROOT / "packaging" / "helm" / "polycast"
MANIFESTS = ("deployment.yaml", "service.yaml")

ADD_ON_KEYS = {
    "arch", "boot", "description", "host_network", "init", "map", "name", "options", "ports", "ports_description",
    "schema", "slug", "startup", "url", "version", "webui",
}  # fmt: skip
"""Those that are used of https://developers.home-assistant.io/docs/add-ons/configuration."""


def read(file: Path) -> Any:
    return YAML(typ="safe").load(file.read_text())


@pytest.mark.parametrize(
    "file", [ADD_ON / "polycast.yml", KUBERNETES / "polycast.yml"], ids=lambda file: file.parent.name
)
def test_the_configurations_are_valid(file: Path) -> None:
    loaded = load(str(file), {})
    assert not loaded.warnings


def test_the_add_on() -> None:
    config = read(ADD_ON / "config.yaml")
    assert config.keys() == ADD_ON_KEYS
    assert config["options"].keys() == config["schema"].keys()
    assert re.fullmatch(r"[a-z]+", config["slug"])
    assert config["startup"] in ("initialize", "system", "services", "application", "once")
    assert set(config["arch"]) <= {"aarch64", "amd64", "armhf", "armv7", "i386"}
    configuration = load(str(ADD_ON / "polycast.yml"), {}).configuration
    port = re.fullmatch(r"http://\[HOST\]:\[PORT:(\d+)\]/", config["webui"])
    assert port is not None
    assert configuration.api_address == f":{port[1]}"
    levels = re.fullmatch(r"list\((.*)\)", config["schema"]["log_level"])
    assert levels is not None
    for level in levels[1].split("|"):
        load(str(ADD_ON / "polycast.yml"), {"POLYCAST_LOGLEVEL": level})


def test_how_the_add_on_starts(tmp_path: Path) -> None:
    """With a program in the place of the server that writes down how it was called."""
    (tmp_path / "polycast").write_text('#!/bin/sh\necho "$POLYCAST_LOGLEVEL" "$@"\n')
    (tmp_path / "polycast").chmod(0o755)
    (tmp_path / "options.json").write_text(json.dumps({"log_level": "debug"}))
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "POLYCAST_CONFIG": str(tmp_path),
        "POLYCAST_OPTIONS": str(tmp_path / "options.json"),
    }
    for text in ((ADD_ON / "polycast.yml").read_text(), "paths: {}\n"):
        done = subprocess.run(
            ["sh", ADD_ON / "run.sh"], capture_output=True, text=True, check=True, timeout=60, env=environment
        )
        assert done.stdout == f"debug {tmp_path}/polycast.yml\n"
        assert (tmp_path / "polycast.yml").read_text() == text
        (tmp_path / "polycast.yml").write_text("paths: {}\n")  # the user's own is kept


def test_the_manifests_belong_together() -> None:
    deployment, service = (read(KUBERNETES / name) for name in MANIFESTS)
    kustomization = read(KUBERNETES / "kustomization.yaml")
    assert kustomization["resources"] == list(MANIFESTS)
    assert kustomization["images"][0]["newTag"] == __version__
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["image"] == kustomization["images"][0]["name"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    named = {port["name"]: port for port in container["ports"]}
    for port in service["spec"]["ports"]:
        target = named[port["targetPort"]]
        assert (port["port"], port.get("protocol")) == (target["containerPort"], target.get("protocol"))
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert mounted.keys() == volumes.keys()
    generated = kustomization["configMapGenerator"][0]
    assert volumes["config"]["configMap"]["name"] == generated["name"]
    assert container["args"] == [f"{mounted['config']}/{generated['files'][0]}"]


def test_the_ports_are_those_of_the_configuration() -> None:
    configuration = load(str(KUBERNETES / "polycast.yml"), {}).configuration
    (container,) = read(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    expected = {
        (int(address.rpartition(":")[2]), "UDP" if is_datagram else "TCP")
        for _, is_datagram, address in listening_addresses(configuration)
    }
    assert {(port["containerPort"], port.get("protocol", "TCP")) for port in container["ports"]} == expected


@pytest.mark.parametrize(("name", "model"), list(zip(MANIFESTS, ("V1Deployment", "V1Service"), strict=True)))
def test_every_field_is_one_of_kubernetes(name: str, model: str) -> None:
    """By the models that the client for Python is generated with, from the OpenAPI document of Kubernetes."""
    models = pytest.importorskip("kubernetes.client.models", reason="the package kubernetes is not installed")
    getattr(models, model).model_validate(read(KUBERNETES / name))


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_kustomize_builds_it() -> None:
    done = subprocess.run(["kubectl", "kustomize", KUBERNETES], capture_output=True, text=True, check=True, timeout=60)
    assert f"registry.example.com/polycast:{__version__}" in done.stdout


CLUSTER = ("replicas=3", "cluster.nats={nats://nats:4222}", "cluster.token=secret")


@functools.cache
def render(*values: str) -> list[Any]:
    """Return the manifests that Helm makes of the chart."""
    if shutil.which("helm") is None:
        pytest.skip("helm is not installed: go install helm.sh/helm/v3/cmd/helm@v3.18.6")
    settings = [word for value in values for word in ("--set", value)]
    command = ["helm", "template", "--kube-version", "1.31.0", "release", CHART, *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in YAML(typ="safe").load_all(done.stdout) if manifest]


def test_the_chart_has_the_version_and_the_configuration_of_the_manifests(tmp_path: Path) -> None:
    chart, values = read(CHART / "Chart.yaml"), read(CHART / "values.yaml")
    assert chart["appVersion"] == __version__
    (tmp_path / "polycast.yml").write_text(
        json.dumps({"dialect": "polycast", **values["config"]})
    )  # which YAML contains
    of_chart, of_manifests = (load(str(folder / "polycast.yml"), {}) for folder in (tmp_path, KUBERNETES))
    assert of_chart.configuration == of_manifests.configuration
    expected = {port["name"]: port for port in read(KUBERNETES / "service.yaml")["spec"]["ports"]}
    assert values["ports"] == {
        name: {"port": port["port"], "protocol": port.get("protocol", "TCP")} for name, port in expected.items()
    }


@pytest.mark.parametrize("values", [(), CLUSTER], ids=["alone", "cluster"])
def test_what_helm_makes_of_the_chart(values: tuple[str, ...], tmp_path: Path) -> None:
    made = {(each["kind"], each["metadata"]["name"]): each for each in render(*values)}
    models = pytest.importorskip("kubernetes.client.models", reason="the package kubernetes is not installed")
    for (kind, _), manifest in made.items():
        getattr(models, f"V1{kind}").model_validate(manifest)
    file = tmp_path / "polycast.yml"
    file.write_text(made["ConfigMap", "release-polycast"]["data"]["polycast.yml"])
    pod = made["StatefulSet", "release-polycast"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    environment = {each["name"]: each.get("value", "text:1") for each in container.get("env", [])}
    environment["POLYCAST_NODEADDRESS"] = environment.get("POLYCAST_NODEADDRESS", "").replace("$(POD_IP)", "10.0.0.1")
    variables = {name: value for name, value in environment.items() if name.startswith("POLYCAST_") and value}
    loaded = load(str(file), variables)
    assert not loaded.warnings
    assert loaded.configuration.cluster == (("nats://nats:4222",) if values else ())
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listening = {int(address.rpartition(":")[2]) for _, _, address in listening_addresses(loaded.configuration)}
    assert set(ports.values()) - {8600} == listening - {8600}
    for name in ("release-polycast", "release-polycast-pods"):
        service = made["Service", name]["spec"]
        assert service["selector"].items() <= pod["metadata"]["labels"].items()
        assert {port["targetPort"]: port["port"] for port in service["ports"]}.items() <= ports.items()


@pytest.mark.skipif(not shutil.which("helm"), reason="helm is not installed")
def test_the_chart_refuses_what_cannot_work() -> None:
    for values, error in (
        (("replicas=2",), "more than one pod needs cluster.nats"),
        (("cluster.nats={nats://nats:4222}",), "cluster.token or cluster.tokenSecret is needed"),
    ):
        settings = [word for value in values for word in ("--set", value)]
        command = ["helm", "template", "--kube-version", "1.31.0", "release", CHART, *settings]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode != 0
        assert error in done.stderr
    subprocess.run(["helm", "lint", "--strict", CHART], capture_output=True, check=True, timeout=60)
