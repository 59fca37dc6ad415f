"""The configuration as a whole: its schema, its text, checks of another one, and the way back to earlier ones."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from polycast.config.dialects.registry import MEDIAMTX, dialect_of
from polycast.config.dialects.views import view_of
from polycast.config.fields import Field
from polycast.config.schema import Configuration
from polycast.config.whole import Problem
from polycast.control.command_rule import CommandRule
from polycast.control.errors import RequestError
from polycast.control.requests import as_request, empty_response, json_response, read_map
from polycast.control.routing import Endpoint
from polycast.control.settings import ChangeSource, Settings, Version
from polycast.errors import ConfigurationError
from polycast.items import DateTime

MAXIMUM_PASSWORD: Final = 200
"""Characters of a password that is hashed."""

MAXIMUM_SLOW_WORK: Final = 2
"""Texts that are checked and passwords that are hashed at the same time: the other work in threads must not wait for
those of a client that sends many."""

# What argon2id may cost: 16 MiB and about 50 ms, as clients may connect often.
_HASH_OPERATIONS: Final = 3
_HASH_MEMORY: Final = 16 * 1024 * 1024


class SettingItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """A setting that there is."""

    key: Annotated[str, Meta(description="Its name in API v3.")]
    section: str
    kind: Annotated[str, Meta(description="The kind of its values.")]
    description: str
    default: Any
    choices: Annotated[list[str], Meta(description="The values that there are; empty if there are any others.")]
    restarts: Annotated[list[str], Meta(description="What a new value interrupts; empty: nothing.")]
    is_list: bool


class SchemaItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """All settings."""

    settings: list[SettingItem]
    path_settings: list[SettingItem]


class TextItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """The text of a configuration."""

    text: str
    digest: Annotated[str, Meta(description="SHA-256 of the text, hexadecimal.")]
    is_generated: Annotated[
        bool, Meta(description="Whether it is made of settings, without the comments of the file if there is one.")
    ]


class CheckItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is wrong with a text."""

    problems: Annotated[list[Problem], Meta(description="Errors. Empty: the text is valid.")]
    warnings: list[str]


class VersionItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """A configuration that was in effect."""

    number: int
    replaced: Annotated[DateTime, Meta(description="When another one was put in its place.")]
    replaced_by: Annotated[ChangeSource, Meta(description="The origin of that change.")]


class Editor:
    """Part of API v1."""

    def __init__(self, settings: Settings, commands: CommandRule) -> None:
        self._settings = settings
        self._commands = commands
        self._slow_work = asyncio.Semaphore(MAXIMUM_SLOW_WORK)

    async def get_schema(self, _: Request) -> Response:
        return json_response(await asyncio.to_thread(_schema, self._settings.configuration))

    async def get_text(self, _: Request) -> Response:
        text = await asyncio.to_thread(self._read_text)
        return json_response(_with_digest(text, is_generated=self._settings.is_text_generated))

    async def check_text(self, request: Request) -> Response:
        text = _text_in(await read_map(request))
        async with self._slow_work:
            problems, warnings = await asyncio.to_thread(self._settings.check_text, text)
        return json_response(CheckItem(problems=problems, warnings=warnings))

    async def replace_text(self, request: Request) -> Response:
        body = await read_map(request)
        text = _text_in(body)
        digest = body.get("digest", "")

        def check_digest() -> None:
            if digest not in ("", _digest(self._read_text())):
                raise RequestError(409, "the configuration was changed meanwhile; load it again")

        commands = self._commands
        await as_request(self._settings.replace_text(text, check_digest, commands.check_edit, commands.record))
        return empty_response()

    async def list_versions(self, _: Request) -> Response:
        versions = [
            VersionItem(
                number=version.number,
                replaced=datetime.fromtimestamp(version.time, UTC).astimezone(),
                replaced_by=version.replaced_by,
            )
            for version in reversed(self._settings.versions)
        ]
        return json_response({"items": versions})

    async def get_version(self, request: Request) -> Response:
        version = self._version(request)
        text = await asyncio.to_thread(lambda: version.text)
        return json_response(_with_digest(text, is_generated=version.is_text_generated))

    async def restore_version(self, request: Request) -> Response:
        number = self._version(request).number
        await as_request(self._settings.restore(number, self._commands.check_edit, self._commands.record))
        return empty_response()

    async def hash_password(self, request: Request) -> Response:
        password = (await read_map(request)).get("password")
        if not isinstance(password, str) or not 0 < len(password) <= MAXIMUM_PASSWORD:
            raise RequestError(400, f"password: a text of 1 to {MAXIMUM_PASSWORD} characters is needed")
        async with self._slow_work:
            hashed = await asyncio.to_thread(_hashed, password)
        return json_response({"hash": hashed})

    def _version(self, request: Request) -> Version:
        wanted = request.path_params["number"]
        found = next((each for each in self._settings.versions if str(each.number) == wanted), None)
        if found is None:
            raise RequestError(404, "this version is not kept any more")
        return found

    def _read_text(self) -> str:
        try:
            return self._settings.read_text()
        except ConfigurationError as error:
            raise RequestError(409, str(error)) from None


def _text_in(body: dict[str, Any]) -> str:
    text = body.get("text")
    if not isinstance(text, str):
        raise RequestError(400, "text: a text is needed")
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        raise RequestError(400, "text: it contains characters that do not exist") from None
    return text


def _with_digest(text: str, *, is_generated: bool) -> TextItem:
    return TextItem(text=text, digest=_digest(text), is_generated=is_generated)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _hashed(password: str) -> str:
    from nacl.pwhash import argon2id

    hashed = argon2id.str(password.encode(errors="surrogatepass"), _HASH_OPERATIONS, _HASH_MEMORY)
    return f"argon2:{hashed.decode()}"


def _schema(configuration: Configuration) -> SchemaItem:
    """Return the settings, with the defaults that the file and the paths of a running server have."""
    view = view_of(MEDIAMTX)
    defaults = view_of(dialect_of(configuration.dialect)).defaults
    settings, section = [], ""
    for field in view.fields.values():
        section = field.heading or section
        settings.append(_describe(field, section, field.of(defaults)))
    paths = [_describe(field, "", field.of(configuration.path_defaults)) for field in view.path_fields.values()]
    return SchemaItem(settings=settings, path_settings=paths)


def _describe(field: Field, section: str, value: Any) -> SettingItem:
    schema = field.kind.schema
    default = field.kind.dump(value)
    return SettingItem(
        key=field.key,
        section=section,
        kind="boolean" if isinstance(default, bool) else field.kind.label,
        description=field.description,
        default=default,
        choices=[str(each) for each in schema.get("enum", ())],
        restarts=sorted(field.change.restarts),
        is_list=isinstance(default, list),
    )


ENDPOINTS: Final = (
    Endpoint("GET", "/v1/config/schema", Editor.get_schema),
    Endpoint("GET", "/v1/config/text", Editor.get_text),
    Endpoint("POST", "/v1/config/check", Editor.check_text),
    Endpoint("POST", "/v1/config/replace", Editor.replace_text),
    Endpoint("GET", "/v1/config/versions/list", Editor.list_versions),
    Endpoint("GET", "/v1/config/versions/get/{number}", Editor.get_version),
    Endpoint("POST", "/v1/config/versions/restore/{number}", Editor.restore_version),
    Endpoint("POST", "/v1/auth/hash", Editor.hash_password),
)
"""All endpoints of the editor."""
