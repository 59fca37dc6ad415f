"""Webhooks: addresses that are told about events."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from polycast.config.kinds import URL, choice_list_kind
from polycast.config.redact import HIDDEN, redact
from polycast.config.spelling import yaml_key
from polycast.config.struct_lists import StructListKind
from polycast.errors import ConfigurationError

_EXAMPLE: Final = '{"url": "https://example.com/hook", "events": ["path_ready"], "secret": "any text"}'


class EventName(StrEnum):
    """What clients of the API and webhooks are told about."""

    PATH_CREATED = "path_created"
    PATH_CLOSED = "path_closed"
    PATH_READY = "path_ready"
    PATH_NOT_READY = "path_not_ready"
    PATH_ONLINE = "path_online"
    PATH_OFFLINE = "path_offline"
    READER_ADDED = "reader_added"
    READER_REMOVED = "reader_removed"
    SEGMENT_CREATED = "segment_created"
    SEGMENT_COMPLETED = "segment_completed"
    UPLOAD_FAILED = "upload_failed"
    SESSION_CREATED = "session_created"
    SESSION_CHANGED = "session_changed"
    SESSION_CLOSED = "session_closed"
    CONFIG_RELOADED = "config_reloaded"
    CONFIG_FAILED = "config_failed"


_EVENT_LIST: Final = choice_list_kind(EventName, "invalid event: '%s'", tuple)


class Webhook(Struct, frozen=True, kw_only=True, rename=yaml_key):
    """One address."""

    url: Annotated[str, URL, Meta(description="Address that gets a POST request for each event.")]
    events: Annotated[
        tuple[EventName, ...], _EVENT_LIST, Meta(description="Names of the events; empty: all of them.")
    ] = ()
    secret: Annotated[
        str,
        Meta(
            description=(
                "Signs the requests as in the Standard Webhooks specification. A secret that starts with 'whsec_' is "
                "base64 after that."
            )
        ),
    ] = ""

    def __repr__(self) -> str:
        return f"Webhook(url={redact(self.url)!r}, events={self.events!r}, secret={HIDDEN if self.secret else ''!r})"


def check_webhook(webhook: Webhook) -> None:
    """Raise ConfigurationError for an address that cannot work."""
    try:
        parts = urlsplit(webhook.url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigurationError(f"invalid webhook address: '{redact(webhook.url)}' (write https://host/path)")


WEBHOOKS: Final = StructListKind(Webhook, check_webhook, _EXAMPLE)
