"""A picture of the joint: the frames on both sides of it, side by side, to be judged by eye."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

PAPER: Colour = (22, 24, 29)
INK: Colour = (228, 231, 236)
FAINT: Colour = (146, 152, 163)
SOURCE: Colour = (74, 144, 226)
NEW: Colour = (242, 153, 54)
JOINT: Colour = (255, 84, 112)

_COLUMNS = 6
_CELL = 304
"""The longer side of a frame on the sheet, in pixels."""

_BORDER = 5
_GAP = 14
MARGIN = 28
_LABEL = 24
_HEADER = 84
_BAR = 6
_BAR_ROOM = 26


def contact_sheet(
    frames: NDArray[np.uint8],
    joint_index: int,
    rate: Fraction,
    *,
    first_frame: int = 0,
    new_first: bool = False,
    caption: str = "",
) -> Image.Image:
    """A picture of `frames` [T, H, W, 3], the neighbours of the joint in playing order.

    The joint lies before `frames[joint_index]`, in the middle of a row of six, marked by a bar; frames read as text
    does. `first_frame` is the number of `frames[0]` in the video that plays at `rate`, from 0. `new_first`: the new
    frames are those before the joint (the video was extended backwards). `caption` is a line under the title.
    Nine frames on each side fill three rows.
    """
    if not 0 < joint_index < len(frames):
        raise ValueError(f"The joint must lie between two of the {len(frames)} frames, not before {joint_index}.")
    width, height = _cell_size(frames.shape[2], frames.shape[1])
    places = [_place(index - joint_index) for index in range(len(frames))]
    top = min(row for row, _ in places)
    num_rows = max(row for row, _ in places) - top + 1
    pitch = height + 2 * _BORDER + _LABEL + _GAP
    sheet = Image.new("RGB", (_left(_COLUMNS, width) - _GAP + MARGIN, _HEADER + num_rows * pitch + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    _header(draw, sheet.width, first_frame + joint_index, rate, caption)
    for index, (row, column) in enumerate(places):
        is_new = (index >= joint_index) != new_first
        corner = _left(column, width), _HEADER + (row - top) * pitch
        _cell(sheet, draw, corner, Image.fromarray(frames[index]).resize((width, height)), NEW if is_new else SOURCE)
        number = first_frame + index
        below = corner[1] + height + 2 * _BORDER + 4
        draw.text((corner[0], below), str(number), INK, font(17))
        draw.text(
            (corner[0] + width + 2 * _BORDER, below), f"{float(number / rate):.3f} s", FAINT, font(15), anchor="ra"
        )
    x = _left(_COLUMNS // 2, width) - (_BAR_ROOM + _GAP) // 2 - _BAR // 2
    y = _HEADER - top * pitch
    draw.rounded_rectangle((x, y - 8, x + _BAR - 1, y + height + 2 * _BORDER + 8), _BAR // 2, JOINT)
    return sheet


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures one below the other."""
    whole = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), PAPER)
    y = 0
    for picture in pictures:
        whole.paste(picture, (0, y))
        y += picture.height
    return whole


def _place(after_joint: int) -> tuple[int, int]:
    """Row (0 holds the joint in its middle) and column of a frame, counted from the joint."""
    return divmod(after_joint + _COLUMNS // 2, _COLUMNS)


def _left(column: int, width: int) -> int:
    """Where a column begins; the right half makes room for the bar."""
    return MARGIN + column * (width + 2 * _BORDER + _GAP) + (_BAR_ROOM if column >= _COLUMNS // 2 else 0)


def _cell_size(width: int, height: int) -> tuple[int, int]:
    scale = Fraction(_CELL, max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], picture: Image.Image, colour: Colour
) -> None:
    x, y = corner
    draw.rectangle((x, y, x + picture.width + 2 * _BORDER - 1, y + picture.height + 2 * _BORDER - 1), colour)
    sheet.paste(picture, (x + _BORDER, y + _BORDER))


def _header(draw: ImageDraw.ImageDraw, width: int, joint: int, rate: Fraction, caption: str) -> None:
    title = f"The joint: before frame {joint}, at {float(joint / rate):.3f} s"
    draw.text((MARGIN, 20), title, INK, font(24))
    draw.text((MARGIN, 52), caption, FAINT, font(16))
    right = width - MARGIN
    for text, colour in (("joint", JOINT), ("new", NEW), ("source", SOURCE)):
        draw.text((right, 34), text, INK, font(18), anchor="rm")
        right -= round(draw.textlength(text, font(18))) + 10
        thickness = _BAR if colour == JOINT else 18
        draw.rectangle((right - thickness, 25, right - 1, 43), colour)
        right -= thickness + 26


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, so that the sheet is the same everywhere."""
    return ImageFont.load_default(size)
