"""The command ``polycast top``: a live table of paths and sessions, from the API of a running server."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from polycast.config.redact import redact
from polycast.errors import missing_packages
from polycast.media.codec import COMMON_NAMES
from polycast.protocols.registry import server_kinds

if TYPE_CHECKING:
    import httpx2
    from rich.table import Table

DEFAULT_URL = "http://127.0.0.1:9997"

# Sessions that are shown, the busiest ones first.
MAXIMUM_ROWS = 40

# Columns of the output if it is not a terminal.
PLAIN_WIDTH = 160

Json = Mapping[str, Any]


class Rates:
    """Computes bit rates from counters."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float]] = {}

    def of(self, key: str, total: int, now: float) -> float:
        """Return bit/s since the last call for this key."""
        last_total, last_time = self._last.get(key, (total, now))
        self._last[key] = (total, now)
        return max(0, total - last_total) * 8 / (now - last_time) if now > last_time else 0.0


def main(arguments: Sequence[str]) -> int:
    """Run the command; return the exit status."""
    options = make_parser().parse_args(arguments)
    try:
        import rich.console  # noqa: F401
    except ImportError:
        print(f"ERR: {missing_packages('this command', 'rich')}", file=sys.stderr)
        return 1
    import httpx2

    try:
        with httpx2.Client(
            base_url=options.url,
            auth=_credentials(options),
            headers={"Polycast-Poll": "1"},
            timeout=5,
            trust_env=False,
            verify=not options.insecure,
        ) as client:
            return _show(client, options)
    except KeyboardInterrupt:
        return 0
    except httpx2.HTTPStatusError as error:
        status = error.response.status_code
        print(f"ERR: {redact(options.url)}: answers with status {status} (is it the API of Polycast?)", file=sys.stderr)
        return 1
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        print(f"ERR: {redact(options.url)}: {error} (is the server running, with 'api: yes'?)", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(prog="polycast top", description="Show paths and sessions of a running server.")
    parser.add_argument("url", nargs="?", default=DEFAULT_URL, help=f"address of its API (default: {DEFAULT_URL})")
    parser.add_argument("--user", default="", help="apiUser; may also be part of the URL")
    parser.add_argument("--password", default="", help="apiPass")
    parser.add_argument("--insecure", action="store_true", help="accept any certificate")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between updates (default: 1)")
    parser.add_argument("--once", action="store_true", help="show once and exit")
    return parser


def _credentials(options: argparse.Namespace) -> tuple[str, str] | None:
    parts = urlsplit(options.url)
    user, password = options.user or parts.username or "", options.password or parts.password or ""
    return (user, password) if user or password else None


def _show(client: httpx2.Client, options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.live import Live

    rates = Rates()
    collections = _collections(_get(client, "/v1/openapi.json"))
    table = _table(client, collections, rates)
    if options.once:
        time.sleep(max(0.2, options.interval))  # rates need two samples
        console = Console()
        console = console if console.is_terminal else Console(width=PLAIN_WIDTH)
        console.print(_table(client, collections, rates))
        return 0
    with Live(table, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(max(0.2, options.interval))
            live.update(_table(client, collections, rates), refresh=True)


def _collections(document: Json) -> list[str]:
    parts = [path.split("/") for path in document["paths"]]
    return [part[2] for part in parts if len(part) == 4 and part[3] == "list" and part[2] != "paths"]


def _get(client: httpx2.Client, path: str) -> Any:
    response = client.get(path)
    if response.status_code == 401:
        raise ValueError("the API requires credentials: use --user and --password")
    response.raise_for_status()
    return response.json()


def _table(client: httpx2.Client, collections: Sequence[str], rates: Rates) -> Table:
    from rich.table import Table

    now = time.monotonic()
    whole = Table.grid(padding=(1, 0))
    whole.add_column(overflow="fold")
    paths = _get(client, "/v1/paths/list")["items"]
    whole.add_row(_paths(paths, rates, now))
    # They may be long: in a column, they would leave no room for the others.
    failed = [name for name in sorted(paths) if _has_failed(paths[name])]
    failures = [f"{name}: {paths[name]['sourceFailure']['error']}" for name in failed]
    if failures:
        whole.add_row("\n".join(f"[red]{_plain(failure)}[/]" for failure in failures))
    sessions: list[tuple[str, str, Json]] = []
    for collection in collections:
        response = client.get(f"/v1/{collection}/list")
        if response.status_code == 200:
            sessions += [(collection, key, item) for key, item in response.json()["items"].items()]
    whole.add_row(_sessions(sessions, rates, now))
    server = _get(client, "/v1/server/status")
    if server["workers"]:
        whole.add_row(_workers(server["workers"], rates, now))
    if server["nodes"]:
        whole.add_row(_nodes(server["nodes"]))
    status = _get(client, "/v1/config/status")
    if not status["ok"]:
        from rich.text import Text

        whole.add_row(Text(f"configuration refused: {status['error']}", style="red"))
    return whole


def _paths(items: Json, rates: Rates, now: float) -> Table:
    table = _new_table(
        _count(items, "path"), ("path", "state", "source", "tracks"), ("readers", "in", "out", "lost", "up")
    )
    for name in sorted(items):
        item = items[name]
        source = item["source"] or {"type": ""}
        waiting = "[red]failed[/]" if _has_failed(item) else "[dim]not ready[/]"
        table.add_row(
            _plain(name),
            "[green]ready[/]" if item["sourceReady"] else waiting,
            _plain(source["type"]),
            _plain(", ".join(COMMON_NAMES.get(codec, codec) for codec in item["tracks"])),
            str(len(item["readers"])),
            bit_rate(rates.of(f"path in {name}", item["bytesReceived"], now)),
            bit_rate(rates.of(f"path out {name}", item["bytesSent"], now)),
            str(item["packetsLost"]),
            age(item["uptime"]),
        )
    return table


def _has_failed(path: Json) -> bool:
    return bool(path.get("sourceFailure"))


def _sessions(sessions: Sequence[tuple[str, str, Json]], rates: Rates, now: float) -> Table:
    columns = ("id", "protocol", "state", "path", "client", "transport")
    table = _new_table(_count(sessions, "session"), columns, ("in", "out", "lost", "dropped", "round trip", "age"))
    rows = []
    names = {kind.collection: kind.name for kind in server_kinds()}
    for collection, key, item in sessions:
        incoming = rates.of(f"{collection} {key} in", item.get("bytesReceived", 0), now)
        outgoing = rates.of(f"{collection} {key} out", item.get("bytesSent", 0), now)
        texts = [
            key,
            names.get(collection, collection),
            *(str(item.get(name, "")) for name in ("state", "path", "remoteAddr")),
            _transport(item),
        ]
        trip = item.get("roundTrip")
        rows.append(
            (
                incoming + outgoing,
                [
                    *map(_plain, texts),
                    bit_rate(incoming),
                    bit_rate(outgoing),
                    str(item.get("packetsLost", 0)),
                    str(item.get("packetsDropped", 0)),
                    "" if trip is None else f"{trip * 1000:.0f} ms",
                    age(item.get("uptime", 0)),
                ],
            )
        )
    rows.sort(key=lambda row: -row[0])
    for _, cells in rows[:MAXIMUM_ROWS]:
        table.add_row(*cells)
    return table


def _transport(item: Json) -> str:
    """Return the transport of a session; for WebRTC, the selected candidate pair."""
    pair = [item.get(name, "") for name in ("localCandidate", "remoteCandidate")]
    return " - ".join(pair) if all(pair) else str(item.get("transport", ""))


def _workers(workers: Sequence[Json], rates: Rates, now: float) -> Table:
    table = _new_table(_count(workers, "worker"), ("number", "process"), ("CPU", "memory", "lag", "longest lag"))
    for worker in workers:
        # The counter of a process that replaces another one starts at 0.
        used = rates.of(f"worker {worker['number']} {worker['pid']}", round(worker["cpu"] * 1e6), now) / 8e6
        table.add_row(
            str(worker["number"]),
            str(worker["pid"]),
            f"{used:.0%}",
            f"{worker['memory'] / 1e6:.0f} MB",
            *(f"{worker[name] * 1000:.1f} ms" for name in ("loopLag", "loopLagMaximum")),
        )
    return table


def _nodes(nodes: Sequence[Json]) -> Table:
    table = _new_table(_count(nodes, "node"), ("node", "address", "state"), ("CPU", "in", "publishers", "readers"))
    for node in nodes:
        table.add_row(
            _plain(node["name"]) + (" (this one)" if node["isSelf"] else ""),
            _plain(node["address"]),
            "[yellow]draining[/]" if node["isDraining"] else "[green]alive[/]",
            f"{node['cpu']:.0%}",
            bit_rate(node["bitRate"]),
            str(node["publishers"]),
            str(node["readers"]),
        )
    return table


def _new_table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in texts:
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _count(items: Sized, noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _plain(text: str) -> str:
    """Return a text of the server for a table, without markup and control characters."""
    from rich.markup import escape

    return escape("".join(character if character.isprintable() else "?" for character in text))


def bit_rate(value: float) -> str:
    """Format a bit rate."""
    if value >= 1e6:
        return f"{value / 1e6:.1f} Mbit/s"
    return f"{value / 1e3:.0f} kbit/s" if value >= 1e3 else f"{value:.0f} bit/s"


def age(seconds: float) -> str:
    """Return a duration as ``hh:mm:ss``."""
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}" if whole else ""
