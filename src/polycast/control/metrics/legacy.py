"""The metrics of rtsp-simple-server v0.20."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, get_args

from polycast.control.contract import SessionServer
from polycast.control.metrics.exposition import Family, Page, Row, Table
from polycast.control.metrics.sources import Sources, state_of
from polycast.items import SessionItem, SessionState

PATHS: Final = Family("paths", "Paths that exist, by name and state.")


def page(sources: Sources, query: Mapping[str, str]) -> Page:
    """Return all tables, whatever the query is."""
    return Page(_tables(sources))


def _tables(sources: Sources) -> Iterator[Table]:
    """Yield all tables. Those of a server that is not running are absent."""
    paths: Iterator[Row] = (((path.name, state_of(path)), (1,)) for path in sources.paths())
    yield Table(("name", "state"), [PATHS], paths)
    for server in sources.servers():
        label = "state" if issubclass(server.item, SessionItem) else "name"
        yield Table((label,), [Family(server.metric, f"What the {server.name} server has.")], _contents(server))


def _contents(server: SessionServer) -> Iterator[Row]:
    """Yield how many sessions a server has in each state; if its items are not sessions, the items."""
    if not issubclass(server.item, SessionItem):
        for name in server.items():
            yield (name,), (1,)
        return
    counts = dict.fromkeys(get_args(SessionState), 0)
    for item in server.sessions().values():
        counts[item.state] += 1
    for state, count in counts.items():
        yield (state,), (count,)
