"""Values of the settings of the Raspberry Pi Camera."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from polycast.config.kinds import TEXT, TEXTS, Kind, parse_each
from polycast.config.values import InvalidValueError
from polycast.errors import ConfigurationError

_NUMBER: Final = re.compile(r"[-+]?(\d{1,15}(\.\d{0,15})?|\.\d{1,15})([eE][-+]?\d{1,2})?", re.ASCII)
_RECTANGLE: Final = 4
"""Numbers: x, y, width, height."""
_MAXIMUM_FRAME_RATE: Final = 1000
_MODE: Final = re.compile(r"\d{1,5}:\d{1,5}(:\d{1,2}(:[PUpu])?)?", re.ASCII)
_GAINS: Final = 2
"""Numbers: red and blue."""


def _number(value: Any) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidValueError(f"'{value}' is not a number")
    return float(value)


def _frame_rate(value: Any) -> float:
    number = _number(value)
    if not 0 <= number <= _MAXIMUM_FRAME_RATE:
        raise InvalidValueError(f"{plain_number(number)} is out of range (0 to {_MAXIMUM_FRAME_RATE})")
    return number


def plain_number(value: float) -> int | float:
    """Return a number as an integer if it is one."""
    return int(value) if value.is_integer() else value


def _gains(value: Any) -> tuple[float, float]:
    numbers = parse_each(_number, value if isinstance(value, list | tuple) else TEXTS.parse(value))
    if len(numbers) != _GAINS:
        raise ConfigurationError(
            "invalid 'rpiCameraAWBGains' value (write the gains of red and blue, such as [1.5, 2])"
        )
    return numbers[0], numbers[1]


def _dump_gains(value: Sequence[float]) -> list[int | float]:
    return [plain_number(number) for number in value]


def _rectangle(value: Any) -> str:
    text = str(TEXT.parse(value))
    parts = text.split(",") if text else []
    if parts and (len(parts) != _RECTANGLE or not all(0 <= _number(part.strip()) <= 1 for part in parts)):
        raise InvalidValueError(
            f"'{text}' is not an area (write x,y,width,height from 0 to 1, such as 0.25,0.25,0.5,0.5)"
        )
    return text.replace(" ", "")


def _mode(value: Any) -> str:
    text = str(TEXT.parse(value))
    if text and not _MODE.fullmatch(text):
        raise InvalidValueError(f"'{text}' is not a mode (write width:height:bits:packing, such as 2304:1296:10:P)")
    return text


def one_of(key: str, *values: str) -> Kind:
    """Return the kind of a setting that is one of some words, with the error of MediaMTX."""
    return Kind("choice", _one_of(f"invalid '{key}' value", values), str, {"enum": [*values]})


def _one_of(message: str, values: Sequence[str]) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        text = str(TEXT.parse(value))
        if text not in values:
            raise ConfigurationError(f"{message} (it is '{text}', and can be one of: {', '.join(values)})")
        return text

    return parse


NUMBER: Final = Kind("number", _number, plain_number, {"type": "number"})
FRAME_RATE: Final = Kind(NUMBER.label, _frame_rate, plain_number, NUMBER.schema)
GAINS: Final = Kind("two numbers", _gains, _dump_gains, {"type": "array", "items": {"type": "number"}})
AREA: Final = Kind(TEXT.label, _rectangle, str, TEXT.schema)
MODE: Final = Kind(TEXT.label, _mode, str, TEXT.schema)
EXPOSURE: Final = one_of("rpiCameraExposure", "normal", "short", "long", "custom")
AWB: Final = one_of(
    "rpiCameraAWB", "auto", "incandescent", "tungsten", "fluorescent", "indoor", "daylight", "cloudy", "custom"
)
DENOISE: Final = one_of("rpiCameraDenoise", "off", "cdn_off", "cdn_fast", "cdn_hq")
METERING: Final = one_of("rpiCameraMetering", "centre", "spot", "matrix", "custom")
AF_MODE: Final = one_of("rpiCameraAfMode", "auto", "manual", "continuous")
AF_RANGE: Final = one_of("rpiCameraAfRange", "normal", "macro", "full")
AF_SPEED: Final = one_of("rpiCameraAfSpeed", "normal", "fast")
_CODECS: Final = ("auto", "hardwareH264", "softwareH264", "mjpeg")
CODEC: Final = Kind(
    "choice",
    _one_of(f"supported codecs for a RPI Camera stream are {', '.join(_CODECS)}", _CODECS),
    str,
    {"enum": [*_CODECS]},
)
