"""Polycast's own configuration: ``polycast.yml`` and variables ``POLYCAST_...``. Its names are the canonical ones."""

from __future__ import annotations

from typing import Final

from polycast.config.dialects.base import Dialect
from polycast.config.dialects.former import FORMER_NAMES, FORMER_NAMES_OF_PATH, MOVED
from polycast.config.dialects.mediamtx_unsupported import UNSUPPORTED, UNSUPPORTED_OF_PATH
from polycast.config.kinds import DURATION, DURATION_WITH_DAYS

POLYCAST: Final = Dialect(
    name="polycast",
    file="polycast.yml",
    prefixes=("RTSP_", "POLYCAST_"),
    old_prefixes=("RTSP_",),
    has_other_variables=True,
    names_of_all=("all_others", "all"),
    has_path_defaults=True,
    empty_is_default=True,
    kinds={DURATION: DURATION_WITH_DAYS},
    defaults={"logFile": "polycast.log", "sysLogPrefix": "polycast", "webrtc": True, "srt": True},
    deprecated=FORMER_NAMES,
    path_deprecated=FORMER_NAMES_OF_PATH,
    moved=MOVED,
    unsupported=UNSUPPORTED,
    path_unsupported=UNSUPPORTED_OF_PATH,
)
