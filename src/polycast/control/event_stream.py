"""The response that streams events to a client."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

from polycast.control.errors import RequestError
from polycast.control.events import EventHub
from polycast.control.requests import NOT_STORED


def event_response(events: EventHub, *, is_v3: bool = False, has_log: bool = False) -> StreamingResponse:
    """Return the response to a client, which subscribes it; see `events.Subscriber`.

    Raises RequestError if there are too many clients.
    """
    if events.is_full:
        raise RequestError(503, "too many clients are listening to events")
    return StreamingResponse(
        _events(events, is_v3=is_v3, has_log=has_log), media_type="text/event-stream", headers=NOT_STORED
    )


async def _events(events: EventHub, *, is_v3: bool, has_log: bool) -> AsyncIterator[bytes]:
    subscriber = events.subscribe(is_v3=is_v3, has_log=has_log)
    try:
        async for event in subscriber.events():
            yield event
    finally:
        events.unsubscribe(subscriber)
