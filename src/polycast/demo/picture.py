"""The test picture of the demo stream: colour bars, a bouncing ball, a sweep and a dot-matrix wall clock.

It is drawn directly into planar YUV 4:2:0. Static parts are drawn once; a frame only repaints moving ones.
Needs numpy, which comes with the ``media`` extra.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]

# 5 x 7 dots, one number per row, the leftmost dot in bit 4.
FONT = {
    " ": (0, 0, 0, 0, 0, 0, 0),
    "-": (0, 0, 0, 0b11111, 0, 0, 0),
    ".": (0, 0, 0, 0, 0, 0b00110, 0b00110),
    ":": (0, 0b00110, 0b00110, 0, 0b00110, 0b00110, 0),
    "0": (0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110),
    "1": (0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110),
    "2": (0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111),
    "3": (0b11110, 0b00001, 0b00001, 0b01110, 0b00001, 0b00001, 0b11110),
    "4": (0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010),
    "5": (0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110),
    "6": (0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110),
    "7": (0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000),
    "8": (0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110),
    "9": (0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100),
    "A": (0b01110, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001),
    "C": (0b01110, 0b10001, 0b10000, 0b10000, 0b10000, 0b10001, 0b01110),
    "D": (0b11110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b11110),
    "E": (0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111),
    "L": (0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b11111),
    "M": (0b10001, 0b11011, 0b10101, 0b10101, 0b10001, 0b10001, 0b10001),
    "O": (0b01110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110),
    "P": (0b11110, 0b10001, 0b10001, 0b11110, 0b10000, 0b10000, 0b10000),
    "S": (0b01111, 0b10000, 0b10000, 0b01110, 0b00001, 0b00001, 0b11110),
    "T": (0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100),
    "Y": (0b10001, 0b10001, 0b01010, 0b00100, 0b00100, 0b00100, 0b00100),
}
FONT_WIDTH, FONT_HEIGHT = 5, 7
ADVANCE = FONT_WIDTH + 1

TITLE = "POLYCAST DEMO"

# Red, green, blue, 0 to 255: the 75 % colour bars of EBU and SMPTE.
BARS = (
    (191, 191, 191),
    (191, 191, 0),
    (0, 191, 191),
    (0, 191, 0),
    (191, 0, 191),
    (191, 0, 0),
    (0, 0, 191),
)
PANEL = (14, 18, 32)
UNLIT_DOT = (24, 30, 50)
CLOCK_DOT = (255, 190, 70)
TITLE_DOT = (150, 200, 255)
SWEEP = (255, 255, 255)
BALL = (255, 255, 255)
BALL_RING = (20, 24, 40)


class Color(NamedTuple):
    """A colour in YUV, limited range."""

    y: int
    u: int
    v: int


def to_yuv(red: int, green: int, blue: int) -> Color:
    """Convert RGB (0 to 255) to limited-range YUV with the matrix of Rec. ITU-R BT.709 section 3."""
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return Color(
        round(16 + luma * 219 / 255),
        round(128 + (blue - luma) / 1.8556 * 224 / 255),
        round(128 + (red - luma) / 1.5748 * 224 / 255),
    )


class Picture:
    """A test picture of ``width`` x ``height`` pixels; both even, at least 320 x 180.

    `draw` paints the next frame into `planes`.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.frame: Plane = np.empty((height * 3 // 2, width), np.uint8)
        """Planar YUV 4:2:0, the format of `av.VideoFrame.from_ndarray`."""
        luma, chroma = width * height, width * height // 4
        flat = self.frame.reshape(-1)
        self.planes = (
            flat[:luma].reshape(height, width),
            flat[luma : luma + chroma].reshape(height // 2, width // 2),
            flat[luma + chroma :].reshape(height // 2, width // 2),
        )
        self._panel_top = _even(height * 62 // 100)
        self._sweep_height = max(2, _even(height // 60))
        self._ball_radius = max(4, height // 14)
        self._ball_mask = _disc(self._ball_radius, 1.0)
        self._ring_mask = _disc(self._ball_radius, 1.0) - _disc(self._ball_radius, 0.82)
        self._paint_bars()
        self._paint_panel()
        self._background = tuple(plane.copy() for plane in self.planes)
        self._ball_box: tuple[int, int] | None = None

    def draw(self, seconds: float, wall_time: datetime) -> Plane:
        """Paint the frame at ``seconds`` of the stream, which shows ``wall_time``; return `frame`."""
        self._draw_ball(seconds)
        self._draw_sweep(wall_time.microsecond / 1_000_000)
        clock = f"{wall_time:%H:%M:%S}.{wall_time.microsecond // 1000:03}"
        self._write(clock, self._clock_glyphs, *self._clock_position)
        self._write(f"{wall_time:%Y-%m-%d}", self._date_glyphs, *self._date_position)
        return self.frame

    def _fill(self, top: int, bottom: int, left: int, right: int, color: Color) -> None:
        y, u, v = self.planes
        y[top:bottom, left:right] = color.y
        u[top // 2 : bottom // 2, left // 2 : right // 2] = color.u
        v[top // 2 : bottom // 2, left // 2 : right // 2] = color.v

    def _paint_bars(self) -> None:
        ramp_top = _even(self._panel_top * 85 // 100)
        edges = [_even(self.width * index // len(BARS)) for index in range(len(BARS))] + [self.width]
        for left, right, bar in zip(edges[:-1], edges[1:], BARS, strict=True):
            self._fill(0, ramp_top, left, right, to_yuv(*bar))
        self._fill(ramp_top, self._panel_top, 0, self.width, Color(16, 128, 128))
        self.planes[0][ramp_top : self._panel_top] = np.linspace(16, 235, self.width).astype(np.uint8)

    def _paint_panel(self) -> None:
        self._fill(self._panel_top, self.height, 0, self.width, to_yuv(*PANEL))
        panel_height = self.height - self._panel_top - self._sweep_height
        clock_cell = max(2, _even(min(self.width // 76, panel_height * 45 // 100 // FONT_HEIGHT)))
        small_cell = max(2, _even(clock_cell * 4 // 10))
        self._clock_glyphs = _glyphs(clock_cell, CLOCK_DOT)
        self._date_glyphs = _glyphs(small_cell, TITLE_DOT)
        clock_width = (len("00:00:00.000") * ADVANCE - 1) * clock_cell
        left = _even((self.width - clock_width) // 2)
        gap = _even((panel_height - FONT_HEIGHT * (clock_cell + small_cell)) // 3)
        top = self._panel_top + self._sweep_height + gap
        self._clock_position = left, top
        small_top = top + FONT_HEIGHT * clock_cell + gap
        title_width = (len(TITLE) * ADVANCE - 1) * small_cell
        self._date_position = _even(left + clock_width - (len("0000-00-00") * ADVANCE - 1) * small_cell), small_top
        if title_width + small_cell * ADVANCE < self._date_position[0] - left:
            self._write(TITLE, self._date_glyphs, left, small_top)

    def _draw_ball(self, seconds: float) -> None:
        size = 2 * self._ball_radius
        if self._ball_box is not None:
            self._restore(*self._ball_box, size)
        left = _bounce(seconds * self.width / 4, self.width - size)
        top = _bounce(seconds * self.height / 3, self._panel_top - size)
        self._ball_box = left, top
        ball, ring = to_yuv(*BALL), to_yuv(*BALL_RING)
        self._blend(left, top, self._ball_mask, ball)
        self._blend(left, top, self._ring_mask, ring)

    def _restore(self, left: int, top: int, size: int) -> None:
        for plane, background, scale in zip(self.planes, self._background, (1, 2, 2), strict=True):
            rows = slice(top // scale, (top + size) // scale)
            columns = slice(left // scale, (left + size) // scale)
            plane[rows, columns] = background[rows, columns]

    def _blend(self, left: int, top: int, mask: NDArray[np.float32], color: Color) -> None:
        size = mask.shape[0]
        for plane, value, scale in zip(self.planes, color, (1, 2, 2), strict=True):
            alpha = mask[::scale, ::scale]
            rows, columns = top // scale, left // scale
            region = plane[rows : rows + size // scale, columns : columns + size // scale]
            region[:] = (region + (value - region.astype(np.float32)) * alpha).astype(np.uint8)

    def _draw_sweep(self, fraction: float) -> None:
        top, bottom = self._panel_top, self._panel_top + self._sweep_height
        end = _even(round(self.width * fraction))
        self._fill(top, bottom, 0, self.width, to_yuv(*UNLIT_DOT))
        self._fill(top, bottom, 0, end, to_yuv(*SWEEP))

    def _write(self, text: str, glyphs: dict[str, tuple[Plane, Plane, Plane]], left: int, top: int) -> None:
        for character in text:
            tile = glyphs[character]
            for plane, part, scale in zip(self.planes, tile, (1, 2, 2), strict=True):
                height, width = part.shape
                plane[top // scale : top // scale + height, left // scale : left // scale + width] = part
            left += tile[0].shape[1]


def _even(value: int) -> int:
    return value & ~1


def _bounce(distance: float, span: int) -> int:
    """Return the position of a point moving back and forth over ``span`` pixels after ``distance``; even, for
    chroma."""
    position = distance % (2 * span)
    return _even(round(min(position, 2 * span - position)))


def _disc(radius: int, scale: float) -> NDArray[np.float32]:
    """Return the coverage (0 to 1) of a disc of ``scale`` x ``radius`` in a square of twice ``radius``."""
    axis = np.arange(2 * radius, dtype=np.float32) - radius + 0.5
    distance = np.hypot(*np.meshgrid(axis, axis))
    coverage: NDArray[np.float32] = np.clip(radius * scale - distance, 0, 1).astype(np.float32)
    return coverage


def _glyphs(cell: int, lit: tuple[int, int, int]) -> dict[str, tuple[Plane, Plane, Plane]]:
    """Return each character of `FONT` as Y, U and V tiles of round dots, ``cell`` pixels per dot."""
    dot = _disc(cell // 2, 0.92) if cell > 4 else np.ones((cell, cell), np.float32)
    panel, unlit_color, lit_color = to_yuv(*PANEL), to_yuv(*UNLIT_DOT), to_yuv(*lit)
    glyphs = {}
    for character, rows in FONT.items():
        bits = np.array([[row >> (FONT_WIDTH - 1 - column) & 1 for column in range(FONT_WIDTH)] for row in rows])
        bits = np.pad(bits, ((0, 0), (0, ADVANCE - FONT_WIDTH)), constant_values=-1)
        planes = []
        for name, scale in (("y", 1), ("u", 2), ("v", 2)):
            base, off, on = (getattr(color, name) for color in (panel, unlit_color, lit_color))
            shape = dot[::scale, ::scale]
            values = np.where(bits < 0, base, np.where(bits > 0, on, off))
            tile = base + np.kron(values - base, shape)
            planes.append(np.round(tile).astype(np.uint8))
        glyphs[character] = (planes[0], planes[1], planes[2])
    return glyphs
