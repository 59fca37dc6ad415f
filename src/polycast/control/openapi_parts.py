"""What the OpenAPI documents of both versions of the API are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from polycast import _version
from polycast.config.fields import Field
from polycast.control.contract import FieldsOfItem, SessionServer
from polycast.control.events import EVENTS
from polycast.control.schemas import REFERENCES, Json

ANY_REQUEST: Final = frozenset({"401", "403", "429"})
"""Errors with which any request may be answered."""

CHANGE: Final = frozenset({"400", "408", "409", "413", "503"})
"""Errors of changes of the configuration."""

_PARAMETERS: Final = {"name": "May contain slashes."}

_ERRORS: Final = {
    "400": "The request is invalid.",
    "401": "Credentials are required.",
    "403": "The web site or the host name of the request is not allowed, or it would change commands.",
    "404": "Not found.",
    "408": "The body did not arrive in time.",
    "409": "The change is valid but cannot be applied or saved; nothing has changed.",
    "413": "The body is too large.",
    "500": "A directory cannot be read.",
    "429": "Too many attempts with wrong credentials from this address.",
    "503": "Too many clients, or too many changes of the configuration are waiting: send the request again later.",
}


@dataclass(frozen=True, slots=True)
class Collection:
    """What a server declares about its part of the API."""

    name: str
    can_kick: bool
    item: type[Struct]
    connections: str
    """Name of the collection of its connections in API v3; empty if there is none."""
    viewers: str
    """Name of the collection of its viewers in API v3; empty if there is none."""
    fields: FieldsOfItem
    """Its part of the items of API v3."""

    @classmethod
    def of(cls, server: SessionServer) -> Collection:
        """Return what a running server declares."""
        return cls(
            server.collection,
            server.can_kick,
            server.item,
            server.connections_collection,
            server.viewers_collection,
            server.item_fields,
        )


def whole(title: str, paths: Json, schemas: Json) -> Json:
    """Return a document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": _version.__version__,
            "description": "Monitors and controls a running server. Changes are in effect when the response arrives.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "http://127.0.0.1:9997"}],
        "security": [{}, {"basic": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "Required if apiUser or apiPass is set."}
            },
            "schemas": schemas,
        },
    }


def operation(
    summary: str,
    description: str,
    schema: Json | None,
    errors: Iterable[str] = (),
    *,
    parameters: list[Json] | None = None,
    body: Json | None = None,
) -> Json:
    """Return an operation. ``schema`` is that of a successful response; None: it is empty."""
    responses: Json = {"200": {"description": "Done."}}
    if schema is not None:
        responses["200"]["content"] = {"application/json": {"schema": schema}}
    for status in sorted({*ANY_REQUEST, *errors}):
        responses[status] = {
            "description": _ERRORS[status],
            "content": {"application/json": {"schema": reference("Error")}},
        }
    made: Json = {
        "operationId": "".join(word.capitalize() if index else word for index, word in enumerate(summary.split())),
        "summary": summary,
        "description": description,
        "responses": responses,
    }
    if parameters is not None:
        made["parameters"] = parameters
    if body is not None:
        made["requestBody"] = {"content": {"application/json": {"schema": body}}}
    return made


def event_stream(parameters: list[Json] | None = None) -> Json:
    """Return the operation that streams events."""
    events = "; ".join(f"`{name}`: {meaning}" for name, meaning in EVENTS.items())
    stream = operation(
        "listen to events",
        "Server-sent events about paths, sessions and the configuration, with a JSON object as data. "
        f"{events} A client that is too slow gets `overflow` and is disconnected.",
        None,
        {"503"},
        parameters=parameters,
    )
    stream["responses"]["200"]["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    return stream


def output_of(field: Field) -> Json:
    """Return the schema of a setting in responses: one form for each kind of value."""
    value = field.kind.dump(field.default)
    if isinstance(value, bool):
        schema: Json = {"type": "boolean"}
    elif isinstance(value, int | float):
        schema = {"type": field.kind.schema["type"]}
    elif isinstance(value, list):
        schema = {"type": "array", "items": field.kind.schema.get("items", {"type": "string"})}
    elif "anyOf" in field.kind.schema:
        schema = dict(field.kind.schema)
    else:
        schema = {"type": "string"}
    return {**schema, "description": field.description}


def input_of(fields: Iterable[Field], more: Json | None = None) -> Json:
    """Return the schema of settings in requests: every form allowed in the configuration file, and null."""
    properties = {
        field.key: {"anyOf": [dict(field.kind.schema), {"type": "null"}], "description": field.description}
        for field in fields
    }
    return {"type": "object", "properties": {**properties, **(more or {})}, "additionalProperties": False}


def object_of(properties: Mapping[str, object]) -> Json:
    """Return the schema of an object that has all these properties."""
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def reference(schema: str) -> Json:
    """Return a reference to a schema of the document."""
    return {"$ref": REFERENCES + schema}


def parameter(name: str) -> Json:
    """Return a parameter in the address."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": _PARAMETERS.get(name, ""),
        "schema": {"type": "string"},
    }
