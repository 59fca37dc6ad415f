"""The command ``polycast discover``: finds ONVIF cameras, lists their streams, and adds them as paths."""

from __future__ import annotations

import argparse
import asyncio
import base64
import getpass
import re
import sys
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Struct

from polycast.cli.probing import find_cameras
from polycast.config.names import ALL_PATHS_ALIAS
from polycast.config.redact import redact
from polycast.errors import RemoteProtocolError
from polycast.log import printable
from polycast.net.http_client import HttpClient
from polycast.protocols.onvif.camera import Camera
from polycast.wire.onvif.address import OnvifAddress
from polycast.wire.onvif.device import DEVICE_PATH, Profile
from polycast.wire.onvif.discovery import PORT, Device
from polycast.wire.onvif.soap import Credentials

DEFAULT_API: Final = "http://127.0.0.1:9997"
AT_ONCE: Final = 16
"""Cameras that are asked at the same time."""
ASK_SECONDS: Final = 10.0
"""For an answer of a camera, or of the API."""
MAXIMUM_NAME: Final = 40
"""Characters of a path that is made of a camera's name."""


class Found(Struct, frozen=True):
    """A camera with its streams."""

    device: Device
    profiles: tuple[Profile, ...]
    trouble: str = ""
    """Why its streams are not known."""


class Entry(Struct, frozen=True):
    """A path for a stream."""

    name: str
    source: str


def main(arguments: Sequence[str]) -> int:
    """Run the command; return the exit status: 1 if there is no camera, or not all could be added."""
    options = make_parser().parse_args(arguments)
    credentials = None
    if options.user is not None:
        password = options.password if options.password is not None else getpass.getpass("Password of the cameras: ")
        credentials = Credentials(options.user, password)
    try:
        hosts = [_target(host) for host in options.host]
        devices = find_cameras(hosts, options.interface, options.seconds)
        for host, _ in hosts:
            # Some only answer messages to the group; whoever is named is asked directly.
            if not any(urlsplit(address).hostname == host for address in devices):
                address = f"http://{f'[{host}]' if ':' in host else host}{DEVICE_PATH}"
                devices[address] = Device(address, "", "")
        return asyncio.run(_run(list(devices.values()), credentials, options))
    except OSError as error:
        print(f"ERR: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="polycast discover",
        description="Find ONVIF cameras, and print paths for their streams as YAML. What was found is written to "
        "standard error.",
    )
    parser.add_argument("host", nargs="*", help="cameras to ask (default: everybody in the network)")
    parser.add_argument(
        "--interface", action="append", default=[], metavar="ADDRESS",
        help="address of this machine in the network of the cameras; repeatable (default: the system's choice)",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to wait for answers (default: 3)")
    parser.add_argument("--user", help="user of the cameras; without one, streams are only listed of open cameras")
    parser.add_argument("--password", help="password of the cameras (default: it is asked for)")
    parser.add_argument("--all-profiles", action="store_true", help="every stream, not only the first of each camera")
    parser.add_argument("--add", action="store_true", help="add the paths to a running server, through its API")
    parser.add_argument("--api", default=DEFAULT_API, help=f"address of the API (default: {DEFAULT_API})")
    parser.add_argument("--api-user", default="", help="user of the API")
    parser.add_argument("--api-password", default="", help="password of the API")
    return parser


def _target(text: str) -> tuple[str, int]:
    """Return host and port. Raises OSError."""
    try:
        parts = urlsplit(f"//{text}" if text.count(":") < 2 or text.startswith("[") else f"//[{text}]")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise OSError(f"'{text}' is not a host: {error}") from error
    if not host:
        raise OSError(f"'{text}' is not a host")
    return host, port or PORT


async def _run(devices: Sequence[Device], credentials: Credentials | None, options: argparse.Namespace) -> int:
    client = HttpClient()
    try:
        turns = asyncio.Semaphore(AT_ONCE)
        found = await asyncio.gather(*(_ask(client, turns, device, credentials) for device in devices))
        _report(found)
        entries = _entries(found, credentials, all_profiles=options.all_profiles)
        if not entries:
            print("no streams were found", file=sys.stderr)
            return 1
        if not options.add:
            print("paths:")
            for entry in entries:
                print(f"  {entry.name}:\n    source: {entry.source}\n    sourceOnDemand: yes")
            return 0
        results = [await _add(client, entry, options) for entry in entries]
        return 0 if all(results) else 1
    finally:
        await client.close()


async def _ask(client: HttpClient, turns: asyncio.Semaphore, device: Device, credentials: Credentials | None) -> Found:
    camera = Camera(_address(device, credentials), client.fetch, timeout=ASK_SECONDS)
    async with turns:
        try:
            return Found(device, tuple(await camera.profiles()))
        except TimeoutError:
            return Found(device, (), f"no answer within {ASK_SECONDS:g} s")
        except (OSError, RemoteProtocolError) as error:
            return Found(device, (), str(error))


def _address(device: Device, credentials: Credentials | None) -> OnvifAddress:
    parts = urlsplit(device.address)
    return OnvifAddress(parts.scheme, parts.netloc, parts.path or DEVICE_PATH, credentials, "")


def _report(found: Sequence[Found]) -> None:
    for each in found:
        title = " ".join(part for part in (each.device.name, each.device.hardware) if part)
        print(printable(f"{urlsplit(each.device.address).netloc}  {title}".rstrip()), file=sys.stderr)
        for number, profile in enumerate(each.profiles, 1):
            print(printable(f"    {number}. {profile}"), file=sys.stderr)
        if each.trouble:
            print(printable(f"    {each.trouble}"), file=sys.stderr)


def _entries(found: Sequence[Found], credentials: Credentials | None, *, all_profiles: bool) -> list[Entry]:
    entries: list[Entry] = []
    taken: set[str] = set()
    for each in found:
        parts = urlsplit(each.device.address)
        base = _slug(each.device.name or each.device.hardware or parts.hostname or "")
        for number, profile in enumerate(each.profiles if all_profiles else each.profiles[:1], 1):
            wanted = base if number == 1 else f"{base}-{_slug(profile.name) or number}"
            name, count = wanted, 1
            while name in taken:
                count += 1
                name = f"{wanted}-{count}"
            taken.add(name)
            user = ""
            if credentials is not None:
                user = f"{quote(credentials.user, safe='')}:{quote(credentials.password, safe='')}@"
            scheme = "onvifs" if parts.scheme == "https" else "onvif"
            path = "/" if parts.path in ("", DEVICE_PATH) else parts.path
            query = f"?profile={quote(profile.token, safe='')}"
            entries.append(Entry(name, f"{scheme}://{user}{parts.netloc}{path}{query}"))
    return entries


def _slug(text: str) -> str:
    """Return a text as the name of a path."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:MAXIMUM_NAME].strip("-")
    return slug if slug not in ("", ALL_PATHS_ALIAS) else f"camera-{slug}".rstrip("-")


async def _add(client: HttpClient, entry: Entry, options: argparse.Namespace) -> bool:
    headers = {}
    if options.api_user:
        written = base64.b64encode(f"{options.api_user}:{options.api_password}".encode()).decode()
        headers["Authorization"] = f"Basic {written}"
    url = f"{options.api.rstrip('/')}/v3/config/paths/add/{entry.name}"
    body = msgspec.json.encode({"source": entry.source, "sourceOnDemand": True})
    try:
        async with asyncio.timeout(ASK_SECONDS):
            status, data = await client.fetch("POST", url, body, more_headers=headers)
    except (OSError, TimeoutError) as error:
        print(f"ERR: {redact(options.api)}: {error} (is the server running, with 'api: yes'?)", file=sys.stderr)
        return False
    if status != 200:
        try:
            reason = str(msgspec.json.decode(data)["error"])
        except (msgspec.DecodeError, KeyError, TypeError):
            reason = f"status {status}"
        print(f"ERR: {entry.name}: {printable(reason)}", file=sys.stderr)
        return False
    print(f"added {entry.name}: {redact(entry.source)}")
    return True
