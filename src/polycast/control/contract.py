"""The interfaces of the application and its servers that the control services use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from polycast.config.schema import Configuration
from polycast.hub.hub import Hub
from polycast.hub.path import Path
from polycast.items import ConnectionItem, ForwardItem, MetricBlock, SessionItem, ViewerItem
from polycast.log import Log
from polycast.record.recorder import Recorder

if TYPE_CHECKING:
    from polycast.control.pages import Preview
    from polycast.control.settings import Settings


FieldsOfItem = Callable[[Any], Mapping[str, Any]]
"""Returns what an item has in API v3 beyond what all have; annotated with the TypedDict of these fields."""


class SessionServer(Protocol):
    """A protocol server, as declared in ``protocols.base.Server``."""

    @property
    def name(self) -> str: ...
    @property
    def collection(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def can_kick(self) -> bool: ...
    @property
    def item(self) -> type[Struct]: ...
    @property
    def internal_errors(self) -> int: ...
    @property
    def ports(self) -> dict[str, int]: ...

    @property
    def connections_collection(self) -> str: ...
    @property
    def viewers_collection(self) -> str: ...
    @property
    def metric_blocks(self) -> tuple[MetricBlock, ...]: ...
    @property
    def item_fields(self) -> FieldsOfItem: ...
    def items(self) -> Mapping[str, Struct]: ...
    def connections(self) -> Mapping[str, ConnectionItem]: ...
    def viewers(self) -> Mapping[str, ViewerItem]: ...
    def sessions(self) -> Mapping[str, SessionItem]: ...
    def kick(self, session_id: str) -> bool: ...


class Forwarding(Protocol):
    """What sends streams to other servers."""

    def items(self, path: Path) -> Sequence[ForwardItem]: ...


class MediaServer(Protocol):
    """The running application."""

    @property
    def configuration(self) -> Configuration: ...
    @property
    def hub(self) -> Hub: ...
    @property
    def log(self) -> Log: ...
    @property
    def servers(self) -> Mapping[str, SessionServer]:
        """The running servers; a reload replaces the mapping, so do not keep it."""
        ...

    @property
    def server_names(self) -> Mapping[str, str]:
        """The names of all servers, by their collections in the API."""
        ...

    @property
    def metric_blocks(self) -> Sequence[MetricBlock]:
        """The metrics of all servers under the names of MediaMTX, whether the servers run or not."""
        ...

    @property
    def preview(self) -> Preview | None:
        """Where a browser can play the streams."""
        ...

    @property
    def settings(self) -> Settings: ...
    @property
    def forwarding(self) -> Forwarding: ...
    @property
    def recorder(self) -> Recorder: ...
