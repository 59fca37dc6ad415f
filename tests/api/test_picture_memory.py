"""The memory of pictures is used again, but never while somebody has one of them."""

from __future__ import annotations

from typing import Any

import pytest

from polycast.api import picture_memory
from polycast.api.picture_memory import MAXIMUM_KEPT, PictureMemory

np = pytest.importorskip("numpy")
av = pytest.importorskip("av")

SHAPE = (4, 6, 3)


def filled(value: int, shape: tuple[int, ...] = SHAPE) -> Any:
    return np.full(shape, value, np.uint8)


def place(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_is_used_again() -> None:
    memory = PictureMemory()
    first = memory.copy(filled(1))
    where = place(first)
    del first
    again = memory.copy(filled(2))
    assert place(again) == where
    assert again.flags.writeable
    assert again.flags.c_contiguous


@pytest.mark.parametrize(
    "use",
    [
        lambda picture: picture,
        lambda picture: picture[1:3, ::2],
        lambda picture: picture.reshape(-1)[5:],
        lambda picture: np.asarray(memoryview(picture)),
        lambda picture: picture.transpose(2, 0, 1),
    ],
)
def test_pictures_that_are_used_stay_as_they_are(use: Any) -> None:
    memory = PictureMemory()
    kept = [use(memory.copy(filled(value))) for value in range(2 * MAXIMUM_KEPT)]
    for value in range(100, 100 + 2 * MAXIMUM_KEPT):
        assert (memory.copy(filled(value)) == value).all()
    assert all((array == value).all() for value, array in enumerate(kept))


def test_another_size_takes_the_place_of_the_last() -> None:
    memory = PictureMemory()
    small = memory.copy(filled(1))
    large = memory.copy(filled(2, (8, 8, 3)))
    assert large.shape == (8, 8, 3)
    assert (small == 1).all()
    assert (memory.copy(filled(3)) == 3).all()


def test_without_counts_nothing_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_memory, "CAN_COUNT", False)
    memory = PictureMemory()
    pictures = [memory.copy(filled(value)) for value in range(MAXIMUM_KEPT)]
    assert len({place(picture) for picture in pictures}) == MAXIMUM_KEPT
    assert memory._unused(SHAPE) is None


@pytest.mark.parametrize("width", [64, 66, 322])
@pytest.mark.parametrize("form", ["bgr24", "rgb24", "gray", "yuv420p"])
def test_arrays_are_those_of_pyav(width: int, form: str) -> None:
    from polycast.api.frames import PictureConverter

    pixels = np.random.default_rng(1).integers(0, 255, (48, width, 3), np.uint8)
    native = av.VideoFrame.from_ndarray(pixels, format="bgr24").reformat(format="yuv420p")
    converter = PictureConverter(av, form)
    expected = native.to_ndarray(format=form)
    for _ in range(2):
        assert np.array_equal(converter(native, None), expected)
    assert np.array_equal(converter(native, "rgb24"), native.to_ndarray(format="rgb24"))
