"""Who watches: what the API says of a viewer, and viewers of streams that need no credentials.

The latter have no sessions, so that all of them get the same answers: they are told apart by their addresses and
programs.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from typing import Final

from polycast.items import ViewerItem

# Seconds without a request after which a viewer is forgotten: players reload a playlist every few seconds.
IDLE_SECONDS: Final = 60.0

# Viewers of all streams that are remembered; those who were away for longest are forgotten first.
MAXIMUM_VIEWERS: Final = 20_000

# Characters of the query of a viewer's first request that are shown.
MAXIMUM_QUERY: Final = 1_024


class Visit:
    """The visit of one viewer to one stream."""

    __slots__ = (
        "address", "bytes_sent", "created", "id", "is_cdn", "is_kicked", "path", "query", "used", "user", "user_agent",
    )  # fmt: skip

    def __init__(
        self, path: str, address: str, query: str, user: str, user_agent: str, *, is_cdn: bool = False
    ) -> None:
        """``address`` is ``ip:port`` of the first request."""
        self.id = str(uuid.uuid4())
        self.created = datetime.now(UTC)
        self.path = path
        self.address = address
        self.query = query[:MAXIMUM_QUERY]
        self.user = user
        self.user_agent = user_agent
        self.is_cdn = is_cdn
        """Whether it is a content delivery network, whatever its viewers are."""
        self.bytes_sent = 0
        """Bytes of responses, without their headers."""
        self.used = 0.0
        """When the last request arrived, of a viewer without a session; monotonic seconds."""
        self.is_kicked = False
        """Whether such a viewer has to start again."""

    def item(self) -> ViewerItem:
        """Return the item for the API."""
        return ViewerItem(
            created=self.created.astimezone(),
            address=self.address,
            path=self.path,
            query=self.query,
            user=self.user,
            user_agent=self.user_agent,
            is_cdn=self.is_cdn,
            bytes_sent=self.bytes_sent,
        )


class Visits:
    """All visits of viewers to the streams of a server."""

    def __init__(
        self,
        on_begun: Callable[[Visit], None] = lambda visit: None,
        on_ended: Callable[[Visit], None] = lambda visit: None,
    ) -> None:
        """``on_begun`` and ``on_ended`` are called for each visit."""
        self._on_begun = on_begun
        self._on_ended = on_ended
        self._by_path: dict[str, dict[str, Visit]] = {}
        """By path and id."""

    def __iter__(self) -> Iterator[Visit]:
        for visits in self._by_path.values():
            yield from visits.values()

    def of(self, path: str) -> Collection[Visit]:
        """Return the visits to a stream."""
        return self._by_path.get(path, {}).values()

    def add(self, visit: Visit) -> None:
        """A visit has begun."""
        self._by_path.setdefault(visit.path, {})[visit.id] = visit
        self._on_begun(visit)

    def remove(self, visit: Visit) -> None:
        """A visit has ended, perhaps before."""
        visits = self._by_path.get(visit.path, {})
        if visits.pop(visit.id, None) is None:
            return
        if not visits:
            del self._by_path[visit.path]
        self._on_ended(visit)


Client = tuple[str, str, bytes]
"""What tells viewers without a session apart: the path, the IP address, and the program (``User-Agent``)."""


class Audience:
    """Viewers without a session, of all streams of a server."""

    def __init__(self, visits: Visits) -> None:
        self._current = visits
        """Those that are listed."""
        self._by_client: OrderedDict[Client, Visit] = OrderedDict()
        """Those of clients that were here lately, also if they were kicked, in the order of their last requests."""

    def find(self, client: Client, now: float) -> Visit | None:
        """Return the visit that a request at ``now`` (monotonic seconds) belongs to; None if it is the first one."""
        visit = self._by_client.get(client)
        if visit is not None:
            visit.used = now
            self._by_client.move_to_end(client)
        return visit

    def add(self, client: Client, visit: Visit, now: float) -> None:
        """Remember a new visit, which begins with a request at ``now``."""
        visit.used = now
        self._current.add(visit)
        self._by_client[client] = visit
        self._by_client.move_to_end(client)
        while len(self._by_client) > MAXIMUM_VIEWERS:
            self._forget_oldest()

    def kick(self, visit_id: str) -> bool:
        """Refuse further requests of a visit, except one that starts again; return whether there is this visit."""
        visit = next((visit for visit in self._by_client.values() if visit.id == visit_id), None)
        if visit is None or visit.is_kicked:
            return False
        visit.is_kicked = True
        self._current.remove(visit)
        return True

    def forget_idle(self, now: float, patience: float) -> None:
        """Forget those who have not requested anything for so many seconds."""
        while self._by_client and now - next(iter(self._by_client.values())).used >= patience:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, visit = self._by_client.popitem(last=False)
        self._current.remove(visit)
