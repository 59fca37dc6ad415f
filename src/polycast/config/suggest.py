"""Suggestions for keys that do not exist."""

from __future__ import annotations

from polycast.config.dialects.views import View
from polycast.config.foreign import foreign_key, is_unsupported_key, renamed_key
from polycast.config.reports import UnknownKeyError
from polycast.config.similar import closest


def unknown_key(key: str, view: View, *, of_path: bool = False, is_map: bool = False) -> UnknownKeyError:
    """Return the error for a key that does not exist in its context; ``is_map``: its value is a map."""
    meant = ""
    here, elsewhere = view.accepted, view.path_accepted
    if of_path:
        here, elsewhere = elsewhere, here
    candidates = tuple(key for key, field in here.items() if not field.is_former)
    if not of_path:
        candidates += ("paths",)
    if key in elsewhere:
        hint = (
            "a setting of the whole server: write it at the top, not below a path"
            if of_path
            else f"a setting of a path: write it below 'paths:' and the name of the path, as in 'all: {{{key}: ...}}'"
        )
    elif renamed := renamed_key(key, of_path=of_path):
        hint = renamed
    elif meant := closest(key, candidates, 0.9):
        hint = f"did you mean '{meant}'?"
    elif foreign := foreign_key(key, view, of_path=of_path):
        hint = foreign
    elif meant := closest(key, candidates):
        hint = f"did you mean '{meant}'?"
    elif is_map and not of_path:
        hint = "if it is a path, indent it below 'paths:'"
    else:
        hint = "docs/configuration.md lists all settings"
    shown, colon, _ = key.partition(":")  # the rest may be a password
    if colon:
        hint = "write a blank after the colon"
    text = view.unknown_parameter.replace("%s", f"{shown}{colon}{'***' if colon else ''}")
    is_unsupported = is_unsupported_key(key, view, of_path=of_path)
    error = UnknownKeyError(text, hint, meant, is_unsupported=is_unsupported)
    error.line = getattr(key, "line", 0)
    return error
