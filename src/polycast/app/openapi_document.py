"""Generates the OpenAPI document with all collections: ``python -m polycast.app.openapi_document docs/``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from polycast.control.openapi import Collection, build
from polycast.protocols.registry import server_kinds


def document() -> dict[str, Any]:
    """Return the document."""
    return build(Collection(kind.collection, kind.can_kick, kind.item) for kind in server_kinds())


def text() -> str:
    """Return the document as text."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write ``openapi.json`` into a directory."""
    parser = argparse.ArgumentParser(description="Generate the API's OpenAPI document.")
    parser.add_argument("directory", type=Path)
    (parser.parse_args().directory / "openapi.json").write_text(text())


if __name__ == "__main__":
    main()
