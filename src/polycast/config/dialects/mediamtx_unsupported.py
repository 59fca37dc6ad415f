"""The settings of MediaMTX v1 without a feature here. A row goes when its feature comes."""

from __future__ import annotations

from typing import Final

from polycast.config.dialects.base import Unsupported

_NO_MOQ: Final = "there is no MoQ server"


def _detail(default: object) -> Unsupported:
    return Unsupported(default, is_detail=True)


UNSUPPORTED: Final = {
    "moq": Unsupported("yes", _NO_MOQ, harmless=("no",)),
    "moqHTTP2Address": Unsupported(":8892", _NO_MOQ),
    "moqHTTP3Address": Unsupported(":8892", _NO_MOQ),
    "moqHTTPS2Address": Unsupported(":8892", _NO_MOQ),
    "moqHTTPS3Address": Unsupported(":8892", _NO_MOQ),
    "moqQUICAddress": Unsupported(":8893", _NO_MOQ),
    "moqServerKey": Unsupported("auto.key", _NO_MOQ),
    "moqServerCert": Unsupported("auto.crt", _NO_MOQ),
    "moqAllowOrigins": Unsupported(["*"], _NO_MOQ),
    "moqTrustedProxies": Unsupported([], _NO_MOQ),
}

UNSUPPORTED_OF_PATH: Final = {
    "playback": Unsupported("", harmless=("no", "yes")),
    "moqTransport": _detail("quic"),
    "rpiCameraSoftwareH264Profile": Unsupported("baseline", "rpiCameraH264Profile applies to all encoders"),
    "rpiCameraSoftwareH264Level": Unsupported("4.1", "rpiCameraH264Level applies to all encoders"),
}
