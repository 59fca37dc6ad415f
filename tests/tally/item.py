"""What the API says about a session of the protocol."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from polycast.items import Metric, SessionItem


class TallyItem(SessionItem, frozen=True, kw_only=True, rename="camel"):
    """One client."""

    lines_counted: Annotated[int, Meta(description="So far."), Metric("counted_lines", "Lines counted", grows=True)]
