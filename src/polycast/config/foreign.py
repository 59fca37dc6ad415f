"""Settings of other servers, for the error that names their equivalent in the dialect of rtsp-simple-server."""

from __future__ import annotations

from typing import Final

from polycast.config.dialects.legacy import LEGACY
from polycast.config.dialects.mediamtx import MEDIAMTX
from polycast.config.dialects.views import View, view_of
from polycast.config.kinds import NEGATED
from polycast.config.unsupported import not_supported

_WHAT_TO_DO: Final = (
    "for a file of MediaMTX, name it mediamtx.yml, write 'dialect: mediamtx' into it, or start with --dialect "
    "mediamtx; see docs/migrate.md"
)
_MEANT: Final = {
    "pathDefaults": "here: the settings of the path 'all' for names without a path of their own; no path inherits them",
}
"""Settings that have an equivalent in another form."""
_GO2RTC: Final = frozenset({"streams", "ffmpeg", "homekit", "ngrok", "hass", "preload", "publish"})

OTHER_NAMES_OF_ALL: Final = frozenset({"all_others"})
"""What another server calls the entry ``all``."""


def renamed_key(key: str, *, of_path: bool) -> str:
    """Return the message about a key of MediaMTX with an equivalent of another name here; otherwise empty."""
    form = (LEGACY.path_forms if of_path else LEGACY.forms).get(key)
    meant = _MEANT.get(key, "") if not of_path else ""
    if form is not None and form.key:
        meant = f"here: {form.key}{', with the opposite value' if form.kind is NEGATED else ''}"
    return f"a setting of MediaMTX ({meant}); {_WHAT_TO_DO}" if meant else ""


def is_unsupported_key(key: str, here: View, *, of_path: bool) -> bool:
    """Whether a key of MediaMTX was used in its own API, but its feature does not exist here."""
    return here is view_of(MEDIAMTX) and key in (MEDIAMTX.path_unsupported if of_path else MEDIAMTX.unsupported)


def foreign_key(key: str, here: View, *, of_path: bool) -> str:
    """Return the message about a key of another server than that of ``here``; empty if no known server has it."""
    renamed = renamed_key(key, of_path=of_path)
    if renamed:
        return renamed
    view = view_of(MEDIAMTX)
    if setting := (MEDIAMTX.path_unsupported if of_path else MEDIAMTX.unsupported).get(key):
        if is_unsupported_key(key, here, of_path=of_path):
            return not_supported(setting)
        return f"a setting of MediaMTX that does not exist here; {_WHAT_TO_DO}"
    if key in (view.path_deprecated if of_path else view.deprecated):
        return f"a setting of MediaMTX; {_WHAT_TO_DO}"
    if key in _GO2RTC and not of_path:
        return "a setting of go2rtc; here, sources are written below 'paths:', as in 'cam: {source: rtsp://...}'"
    return ""
