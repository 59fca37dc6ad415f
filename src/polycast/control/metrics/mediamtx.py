"""The metrics of MediaMTX v1.20: one sample per path, session, connection and so on, with the values of API v3.

Those of a server are declared by its protocol (`items.MetricBlock`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from polycast.control.contract import Path, SessionServer
from polycast.control.metrics.exposition import Family, Group, Page, Row, Table
from polycast.control.metrics.sources import Sources, state_of
from polycast.control.v3.state import describe_items, path_traffic
from polycast.items import Column, MetricBlock

_PATHS: Final = "paths"
_PATH: Final = "path"
"""The parameter of the query that asks for one path."""

_PATH_COLUMNS: Final = (
    Column("inboundBytes", "Bytes received"),
    Column("outboundBytes", "Bytes sent"),
    Column("inboundFramesInError", "Packets received that could not be used"),
)
_FORMER_PATH_COLUMNS: Final = (Column("bytesReceived", "Bytes received"), Column("bytesSent", "Bytes sent"))
PATH_LABELS: Final = ("name", "state")
READER_LABELS: Final = (*PATH_LABELS, "readerType")
READERS: Final = Family("paths_readers", "Readers of a path, by type.")

_FORWARDS: Final = "forward_dests"
_FORWARD: Final = "forward_dest"
"""The parameter of the query that asks for one destination, by its id."""
FORWARD_LABELS: Final = ("id", "path", "protocol", "state")
FORWARD_GROUP: Final = Group(
    "Forward destinations",
    (
        Family(_FORWARDS, "Forward destinations, each with the value 1."),
        Family(f"{_FORWARDS}_outbound_bytes", "Bytes sent.", grows=True),
    ),
)

_MOQ: Final = "moq_sessions"
_MOQ_SESSION: Final = "moq_session"
"""The parameter of the query that asks for one session."""
MOQ_GROUP: Final = Group(
    "MoQ sessions",
    (
        Family(_MOQ, "MoQ sessions: none, as there is no MoQ server."),
        Family(f"{_MOQ}_inbound_bytes", "Bytes received.", grows=True),
        Family(f"{_MOQ}_outbound_bytes", "Bytes sent.", grows=True),
    ),
)
"""MediaMTX has them by default: a dashboard that asks for them finds a number."""


def page(sources: Sources, query: Mapping[str, str]) -> Page:
    """Return the tables that a query asks for. Those of a server that is not running are absent."""
    selection = _Selection(sources, query)
    return Page(_tables(sources, selection, query), selection.is_everything)


def _tables(sources: Sources, selection: _Selection, query: Mapping[str, str]) -> Iterator[Table]:
    if selection.has(_PATHS, _PATH):
        yield from _path_tables(sources, query.get(_PATH, ""))
    if selection.has(_FORWARDS, _FORWARD) or selection.has(_FORWARDS, _PATH):
        yield from _forward_tables(sources, query)
    for server in sources.servers():
        for block in server.metric_blocks:
            if selection.has(block.name, block.parameter):
                yield from _block_table(server, block, query.get(block.parameter, ""))
    if selection.has(_MOQ, _MOQ_SESSION) and not query.get(_MOQ_SESSION):
        yield _empty((MOQ_GROUP,))


class _Selection:
    """What a query asks for: one block (``type``), one item (by a parameter of its own), or everything."""

    def __init__(self, sources: Sources, query: Mapping[str, str]) -> None:
        blocks = sources.media_server.metric_blocks
        parameters = {_PATH, _FORWARD, _MOQ_SESSION, *(block.parameter for block in blocks)}
        self._type = query.get("type", "")
        self._parameters = {name for name, value in query.items() if value and name in parameters}

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return not (self._type or self._parameters)

    def has(self, name: str, parameter: str) -> bool:
        """Whether a block is asked for, or an item of it."""
        return self._type in ("", name) and (not self._parameters or parameter in self._parameters)


# Paths


def _path_tables(sources: Sources, wanted: str) -> Iterator[Table]:
    paths = sources.media_server.hub.paths
    if not paths:
        if not wanted:
            yield _empty([*PATH_GROUPS, READERS])
    elif wanted and wanted not in paths:
        yield Table((), [Group(group.title, ()) for group in PATH_GROUPS], ())
    else:
        rows = (_path_row(sources, path) for path in _chosen(sources, wanted))
        yield Table(PATH_LABELS, PATH_GROUPS, rows)
        readers = (row for path in _chosen(sources, wanted) for row in _reader_rows(path))
        yield Table(READER_LABELS, (READERS,), readers)


def _chosen(sources: Sources, wanted: str) -> Iterator[Path]:
    return (path for path in sources.paths() if not wanted or path.name == wanted)


def _path_row(sources: Sources, path: Path) -> Row:
    values: Mapping[str, Any] = path_traffic(path, sources.traffic)
    columns = (*_PATH_COLUMNS, *_FORMER_PATH_COLUMNS)
    return (path.name, state_of(path)), (1, *(values[column.field] for column in columns))


def _reader_rows(path: Path) -> Iterator[Row]:
    counts = Counter(client.type for reader in path.readers for client in reader.clients())
    for kind, count in sorted(counts.items()) or [("", 0)]:
        yield (path.name, state_of(path), kind), (count,)


# Forward destinations


def _forward_tables(sources: Sources, query: Mapping[str, str]) -> Iterator[Table]:
    wanted_path, wanted = query.get(_PATH, ""), query.get(_FORWARD, "")
    rows: Iterator[Row] = (
        ((item.id, path.name, item.protocol, item.state), (1, item.outbound_bytes))
        for path in _chosen(sources, wanted_path)
        for item in sources.media_server.forwarding.items(path)
        if not wanted or item.id == wanted
    )
    first = next(rows, None)
    if first is not None:
        yield Table(FORWARD_LABELS, (FORWARD_GROUP,), chain((first,), rows))
    elif query.get("type") == _FORWARDS and not wanted_path and not wanted:
        yield _empty((FORWARD_GROUP,))


# Servers


def _block_table(server: SessionServer, block: MetricBlock, wanted: str) -> Iterator[Table]:
    groups = groups_of(block.title, block.name, block.columns, block.former)
    items = describe_items(server, block.collection)
    first = next(items, None)
    if first is None:
        if not wanted:
            yield _empty(groups)
        return
    items = chain((first,), items)
    if not wanted:
        yield Table(tuple(block.labels), groups, (_row(block, item) for item in items))
        return
    rows = [_row(block, item) for item in items if item[block.key] == wanted]
    found = groups if rows else [Group(group.title, ()) for group in groups]
    yield Table(tuple(block.labels), found, rows)


def _row(block: MetricBlock, item: Mapping[str, Any]) -> Row:
    return [str(item[field]) for field in block.labels.values()], (
        1,
        *(item[column.field] for column in (*block.columns, *block.former)),
    )


def _empty(families: Sequence[Family | Group]) -> Table:
    """Return a block without items: each metric is there once, without labels."""
    count = sum(len(part.families) if isinstance(part, Group) else 1 for part in families)
    return Table((), families, [((), (0,) * count)])


def groups_of(title: str, name: str, columns: Sequence[Column], former: Sequence[Column]) -> list[Group]:
    """Return the families of a block, and those under former names if there are any."""
    groups = [Group(title, [Family(name, f"{title}, each with the value 1."), *_families(name, columns)])]
    if former:
        groups.append(Group(f"{title} (deprecated)", _families(name, former, is_former=True)))
    return groups


def _families(name: str, columns: Sequence[Column], *, is_former: bool = False) -> list[Family]:
    note = " (deprecated name)" if is_former else ""
    return [Family(f"{name}_{column.suffix}", f"{column.meaning}{note}.", column.grows) for column in columns]


PATH_GROUPS: Final = groups_of("Paths", _PATHS, _PATH_COLUMNS, _FORMER_PATH_COLUMNS)
