"""Nothing that may block runs on the loop while streams run: no file is opened, no name resolved, nothing imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Reports what blocks on the thread of the loop, with the function of Polycast that does it.
PROGRAM = """
import asyncio, json, logging, os, shutil, ssl, sys, threading
from pathlib import Path

import httpx2
import trustme
from polycast.app import Application
from polycast.config import load, load_bytes
from polycast.log import LogOutput

KEYS = '''
rtspAddress: HOST:0
protocols: [tcp, udp]
rtpAddress: HOST:0
rtcpAddress: HOST:0
encryption: TLS
rtspsAddress: HOST:0
rtmpAddress: HOST:0
rtmpsAddress: HOST:0
rtmpEncryption: TLS
hlsAddress: HOST:0
hlsEncryption: YES
webrtc: YES
webrtcAddress: HOST:0
webrtcEncryption: YES
webrtcLocalUDPAddress: HOST:0
webrtcAdditionalHosts: [HOST]
webrtcTranscodeAudio: YES
api: YES
apiAddress: HOST:0
apiEncryption: YES
metrics: YES
metricsAddress: HOST:0
logDestinations: [file]
logFile: HOST.log
paths:
  all:
'''
SOURCES = '''
  a: {source: rtsps://localhost:1/a}
  b: {source: rtmps://localhost:1/a}
  c: {source: https://localhost:1/a}
  d: {source: wheps://localhost:1/a}
  e: {source: rpiCamera}
  f: {runOnReady: no-such-program}
'''
BEFORE = KEYS.replace("HOST", "127.0.0.1").replace("TLS", "no").replace("YES", "no")
AFTER = KEYS.replace("HOST", "localhost").replace("TLS", "optional").replace("YES", "yes") + SOURCES
EVENTS = ("open", "socket.getaddrinfo", "os.listdir", "os.scandir", "import")
STANDARD = ("resource",)  # parts of the standard library that take no time

found = set()
is_watching = False
loop_thread = threading.get_ident()

def note(what):
    if not is_watching or threading.get_ident() != loop_thread:
        return
    frame = sys._getframe(1)
    while frame is not None and "/polycast/" not in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is not None:
        found.add(f"{Path(frame.f_code.co_filename).name}: {frame.f_code.co_name}: {what}")

def on_event(event, arguments):
    if event in EVENTS and isinstance(arguments[0], str) and not arguments[0].startswith(("/proc/", *STANDARD)):
        note(f"{event} {arguments[0]}")

def watch(owner, name):
    original = getattr(owner, name)

    def watched(*arguments, **options):
        note(name)
        return original(*arguments, **options)

    setattr(owner, name, watched)

watch(shutil, "which")
watch(ssl.SSLContext, "load_cert_chain")
watch(ssl.SSLContext, "load_default_certs")
sys.addaudithook(on_event)

def write_certificate():
    made = trustme.CA().issue_cert("localhost")
    made.private_key_pem.write_to_path("server.key")
    made.cert_chain_pems[0].write_to_path("server.crt")

async def request_pages(app):
    ports = {name: (server.ports[key], paths) for name, key, paths in (
        ("HLS", "hlsAddress", ("/", "/x/", "/x/index.m3u8")), ("WebRTC", "webrtcAddress", ("/x/", "/x/publish")),
    ) for server in (app.servers[name],)}
    ports["API"] = app.control.ports["apiAddress"], (
        *("/", "/static/app.js", "/v1/server/status", "/v1/server/log", "/v1/config/get", "/openapi.json"),
    )
    async with httpx2.AsyncClient(verify=False, trust_env=False) as client:
        for port, paths in ports.values():
            for path in paths:
                await client.get(f"https://localhost:{port}{path}")
        await client.get(f"http://localhost:{app.control.ports['metricsAddress']}/metrics")

async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)

async def add_included(app, name):
    Path("conf.d", f"{name}.yml").write_text(f"paths: {{{name}: }}")
    await until(lambda: name in app.hub.paths)

async def main():
    global is_watching
    write_certificate()
    Path("server.yml").write_text(BEFORE + "include: conf.d/*.yml")
    Path("conf.d").mkdir()
    app = Application(load("server.yml", {}), log_output=LogOutput(logging.getLogger("polycast")))
    await app.start()
    for name in "gh":  # the second one is found by what the first one started, which imports modules
        await add_included(app, name)
    new = load_bytes(AFTER.encode(), {}).configuration
    is_watching = True
    await app.reload(new)
    await until(lambda: all(app.hub.paths[name].source_failure for name in "abcde"))
    await request_pages(app)
    is_watching = False
    write_certificate()
    is_watching = True
    for server in app.servers.values():
        if server._certificate is not None:
            server._certificate._next_check = 0.0
            server.housekeeping.begin_round()
    await until(lambda: Path("localhost.log").read_text().count("the certificate was reloaded") == 4)
    await add_included(app, "i")
    await app.stop()
    is_watching = False
    print(json.dumps(sorted(found)))

asyncio.run(main())
"""


def test_nothing_blocks_the_loop(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\n".join(json.loads(done.stdout.splitlines()[-1])) == ""
