"""The rules for the settings of recordings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final, Protocol

from polycast.config.schedule import parse_period
from polycast.config.upload import parse_upload_address
from polycast.config.values import SECONDS_PER_DAY, Duration, InvalidValueError, Size
from polycast.errors import ConfigurationError

DEFAULT_RECORD_PATH: Final = "./recordings/%path/%Y-%m-%d_%H-%M-%S-%f"

_DATE: Final = ("%Y", "%m", "%d", "%H", "%M", "%S")


class RecordSettings(Protocol):
    """The settings of a path."""

    @property
    def record_schedule(self) -> tuple[str, ...]: ...
    @property
    def record_upload(self) -> str: ...
    @property
    def record_path(self) -> str: ...
    @property
    def record_part_duration(self) -> Duration: ...
    @property
    def record_max_part_size(self) -> Size: ...
    @property
    def record_segment_duration(self) -> Duration: ...
    @property
    def record_delete_after(self) -> Duration: ...


def recording_errors(path: RecordSettings) -> Iterator[ConfigurationError]:
    """Yield an error for each violated rule of a path's settings."""
    for index, period in enumerate(path.record_schedule):
        try:
            parse_period(period)
        except InvalidValueError as error:
            yield ConfigurationError(f"'recordSchedule[{index}]': {error}", ("recordSchedule",))
    if path.record_upload:
        try:
            parse_upload_address(path.record_upload)
        except InvalidValueError as error:
            yield ConfigurationError(f"'recordUpload': {error}", ("recordUpload",))
    template = path.record_path
    if "%path" not in template:
        yield ConfigurationError("'recordPath' must contain %path", ("recordPath",))
    if "%s" not in template and not all(code in template for code in _DATE):
        yield ConfigurationError("'recordPath' must contain either %s or %Y %m %d %H %M %S", ("recordPath",))
    _, _, variable = template.partition("%")
    if ".." in re.split(r"[/\\]" if os.sep == "\\" else "/", variable):
        yield ConfigurationError("'recordPath' can't contain '..' behind a variable", ("recordPath",))
    if not path.record_part_duration:
        yield ConfigurationError("'recordPartDuration' must be greater than zero", ("recordPartDuration",))
    if path.record_max_part_size <= 0:
        yield ConfigurationError("'recordMaxPartSize' must be greater than zero", ("recordMaxPartSize",))
    if not path.record_segment_duration:
        yield ConfigurationError("'recordSegmentDuration' must be greater than zero", ("recordSegmentDuration",))
    if path.record_segment_duration > SECONDS_PER_DAY:
        yield ConfigurationError("maximum segment duration is 1 day", ("recordSegmentDuration",))
    if 0 < path.record_delete_after < path.record_segment_duration:
        yield ConfigurationError(
            "'recordDeleteAfter' cannot be lower than 'recordSegmentDuration'",
            ("recordDeleteAfter",),
            ("recordSegmentDuration",),
        )
