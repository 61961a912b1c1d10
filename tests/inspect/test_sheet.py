"""The contact sheet: positions and colours."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from longtake.inspect import sheet
from longtake.inspect.sheet import contact_sheet, stacked
from tests.media.files_out import moving

Mask = NDArray[np.bool_]


def painted(image: Image.Image, colour: tuple[int, int, int]) -> Mask:
    """Where the sheet, without its header, has exactly this colour."""
    found: Mask = (np.asarray(image) == colour).all(axis=-1)
    found[: sheet.HEADER - 10] = False
    return found


def numbered(count: int, height: int = 90, width: int = 160) -> NDArray[np.uint8]:
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:] = (np.arange(count) * 12 + 8)[:, None, None, None]
    return frames


def make(frames: NDArray[np.uint8], joint: int, **more: bool) -> Image.Image:
    return contact_sheet(frames, joint, Fraction(24_000, 1001), first_frame=87, caption="figures", **more)


def test_frames_are_in_order_with_a_bar_in_the_middle() -> None:
    image = make(numbered(18), 9)
    pixels = np.asarray(image)
    bar = np.argwhere(painted(image, sheet.JOINT))
    middle = int(np.median(bar[:, 1]))
    assert abs(middle - image.width / 2) < 8
    row = pixels[int(np.median(bar[:, 0])), :, 0].astype(int)
    greys = [grey for grey in range(8, 224, 12) if (row == grey).sum() > 200]
    assert greys == [(n * 12 + 8) for n in range(6, 12)]
    assert max(np.flatnonzero(row == 8 * 12 + 8)) < middle < min(np.flatnonzero(row == 9 * 12 + 8))


def test_source_and_new_frames_differ_in_their_borders() -> None:
    forwards = make(numbered(12), 4)
    source, new = painted(forwards, sheet.SOURCE).sum(), painted(forwards, sheet.NEW).sum()
    assert new / source == pytest.approx(8 / 4)
    backwards = make(numbered(12), 4, new_first=True)
    assert painted(backwards, sheet.SOURCE).sum() == new
    assert painted(backwards, sheet.NEW).sum() == source


@pytest.mark.parametrize(("height", "width", "count", "joint"), [(90, 160, 16, 8), (160, 90, 3, 1), (32, 32, 40, 39)])
def test_frames_of_any_size_are_drawn_whole(height: int, width: int, count: int, joint: int) -> None:
    """Each frame has its whole border."""
    image = make(numbered(count, height, width), joint)
    cell = sheet.frame_size(width, height)
    border = 2 * sheet.BORDER * (cell[0] + cell[1] + 2 * sheet.BORDER)
    assert painted(image, sheet.SOURCE).sum() + painted(image, sheet.NEW).sum() == count * border
    assert max(cell) == sheet.FRAME_SIDE
    assert image.width < 2400


def test_numbers_and_caption_are_written() -> None:
    with_caption = np.asarray(make(moving(12, 90, 160), 6))
    without = np.asarray(contact_sheet(moving(12, 90, 160), 6, Fraction(24), first_frame=3))
    assert with_caption.shape == without.shape
    assert (with_caption[: sheet.HEADER] != without[: sheet.HEADER]).any()
    assert (with_caption[sheet.HEADER :] != without[sheet.HEADER :]).any()


@pytest.mark.parametrize("joint", [0, 12])
def test_a_joint_outside_the_frames_is_an_error(joint: int) -> None:
    with pytest.raises(ValueError, match="between two of the 12 frames"):
        contact_sheet(moving(12), joint, Fraction(24))


def test_stacked_pictures() -> None:
    whole = stacked([Image.new("RGB", (4, 2), "red"), Image.new("RGB", (7, 3), "lime")])
    assert whole.size == (7, 5)
    assert [whole.getpixel(at) for at in ((0, 0), (5, 0), (6, 4))] == [(255, 0, 0), sheet.BACKGROUND, (0, 255, 0)]
