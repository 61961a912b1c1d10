"""The contact sheet: what lies where, in which colours."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from longtake.media import sheet
from longtake.media.sheet import contact_sheet
from tests.media.files_out import moving

Mask = NDArray[np.bool_]


def painted(image: Image.Image, colour: tuple[int, int, int]) -> Mask:
    """Where the sheet has exactly this colour, the header left out."""
    found: Mask = (np.asarray(image) == colour).all(axis=-1)
    found[: sheet._HEADER - 10] = False
    return found


def numbered(count: int, height: int = 90, width: int = 160) -> NDArray[np.uint8]:
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:] = (np.arange(count) * 12 + 8)[:, None, None, None]
    return frames


def make(path: Path, frames: NDArray[np.uint8], joint: int, **more: bool) -> Image.Image:
    contact_sheet(frames, joint, path, Fraction(24_000, 1001), first_frame=87, caption="figures", **more)
    return Image.open(path).convert("RGB")


def test_frames_read_in_order_around_a_bar_in_the_middle(tmp_path: Path) -> None:
    image = make(tmp_path / "a.png", numbered(18), 9)
    pixels = np.asarray(image)
    bar = np.argwhere(painted(image, sheet._JOINT))
    middle = int(np.median(bar[:, 1]))
    assert abs(middle - image.width / 2) < 8
    row = pixels[int(np.median(bar[:, 0])), :, 0].astype(int)
    greys = [grey for grey in range(8, 224, 12) if (row == grey).sum() > 200]
    assert greys == [(n * 12 + 8) for n in range(6, 12)]
    assert max(np.flatnonzero(row == 8 * 12 + 8)) < middle < min(np.flatnonzero(row == 9 * 12 + 8))


def test_source_and_new_frames_differ_in_their_borders(tmp_path: Path) -> None:
    forwards = make(tmp_path / "a.png", numbered(12), 4)
    source, new = painted(forwards, sheet._SOURCE).sum(), painted(forwards, sheet._NEW).sum()
    assert new / source == pytest.approx(8 / 4)
    backwards = make(tmp_path / "b.png", numbered(12), 4, new_first=True)
    assert painted(backwards, sheet._SOURCE).sum() == new
    assert painted(backwards, sheet._NEW).sum() == source


@pytest.mark.parametrize(("height", "width", "count", "joint"), [(90, 160, 16, 8), (160, 90, 3, 1), (32, 32, 40, 39)])
def test_any_shape_fits(tmp_path: Path, height: int, width: int, count: int, joint: int) -> None:
    """All frames are on the sheet in full, each with its whole border."""
    image = make(tmp_path / "a.png", numbered(count, height, width), joint)
    cell = sheet._cell_size(width, height)
    border = 2 * sheet._BORDER * (cell[0] + cell[1] + 2 * sheet._BORDER)
    assert painted(image, sheet._SOURCE).sum() + painted(image, sheet._NEW).sum() == count * border
    assert max(cell) == sheet._CELL
    assert image.width < 2400


def test_numbers_and_caption_are_written(tmp_path: Path) -> None:
    with_caption = np.asarray(make(tmp_path / "a.png", moving(12, 90, 160), 6))
    contact_sheet(moving(12, 90, 160), 6, tmp_path / "b.png", Fraction(24), first_frame=3)
    without = np.asarray(Image.open(tmp_path / "b.png"))
    assert with_caption.shape == without.shape
    assert (with_caption[: sheet._HEADER] != without[: sheet._HEADER]).any()
    assert (with_caption[sheet._HEADER :] != without[sheet._HEADER :]).any()


@pytest.mark.parametrize("joint", [0, 12])
def test_a_joint_outside_is_refused(tmp_path: Path, joint: int) -> None:
    with pytest.raises(ValueError, match="between two of the 12 frames"):
        contact_sheet(moving(12), joint, tmp_path / "a.png", Fraction(24))
