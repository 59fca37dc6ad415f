"""The configuration file of WinSW v2, a program that runs another one as a Windows service."""

from __future__ import annotations

import subprocess
from typing import Final
from xml.sax.saxutils import escape

FILE_NAME: Final = "WinSW-x64.xml"
"""WinSW reads the file with the same name as its executable."""

# Seconds between Ctrl+C, which shuts the server down cleanly, and the end.
STOP_SECONDS: Final = 30


def render(command: tuple[str, ...], working_directory: str) -> str:
    """Return the file. ``command`` is program and arguments, with absolute paths."""
    program, *arguments = command
    return "\n".join(
        (
            "<service>",
            "  <id>polycast</id>",
            "  <name>Polycast</name>",
            "  <description>Live media server</description>",
            f"  <executable>{escape(program)}</executable>",
            f"  <arguments>{escape(subprocess.list2cmdline(arguments))}</arguments>",
            f"  <workingdirectory>{escape(working_directory)}</workingdirectory>",
            "  <startmode>Automatic</startmode>",
            '  <onfailure action="restart" delay="2 sec"/>',
            f"  <stoptimeout>{STOP_SECONDS} sec</stoptimeout>",
            '  <log mode="roll-by-size"/>',
            "</service>",
            "",
        )
    )
