"""The options of ``rpicam-vid`` for the settings of a path."""

from __future__ import annotations

import json
from typing import Final

from polycast.config.camera_values import plain_number
from polycast.config.path_schema import PathConfiguration

Options = dict[str, str | int | float]

_OTHER_NAMES: Final = {"short": "sport", "matrix": "average"}
"""What older versions of the program call a value; newer ones know both names."""

_SOFTWARE: Final = {"codec": "libav", "libav-video-codec": "libx264", "libav-format": "h264"}


def arguments(configuration: PathConfiguration, overlay_file: str = "") -> list[str]:
    """Return the options of the program. ``overlay_file``: where `overlay` was written; empty: no text."""
    options: Options = {
        "camera": configuration.rpi_camera_cam_id,
        "width": configuration.rpi_camera_width,
        "height": configuration.rpi_camera_height,
        "framerate": plain_number(configuration.rpi_camera_fps),
        "denoise": configuration.rpi_camera_denoise,
        **_picture_options(configuration),
        **_focus_options(configuration),
        **_codec_options(configuration),
        "timeout": 0,
        "output": "-",
    }
    if overlay_file:
        options["post-process-file"] = overlay_file
    pairs = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    switches = {
        "hflip": configuration.rpi_camera_h_flip,
        "vflip": configuration.rpi_camera_v_flip,
        "hdr": configuration.rpi_camera_hdr,
    }
    return [*pairs, "--inline", "--flush", "--nopreview", *(f"--{name}" for name, is_on in switches.items() if is_on)]


def overlay(text: str) -> str:
    """Return the file that tells the program to write a text into the picture, with the time in place of ``%H``."""
    return json.dumps({"annotate_cv": {"text": text, "fg": 255, "bg": 0, "scale": 1.0, "thickness": 2, "alpha": 0.3}})


def _picture_options(configuration: PathConfiguration) -> Options:
    red, blue = map(plain_number, configuration.rpi_camera_awb_gains)
    return _different(
        {
            "brightness": (configuration.rpi_camera_brightness, 0),
            "contrast": (configuration.rpi_camera_contrast, 1),
            "saturation": (configuration.rpi_camera_saturation, 1),
            "sharpness": (configuration.rpi_camera_sharpness, 1),
            "exposure": (configuration.rpi_camera_exposure, "normal"),
            "awb": (configuration.rpi_camera_awb, "auto"),
            "awbgains": (f"{red},{blue}", "0,0"),
            "shutter": (configuration.rpi_camera_shutter, 0),
            "metering": (configuration.rpi_camera_metering, "centre"),
            "gain": (configuration.rpi_camera_gain, 0),
            "ev": (configuration.rpi_camera_ev, 0),
            "roi": (configuration.rpi_camera_roi, ""),
            "tuning-file": (configuration.rpi_camera_tuning_file, ""),
            "mode": (configuration.rpi_camera_mode, ""),
            "flicker-period": (configuration.rpi_camera_flicker_period, 0),
        }
    )


def _focus_options(configuration: PathConfiguration) -> Options:
    is_manual = configuration.rpi_camera_af_mode == "manual"
    return _different(
        {
            "autofocus-mode": (configuration.rpi_camera_af_mode, "continuous"),
            "autofocus-range": (configuration.rpi_camera_af_range, "normal"),
            "autofocus-speed": (configuration.rpi_camera_af_speed, "normal"),
            "autofocus-window": (configuration.rpi_camera_af_window, ""),
            "lens-position": (configuration.rpi_camera_lens_position if is_manual else "", ""),
        }
    )


def _different(values: dict[str, tuple[str | float, str | float]]) -> Options:
    """Return those of some values that are not the program's defaults, the second ones: older versions lack some of
    the options."""
    return {
        name: _OTHER_NAMES.get(value, value) if isinstance(value, str) else plain_number(float(value))
        for name, (value, default) in values.items()
        if value != default
    }


def _codec_options(configuration: PathConfiguration) -> Options:
    if configuration.rpi_camera_codec == "mjpeg":
        return {"codec": "mjpeg", "quality": configuration.rpi_camera_mjpeg_quality}
    options: Options = {
        "intra": configuration.rpi_camera_idr_period,
        "bitrate": configuration.rpi_camera_bitrate,
        "profile": configuration.rpi_camera_h264_profile,
        # The program says 4 for 4.0.
        "level": configuration.rpi_camera_h264_level.removesuffix(".0"),
        **(_SOFTWARE if configuration.rpi_camera_codec == "softwareH264" else {"codec": "h264"}),
    }
    if configuration.rpi_camera_h264_profile == "auto":
        del options["profile"]  # the encoder's own choice
    return options
