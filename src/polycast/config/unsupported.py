"""Settings of a dialect whose feature does not exist here: they must not be ignored silently."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from polycast.config.dialects.base import Unsupported

_TRUE = frozenset({"yes", "true", "on"})
_FALSE = frozenset({"no", "false", "off"})
_ZERO = re.compile(r"0(\.0*)?(ns|us|ms|s|m|h|d|[BKMGT])?")


class Warned(Protocol):
    """Collects warnings."""

    def warn(self, text: str) -> None: ...


def check_unsupported(key: str, value: Any, setting: Unsupported, to: Warned) -> None:
    """Report the value of a setting that has no effect here, unless it is that of an unused feature."""
    if not has_effect(value, setting):
        return
    line = getattr(key, "line", 0)
    where = f"line {line}: " if line else ""
    to.warn(f"{where}'{key}' has no effect: {not_supported(setting)}")


def has_effect(value: Any, setting: Unsupported) -> bool:
    """Whether a value would change something if the feature existed."""
    if value is None or setting.is_detail:
        return False
    return plain(value) not in (plain(setting.default), *map(plain, setting.harmless))


def not_supported(setting: Unsupported) -> str:
    """Return what there is to say about a setting that has no effect here."""
    return f"this version does not support it{f': {setting.text}' if setting.text else ''}"


def plain(value: Any) -> Any:
    """Return a value in a form that is equal for all ways to write it: ``yes`` and true, ``0`` and ``0s``."""
    if isinstance(value, Mapping):
        items = ((str(key), plain(item)) for key, item in value.items())
        return {key: item for key, item in items if item not in ("", [])}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None:
        return ""
    text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
    if text.lower() in _TRUE:
        return "yes"
    if text.lower() in _FALSE:
        return "no"
    return "" if _ZERO.fullmatch(text) else text
