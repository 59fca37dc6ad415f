"""The setting ``transcodeAudio`` of paths, for all protocols that convert sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from polycast.transcode.pyav import missing_for

if TYPE_CHECKING:
    from polycast.config.schema import Configuration
    from polycast.media.track import Track

TRANSCODE_KEY: Final = "transcodeAudio"


def find_missing(configuration: Configuration) -> str:
    """Return what the setting needs and is not installed, as a text for the user; empty for nothing."""
    is_used = any(path.transcode_audio for path in configuration.paths.values())
    return missing_for(TRANSCODE_KEY) if is_used else ""


def advice_to_convert(track: Track) -> str:
    """Return that the setting would make a skipped track audible, as the end of a sentence."""
    return f"; {TRANSCODE_KEY}: yes converts {track.codec_name} to AAC"
