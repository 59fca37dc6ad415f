"""Movements (ONVIF PTZ Service Specification section 5.3)."""

from __future__ import annotations

from polycast.wire.onvif.device import PTZ, SCHEMA
from polycast.wire.onvif.document import element, text


def continuous_move(profile: str, pan: float, tilt: float, zoom: float, seconds: float) -> str:
    """Return the request to move at a speed, for some seconds."""
    velocity = element(
        "Velocity",
        element("PanTilt", x=f"{pan:.3f}", y=f"{tilt:.3f}", xmlns=SCHEMA) if pan or tilt else "",
        element("Zoom", x=f"{zoom:.3f}", xmlns=SCHEMA) if zoom else "",
    )
    timeout = element("Timeout", f"PT{seconds:.3f}S")
    return element("ContinuousMove", element("ProfileToken", text(profile)), velocity, timeout, xmlns=PTZ)


def stop(profile: str) -> str:
    """Return the request to stop all movements."""
    axes = element("PanTilt", "true") + element("Zoom", "true")
    return element("Stop", element("ProfileToken", text(profile)), axes, xmlns=PTZ)


def goto_preset(profile: str, preset: str) -> str:
    """Return the request to move to a place that the camera remembers."""
    return element(
        "GotoPreset", element("ProfileToken", text(profile)), element("PresetToken", text(preset)), xmlns=PTZ
    )
