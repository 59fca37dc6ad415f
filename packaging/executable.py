"""Entry point of the single executable: adds what an installed interpreter has and this one lacks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

GUARD_ARGUMENTS = ["-I", "-S"]
"""Arguments that the server passes before the file when it runs the guard of external commands."""

CERTIFICATE_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS
)
"""The system's certificate authorities. The bundled OpenSSL only knows their path on the machine that built it."""


def main() -> int:
    arguments = sys.argv[1:]
    _restore_library_path()
    # There is no interpreter beside the executable: it is started itself, as the interpreter would be.
    if arguments[:2] == GUARD_ARGUMENTS and any(argument.endswith("command_guard.py") for argument in arguments[2:]):
        from polycast.control import command_guard

        command_guard.main()
        return 0
    _find_certificates()
    from polycast.cli import main as run

    return run(arguments)


def _restore_library_path() -> None:
    """Let commands, such as FFmpeg, load the system's libraries and not those that come along here."""
    for name in ("LD_LIBRARY_PATH", "LIBPATH"):
        original = os.environ.pop(f"{name}_ORIG", None)
        if original is not None:
            os.environ[name] = original
        else:
            os.environ.pop(name, None)


def _find_certificates() -> None:
    if sys.platform == "win32" or "SSL_CERT_FILE" in os.environ or "SSL_CERT_DIR" in os.environ:
        return
    import ssl

    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not (paths.capath and any(Path(paths.capath).iterdir())):
        found = next((file for file in CERTIFICATE_FILES if Path(file).is_file()), None)
        if found is not None:
            os.environ["SSL_CERT_FILE"] = found


if __name__ == "__main__":
    sys.exit(main())
