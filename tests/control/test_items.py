"""A field of a session is defined once: JSON, OpenAPI document, metrics and the library's statistics follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Struct
from prometheus_client.parser import text_string_to_metric_families
from tests.control.support import running
from tests.control.test_openapi import complaints

import polycast
from polycast.app.openapi_document import document
from polycast.control.items import PathItem
from polycast.control.schemas import object_schema
from polycast.hub.stats import Counters
from polycast.items import Metric, SessionItem, metrics_of
from polycast.protocols.session_fields import rtsp_session_fields, session_fields


class ScootItem(SessionItem, frozen=True, kw_only=True, rename="camel"):
    """A session with one field more than others have."""

    battery_level: Annotated[float | None, Meta(description="0 to 1."), Metric("battery_level", "Charge")]


def scoot(level: float | None = 0.5) -> ScootItem:
    counters = Counters(bytes_received=7)
    return ScootItem(
        address="192.0.2.1:9",
        state="read",
        path="cam",
        query="",
        user="",
        user_agent="",
        transport="UDP",
        battery_level=level,
        **session_fields(datetime(2026, 5, 4, 3, 2, 1, 250_000, tzinfo=UTC), counters),
    )


@pytest.mark.parametrize(("state", "inbound", "reported"), [("publish", (7, 0.25), 0), ("read", (0, 0.0), 7)])
def test_what_readers_report_did_not_arrive_here(state: str, inbound: tuple[int, float], reported: int) -> None:
    item = msgspec.structs.replace(scoot(), state=state, packets_lost=7, jitter=0.25)
    fields = rtsp_session_fields(item)
    assert (fields["inboundRTPPacketsLost"], fields["inboundRTPPacketsJitter"]) == inbound
    assert (fields["rtpPacketsLost"], fields["rtpPacketsJitter"]) == inbound
    assert fields["outboundRTPPacketsReportedLost"] == reported


class Scooter:
    """What the metrics ask of a server."""

    name = "SCOOT"
    collection = "scootsessions"
    metric = "scoot_sessions"
    item = ScootItem
    internal_errors = 0

    def items(self) -> Mapping[str, Struct]:
        return {"1": scoot(), "2": scoot(None)}

    def sessions(self) -> Mapping[str, SessionItem]:
        return {"1": scoot(), "2": scoot(None)}


def test_json_fields_match_the_schema() -> None:
    schema = object_schema(ScootItem)
    value = msgspec.json.decode(msgspec.json.encode(scoot()))
    assert list(value) == list(schema["properties"]) == schema["required"]
    assert value["batteryLevel"] == 0.5
    assert schema["properties"]["batteryLevel"] == {"type": ["number", "null"], "description": "0 to 1."}
    assert complaints(value, schema, {}) == []
    assert datetime.fromisoformat(value["created"]) == datetime(2026, 5, 4, 3, 2, 1, 250_000, tzinfo=UTC)
    assert value["remoteAddr"] == "192.0.2.1:9"
    assert value["bytesReceived"] == 7


async def test_a_field_is_a_metric() -> None:
    async with running() as server:
        server.app._servers.running["SCOOT"] = Scooter()  # type: ignore[assignment]
        text = (await server.metrics.get("/metrics")).text
        families = {family.name: family for family in text_string_to_metric_families(text)}
        del server.app._servers.running["SCOOT"]
    (sample,) = families["polycast_session_battery_level"].samples
    assert sample.value == 0.5
    assert sample.labels == {"collection": "scootsessions", "id": "1", "state": "read", "path": "cam"}
    assert [sample.value for sample in families["scoot_sessions"].samples] == [0, 2, 0]


def test_a_field_is_in_the_statistics_of_the_library() -> None:
    assert set(polycast.SessionStatistics.__struct_fields__) == {"id", "protocol", *SessionItem.__struct_fields__}


@pytest.mark.parametrize(("item", "count"), [(SessionItem, 9), (PathItem, 6)])
def test_what_is_counted_has_a_metric(item: type[Struct], count: int) -> None:
    counted = {field.name for field in dataclasses.fields(Counters)} & set(item.__struct_fields__) - {
        "jitter",
        "round_trip",
    }
    assert {name for name, metric in metrics_of(item).items() if metric.grows} == counted
    assert len(counted) == count


def test_every_collection_has_a_schema_without_gaps() -> None:
    schemas: dict[str, Any] = document()["components"]["schemas"]
    items = [schema for name, schema in schemas.items() if name.endswith("Item")]
    assert len(items) == 7
    for schema in [*items, schemas["Path"], schemas["ConfStatus"]]:
        assert schema["required"] == list(schema["properties"])
        assert all(schema["properties"].values())
