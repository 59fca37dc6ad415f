"""Generates the OpenAPI documents with all collections: ``python -m polycast.app.openapi_document docs/``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from polycast.control import openapi
from polycast.control.openapi_parts import Collection
from polycast.control.v3 import openapi as openapi_v3
from polycast.playback import openapi as openapi_playback
from polycast.protocols.registry import server_kinds


def document() -> dict[str, Any]:
    """Return the document of API v1."""
    return openapi.build(_collections())


def document_of_v3() -> dict[str, Any]:
    """Return the document of API v3."""
    return openapi_v3.build(_collections())


def _collections() -> list[Collection]:
    return [
        Collection(kind.collection, kind.can_kick, kind.item, kind.connections, kind.viewers, kind.v3)
        for kind in server_kinds()
    ]


def text(document: dict[str, Any]) -> str:
    """Return a document as text."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write ``openapi.json``, ``openapi-v3.json`` and ``openapi-playback.json`` into a directory."""
    parser = argparse.ArgumentParser(description="Generate the OpenAPI documents.")
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    (directory / "openapi.json").write_text(text(document()))
    (directory / "openapi-v3.json").write_text(text(document_of_v3()))
    (directory / "openapi-playback.json").write_text(text(openapi_playback.build()))


if __name__ == "__main__":
    main()
