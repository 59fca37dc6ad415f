"""GStreamer's RTSP server, for the system's own Python (Debian: gir1.2-gst-rtsp-server-1.0, python3-gi).

Its argument is a JSON object:

    host                  the address that it listens on
    port, tls_port        where it listens: RTSP and RTSPS
    certificate, key      files in PEM
    mounts                {"name": {"pipeline": a GStreamer pipeline, "transports": ["UDP", "UDP_MCAST", "TCP"]}}
    group                 [first address, last address, first port, last port] for multicast

Each client gets a pipeline of its own, which begins at the start of the file. Prints "listening" when it does.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

ROLE = "anyone"
TIME_TO_LIVE = 1


def make_factory(mount: dict[str, Any], group: list[Any]) -> Any:
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {mount['pipeline']} )")
    transports = GstRtsp.RTSPLowerTrans(0)
    for name in mount["transports"]:
        transports |= getattr(GstRtsp.RTSPLowerTrans, name)
    factory.set_protocols(transports)
    pool = GstRtspServer.RTSPAddressPool()
    pool.add_range(*group, TIME_TO_LIVE)
    factory.set_address_pool(pool)
    permissions = GstRtspServer.RTSPPermissions()
    for permission in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role(ROLE, permission, True)
    factory.set_permissions(permissions)
    return factory


def make_server(port: int, settings: dict[str, Any], certificate: Any) -> Any:
    server = GstRtspServer.RTSPServer()
    server.set_address(settings["host"])
    server.set_service(str(port))
    mounts = server.get_mount_points()
    for name, mount in settings["mounts"].items():
        mounts.add_factory(f"/{name}", make_factory(mount, settings["group"]))
    authentication = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", ROLE)
    authentication.set_default_token(token)
    if certificate is not None:
        authentication.set_tls_certificate(certificate)
    server.set_auth(authentication)
    if not server.attach(None):
        sys.exit(f"port {port} cannot be listened on")
    return server


def main() -> None:
    settings = json.loads(sys.argv[1])
    Gst.init(None)
    certificate = Gio.TlsCertificate.new_from_files(settings["certificate"], settings["key"])
    servers = [
        make_server(settings["port"], settings, None),
        make_server(settings["tls_port"], settings, certificate),
    ]
    print("listening", len(servers), flush=True)
    GLib.MainLoop().run()


main()
