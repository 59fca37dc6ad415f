"""A server that lets a Python function decide who may publish and read.

python authentication.py
ffmpeg -re -i file.mp4 -c copy -f rtsp rtsp://camera:secret@localhost:8554/cam
ffplay rtsp://viewer:watch@localhost:8554/cam
"""

from __future__ import annotations

import argparse
import hmac

import polycast

USERS = {"camera": ("secret", {"publish", "read"}), "viewer": ("watch", {"read"})}
"""Password and permitted actions of each user. In your program, ask your database."""


def authenticate(request: polycast.AuthenticationRequest) -> bool:
    """Decide whether a client may do what it asks. This runs in a worker thread, so it may block."""
    password, actions = USERS.get(request.user, ("", set()))
    known = hmac.compare_digest(password, request.password) and bool(password)
    allowed = known and request.action in actions
    print(f"{request.action} {request.path} by '{request.user}': {'yes' if allowed else 'no'}", flush=True)
    return allowed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, help="stop after so many seconds")
    parser.add_argument("--any-port", action="store_true", help="let the system choose the ports")
    options = parser.parse_args()

    configuration = {"rtspAddress": "127.0.0.1:0"} if options.any_port else None
    with polycast.Server(configuration, authenticate=authenticate) as server:
        print(f"server: {server.url()}", flush=True)
        server.wait(options.seconds)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
