"""Profiles of the running server over HTTP, for ``go tool pprof``."""

from __future__ import annotations

import asyncio
import contextlib
import html
import sys
import threading
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from polycast.control import sampling
from polycast.control.profile_proto import Profile

if TYPE_CHECKING:
    from starlette.types import ASGIApp

DEFAULT_SECONDS: Final = 30.0
MAXIMUM_SECONDS: Final = 600.0

# Seconds without a request after which the recording of allocations stops: it slows the server down.
HEAP_IDLE_SECONDS: Final = 600.0

PROFILES: Final = {
    "profile": "CPU time by function: ?seconds=30. Costs 1 to 3 % of a core while it runs.",
    "heap": "Memory by function. The first request starts recording allocations, which makes each of them about "
    "2 microseconds slower, and a busy server several times slower, until ten minutes after the last request or "
    "until ?stop=1.",
    "goroutine": "Tasks and threads, and what they are waiting for; as text with ?debug=1.",
    "cmdline": "The command that started the server.",
}


class Profiles:
    """Takes one CPU profile at a time."""

    def __init__(self) -> None:
        self._sampling: sampling.CpuSampler | None = None
        self._heap_timer: asyncio.TimerHandle | None = None

    def application(self) -> ASGIApp:
        """Return the ASGI application that serves ``/debug/pprof/``."""
        routes = [
            Route("/debug/pprof", _to_index),
            Route("/debug/pprof/", _index),
            Route("/debug/pprof/profile", self._profile, methods=["GET"]),
            Route("/debug/pprof/heap", self._heap, methods=["GET"]),
            Route("/debug/pprof/allocs", self._heap, methods=["GET"]),
            Route("/debug/pprof/goroutine", _goroutine, methods=["GET"]),
            Route("/debug/pprof/cmdline", _command_line, methods=["GET"]),
            Route("/debug/pprof/symbol", _symbol, methods=["GET", "POST"]),
        ]
        return Starlette(routes=routes)

    def close(self) -> None:
        """Stop recording allocations. A CPU profile ends with its request."""
        self._stop_heap()

    async def _profile(self, request: Request) -> Response:
        try:
            seconds = float(request.query_params.get("seconds", DEFAULT_SECONDS))
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= MAXIMUM_SECONDS:
            return PlainTextResponse(f"seconds must be more than 0 and at most {MAXIMUM_SECONDS:g}\n", 400)
        if self._sampling is not None:
            return PlainTextResponse("a profile is already being recorded\n", 409)
        self._sampling = sampling.CpuSampler()
        self._sampling.start()
        try:
            await asyncio.sleep(seconds)
        finally:  # also if the client has disconnected
            profile = self._sampling.stop()
            self._sampling = None
        return await _answer(profile, "profile")

    async def _heap(self, request: Request) -> Response:
        if "stop" in request.query_params:
            self._stop_heap()
            return PlainTextResponse("allocations are no longer recorded\n")
        started = sampling.start_tracing()
        if self._heap_timer is not None:
            self._heap_timer.cancel()
        self._heap_timer = asyncio.get_running_loop().call_later(HEAP_IDLE_SECONDS, self._stop_heap)
        profile = await asyncio.to_thread(sampling.sample_heap)
        if started:
            profile.comments = (*profile.comments, "the recording has just started: try again later")
        return await _answer(profile, "heap")

    def _stop_heap(self) -> None:
        if self._heap_timer is not None:
            self._heap_timer.cancel()
            self._heap_timer = None
            sampling.stop_tracing()


async def _answer(profile: Profile, name: str) -> Response:
    data = await asyncio.to_thread(profile.encode)
    return Response(
        data,
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


async def _goroutine(request: Request) -> Response:
    if request.query_params.get("debug", "0") != "0":
        return PlainTextResponse(sampling.describe_tasks())
    return await _answer(sampling.sample_tasks(), "goroutine")


async def _command_line(_: Request) -> Response:
    return PlainTextResponse("\0".join(sys.orig_argv))


async def _symbol(_: Request) -> Response:
    # pprof requests names of addresses here; these profiles already contain names.
    return PlainTextResponse("num_symbols: 1\n")


async def _to_index(_: Request) -> Response:
    return RedirectResponse("/debug/pprof/", 301)


async def _index(_: Request) -> Response:
    rows = "".join(f'<p><a href="{name}">{name}</a>: {html.escape(text)}</p>' for name, text in PROFILES.items())
    with contextlib.suppress(RuntimeError):
        rows += f"<p>{len(asyncio.all_tasks())} tasks, {threading.active_count()} threads</p>"
    return Response(f"<!DOCTYPE html><title>/debug/pprof/</title><h1>/debug/pprof/</h1>{rows}", media_type="text/html")
