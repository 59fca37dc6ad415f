"""The command ``polycast discover``: finds ONVIF cameras, lists their streams, and adds them as paths."""

from __future__ import annotations

import argparse
import asyncio
import base64
import getpass
import sys
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from polycast.config.redact import redact
from polycast.log import printable
from polycast.net.http_client import HttpClient
from polycast.protocols.onvif.finding import Entry, Found, ask_all, entries_of, search
from polycast.wire.onvif.discovery import Device
from polycast.wire.onvif.soap import Credentials

DEFAULT_API: Final = "http://127.0.0.1:9997"
ASK_SECONDS: Final = 10.0
"""Seconds to wait for a response of the API."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; return the exit status: 1 if there is no camera, or not all could be added."""
    options = make_parser().parse_args(arguments)
    credentials = None
    if options.user is not None:
        password = options.password if options.password is not None else getpass.getpass("Password of the cameras: ")
        credentials = Credentials(options.user, password)
    try:
        devices = search(options.host, options.interface, options.seconds)
        return asyncio.run(_run(devices, credentials, options))
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


async def _run(devices: Sequence[Device], credentials: Credentials | None, options: argparse.Namespace) -> int:
    client = HttpClient()
    try:
        found = await ask_all(client.fetch, devices, credentials)
        _report(found)
        entries = entries_of(found, credentials, all_profiles=options.all_profiles)
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


def _report(found: Sequence[Found]) -> None:
    for each in found:
        print(printable(f"{urlsplit(each.device.address).netloc}  {each.title}".rstrip()), file=sys.stderr)
        for number, profile in enumerate(each.profiles, 1):
            print(printable(f"    {number}. {profile}"), file=sys.stderr)
        if each.error:
            print(printable(f"    {each.error}"), file=sys.stderr)


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
