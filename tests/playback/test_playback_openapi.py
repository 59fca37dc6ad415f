"""The OpenAPI document of the playback server: it has what the server answers, and answers are as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema_rs
import pytest
from tests.playback.support import Recorder, playing

from polycast.app.openapi_document import text
from polycast.playback.openapi import build

DOCS = Path(__file__).resolve().parents[2] / "docs"
DOCUMENT = build()
OTHER_ROUTES = {"/", "/_polycast/{name:path}", "/openapi.json", "/init.mp4", "/segment.m4s"}
"""The page, and what playlists lead to."""


def test_the_document_in_docs_is_up_to_date() -> None:
    expected = text(DOCUMENT)
    assert (DOCS / "openapi-playback.json").read_text() == expected, "run: make documents"


def test_it_has_every_address(tmp_path: Path) -> None:
    from polycast.config.path_schema import PathConfiguration
    from polycast.log import Log
    from polycast.playback.application import Playback
    from polycast.playback.recordings import Recordings

    recordings = Recordings(Log())
    try:
        routes = Playback(recordings, lambda name: PathConfiguration(), Log(), list, bool).application().routes
    finally:
        recordings.close()
    served = {str(getattr(route, "path", "")) for route in routes}
    assert served - OTHER_ROUTES == set(DOCUMENT["paths"])


def schema_of(path: str, status: int) -> dict[str, Any]:
    content = DOCUMENT["paths"][path]["get"]["responses"][str(status)]["content"]
    (described,) = content.values()
    return {**described["schema"], "components": DOCUMENT["components"]}


@pytest.mark.parametrize("path", DOCUMENT["paths"])
async def test_answers_are_what_it_says(tmp_path: Path, path: str) -> None:
    recorder = Recorder(tmp_path)
    recorder.write(0, 4, 0)
    async with playing(recorder) as (_, client):
        assert (await client.get("/openapi.json")).json() == DOCUMENT
        periods = (await client.get("/list", params={"path": "cam"})).json()
        jsonschema_rs.validate({**schema_of("/list", 200)}, periods)
        start = dict(parse_qsl(urlsplit(periods[0]["url"]).query))["start"]
        given = {"path": "cam", "start": start, "duration": "2", "time": start}
        operation = DOCUMENT["paths"][path]["get"]
        wanted = {each["name"]: given[each["name"]] for each in operation["parameters"] if each["name"] in given}
        if path == "/list":
            del wanted["start"]
        response = await client.get(path, params=wanted)
        # what is recorded is made up, and has no pictures that can be decoded
        assert response.status_code == (501 if path == "/thumbnail" else 200), response.text
        described = operation["responses"][str(response.status_code)]["content"]
        assert response.headers["content-type"].partition(";")[0] in described
        for name in (each["name"] for each in operation["parameters"] if each["required"]):
            wrong = await client.get(path, params={key: value for key, value in wanted.items() if key != name})
            assert wrong.status_code == 400, name
            jsonschema_rs.validate(schema_of(path, 400), wrong.json())
        nothing = await client.get(path, params={**wanted, "path": "other"})
        assert str(nothing.status_code) in operation["responses"]
