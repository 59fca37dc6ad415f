"""The Dockerfiles and the compose example, read without Docker; and the steps of the image, run here when asked for.

POLYCAST_DOCKER_STEPS=yes runs them: it installs all dependencies into a new environment, which needs a network.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.packaging.smoke import running

from polycast import __version__
from polycast.config import load
from polycast.config.env import KEY_VARIABLE
from polycast.protocols.rtsp.configuration import RtspConfiguration

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKER = ROOT / "docs" / "docker"
IMAGE = ROOT / "Dockerfile"
DOCKERFILES = [IMAGE, DOCKER / "ffmpeg.Dockerfile"]

# https://docs.docker.com/reference/dockerfile/; MAINTAINER is deprecated.
KNOWN_INSTRUCTIONS = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "ONBUILD", "RUN",
    "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip

Instruction = tuple[str, str]


def instructions(file: Path) -> list[Instruction]:
    """Return the instructions of a Dockerfile: continued lines joined, comments left out."""
    lines = [line for line in file.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = []
    for line in joined.splitlines():
        name, _, rest = line.partition(" ")
        found.append((name, rest.strip()))
    return found


def values(file: Path, name: str) -> list[str]:
    return [rest for instruction, rest in instructions(file) if instruction == name]


def copies(file: Path) -> list[tuple[str | None, list[str], str]]:
    """Return stage, sources and destination of each COPY."""
    found = []
    for rest in values(file, "COPY"):
        words = shlex.split(rest)
        stage = next((word.removeprefix("--from=") for word in words if word.startswith("--from=")), None)
        *sources, destination = [word for word in words if not word.startswith("--")]
        found.append((stage, sources, destination))
    return found


def yaml(file: Path) -> Any:
    return YAML(typ="safe").load(file.read_text())


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_instructions(file: Path) -> None:
    found = instructions(file)
    assert {name for name, _ in found} <= KNOWN_INSTRUCTIONS
    assert next(name for name, _ in found if name != "ARG") == "FROM"
    assert all(rest for _, rest in found)
    declared = {rest.partition("=")[0] for rest in values(file, "ARG")} | {"PATH"}  # PATH: the base image's
    used = set(re.findall(r"\$\{(\w+)\}", file.read_text()))
    assert used <= declared


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_the_server_is_not_root(file: Path) -> None:
    found = instructions(file)
    last_stage = found[max(number for number, (name, _) in enumerate(found) if name == "FROM") :]
    users = [rest for name, rest in last_stage if name == "USER"]
    assert users
    user = users[-1].partition(":")[0]
    assert user not in ("root", "0")
    # The user has a name.
    made = file.read_text() + (ROOT / "packaging" / "docker" / "root.sh").read_text()
    assert re.search(rf"useradd --uid {user} .* polycast|polycast:x:{user}:", made)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_packages_are_not_kept_in_the_image(file: Path) -> None:
    for rest in values(file, "RUN"):
        if "apt-get install" in rest:
            assert "--yes" in rest
            assert "--no-install-recommends" in rest
            assert rest.endswith("rm -rf /var/lib/apt/lists/*")
        if re.search(r"-m pip\b.* install", rest):
            assert "--no-cache-dir" in rest


def test_what_is_copied_is_there_and_sent_to_the_builder() -> None:
    stages = re.findall(r"^FROM .* AS (\w+)$", IMAGE.read_text(), re.MULTILINE)
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    sent = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    assert patterns[0] == "*", "nothing is sent but what is named"
    for stage, sources, _ in copies(IMAGE):
        if stage is not None:
            assert stage in stages
            continue
        for source in sources:
            assert (ROOT / source).exists()
            assert any(fnmatch.fnmatch(source.removeprefix("./"), pattern) for pattern in sent), source
    assert all((ROOT / name).exists() for name in sent)


def test_the_build_gets_all_that_the_project_file_names() -> None:
    """The wheel is built from what is copied: the readme, the licences and the version are read for it."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {source for stage, sources, _ in copies(IMAGE) if stage is None for source in sources}
    for name in (project["project"]["readme"], *project["project"]["license-files"]):
        assert name in copied or name.partition("/")[0] in copied, name


def test_configuration_and_ports() -> None:
    # Without a file, the prefix of the variables tells which server's names and defaults they are for.
    assert not any(source.endswith(".yml") for _, sources, _ in copies(IMAGE) for source in sources)
    assert values(IMAGE, "WORKDIR")[-1] == "/", "where the server looks for a file, and where other servers have it"
    configuration = load(str(ROOT / "polycast.yml"), {}).configuration
    ports = dict(port.split("/") for port in " ".join(values(IMAGE, "EXPOSE")).split())
    for name in configuration.__struct_fields__:
        if name.endswith("_address") and name not in ("rpi_camera_address", "auth_http_address"):
            port = getattr(configuration, name).rpartition(":")[2]
            kind = "udp" if name in ("rtp_address", "rtcp_address", "webrtc_local_udp_address") else "tcp"
            assert ports.get(port) == kind, name
    assert json.loads(values(IMAGE, "ENTRYPOINT")[0]) == ["polycast"]


def test_compose() -> None:
    compose = yaml(DOCKER / "compose.yml")
    services = compose["services"]
    assert set(services) == {"polycast", "prometheus", "grafana"}
    assert (DOCKER / services["polycast"]["build"]).resolve() == ROOT
    for name, service in services.items():
        assert ("build" in service) != ("image" in service)
        if "image" in service:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), "a version that does not change by itself"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).is_file(), f"{name}: {source}"
            else:
                assert source in compose["volumes"]
        assert set(service.get("depends_on", [])) <= set(services)


def test_environment_of_the_compose_example(tmp_path: Path) -> None:
    """The variables mean what is wanted, and Prometheus and Grafana look where the others are."""
    services = yaml(DOCKER / "compose.yml")["services"]
    environment = services["polycast"]["environment"]
    assert all(isinstance(value, str) for value in environment.values()), "YAML makes yes a truth value"
    assert KEY_VARIABLE not in environment
    loaded = load(None, environment)
    assert not loaded.warnings
    assert loaded.configuration.metrics
    assert {protocol.value for protocol in loaded.configuration[RtspConfiguration].rtsp_transports} == {"tcp"}
    scraped = yaml(DOCKER / "prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"]
    assert scraped == [f"polycast{loaded.configuration.metrics_address}"]
    source = yaml(DOCKER / "grafana" / "datasource.yml")["datasources"][0]
    assert source["type"] == "prometheus"
    assert re.fullmatch(r"http://prometheus:\d+", source["url"])
    folder = yaml(DOCKER / "grafana" / "dashboards.yml")["providers"][0]["options"]["path"]
    targets = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert any(target.startswith(f"{folder}/") for target in targets)


def test_compose_of_a_cluster() -> None:
    """Three nodes that differ in their names and ports only; Prometheus looks where they are."""
    compose = yaml(DOCKER / "cluster.yml")
    services = compose["services"]
    nodes = {name: service for name, service in services.items() if "build" in service}
    assert set(services) == {*nodes, "nats", "prometheus"}
    assert len(nodes) == 3
    ports: list[str] = []
    for name, service in nodes.items():
        assert (DOCKER / service["build"]).resolve() == ROOT
        assert service["depends_on"] == ["nats"]
        assert all(isinstance(value, str) for value in service["environment"].values()), "YAML makes yes a truth value"
        loaded = load(None, service["environment"])
        assert not loaded.warnings
        configuration = loaded.configuration
        assert (configuration.node_name, configuration.cluster) == (name, ("nats://nats:4222",))
        assert configuration.cluster_token
        ports += [published.split(":")[0] for published in service["ports"]]
    assert len(set(ports)) == len(ports)
    for name in ("nats", "prometheus"):
        assert re.search(r":v?\d+\.\d+\.\d+$", services[name]["image"]), "a version that does not change by itself"
    assert "-js" in services["nats"]["command"]
    source = services["prometheus"]["configs"][0]["source"]
    (job,) = YAML(typ="safe").load(compose["configs"][source]["content"])["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"{name}{configuration.metrics_address}" for name in nodes]}]


MODULES = (
    "asyncio", "ctypes", "hashlib", "lzma", "multiprocessing", "sqlite3", "ssl", "uuid", "zlib", "zoneinfo",
    "cryptography", "nacl.secret", "uvloop",
)  # fmt: skip
"""Modules of Python and of other projects that need shared libraries."""
LARGEST = 120_000_000
"""Bytes that the image may take on disk."""


@pytest.mark.skipif(not os.environ.get("POLYCAST_DOCKER_STEPS"), reason="POLYCAST_DOCKER_STEPS is not set")
@pytest.mark.skipif(sys.platform != "linux", reason="the image is a Linux image")
def test_the_steps_by_hand(tmp_path: Path) -> None:
    """Copy and run what the Dockerfile says, with a folder in the place of /opt; start the server in its image."""
    debian = shutil.which("dpkg") and shutil.which("busybox") and Path("/usr/bin/python3").exists()
    if os.geteuid() != 0 or not debian:
        if os.environ.get("POLYCAST_REQUIRE_TOOLS"):
            pytest.fail("the steps of the image need root, Debian's python3 and busybox")
        pytest.skip("the steps need root, Debian's python3 and busybox")
    source, opt, image = (tmp_path / name for name in ("source", "opt", "image"))
    for folder in (source, opt):
        folder.mkdir()
    for stage, sources, _ in copies(IMAGE):
        if stage is None:
            subprocess.run(["cp", "-r", *(ROOT / name for name in sources), source], check=True)
    steps = [rest for rest in values(IMAGE, "RUN") if "apt-get" not in rest]
    assert len(steps) == 2
    commands = " && ".join(["mount --bind ../opt /opt", *steps]).replace("/root-of-image", str(image))
    subprocess.run(["unshare", "--mount", "sh", "-ec", commands], cwd=source, check=True)

    files = [file.stat().st_size for file in image.rglob("*") if file.is_file() and not file.is_symlink()]
    assert 40_000_000 < sum(files) < LARGEST

    (image / "rtsp-simple-server.yml").write_text("paths: {all: }\n")
    environment = dict(value.partition("=")[::2] for value in shlex.split(values(IMAGE, "ENV")[-1]))
    user = [shutil.which("chroot") or "chroot", "--userspec=10001:10001", image]

    def output(*command: str) -> str:
        return subprocess.run(
            [*user, *command], capture_output=True, text=True, check=True, cwd=image, env=environment
        ).stdout

    assert output("polycast", "--version") == f"v{__version__}\n"
    assert output("polycast", "--check") == "/rtsp-simple-server.yml is valid, with 1 path\n"
    output(
        "python", "-c", f"import {', '.join(MODULES)}; ssl.create_default_context(); zoneinfo.ZoneInfo('Europe/Rome')"
    )
    assert output("sh", "-c", "id -u | cat; whoami") == "10001\npolycast\n"
    assert "CERTIFICATE" in (image / "etc/ssl/cert.pem").parent.joinpath("certs/ca-certificates.crt").read_text()
    with running([*user, "polycast"], image, environment, seen_from=Path("/")) as server:
        server.check()
        assert server.stop().endswith("[RTSP] listener closed\n")
