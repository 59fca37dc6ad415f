"""A certificate for servers that speak TLS only, made with the ``openssl`` program."""

import subprocess
from pathlib import Path


def write_certificate(directory: Path) -> None:
    """Write ``server.key`` and ``server.crt`` (ECDSA, as most web servers have today)."""
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.crt",
        ],
        cwd=directory, check=True, capture_output=True,
    )  # fmt: skip
