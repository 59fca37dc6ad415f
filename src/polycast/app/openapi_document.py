"""Generates the OpenAPI document with all collections: ``python -m polycast.app.openapi_document docs/``."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from polycast.config.schema import Configuration
from polycast.control.openapi import Collection, build
from polycast.hub.access import AccessControl
from polycast.hub.hub import Hub
from polycast.log import Log
from polycast.protocols.base import ServerContext
from polycast.protocols.registry import SERVER_KINDS


def document() -> dict[str, Any]:
    """Return the document."""
    loop = asyncio.new_event_loop()
    try:
        log = Log()
        context = ServerContext(loop, Hub(loop=loop, log=log, access=AccessControl()), log)
        servers = [kind.create(context, Configuration()) for kind in SERVER_KINDS]
        return build(Collection(server.collection, server.can_kick, server.item) for server in servers)
    finally:
        loop.close()


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
