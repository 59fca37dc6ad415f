"""nginx with its RTMP module (Debian: nginx-light and libnginx-mod-rtmp), measured alongside our server."""

import shutil
import tempfile
from pathlib import Path

from bench.model import Setup, Subject

MODULES = (
    Path("/usr/lib/nginx/modules/ngx_rtmp_module.so"),
    Path("/usr/lib64/nginx/modules/ngx_rtmp_module.so"),
)
SEARCH_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"

_CONFIGURATION = """\
load_module {module};
daemon off;
master_process off;
pid {pid};
error_log stderr error;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
rtmp {{
  access_log off;
  server {{
    listen 127.0.0.1:{port};
    application live {{ live on; }}
  }}
}}
"""


def find() -> Subject | None:
    """nginx as one process with the settings that its module has by default; None if it is not installed."""
    program = shutil.which("nginx", path=SEARCH_PATH)
    module = next((path for path in MODULES if path.exists()), None)
    if program is None or module is None:
        return None
    command = [program, "-e", "stderr", "-c", "{config}"]

    def configure(setup: Setup) -> str:
        return _CONFIGURATION.format(module=module, port=setup.port, pid=pid_file(setup.port))

    return Subject("nginx-rtmp", command, configure)


def pid_file(port: int) -> Path:
    """Return where nginx shall write its process id. It removes the file when it ends, so it must be a real one."""
    return Path(tempfile.gettempdir()) / f"bench-nginx-{port}.pid"
