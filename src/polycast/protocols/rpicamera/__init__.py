"""The camera of a Raspberry Pi, read through the system's camera program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polycast.config.declarations import SourceKind
from polycast.protocols.base import Protocol, Pull

if TYPE_CHECKING:
    from polycast.protocols.pull import Puller


def _load_puller() -> type[Puller]:
    from polycast.protocols.rpicamera.source import RpiCameraPuller

    return RpiCameraPuller


PROTOCOL = Protocol(
    name="Raspberry Pi Camera",
    pulls=(Pull(SourceKind(name="rpiCamera", word="rpiCamera"), _load_puller),),
)
