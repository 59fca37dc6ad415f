"""The table of all settings in ``keys.yml``."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, Final

import msgspec
from ruamel.yaml import YAML

_FILE: Final = Path(__file__).with_name("keys.yml")
_YAML: Final = YAML(typ="safe", pure=True)
"""Each object of this class looks for plug-ins in folders."""
_TABLE: Final[dict[str, Any]] = _YAML.load(_FILE.read_text())

SERVERS: Final = frozenset(
    {"API", "metrics", "pprof", "playback", "RTSP", "RTSPS", "RTMP", "RTMPS", "HLS", "WebRTC", "SRT"}
)
"""What a change may restart."""


class Accepted(msgspec.Struct, frozen=True):
    """A valid value, and how the API shows it."""

    write: Any
    show: Any


class Refused(msgspec.Struct, frozen=True):
    """A value that is not valid, and a part of the error."""

    write: Any
    error: str


class Row(msgspec.Struct, frozen=True):
    """One setting."""

    key: str
    of_path: bool
    is_own: bool
    type: str
    default: Any
    change: str | list[str] | None
    accepts: list[Accepted]
    refuses: list[Refused]
    needs: dict[str, Any]
    """Further settings that the values need."""
    to: Any
    needs_then: dict[str, Any]
    """Further settings that ``to`` needs."""

    @property
    def restarts(self) -> frozenset[str]:
        """What a change restarts, as `Change.restarts` has it."""
        assert self.change is not None, f"keys.yml: write what a new value of '{self.key}' restarts ('change')"
        if self.change == "live":
            return frozenset()
        return frozenset({self.change} if isinstance(self.change, str) else self.change)

    def file(self, value: Any) -> str:
        """Return a file in which the setting has a value."""
        return file_of({**self.needs, self.key: value}, of_path=self.of_path)


def file_of(values: dict[str, Any], *, of_path: bool) -> str:
    """Return a file with global settings, or with settings of the path ``a``."""
    return yaml_of({"paths": {"a": values}} if of_path else values)


def yaml_of(values: dict[str, Any]) -> str:
    """Return a file with these values."""
    stream = StringIO()
    _YAML.dump(values, stream)
    return stream.getvalue()


def _rows(section: str, *, of_path: bool, is_own: bool) -> Iterator[Row]:
    for key, values in _TABLE[section].items():
        common = _TABLE["types"][values["type"]]
        unknown = values.keys() - {"type", "default", "change", "accepts", "refuses", "with", "to", "to with"}
        assert not unknown, f"keys.yml: {key} has {unknown}"
        accepted = values.get("accepts", common.get("accepts", ()))
        yield Row(
            key,
            of_path,
            is_own,
            values["type"],
            values["default"],
            values.get("change"),
            [_accepted(value) for value in accepted],
            [Refused(**each) for each in (*common.get("refuses", ()), *values.get("refuses", ()))],
            values.get("with", {}),
            values.get("to"),
            values.get("to with", {}),
        )


def _accepted(value: Any) -> Accepted:
    return (
        Accepted(**value) if isinstance(value, dict) and value.keys() == {"write", "show"} else Accepted(value, value)
    )


ROWS: Final = (
    *_rows("global", of_path=False, is_own=False),
    *_rows("path", of_path=True, is_own=False),
    *_rows("own", of_path=False, is_own=True),
    *_rows("own path", of_path=True, is_own=True),
)

FORMER: Final[dict[str, dict[str, Any]]] = _TABLE["former"]
FORMER_OF_PATH: Final[dict[str, dict[str, Any]]] = _TABLE["former path"]
DEPRECATED: Final = frozenset({*FORMER, *_TABLE["kept"]})
"""All deprecated settings of MediaMTX."""
DEPRECATED_OF_PATH: Final = frozenset({*FORMER_OF_PATH, *_TABLE["kept path"]})
GLOBAL: Final = {row.key: row.default for row in ROWS if not row.of_path and not row.is_own}
"""The settings of MediaMTX with their defaults, as in the ``mediamtx.yml`` that it ships."""
PATH: Final = {row.key: row.default for row in ROWS if row.of_path and not row.is_own}


def shipped() -> str:
    """Return the file that MediaMTX ships, without its comments. What is empty has no value there."""
    values: dict[str, Any] = {**GLOBAL, "pathDefaults": _empty_as_null(PATH), "paths": {"all_others": None}}
    return yaml_of(_empty_as_null(values))


def _empty_as_null(values: dict[str, Any]) -> dict[str, Any]:
    return {key: None if value == "" else value for key, value in values.items()}
