"""Single pictures as image files: what is refused."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest

from polycast.errors import UnsupportedCodec
from polycast.media.codec import MJPEG
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.transcode import pictures

av: Any = pytest.importorskip("av")

WIDTH, HEIGHT = 320, 240


def encoded(encoder: str) -> Iterator[Any]:
    context: Any = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
    context.time_base = Fraction(1, 25)
    picture = av.VideoFrame(WIDTH, HEIGHT, "yuvj420p")
    picture.pts = 0
    yield from (*context.encode(picture), *context.encode(None))


def film() -> bytes:
    """Return an MP4 file with one picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        picture = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        picture.pts = 0
        container.mux([*stream.encode(picture), *stream.encode(None)])
    return file.getvalue()


def test_pictures_that_are_too_large_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    (packet,) = encoded("mjpeg")
    frame = Frame((bytes(packet),), 0, 0, key=True)
    track = Track(0, MJPEG())
    assert pictures.key_picture(track, frame, 160).startswith(b"\xff\xd8")
    assert pictures.first_picture(film(), 160).startswith(b"\xff\xd8")
    monkeypatch.setattr(pictures, "MAXIMUM_PIXELS", WIDTH * HEIGHT // 2)
    with pytest.raises(UnsupportedCodec):
        pictures.key_picture(track, frame, 160)
    with pytest.raises(UnsupportedCodec):
        pictures.first_picture(film(), 160)
