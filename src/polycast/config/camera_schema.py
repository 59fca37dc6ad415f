"""The settings of the Raspberry Pi Camera, which are part of those of a path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta

from polycast.config.camera_values import (
    AF_MODE,
    AF_RANGE,
    AF_SPEED,
    AREA,
    AWB,
    CODEC,
    DENOISE,
    EXPOSURE,
    FRAME_RATE,
    GAINS,
    METERING,
    MODE,
    NUMBER,
)
from polycast.config.command_schema import CommandConfiguration
from polycast.config.marks import NEW, ZERO_IS_A_VALUE, Heading
from polycast.config.spelling import yaml_key
from polycast.errors import ConfigurationError

MJPEG_SIZE_LIMIT: Final = 2048
"""Pixels: RTP has one byte for a size in units of 8 (RFC 2435 section 3.1.5)."""


class CameraConfiguration(CommandConfiguration, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=yaml_key):
    """The settings of a path whose source is the camera; structs can only have one base, so the commands are below."""

    rpi_camera_cam_id: Annotated[
        int,
        Heading("Raspberry Pi Camera", after="Conversion"),
        Meta(description="Number of the camera on boards with more than one."),
    ] = 0
    rpi_camera_secondary: Annotated[
        bool, NEW, Meta(description="A second stream of the camera. The camera program has none: such a path fails.")
    ] = False
    rpi_camera_width: Annotated[int, Meta(description="Width of the picture, in pixels.")] = 1280
    rpi_camera_height: Annotated[int, Meta(description="Height of the picture, in pixels.")] = 720
    rpi_camera_h_flip: Annotated[bool, NEW, Meta(description="Flip the picture horizontally.")] = False
    rpi_camera_v_flip: Annotated[bool, NEW, Meta(description="Flip the picture vertically.")] = False
    rpi_camera_brightness: Annotated[float, NUMBER, NEW, Meta(description="Brightness, from -1 to 1.")] = 0.0
    rpi_camera_contrast: Annotated[float, NUMBER, NEW, ZERO_IS_A_VALUE, Meta(description="Contrast, from 0 to 16.")] = (
        1.0
    )
    rpi_camera_saturation: Annotated[
        float, NUMBER, NEW, ZERO_IS_A_VALUE, Meta(description="Saturation, from 0 (grey) to 16.")
    ] = 1.0
    rpi_camera_sharpness: Annotated[
        float, NUMBER, NEW, ZERO_IS_A_VALUE, Meta(description="Sharpness, from 0 to 16.")
    ] = 1.0
    rpi_camera_exposure: Annotated[
        str, EXPOSURE, NEW, Meta(description="Exposure: 'normal', 'short', 'long' or 'custom'.")
    ] = "normal"
    rpi_camera_awb: Annotated[
        str,
        AWB,
        NEW,
        Meta(
            description=(
                "White balance: 'auto', 'incandescent', 'tungsten', 'fluorescent', 'indoor', 'daylight', 'cloudy' or "
                "'custom'."
            )
        ),
    ] = "auto"
    rpi_camera_awb_gains: Annotated[
        tuple[float, float],
        GAINS,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(description="Fixed gains of red and blue, such as [1.5, 2]. With [0, 0], rpiCameraAWB chooses them."),
    ] = (0.0, 0.0)
    rpi_camera_denoise: Annotated[
        str, DENOISE, NEW, Meta(description="Noise reduction: 'off', 'cdn_off', 'cdn_fast' or 'cdn_hq'.")
    ] = "off"
    rpi_camera_shutter: Annotated[
        int, NEW, ZERO_IS_A_VALUE, Meta(description="Fixed exposure time, in microseconds. 0: automatic.")
    ] = 0
    rpi_camera_metering: Annotated[
        str, METERING, NEW, Meta(description="Metering of the light: 'centre', 'spot', 'matrix' or 'custom'.")
    ] = "centre"
    rpi_camera_gain: Annotated[float, NUMBER, NEW, Meta(description="Fixed gain. 0: automatic.")] = 0.0
    rpi_camera_ev: Annotated[float, NUMBER, NEW, Meta(description="Exposure compensation, from -10 to 10.")] = 0.0
    rpi_camera_roi: Annotated[
        str, AREA, NEW, Meta(description="Part of the picture: x,y,width,height from 0 to 1. Empty: all of it.")
    ] = ""
    rpi_camera_hdr: Annotated[
        bool, NEW, Meta(description="High dynamic range of the sensor, with Camera Module 3.")
    ] = False
    rpi_camera_tuning_file: Annotated[
        str, NEW, Meta(description="File with the tuning of the camera, such as imx708_noir.json.")
    ] = ""
    rpi_camera_mode: Annotated[
        str, MODE, NEW, Meta(description="Mode of the sensor: width:height:bits:packing. Empty: the best one.")
    ] = ""
    rpi_camera_fps: Annotated[float, FRAME_RATE, Meta(description="Frames per second.")] = 30.0
    rpi_camera_af_mode: Annotated[
        str, AF_MODE, NEW, Meta(description="Focus: 'continuous', 'auto' (once, at the start) or 'manual'.")
    ] = "continuous"
    rpi_camera_af_range: Annotated[
        str, AF_RANGE, NEW, Meta(description="Range of the automatic focus: 'normal', 'macro' or 'full'.")
    ] = "normal"
    rpi_camera_af_speed: Annotated[
        str, AF_SPEED, NEW, Meta(description="Speed of the automatic focus: 'normal' or 'fast'.")
    ] = "normal"
    rpi_camera_lens_position: Annotated[
        float, NUMBER, NEW, Meta(description="Manual focus: 1 / distance in metres; 0 is infinity.")
    ] = 0.0
    rpi_camera_af_window: Annotated[
        str, AREA, NEW, Meta(description="Area of the automatic focus: x,y,width,height from 0 to 1.")
    ] = ""
    rpi_camera_flicker_period: Annotated[
        int,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(description="Period of the light's flicker, in microseconds: 10000 for 50 Hz, 8333 for 60 Hz. 0: none."),
    ] = 0
    rpi_camera_text_overlay_enable: Annotated[
        bool,
        NEW,
        Meta(
            description=(
                "Write rpiCameraTextOverlay into the picture. It needs the package rpicam-apps-opencv-postprocess."
            )
        ),
    ] = False
    rpi_camera_text_overlay: Annotated[
        str, NEW, Meta(description="Text in the picture, with the time in the form of strftime.")
    ] = "%Y-%m-%d %H:%M:%S - Polycast"
    rpi_camera_codec: Annotated[
        str,
        CODEC,
        NEW,
        Meta(
            description=(
                "Codec: 'auto' and 'hardwareH264' use the encoder of the board, or software on boards without one "
                "(Raspberry Pi 5); 'softwareH264' uses software; 'mjpeg'."
            )
        ),
    ] = "auto"
    rpi_camera_idr_period: Annotated[int, Meta(description="Number of frames from one key frame to the next.")] = 60
    rpi_camera_bitrate: Annotated[int, Meta(description="Bit rate, in bits per second.")] = 1_000_000
    rpi_camera_h264_profile: Annotated[
        str, Meta(description="H264 profile: baseline, main, high, or auto (the encoder's choice).")
    ] = "main"
    rpi_camera_h264_level: Annotated[str, Meta(description="H264 level: 4.0, 4.1 or 4.2.")] = "4.1"
    rpi_camera_mjpeg_quality: Annotated[
        int, NEW, ZERO_IS_A_VALUE, Meta(description="Quality of MJPEG, from 0 to 100.")
    ] = 60

    def broken_rules_of_camera(self) -> Iterator[ConfigurationError]:
        """Yield an error for each broken rule, if the source is the camera."""
        is_mjpeg = self.rpi_camera_codec == "mjpeg" or (self.rpi_camera_secondary and self.rpi_camera_codec == "auto")
        for key, size in (("rpiCameraWidth", self.rpi_camera_width), ("rpiCameraHeight", self.rpi_camera_height)):
            if size <= 0:
                yield ConfigurationError(f"invalid '{key}' value", (key,), ("source",))
            elif is_mjpeg and (size % 8 or size >= MJPEG_SIZE_LIMIT):
                text = f"'{key}' must be a multiple of 8 and less than {MJPEG_SIZE_LIMIT} when using MJPEG"
                yield ConfigurationError(text, (key,), ("rpiCameraCodec",), ("source",))
        if not self.rpi_camera_fps:
            yield ConfigurationError("'rpiCameraFPS' must be greater than zero", ("rpiCameraFPS",), ("source",))
        if not 0 <= self.rpi_camera_mjpeg_quality <= 100:
            yield ConfigurationError("'rpiCameraMJPEGQuality' must be from 0 to 100", ("rpiCameraMJPEGQuality",))
